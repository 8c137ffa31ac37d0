//! The sweep, which runs periodically and finds what was lost: expired leases, claims without a task, lost rings,
//! orphaned builders, and pins that have moved and are not settled. It also checks whether builders can be started, and
//! counts the day's egress.

use crate::{
    build::Event,
    flow::{
        AdvanceError, advance, load_build, load_limits,
        operator::{pins, stop},
        ring,
        schedule::{dispatch, egress, status_index::Walk},
    },
    id::{
        key::{BuildKey, System},
        time::Timestamp,
    },
    ports::{HasBell, HasDownloadStats, HasLauncher, HasLedger, Launcher, Ledger, NotCommitted, Read, Unavailable},
    quota::limits::Why,
    row::{Row, StatusIndex, Swap},
    telemetry::{About, Signal},
};

/// Ends every lease whose time is over, starts the builder of every claim whose dispatcher died before it did, looks whether
/// builders can be started, and how much was served today, and rings, in case a ring was lost. Then it marks what is served under a meaning that a pin had until
/// lately. Returns when there may be more to do: the next lease would be over, or the next task gone.
///
/// It looks at every build that holds a slot, and those are few.
///
/// # Errors
/// [`Unavailable`]: the ledger does not answer; run it again.
pub async fn sweep<D: HasLedger + HasBell + HasLauncher + HasDownloadStats>(
    d: &D,
) -> Result<Option<Timestamp>, Unavailable> {
    let (mut walk, mut next) = (Walk::along(StatusIndex::Building), None);
    while let Some(page) = walk.next(d).await? {
        for listed in &page {
            if listed.at > d.now() {
                next = next.or(Some(listed.at));
                relaunch(d, &listed.key).await?;
            } else {
                lapse(d, &listed.key).await?;
            }
        }
    }
    if load_limits(d, Read::Consistent).await?.0.halted() {
        stop::suspend(d).await?;
    }
    match stop::strays(d).await {
        Ok(more) => next = [next, more].into_iter().flatten().min(),
        Err(error) => d.warn(About::Service, "orphaned builders may run", &error),
    }
    for system in System::ALL {
        look(d, system).await?;
    }
    egress::count(d).await?;
    ring(d).await;
    pins::settle(d).await?;
    Ok(next)
}

async fn lapse<D: HasLedger + HasLauncher>(d: &D, key: &BuildKey) -> Result<(), Unavailable> {
    let lapsed = match advance(d, key, &Event::Lapse).await {
        Ok(lapsed) => lapsed,
        Err(AdvanceError::Unavailable(error)) => return Err(error),
        Err(AdvanceError::Illegal(_) | AdvanceError::LimitExceeded(_)) => return Ok(()),
    };
    if let Some(lease) = lapsed.before.lease().filter(|_| lapsed.after.lease().is_none()) {
        stop::tell(d, key, lease).await;
    }
    Ok(())
}

/// A claim without a task: its dispatcher died between the two, or is about to write the task down. The same lease starts
/// no second builder, so launching it again is right in both cases.
async fn relaunch<D: HasLedger + HasBell + HasLauncher>(d: &D, key: &BuildKey) -> Result<(), Unavailable> {
    let (build, _) = load_build(d, key).await?;
    match build.lease() {
        Some(lease) if lease.task.is_none() => dispatch::launch(d, key, lease).await.map(drop),
        _ => Ok(()),
    }
}

/// Records whether builders for a system can be started, for requests to report. A conflict does no harm: the next
/// sweep checks again.
async fn look<D: HasLedger + HasLauncher>(d: &D, system: System) -> Result<(), Unavailable> {
    let obstacle = match d.launcher().obstacle(system).await {
        Ok(obstacle) => obstacle,
        Err(error) => {
            d.warn(About::Service, "it is unknown whether builders can be started", &error);
            return Ok(());
        }
    };
    let (known, seen) = load_limits(d, Read::Consistent).await?;
    // At each sweep, so that an alarm lasts as long.
    if known.refuses(system, d.policy(), d.now()).is_some() {
        d.emit(About::Service, Signal::Looked(system, Some(Why::Refused)));
    }
    let limits = known.looked_at(system, obstacle, d.now());
    if limits == known {
        return Ok(());
    }
    match d.ledger().commit(vec![Swap { seen, row: Row::Limits(limits) }]).await {
        Ok(()) => d.emit(About::Service, Signal::Looked(system, obstacle)),
        Err(NotCommitted::Conflict) => {}
        Err(NotCommitted::Unavailable(error)) => return Err(error),
    }
    Ok(())
}
