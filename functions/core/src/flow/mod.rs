//! Flows over the [ports](crate::ports), one verb a file: [`request`] answers clients, [`lease`] builders and [`operator`] the
//! operator. [`schedule`] has what runs by itself: it dispatches queued builds, sweeps up after lost ones, lets a build follow
//! another one of the same derivation, and promotes offers into the binary cache.
//!
//! Every flow may stop between any two lines and be run again.

use request::charge::Charge;
use thiserror::Error;

use crate::{
    build::{Attempt, Build, Event, Illegal, Made, Step, apply, profile::BuildProfile},
    id::key::{Attr, BuildKey, Product, System},
    objects::artifact::{AttemptPrefix, Manifest, ObjectName},
    ports::{
        Bell, Deployment, Ledger, Listed, NotCommitted, Read, Row, RowKey, StatusIndex, Store, Swap, Unavailable,
        Version,
    },
    quota::limits::{LimitExceeded, Limits, Why},
    telemetry::{About, Moved, Signal},
};

pub mod lease;
pub mod operator;
pub mod request;
pub mod schedule;

/// How often a commit is tried again after somebody else wrote first. Each conflict means that another writer got on, so this many in a row
/// mean that something is wrong.
const CONFLICTS_MAX: usize = 100;
/// How often a commit is tried again whose outcome is unknown.
const RETRIES_MAX: usize = 3;
/// How far the queue is counted, for whoever looks.
pub const QUEUE_COUNT: usize = 1000;

/// How often a change was tried: load, decide, commit.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    conflicts: usize,
    unknown: usize,
}

impl Tries {
    /// Whether to load and decide again after a commit that failed. Where its outcome is unknown, what is there now tells.
    ///
    /// # Errors
    /// [`Unavailable`], where that was tried often enough.
    pub(crate) fn again(&mut self, error: NotCommitted) -> Result<(), Unavailable> {
        match error {
            NotCommitted::Conflict if self.conflicts < CONFLICTS_MAX => self.conflicts += 1,
            NotCommitted::Conflict => return Err(Unavailable::new("ledger", "too many conflicts")),
            NotCommitted::Unavailable(_) if self.unknown < RETRIES_MAX => self.unknown += 1,
            NotCommitted::Unavailable(error) => return Err(error),
        }
        Ok(())
    }
}

/// Why an event was not applied.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AdvanceError {
    /// The state machine refuses it.
    #[error(transparent)]
    Illegal(#[from] Illegal),
    /// There is no slot or no money.
    #[error(transparent)]
    LimitExceeded(#[from] LimitExceeded),
    /// The ledger does not answer.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The row of that key, and its version; `None` is version 0.
pub(crate) async fn load_row<D: Deployment, R: TryFrom<Row>>(
    d: &D,
    key: &RowKey,
    read: Read,
) -> Result<(Option<R>, Version), Unavailable> {
    let Some((row, version)) = d.ledger().load(key, read).await? else { return Ok((None, Version(0))) };
    let other = |_| Unavailable::new("ledger", format!("another row lies where {key:?} should"));
    Ok((Some(R::try_from(row).map_err(other)?), version))
}

/// A build's row, as a consistent read shows it.
pub(crate) async fn load_build<D: Deployment>(d: &D, key: &BuildKey) -> Result<(Build, Version), Unavailable> {
    let (row, version) = load_row(d, &RowKey::Build(key.clone()), Read::Consistent).await?;
    Ok((row.unwrap_or_else(|| Build::unasked(key.clone())), version))
}

pub(crate) async fn load_limits<D: Deployment>(d: &D, read: Read) -> Result<(Limits, Version), Unavailable> {
    let (row, version) = load_row::<D, Limits>(d, &RowKey::Limits, read).await?;
    Ok((row.unwrap_or_default(), version))
}

/// Changes the limits, and tells whether they were otherwise.
pub(crate) async fn change_limits<D: Deployment>(
    d: &D,
    change: impl Fn(&Limits) -> Limits,
) -> Result<bool, Unavailable> {
    let mut tries = Tries::default();
    loop {
        let (limits, seen) = load_limits(d, Read::Consistent).await?;
        let next = change(&limits);
        if next == limits {
            return Ok(false);
        }
        match d.ledger().commit(vec![Swap { seen, row: Row::Limits(next) }]).await {
            Ok(()) => return Ok(true),
            Err(error) => tries.again(error)?,
        }
    }
}

/// What a package took when it was built last.
pub(crate) async fn load_profile<D: Deployment>(
    d: &D,
    system: System,
    attr: &Attr,
    read: Read,
) -> Result<(Option<BuildProfile>, Version), Unavailable> {
    load_row(d, &RowKey::BuildProfile(system, attr.clone()), read).await
}

/// The manifest that lies there, if one does.
pub(crate) async fn load_manifest<D: Deployment>(
    d: &D,
    prefix: &AttemptPrefix,
) -> Result<Option<Manifest>, Unavailable> {
    let content = d.store().read(&prefix.object(ObjectName::Manifest)).await?;
    let read = |content: Vec<u8>| serde_json::from_slice(&content).map_err(|error| Unavailable::new("store", error));
    content.map(read).transpose()
}

/// The manifest of what was made for a build.
pub(crate) async fn manifest_of<D: Deployment>(d: &D, key: &BuildKey, made: &Made) -> Result<Manifest, Unavailable> {
    let manifest = load_manifest(d, &made.prefix(key)).await?;
    manifest
        .map(|manifest| made.own(manifest))
        .ok_or_else(|| Unavailable::new("store", format!("{key} has no manifest")))
}

/// Up to `most` builds that wait in the queue, those that wait for their time included, in the order of their turns.
pub(crate) async fn queued<D: Deployment>(d: &D, most: usize) -> Result<Vec<Listed>, Unavailable> {
    let mut queued = d.ledger().list(StatusIndex::Queued, None, most).await?;
    queued.extend(d.ledger().list(StatusIndex::Warming, None, most - queued.len()).await?);
    Ok(queued)
}

/// Whether asking would queue it: nobody has asked for it, or it has cooled down; all else is as it is.
pub(crate) fn startable<D: Deployment>(d: &D, build: &Build) -> bool {
    matches!(apply(build, &Event::Ask, d.now(), d.policy()), Ok(Step::Move(_)))
}

/// What an event did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advanced {
    /// The row before it.
    pub before: Build,
    /// The row after it; equal to `before` where the event brought nothing new.
    pub after: Build,
}

/// Applies an event to a build: load, decide, commit, and again where somebody else wrote first.
///
/// A build's row changes in this way only, and, together with a derivation's, in [`lease::claim`]. Where the change gives a lease out or takes
/// one back, the slots-and-money row changes in the same commit.
///
/// # Errors
/// [`AdvanceError`]; then nothing has changed, save that an [`Unavailable`] ledger may have committed without saying so.
pub async fn advance<D: Deployment>(d: &D, key: &BuildKey, event: &Event) -> Result<Advanced, AdvanceError> {
    advance_for(d, key, event, None).await
}

/// The same; and where a build comes to be under way by it, that is charged to whoever wants it, in the same commit.
///
/// # Errors
/// [`AdvanceError`].
pub(crate) async fn advance_for<D: Deployment>(
    d: &D,
    key: &BuildKey,
    event: &Event,
    charge: Option<&Charge>,
) -> Result<Advanced, AdvanceError> {
    let mut tries = Tries::default();
    // What a commit would have done that was not acknowledged. Where it is found done, it is this call's doing.
    let mut unheard: Option<Advanced> = None;
    loop {
        let (before, seen) = load_build(d, key).await?;
        if let Some(advanced) = unheard.take().filter(|advanced| advanced.after == before) {
            return Ok(told(d, advanced));
        }
        let Some((after, mut swaps)) = decide(d, &before, seen, event).await? else {
            return Ok(Advanced { after: before.clone(), before });
        };
        if let Some(charge) = charge.filter(|_| !before.is_under_way() && after.is_under_way()) {
            swaps.push(charge.swap(d).await?);
        }
        let advanced = Advanced { before, after };
        match d.ledger().commit(swaps).await {
            Ok(()) => return Ok(told(d, advanced)),
            Err(error) => {
                // It may have happened: what is there now tells.
                unheard = matches!(error, NotCommitted::Unavailable(_)).then_some(advanced);
                tries.again(error)?;
            }
        }
    }
}

/// What an event makes of a build, and all that is to be committed with it; `None`: it brings nothing new.
pub(crate) async fn decide<D: Deployment>(
    d: &D,
    before: &Build,
    seen: Version,
    event: &Event,
) -> Result<Option<(Build, Vec<Swap>)>, AdvanceError> {
    let now = d.now();
    let Step::Move(after) = apply(before, event, now, d.policy())? else { return Ok(None) };
    let mut swaps = vec![Swap { seen, row: Row::Build(after.clone()) }];
    let (old, new) = (before.lease(), after.lease());
    if old.map(|lease| &lease.id) != new.map(|lease| &lease.id) {
        let (mut limits, seen) = load_limits(d, Read::Consistent).await?;
        if let Some(old) = old {
            let ended = after.history.last().filter(|attempt| attempt.lease == old.id);
            limits = limits.over(&old.id, ended.and_then(Attempt::stored), now);
            if let Some(why) = after.failure_of(&old.id).and_then(|failure| Why::after(failure.kind)) {
                limits = limits.broken(before.key.system, why, now);
            }
            if let (Some(attempt), Product::Package(attr)) = (after.built_by(&old.id), &before.key.product) {
                limits = limits.learnt(attempt.stats.derivations, attempt.ended - attempt.claimed);
                let past = BuildProfile::of(attr, before.key.system, attempt);
                let seen = load_profile(d, before.key.system, attr, Read::Consistent).await?.1;
                swaps.push(Swap { seen, row: Row::BuildProfile(past) });
            }
        }
        if let Some(new) = new {
            let Build { key, .. } = before;
            limits = limits.open_for(key.system)?.reserve(&new.id, &key.product, new.size, now, d.policy())?;
        }
        swaps.push(Swap { seen, row: Row::Limits(limits) });
    }
    Ok(Some((after, swaps)))
}

fn told<D: Deployment>(d: &D, advanced: Advanced) -> Advanced {
    let Advanced { before, after } = &advanced;
    if let Some(moved) = Moved::between(before, after) {
        let lease = before.lease().or(after.lease()).map(|lease| &lease.id);
        let about = lease.map_or(About::Build(&after.key), |lease| About::Attempt(&after.key, lease));
        d.emit(about, Signal::Moved(&moved));
        if let Some(why) = moved.kind().and_then(Why::after) {
            d.emit(About::Service, Signal::Looked(after.key.system, Some(why)));
        }
    }
    advanced
}

/// Wakes the dispatcher: a build is queued, or a slot is free. The rows say so already, so a ring that fails costs time only: the
/// next one, or a sweep, finds them.
pub(crate) async fn ring<D: Deployment>(d: &D) {
    if let Err(error) = d.bell().ring().await {
        d.warn(About::Service, "the bell was not rung", &error);
    }
}
