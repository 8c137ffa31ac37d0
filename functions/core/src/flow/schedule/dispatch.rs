//! Starts builders for queued builds, as far as slots and budget allow. First, builds that follow another one are
//! updated if that one has ended: each end of a build rings the doorbell, and so does the sweep.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    build::{
        Event, Lease,
        failure::{Failure, Kind},
        size::Size,
    },
    flow::{
        AdvanceError, advance, change_limits,
        lease::settle,
        load_limits, load_profile,
        operator::pins,
        schedule::{follow, status_index::Walk},
    },
    id::{
        key::{BuildKey, Rev},
        text::without_account,
        time::Timestamp,
    },
    nixpkgs::pins::{Pins, Source},
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
    let (mut limits, _) = load_limits(d, Read::Consistent).await?;
    let mut next = None;
    // Builds that were not requested yet come after those, and packages that have reported a failure of the whole
    // system come last: they get the slots that are left.
    let classes = [
        (StatusIndex::Queued, false),
        (StatusIndex::Warming, false),
        (StatusIndex::Queued, true),
        (StatusIndex::Warming, true),
    ];
    for (status_index, reporters) in classes {
        if reporters && !limits.has_reports() {
            continue;
        }
        match along(d, status_index, reporters, &mut limits).await? {
            Room::None => return Ok(None),
            Room::Left { due } => next = earlier(next, due),
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
    limits: &mut Limits,
) -> Result<Room, Unavailable> {
    let (mut walk, mut next, mut tarballs) = (Walk::along(status_index), None, Tarballs::default());
    while let Some(page) = walk.next(d).await? {
        // Read after the list, so that every listed build's pin is included.
        let pins = if page.is_empty() { None } else { Some(pins::load(d).await?) };
        for listed in &page {
            if listed.at > d.now() {
                return Ok(Room::Left { due: earlier(next, Some(listed.at)) });
            }
            if pins.as_ref().is_some_and(|pins| !pins.serve(&listed.key)) {
                drop_unserved(d, &listed.key).await?;
                continue;
            }
            if let Some(paused) = limits.held(listed.key.system, d.now()) {
                next = earlier(next, paused.until);
                continue;
            }
            if let Some(pins) = &pins
                && tarballs.lacks(d, pins, &listed.key.rev, limits).await?
            {
                continue;
            }
            if limits.has_reported(&listed.key, d.now()) != reporters {
                continue;
            }
            let seconds = pins.as_ref().and_then(|pins| pins.allowed(&listed.key.product));
            match start(d, &listed.key, seconds, limits).await {
                Ok(()) => {}
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
    Ok(Room::Left { due: next })
}

/// The tarballs that this dispatcher has looked for.
#[derive(Default)]
struct Tarballs(BTreeMap<Rev, bool>);

impl Tarballs {
    /// Whether the builds of a nixpkgs wait for its tarball, which is recorded for requests to report. One whose upload is
    /// found starts what waits.
    async fn lacks<D: HasLedger + HasLauncher>(
        &mut self,
        d: &D,
        pins: &Pins,
        rev: &Rev,
        limits: &mut Limits,
    ) -> Result<bool, Unavailable> {
        let Some(Source::Stored { .. }) = pins.nixpkgs(rev) else { return Ok(false) };
        if let Some(known) = self.0.get(rev) {
            return Ok(*known);
        }
        let lacks = match d.launcher().lacks_nixpkgs(rev).await {
            Ok(lacks) => lacks,
            Err(error) => {
                d.warn(About::Service, "it is unknown whether a nixpkgs is stored", &error);
                false
            }
        };
        self.0.insert(rev.clone(), lacks);
        if limits.lacks_nixpkgs(rev).is_some() != lacks {
            let (now, served) = (d.now(), |rev: &Rev| pins.nixpkgs(rev).is_some());
            change_limits(d, |limits| limits.nixpkgs_looked_at(rev, lacks, served, now)).await?;
            *limits = load_limits(d, Read::Consistent).await?.0;
        }
        Ok(lacks)
    }
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    [one, other].into_iter().flatten().min()
}

/// Claims a build and starts its builder. If Spot capacity is refused, it is claimed once more, for a task on demand. After
/// a refusal the limits are read again.
async fn start<D: HasLedger + HasBell + HasLauncher>(
    d: &D,
    key: &BuildKey,
    seconds: Option<u64>,
    limits: &mut Limits,
) -> Result<(), AdvanceError> {
    let size = machine(d, key).await?;
    loop {
        let on_demand = limits.spares_spot(key.system, d.now());
        let (id, token) = d.new_lease();
        let claimed = advance(d, key, &Event::Claim { id, token, size, on_demand, seconds }).await?;
        let Some(lease) = claimed.after.lease() else { return Ok(()) };
        if launch(d, key, lease).await? {
            return Ok(());
        }
        *limits = load_limits(d, Read::Consistent).await?.0;
        if lease.is_on_demand() || !limits.spares_spot(key.system, d.now()) {
            return Ok(());
        }
    }
}

/// The machine of its first attempt.
async fn machine<D: HasLedger>(d: &D, key: &BuildKey) -> Result<Size, Unavailable> {
    let usual = d.policy().size;
    // An outdated profile costs an attempt, or some cents.
    let (past, _) = load_profile(d, key, Read::Eventual).await?;
    Ok(past.map_or(usual, |past| past.machine(usual)))
}

/// Cancels a queued build whose pin was moved or retired, or whose package was taken down.
async fn drop_unserved<D: HasLedger>(d: &D, key: &BuildKey) -> Result<(), Unavailable> {
    match advance(d, key, &Event::Cancel).await {
        Err(AdvanceError::Unavailable(error)) => Err(error),
        Ok(_) | Err(AdvanceError::Illegal(_) | AdvanceError::LimitExceeded(_)) => Ok(()),
    }
}

/// Starts the builder of a lease; `false`: the launcher refused. In every case the lease ends: by the builder's report, by the launcher's, or by
/// expiry.
pub(crate) async fn launch<D: HasLedger + HasBell + HasLauncher>(
    d: &D,
    key: &BuildKey,
    lease: &Lease,
) -> Result<bool, Unavailable> {
    let mut launched = d.launcher().launch(key, lease).await;
    if matches!(launched, Err(NotLaunched::Unavailable(_))) {
        // RunTask is idempotent: the same lease starts no second task.
        launched = d.launcher().launch(key, lease).await;
    }
    match launched {
        Ok(task) => match advance(d, key, &Event::Launched { id: lease.id.clone(), task }).await {
            // A quick builder has settled already.
            Ok(_) | Err(AdvanceError::Illegal(_) | AdvanceError::LimitExceeded(_)) => Ok(true),
            Err(AdvanceError::Unavailable(error)) => Err(error),
        },
        Err(NotLaunched::Refused(why)) => {
            d.warn(About::Attempt(key, &lease.id), "a builder was not started", &why);
            let failure = Failure::new(Kind::NotStarted, without_account(&why));
            settle::stopped(d, key, &lease.id, failure, Some(Duration::ZERO)).await?;
            Ok(false)
        }
        Err(NotLaunched::Unavailable(error)) => {
            d.warn(About::Attempt(key, &lease.id), "a builder may not have been started", &error);
            Ok(true)
        }
    }
}
