//! Starts builders for queued builds, as far as slots and budget allow. First, builds that follow another one are
//! updated if that one has ended: each end of a build rings the doorbell, and so does the sweep.
//!
//! Builds are claimed one after the other, in the queue's order, and their builders are started concurrently: RunTask takes
//! much longer than a claim. A dispatcher begins with one start at a time, and allows twice as many after each success, so
//! that a quota refuses one start and not many.

use std::collections::BTreeMap;

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};

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

/// The most builders that a dispatcher starts at the same time. Fargate allows 20 calls of RunTask a second.
const STARTS_MAX: usize = 8;

/// Claims all builds that are due and fit, and starts a builder for each. Returns when the next queued build is due, if
/// that is all it waits for; the end of a build rings the doorbell by itself.
///
/// Any number of dispatchers may run at once: a claim has one winner.
///
/// # Errors
/// [`Unavailable`]: the ledger does not answer; run it again.
pub async fn dispatch<D: HasLedger + HasBell + HasLauncher>(d: &D) -> Result<Option<Timestamp>, Unavailable> {
    follow::follow_all(d).await?;
    let mut starts =
        Starts { running: FuturesUnordered::new(), most: 1, limits: load_limits(d, Read::Consistent).await?.0 };
    let mut next = claim_all(d, &mut starts).await;
    // A start that fails does not end the others.
    loop {
        match starts.next(d).await {
            Ok(None) => return next,
            Ok(Some(_)) => {}
            Err(error) => next = next.and(Err(error)),
        }
    }
}

async fn claim_all<'a, D: HasLedger + HasBell + HasLauncher>(
    d: &'a D,
    starts: &mut Starts<'a>,
) -> Result<Option<Timestamp>, Unavailable> {
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
        if reporters && !starts.limits.has_reports() {
            continue;
        }
        match along(d, status_index, reporters, starts).await? {
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

/// The builders that are being started.
struct Starts<'a> {
    running: FuturesUnordered<BoxFuture<'a, Ended>>,
    /// The most at the same time.
    most: usize,
    /// The limits, as they were read last: at the beginning, and after each refusal.
    limits: Limits,
}

/// A build, and what became of the start of its builder.
type Ended = (BuildKey, Result<Launch, AdvanceError>);

impl<'a> Starts<'a> {
    /// Starts a builder for a claim, after others if there are too many. Returns whether there is room for more builds.
    async fn add<D: HasLedger + HasBell + HasLauncher>(
        &mut self,
        d: &'a D,
        key: &BuildKey,
        seconds: Option<u64>,
    ) -> Result<bool, Unavailable> {
        let mut room = match claim(d, key, seconds, self.limits.spares_spot(key.system, d.now())).await {
            Ok(None) => true,
            Ok(Some(lease)) => {
                let key = key.clone();
                self.running.push(Box::pin(async move {
                    let started = start(d, &key, seconds, lease).await;
                    (key, started)
                }));
                true
            }
            Err(error) => self.has_room(d, key, error).await?,
        };
        while room && self.running.len() >= self.most {
            room = self.next(d).await?.unwrap_or(true);
        }
        Ok(room)
    }

    /// Waits for one of them. Returns whether there is room for more builds; `None`: none is being started.
    async fn next<D: HasLedger>(&mut self, d: &D) -> Result<Option<bool>, Unavailable> {
        match self.running.next().await {
            Some(ended) => self.over(d, ended).await.map(Some),
            None => Ok(None),
        }
    }

    /// Goes on with all of them, without waiting. Returns whether there is room for more builds.
    async fn go_on<D: HasLedger>(&mut self, d: &D) -> Result<bool, Unavailable> {
        let mut room = true;
        while let Some(Some(ended)) = self.running.next().now_or_never() {
            room &= self.over(d, ended).await?;
        }
        Ok(room)
    }

    async fn over<D: HasLedger>(&mut self, d: &D, (key, launched): Ended) -> Result<bool, Unavailable> {
        match launched {
            Ok(Launch::Started) => self.most = (2 * self.most).min(STARTS_MAX),
            Ok(Launch::Unknown) => {}
            Ok(Launch::Refused) => {
                self.most = 1;
                self.limits = load_limits(d, Read::Consistent).await?.0;
            }
            Err(error) => return self.has_room(d, &key, error).await,
        }
        Ok(true)
    }

    /// Whether there is room for more builds, although this one was not claimed.
    async fn has_room<D: HasLedger>(
        &mut self,
        d: &D,
        key: &BuildKey,
        error: AdvanceError,
    ) -> Result<bool, Unavailable> {
        let full = match error {
            // The list lags: another dispatcher has claimed it.
            AdvanceError::Illegal(_) => return Ok(true),
            AdvanceError::Unavailable(error) => return Err(error),
            AdvanceError::LimitExceeded(full) => full,
        };
        d.emit(About::Build(key), Signal::Held(full));
        if matches!(full, LimitExceeded::Paused(_)) {
            self.limits = load_limits(d, Read::Consistent).await?.0;
        }
        Ok(match full {
            // If the budget does not cover a larger machine, it may cover a build on the usual one.
            LimitExceeded::Budget { worst } => worst > d.policy().worst_price(d.policy().size),
            LimitExceeded::Paused(_) | LimitExceeded::Catalogue | LimitExceeded::Client { .. } => true,
            LimitExceeded::Slots | LimitExceeded::Store => false,
        })
    }
}

async fn along<'a, D: HasLedger + HasBell + HasLauncher>(
    d: &'a D,
    status_index: StatusIndex,
    reporters: bool,
    starts: &mut Starts<'a>,
) -> Result<Room, Unavailable> {
    let (mut walk, mut next, mut tarballs) = (Walk::along(status_index), None, Tarballs::default());
    while let Some(page) = walk.next(d).await? {
        // Read after the list, so that every listed build's pin is included.
        let pins = if page.is_empty() { None } else { Some(pins::load(d).await?) };
        for listed in &page {
            if !starts.go_on(d).await? {
                return Ok(Room::None);
            }
            if listed.at > d.now() {
                return Ok(Room::Left { due: earlier(next, Some(listed.at)) });
            }
            if pins.as_ref().is_some_and(|pins| !pins.serve(&listed.key)) {
                drop_unserved(d, &listed.key).await?;
                continue;
            }
            if let Some(paused) = starts.limits.held(listed.key.system, d.now()) {
                next = earlier(next, paused.until);
                continue;
            }
            if let Some(pins) = &pins
                && tarballs.lacks(d, pins, &listed.key.rev, &mut starts.limits).await?
            {
                continue;
            }
            if starts.limits.has_reported(&listed.key, d.now()) != reporters {
                continue;
            }
            let seconds = pins.as_ref().and_then(|pins| pins.allowed(&listed.key.product));
            if !starts.add(d, &listed.key, seconds).await? {
                return Ok(Room::None);
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

/// Claims a build. `None`: it has no lease any more.
async fn claim<D: HasLedger>(
    d: &D,
    key: &BuildKey,
    seconds: Option<u64>,
    on_demand: bool,
) -> Result<Option<Lease>, AdvanceError> {
    let (size, (id, token)) = (machine(d, key).await?, d.new_lease());
    let claimed = advance(d, key, &Event::Claim { id, token, size, on_demand, seconds }).await?;
    Ok(claimed.after.lease().cloned())
}

/// Starts the builder of a claim. If Spot capacity is refused, the build is claimed once more, for a task on demand.
async fn start<D: HasLedger + HasBell + HasLauncher>(
    d: &D,
    key: &BuildKey,
    seconds: Option<u64>,
    lease: Lease,
) -> Result<Launch, AdvanceError> {
    let launched = launch(d, key, &lease).await?;
    if launched != Launch::Refused {
        return Ok(launched);
    }
    let (limits, _) = load_limits(d, Read::Consistent).await?;
    if !lease.is_on_demand()
        && limits.spares_spot(key.system, d.now())
        && let Some(lease) = claim(d, key, seconds, true).await?
    {
        launch(d, key, &lease).await?;
    }
    Ok(launched)
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

/// What became of the start of a builder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Launch {
    /// Its task starts, or has started.
    Started,
    /// The launcher did not answer, or another start of the same lease stands.
    Unknown,
    /// The launcher refuses, which has ended the lease.
    Refused,
}

/// Starts the builder of a lease, and records its task. The lease ends by its builder's report, by the launcher's, or by expiry.
pub(crate) async fn launch<D: HasLedger + HasBell + HasLauncher>(
    d: &D,
    key: &BuildKey,
    lease: &Lease,
) -> Result<Launch, Unavailable> {
    let mut launched = d.launcher().launch(key, lease).await;
    if matches!(launched, Err(NotLaunched::Unavailable(_))) {
        // RunTask is idempotent: the same lease starts no second task.
        launched = d.launcher().launch(key, lease).await;
    }
    match launched {
        Ok(task) => match advance(d, key, &Event::Launched { id: lease.id.clone(), task }).await {
            // A quick builder has settled already.
            Ok(_) | Err(AdvanceError::Illegal(_) | AdvanceError::LimitExceeded(_)) => Ok(Launch::Started),
            Err(AdvanceError::Unavailable(error)) => Err(error),
        },
        Err(NotLaunched::Refused(why)) => {
            d.warn(About::Attempt(key, &lease.id), "a builder was not started", &why);
            let failure = Failure::new(Kind::NotStarted, without_account(&why));
            let ended = settle::refused(d, key, &lease.id, failure).await?;
            Ok(if ended { Launch::Refused } else { Launch::Unknown })
        }
        Err(NotLaunched::Unavailable(error)) => {
            d.warn(About::Attempt(key, &lease.id), "a builder may not have been started", &error);
            Ok(Launch::Unknown)
        }
    }
}
