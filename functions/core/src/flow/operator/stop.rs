//! What is built is stopped: one build, or all of them until further notice, or until there is money again.

use std::time::Duration;

use crate::{
    build::{Event, Lease},
    flow::{
        AdvanceError, Advanced, advance, change_limits, lease::settle, load_limits, ring, schedule::status_index::Walk,
    },
    id::{key::BuildKey, money::Micros, time::Timestamp},
    ports::{HasBell, HasLauncher, HasLedger, Launcher, Read, Unavailable},
    quota::limits::Limits,
    row::StatusIndex,
    telemetry::{About, Signal},
};

/// Ends a build that is queued or under way: nobody is told that it failed, and whoever asks next starts it anew.
///
/// # Errors
/// [`AdvanceError`]; [`crate::build::Illegal::NotUnderWay`] where there is nothing to end.
pub async fn cancel<D: HasLedger + HasLauncher>(d: &D, key: &BuildKey) -> Result<(), AdvanceError> {
    let Advanced { before, .. } = advance(d, key, &Event::Cancel).await?;
    if let Some(lease) = before.lease() {
        tell(d, key, lease).await;
    }
    Ok(())
}

/// Has nothing new built from now on. What is under way is stopped and waits in the queue again, unless it may end (`drain`).
///
/// # Errors
/// [`Unavailable`]: some may run on; say it again.
pub async fn pause<D: HasLedger + HasLauncher>(d: &D, drain: bool) -> Result<(), Unavailable> {
    let now = d.now();
    if change_limits(d, |limits| limits.stopped(drain, now)).await? {
        d.emit(About::Service, Signal::Stopped(true));
    }
    if drain { Ok(()) } else { suspend(d).await }
}

/// Stops all that is under way, as far as the list shows it; a sweep sees the rest.
pub(crate) async fn suspend<D: HasLedger + HasLauncher>(d: &D) -> Result<(), Unavailable> {
    let mut walk = Walk::along(StatusIndex::Building);
    while let Some(page) = walk.next(d).await? {
        for listed in &page {
            match advance(d, &listed.key, &Event::Suspend).await {
                Ok(Advanced { before, .. }) => {
                    if let Some(lease) = before.lease() {
                        tell(d, &listed.key, lease).await;
                    }
                }
                Err(AdvanceError::Unavailable(error)) => return Err(error),
                Err(AdvanceError::Illegal(_) | AdvanceError::LimitExceeded(_)) => {}
            }
        }
    }
    Ok(())
}

/// Lets builds go on.
///
/// # Errors
/// [`Unavailable`].
pub async fn resume<D: HasLedger + HasBell>(d: &D) -> Result<(), Unavailable> {
    if change_limits(d, Limits::resumed).await? {
        d.emit(About::Service, Signal::Stopped(false));
    }
    ring(d).await;
    Ok(())
}

/// Lets builds cost so much in this month, whatever they may in others. What waits for money goes on at once.
///
/// # Errors
/// [`Unavailable`].
pub async fn grant<D: HasLedger + HasBell>(d: &D, budget: Micros) -> Result<(), Unavailable> {
    let now = d.now();
    if change_limits(d, |limits| limits.granted(budget, now)).await? {
        d.emit(About::Service, Signal::Granted(budget));
    }
    ring(d).await;
    Ok(())
}

/// How long after a lease is over its launcher is given to tell of its task's end, beyond the time that a task takes to stop.
const LINGERS: Duration = Duration::from_secs(10);

/// Stops builders that work for nobody: whoever ended their lease died before they were told, or they were not reached. And where a
/// task is gone and nobody has told so, what it holds is given back. Returns when there may be more of these.
pub(crate) async fn strays<D: HasLedger + HasBell + HasLauncher>(d: &D) -> Result<Option<Timestamp>, Unavailable> {
    let running = d.launcher().running().await?;
    // Read after the list: a lease is written down before its builder is started.
    let (limits, _) = load_limits(d, Read::Consistent).await?;
    for lease in running.iter().filter(|lease| !limits.is_live(lease)) {
        d.launcher().stop(lease, None).await?;
    }
    let mut next = None;
    for (lease, over) in limits.lingering().filter(|(lease, _)| !running.contains(lease)) {
        let gone = over + d.policy().overhead + LINGERS;
        if gone <= d.now() {
            settle::charge(d, lease, None).await?;
        } else {
            next = [next, Some(gone)].into_iter().flatten().min();
        }
    }
    Ok(next)
}

/// Tells the builder of a lease that is over to stop. One that is not reached is heard no more, hears so itself at its next pulse, and
/// is found by the next sweep.
pub(crate) async fn tell<D: HasLauncher>(d: &D, key: &BuildKey, lease: &Lease) {
    if let Err(error) = d.launcher().stop(&lease.id, lease.task.as_deref()).await {
        d.warn(About::Attempt(key, &lease.id), "a builder was not stopped yet", &error);
    }
}
