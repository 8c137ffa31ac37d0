//! Stops builds: one, or all until an operator resumes them, or until the budget is raised.

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

/// Cancels a build that is queued or under way. It does not count as failed, and the next request starts it anew.
///
/// # Errors
/// [`AdvanceError`]; [`crate::build::Illegal::NotUnderWay`] if it is neither.
pub async fn cancel<D: HasLedger + HasLauncher>(d: &D, key: &BuildKey) -> Result<(), AdvanceError> {
    let Advanced { before, .. } = advance(d, key, &Event::Cancel).await?;
    if let Some(lease) = before.lease() {
        tell(d, key, lease).await;
    }
    Ok(())
}

/// Pauses builds. Running ones are stopped and queued again, unless they may finish (`drain`).
///
/// # Errors
/// [`Unavailable`]: some may still run; repeat it.
pub async fn pause<D: HasLedger + HasLauncher>(d: &D, drain: bool) -> Result<(), Unavailable> {
    let now = d.now();
    if change_limits(d, |limits| limits.stopped(drain, now)).await? {
        d.emit(About::Service, Signal::Stopped(true));
    }
    if drain { Ok(()) } else { suspend(d).await }
}

/// Stops all builds that the list shows as running; a sweep stops the rest.
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

/// Resumes builds.
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

/// Sets the budget of this month only. Builds that wait for money go on at once.
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

/// How long after a lease's end the launcher may take to report its task's stop, beyond the time that a task takes to
/// stop.
const LINGERS: Duration = Duration::from_secs(10);

/// Stops orphaned builders: their lease was ended, and they were not notified. And releases the reservations of tasks
/// whose stop was not reported. Returns when there may be more of these.
pub(crate) async fn strays<D: HasLedger + HasBell + HasLauncher>(d: &D) -> Result<Option<Timestamp>, Unavailable> {
    let running = d.launcher().running().await?;
    // Read after the list: a lease is written before its builder starts.
    let (limits, _) = load_limits(d, Read::Consistent).await?;
    for lease in running.iter().filter(|lease| !limits.is_live(lease)) {
        d.launcher().stop(lease, None).await?;
    }
    let mut next = None;
    for (lease, over) in limits.lingering().filter(|(lease, _)| !running.contains(lease)) {
        let gone = over + d.policy().overhead + LINGERS;
        if gone <= d.now() {
            settle::charge(d, lease, None, false).await?;
        } else {
            next = [next, Some(gone)].into_iter().flatten().min();
        }
    }
    Ok(next)
}

/// Stops the builder of an ended lease. If that fails, its requests are refused, its next heartbeat stops it, and the
/// next sweep finds it.
pub(crate) async fn tell<D: HasLauncher>(d: &D, key: &BuildKey, lease: &Lease) {
    if let Err(error) = d.launcher().stop(&lease.id, lease.task.as_deref()).await {
        d.warn(About::Attempt(key, &lease.id), "a builder was not stopped yet", &error);
    }
}
