//! Starts builders for queued builds, as far as slots and budget allow. First, builds that follow another one are
//! updated if that one has ended: each end of a build rings the doorbell, and so does the sweep.

use std::time::Duration;

use crate::{
    build::{
        Event, Lease,
        failure::{Failure, Kind},
        size::Size,
    },
    flow::{
        AdvanceError, advance,
        lease::settle,
        load_limits, load_profile,
        operator::pins,
        schedule::{follow, status_index::Walk},
    },
    id::{
        key::{BuildKey, Product},
        time::Timestamp,
    },
    ports::{HasBell, HasLauncher, HasLedger, Launcher, NotLaunched, Read, Unavailable},
    quota::limits::{LimitExceeded, Limits},
    row::StatusIndex,
    telemetry::{About, Signal},
};

/// Claims all builds that are due and fit, and starts a builder for each. Returns when the next queued build is due, if
/// that is all it waits for; the end of a build rings the doorbell by itself.
///
/// Any number of dispatchers may run at once: a claim has one winner.
///
/// # Errors
/// [`Unavailable`]: the ledger does not answer; run it again.
pub async fn dispatch<D: HasLedger + HasBell + HasLauncher>(d: &D) -> Result<Option<Timestamp>, Unavailable> {
    follow::follow_all(d).await?;
    let (limits, _) = load_limits(d, Read::Consistent).await?;
    let mut next = None;
    // Builds that were not requested yet come after those, and packages that have reported a failure of the whole
    // system come last: they get the slots that are left.
    let classes = [
        (StatusIndex::Queued, false),
        (StatusIndex::Warming, false),
        (StatusIndex::Queued, true),
        (StatusIndex::Warming, true),
    ];
    for (status_index, reporters) in classes.into_iter().filter(|(_, reporters)| !reporters || limits.has_reports()) {
        match along(d, status_index, reporters, &limits).await? {
            Room::None => return Ok(None),
            Room::Left { due } => next = [next, due].into_iter().flatten().min(),
        }
    }
    Ok(next)
}

/// Whether there is room for more builds after those of a status index.
enum Room {
    /// There is none until one of them ends.
    None,
    /// There is some, and when the next one is due.
    Left { due: Option<Timestamp> },
}

async fn along<D: HasLedger + HasBell + HasLauncher>(
    d: &D,
    status_index: StatusIndex,
    reporters: bool,
    limits: &Limits,
) -> Result<Room, Unavailable> {
    let mut walk = Walk::along(status_index);
    while let Some(page) = walk.next(d).await? {
        // Read after the list, so that every listed build's pin is included.
        let pins = if page.is_empty() { None } else { Some(pins::load(d).await?) };
        for listed in &page {
            if listed.at > d.now() {
                return Ok(Room::Left { due: Some(listed.at) });
            }
            if pins.as_ref().is_some_and(|pins| !pins.serve(&listed.key)) {
                drop_unserved(d, &listed.key).await?;
                continue;
            }
            if limits.paused(listed.key.system).is_some() || limits.has_reported(&listed.key, d.now()) != reporters {
                continue;
            }
            let size = machine(d, &listed.key).await?;
            let (id, token) = d.new_lease();
            match advance(d, &listed.key, &Event::Claim { id, token, size }).await {
                Ok(claimed) => {
                    if let Some(lease) = claimed.after.lease() {
                        launch(d, &listed.key, lease).await?;
                    }
                }
                // The list lags: another dispatcher has claimed it.
                Err(AdvanceError::Illegal(_)) => {}
                Err(AdvanceError::LimitExceeded(full)) => {
                    d.emit(About::Build(&listed.key), Signal::Held(full));
                    match full {
                        // If the budget does not cover a larger machine, it may cover a build on the usual one.
                        LimitExceeded::Budget { worst } if worst > d.policy().worst_price(d.policy().size) => {}
                        LimitExceeded::Paused(_) | LimitExceeded::Catalogue | LimitExceeded::Client { .. } => {}
                        LimitExceeded::Budget { .. } | LimitExceeded::Slots | LimitExceeded::Store => {
                            return Ok(Room::None);
                        }
                    }
                }
                Err(AdvanceError::Unavailable(error)) => return Err(error),
            }
        }
    }
    Ok(Room::Left { due: None })
}

/// The machine of its first attempt.
async fn machine<D: HasLedger>(d: &D, key: &BuildKey) -> Result<Size, Unavailable> {
    let usual = d.policy().size;
    let Product::Package(attr) = &key.product else { return Ok(usual) };
    // An outdated profile costs an attempt, or some cents.
    let (past, _) = load_profile(d, key.system, attr, Read::Eventual).await?;
    Ok(past.map_or(usual, |past| past.machine(usual)))
}

/// Cancels a queued build whose pin was moved or retired, or whose package was taken down.
async fn drop_unserved<D: HasLedger>(d: &D, key: &BuildKey) -> Result<(), Unavailable> {
    match advance(d, key, &Event::Cancel).await {
        Err(AdvanceError::Unavailable(error)) => Err(error),
        Ok(_) | Err(AdvanceError::Illegal(_) | AdvanceError::LimitExceeded(_)) => Ok(()),
    }
}

/// Starts the builder of a lease. In every case the lease ends: by the builder's report, by the launcher's, or by
/// expiry.
pub(crate) async fn launch<D: HasLedger + HasBell + HasLauncher>(
    d: &D,
    key: &BuildKey,
    lease: &Lease,
) -> Result<(), Unavailable> {
    let mut launched = d.launcher().launch(key, lease).await;
    if matches!(launched, Err(NotLaunched::Unavailable(_))) {
        // RunTask is idempotent: the same lease starts no second task.
        launched = d.launcher().launch(key, lease).await;
    }
    match launched {
        Ok(task) => match advance(d, key, &Event::Launched { id: lease.id.clone(), task }).await {
            // A quick builder has settled already.
            Ok(_) | Err(AdvanceError::Illegal(_)) => Ok(()),
            Err(AdvanceError::Unavailable(error)) => Err(error),
            Err(AdvanceError::LimitExceeded(_)) => Ok(()),
        },
        Err(NotLaunched::Refused(why)) => {
            d.warn(About::Attempt(key, &lease.id), "a builder was not started", &why);
            settle::stopped(d, key, &lease.id, Failure::new(Kind::NotStarted, ""), Some(Duration::ZERO)).await.map(drop)
        }
        Err(NotLaunched::Unavailable(error)) => {
            d.warn(About::Attempt(key, &lease.id), "a builder may not have been started", &error);
            Ok(())
        }
    }
}
