//! What is queued gets a builder, as far as slots and money go. First of all, what has left its work to another build hears of that one's
//! end, if it has come: each end of a build rings, and so does the sweep.

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

/// Claims all that is due and fits, and starts a builder for each. Returns when the next queued build is due, where that is all that it waits
/// for; a build that ends rings the bell by itself.
///
/// Any number of dispatchers may run at once: a claim has one winner.
///
/// # Errors
/// [`Unavailable`]: the ledger does not answer; run it again.
pub async fn dispatch<D: HasLedger + HasBell + HasLauncher>(d: &D) -> Result<Option<Timestamp>, Unavailable> {
    follow::follow_all(d).await?;
    let (limits, _) = load_limits(d, Read::Consistent).await?;
    let mut next = None;
    // What nobody waits for yet comes last, and gets what is left.
    for status_index in [StatusIndex::Queued, StatusIndex::Warming] {
        match along(d, status_index, &limits).await? {
            Room::None => return Ok(None),
            Room::Left { due } => next = [next, due].into_iter().flatten().min(),
        }
    }
    Ok(next)
}

/// Whether there is room for more builds, after those of a shelf were taken in.
enum Room {
    /// There is none until one of them ends.
    None,
    /// There is some, and when the next one is due.
    Left { due: Option<Timestamp> },
}

async fn along<D: HasLedger + HasBell + HasLauncher>(
    d: &D,
    status_index: StatusIndex,
    limits: &Limits,
) -> Result<Room, Unavailable> {
    let mut walk = Walk::along(status_index);
    while let Some(page) = walk.next(d).await? {
        // Looked at after the list, so that no build is on it whose pin is younger.
        let pins = if page.is_empty() { None } else { Some(pins::load(d).await?) };
        for listed in &page {
            if listed.at > d.now() {
                return Ok(Room::Left { due: Some(listed.at) });
            }
            if pins.as_ref().is_some_and(|pins| !pins.serve(&listed.key)) {
                drop_unserved(d, &listed.key).await?;
                continue;
            }
            if limits.paused(listed.key.system).is_some() {
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
                // The list was late: somebody else has it.
                Err(AdvanceError::Illegal(_)) => {}
                Err(AdvanceError::LimitExceeded(full)) => {
                    d.emit(About::Build(&listed.key), Signal::Held(full));
                    match full {
                        // What can not be paid on a larger machine may leave room for what needs the usual one.
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

/// What it is tried on first.
async fn machine<D: HasLedger>(d: &D, key: &BuildKey) -> Result<Size, Unavailable> {
    let usual = d.policy().size;
    let Product::Package(attr) = &key.product else { return Ok(usual) };
    // An older one costs an attempt or some cents.
    let (past, _) = load_profile(d, key.system, attr, Read::Eventual).await?;
    Ok(past.map_or(usual, |past| past.machine(usual)))
}

/// A build whose pin was moved or retired while it waited, or whose package was taken down: nobody wants it any more.
async fn drop_unserved<D: HasLedger>(d: &D, key: &BuildKey) -> Result<(), Unavailable> {
    match advance(d, key, &Event::Cancel).await {
        Err(AdvanceError::Unavailable(error)) => Err(error),
        Ok(_) | Err(AdvanceError::Illegal(_) | AdvanceError::LimitExceeded(_)) => Ok(()),
    }
}

/// Starts the builder of a lease. Whatever happens here, the lease ends: by the builder's word, by the launcher's, or by its time.
pub(crate) async fn launch<D: HasLedger + HasBell + HasLauncher>(
    d: &D,
    key: &BuildKey,
    lease: &Lease,
) -> Result<(), Unavailable> {
    let mut launched = d.launcher().launch(key, lease).await;
    if matches!(launched, Err(NotLaunched::Unavailable(_))) {
        // The same lease starts no second task, so asking again is safe.
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
