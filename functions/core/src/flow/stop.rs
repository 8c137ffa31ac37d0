//! What is built is stopped: one build, or all of them until further notice.

use crate::{
    build::{Event, Lease},
    flow::{Advanced, Halt, Tries, advance, load_limits, ring, shelf::Walk},
    key::BuildKey,
    limits::Limits,
    news::{About, News},
    ports::{Deployment, Launcher, Ledger, Read, Row, Shelf, Swap, Unavailable},
};

/// Ends a build that is queued or under way: nobody is told that it failed, and whoever asks next starts it anew.
///
/// # Errors
/// [`Halt`]; [`crate::build::Illegal::NotUnderWay`] where there is nothing to end.
pub async fn cancel<D: Deployment>(d: &D, key: &BuildKey) -> Result<(), Halt> {
    let Advanced { before, .. } = advance(d, key, &Event::Cancel).await?;
    if let Some(lease) = before.lease() {
        tell(d, key, lease).await;
        // Its slot is free.
        ring(d).await;
    }
    Ok(())
}

/// Has nothing new built from now on. What is under way is stopped and waits in the queue again, unless it may end (`drain`).
///
/// # Errors
/// [`Unavailable`]: some may run on; say it again.
pub async fn pause<D: Deployment>(d: &D, drain: bool) -> Result<(), Unavailable> {
    let now = d.now();
    change(d, true, |limits| limits.stopped(drain, now)).await?;
    if drain { Ok(()) } else { suspend(d).await }
}

/// Stops all that is under way, as far as the list shows it; a sweep sees the rest.
pub(crate) async fn suspend<D: Deployment>(d: &D) -> Result<(), Unavailable> {
    let mut walk = Walk::along(Shelf::Building);
    while let Some(page) = walk.next(d).await? {
        for listed in &page {
            match advance(d, &listed.key, &Event::Suspend).await {
                Ok(Advanced { before, .. }) => {
                    if let Some(lease) = before.lease() {
                        tell(d, &listed.key, lease).await;
                    }
                }
                Err(Halt::Unavailable(error)) => return Err(error),
                Err(Halt::Illegal(_) | Halt::Full(_)) => {}
            }
        }
    }
    Ok(())
}

/// Lets builds go on.
///
/// # Errors
/// [`Unavailable`].
pub async fn resume<D: Deployment>(d: &D) -> Result<(), Unavailable> {
    change(d, false, Limits::resumed).await?;
    ring(d).await;
    Ok(())
}

/// Stops builders that work for nobody: whoever ended their lease died before they were told, or they were not reached.
pub(crate) async fn strays<D: Deployment>(d: &D) -> Result<(), Unavailable> {
    let running = d.launcher().running().await?;
    if running.is_empty() {
        return Ok(());
    }
    // Read after the list: a lease is written down before its builder is started.
    let (limits, _) = load_limits(d, Read::Consistent).await?;
    for lease in running.iter().filter(|lease| !limits.holds(lease)) {
        d.launcher().stop(lease, None).await?;
    }
    Ok(())
}

/// Tells the builder of a lease that is over to stop. One that is not reached is heard no more, hears so itself at its next pulse, and
/// is found by the next sweep.
pub(crate) async fn tell<D: Deployment>(d: &D, key: &BuildKey, lease: &Lease) {
    if let Err(error) = d.launcher().stop(&lease.id, lease.task.as_deref()).await {
        d.note(About::Attempt(key, &lease.id), "a builder was not stopped yet", &error);
    }
}

async fn change<D: Deployment>(d: &D, stopped: bool, change: impl Fn(&Limits) -> Limits) -> Result<(), Unavailable> {
    let mut tries = Tries::default();
    loop {
        let (limits, seen) = load_limits(d, Read::Consistent).await?;
        let next = change(&limits);
        if next == limits {
            return Ok(());
        }
        match d.ledger().commit(vec![Swap { seen, row: Row::Limits(next) }]).await {
            Ok(()) => {
                d.tell(About::Service, News::Stopped(stopped));
                return Ok(());
            }
            Err(error) => tries.again(error)?,
        }
    }
}
