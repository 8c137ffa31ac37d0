//! Flows over the [ports](crate::ports), one verb per file. [`request`] answers clients, [`lease`] answers builders, and [`operator`]
//! answers the operator. The flows in [`schedule`] run by themselves: they dispatch queued builds, sweep up after lost ones, let a build
//! follow another one of the same derivation, and promote offers into the binary cache.
//!
//! Every flow may stop between any two lines and be run again.

use std::time::Duration;

use request::charge::Charge;
use thiserror::Error;

use crate::{
    build::{
        Attempt, Build, Event, Illegal, Lease, Made, Step, apply, failure::Class, plan::Plan, policy::Policy,
        profile::BuildProfile,
    },
    id::{
        key::{BuildKey, Product, System},
        time::Timestamp,
    },
    objects::{artifact::Manifest, inventory::Inventory, stored::Integrity},
    ports::{Bell, Deployment, HasBell, HasLedger, HasStore, Ledger, NotCommitted, Read, Unavailable},
    quota::limits::{LimitExceeded, Limits, Why},
    row::{Listed, Row, RowKey, StatusIndex, Swap, Version},
    telemetry::{About, Moved, Signal},
};

pub mod integrity;
pub mod lease;
pub mod operator;
pub mod request;
pub mod schedule;
pub mod tlog;

/// How often a commit is retried after a conflict. Each conflict means that another writer succeeded, so this many in a
/// row mean a bug.
const CONFLICTS_MAX: usize = 100;
/// How often a commit with an unknown outcome is retried.
const RETRIES_MAX: usize = 3;
/// The most queued builds that answers count.
pub const QUEUE_COUNT: usize = 1000;

/// The tries of one commit that may conflict. [`change_row`] changes one row, and [`advance`] changes a build's row.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    conflicts: usize,
    unknown: usize,
}

impl Tries {
    /// Counts a failed commit before the caller loads and decides again. If its outcome is unknown, the next load shows
    /// it.
    ///
    /// # Errors
    /// [`Unavailable`] after too many tries.
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
    /// No slot, or no money.
    #[error(transparent)]
    LimitExceeded(#[from] LimitExceeded),
    /// The ledger does not answer.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The row of that key, and its version; `None` is version 0.
pub(crate) async fn load_row<D: HasLedger, R: TryFrom<Row>>(
    d: &D,
    key: &RowKey,
    read: Read,
) -> Result<(Option<R>, Version), Unavailable> {
    let Some((row, version)) = d.ledger().load(key, read).await? else { return Ok((None, Version(0))) };
    let other = |_| Unavailable::new("ledger", format!("another row lies where {key:?} should"));
    Ok((Some(R::try_from(row).map_err(other)?), version))
}

/// A row after [`change_row`].
pub(crate) struct Changed<R> {
    /// The row as it is now; `None` if there is none.
    pub(crate) row: Option<R>,
    /// Whether this call has written it.
    pub(crate) written: bool,
}

/// Changes one row: load, decide, commit, and again after a conflict (optimistic concurrency). `change` gets the row, if
/// there is one, and returns the next row. If it returns `None`, the row stays.
pub(crate) async fn change_row<D: HasLedger, R: TryFrom<Row> + Into<Row> + Clone, E: From<Unavailable>>(
    d: &D,
    key: &RowKey,
    change: impl Fn(Option<&R>) -> Result<Option<R>, E>,
) -> Result<Changed<R>, E> {
    let mut tries = Tries::default();
    loop {
        let (row, seen) = load_row::<D, R>(d, key, Read::Consistent).await?;
        let Some(next) = change(row.as_ref())? else { return Ok(Changed { row, written: false }) };
        match d.ledger().commit(vec![Swap { seen, row: next.clone().into() }]).await {
            Ok(()) => return Ok(Changed { row: Some(next), written: true }),
            Err(error) => tries.again(error)?,
        }
    }
}

/// A build's row, by a consistent read.
pub(crate) async fn load_build<D: HasLedger>(d: &D, key: &BuildKey) -> Result<(Build, Version), Unavailable> {
    let (row, version) = load_row(d, &RowKey::Build(key.clone()), Read::Consistent).await?;
    Ok((row.unwrap_or_else(|| Build::unasked(key.clone())), version))
}

pub(crate) async fn load_limits<D: HasLedger>(d: &D, read: Read) -> Result<(Limits, Version), Unavailable> {
    let (row, version) = load_row::<D, Limits>(d, &RowKey::Limits, read).await?;
    Ok((row.unwrap_or_default(), version))
}

/// Changes the limits; returns whether anything changed.
pub(crate) async fn change_limits<D: HasLedger>(
    d: &D,
    change: impl Fn(&Limits) -> Limits,
) -> Result<bool, Unavailable> {
    let change = |limits: Option<&Limits>| {
        let limits = limits.cloned().unwrap_or_default();
        Ok::<_, Unavailable>(Some(change(&limits)).filter(|next| *next != limits))
    };
    Ok(change_row(d, &RowKey::Limits, change).await?.written)
}

/// The profile of the last build of the same product. A catalogue has none.
pub(crate) async fn load_profile<D: HasLedger>(
    d: &D,
    key: &BuildKey,
    read: Read,
) -> Result<(Option<BuildProfile>, Version), Unavailable> {
    load_row(d, &RowKey::BuildProfile(key.system, key.product.clone()), read).await
}

/// The manifest of a ready build, and the inventory that it is part of.
pub(crate) async fn manifest_of<D: HasStore>(
    d: &D,
    key: &BuildKey,
    made: &Made,
) -> Result<Result<(Manifest, Inventory), Integrity>, Unavailable> {
    let inventory = integrity::inventory(d, &made.prefix(key)).await?;
    Ok(inventory.and_then(|inventory| match &inventory.manifest {
        Some(manifest) => Ok((made.own(manifest.clone()), inventory)),
        // The inventory of a package has a manifest.
        None => Err(Integrity::OtherContent),
    }))
}

/// Up to `most` queued builds, including those that are not due yet, in queue order.
pub(crate) async fn queued<D: HasLedger>(d: &D, most: usize) -> Result<Vec<Listed>, Unavailable> {
    let mut queued = d.ledger().list(StatusIndex::Queued, None, most).await?;
    queued.extend(d.ledger().list(StatusIndex::Warming, None, most - queued.len()).await?);
    Ok(queued)
}

/// Whether a request would queue the build: it was not requested before, or has cooled down.
pub(crate) fn startable<D: Deployment>(d: &D, build: &Build) -> bool {
    matches!(apply(build, &Event::Ask, d.now(), d.policy()), Ok(Step::Move(_)))
}

/// The effect of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advanced {
    /// The row before it.
    pub before: Build,
    /// The row after it; equal to `before` if the event brought nothing new.
    pub after: Build,
    /// The reason, if the event paused the build's system.
    pub paused: Option<Why>,
}

/// Applies an event to a build: load, decide, commit, and again after a conflict (optimistic concurrency). It detects a
/// lost reply, and does not apply the event a second time.
///
/// This is the only way to change a build's row, except for [`lease::claim`], which changes a derivation's row with it.
/// If the event creates or ends a lease, the row of the limits changes in the same commit.
///
/// # Errors
/// [`AdvanceError`]; then nothing has changed, except that an [`Unavailable`] ledger may have committed without a
/// reply.
pub async fn advance<D: HasLedger>(d: &D, key: &BuildKey, event: &Event) -> Result<Advanced, AdvanceError> {
    advance_for(d, key, event, None).await
}

/// As [`advance`], but if the event starts the build, the same commit charges the client.
///
/// # Errors
/// [`AdvanceError`].
pub(crate) async fn advance_for<D: HasLedger>(
    d: &D,
    key: &BuildKey,
    event: &Event,
    charge: Option<&Charge>,
) -> Result<Advanced, AdvanceError> {
    let mut tries = Tries::default();
    // The effect of a commit that was not acknowledged. If the next load shows it, this call has made it.
    let mut unheard: Option<Advanced> = None;
    loop {
        let (before, seen) = load_build(d, key).await?;
        if let Some(advanced) = unheard.take().filter(|advanced| advanced.after == before) {
            return Ok(told(d, advanced));
        }
        let Some((after, mut swaps)) = decide(d, &before, seen, event).await? else {
            return Ok(Advanced { after: before.clone(), before, paused: None });
        };
        if let Some(charge) = charge.filter(|_| !before.is_under_way() && after.is_under_way()) {
            swaps.push(charge.swap(d).await?);
        }
        let paused = pauses(&swaps, key.system, d.now());
        let advanced = Advanced { before, after, paused };
        match d.ledger().commit(swaps).await {
            Ok(()) => return Ok(told(d, advanced)),
            Err(error) => {
                // It may have been committed: the next load shows it.
                unheard = matches!(error, NotCommitted::Unavailable(_)).then_some(advanced);
                tries.again(error)?;
            }
        }
    }
}

/// A build's row after an event, and everything to commit with it; `None` if the event brings nothing new.
pub(crate) async fn decide<D: HasLedger>(
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
            let refused = refusal(event, old, d.policy());
            let stored = if refused.is_some() { Some(0) } else { ended.and_then(Attempt::stored) };
            limits = limits.over(&old.id, stored, now);
            if let Some(detail) = refused {
                limits = limits.refused(before.key.system, old, detail, now, d.policy());
            }
            if let Some(why) = after.failure_of(&old.id).and_then(|failure| Why::after(failure.kind)) {
                limits = match (event, before.key.product.attr(), &old.derivation) {
                    // The launcher has seen it itself.
                    (Event::Stopped { .. }, ..) => limits.broken(before.key.system, why, now),
                    (_, Some(attr), Some(drv)) => limits.reported(before.key.system, attr, drv, why, now),
                    _ => limits,
                };
            }
            let learns = after.built_by(&old.id).filter(|_| before.key.product != Product::Catalogue);
            if let Some(attempt) = learns {
                let before_it = before.partial.continued;
                let took = attempt.ended - attempt.claimed + Duration::from_secs(before_it.seconds);
                let derivations = attempt.stats.derivations.saturating_add(before_it.built);
                let (profile, seen) = load_profile(d, &before.key, Read::Consistent).await?;
                // What requests were told at its beginning: by its plan, or before that was known.
                let planned = attempt.plan.as_ref().and_then(Plan::expected);
                let (product, system) = (&before.key.product, before.key.system);
                let before_plan =
                    || profile.map(|profile| profile.expected()).or_else(|| limits.pace_of(product).of_any());
                let estimate = planned.or_else(before_plan);
                limits = estimate.map_or(limits.clone(), |estimate| limits.compared(estimate, took));
                limits = limits.learnt(product, derivations, took);
                let past = BuildProfile::of(product, system, attempt);
                let past = BuildProfile { seconds: took.as_secs(), derivations, ..past };
                swaps.push(Swap { seen, row: Row::BuildProfile(past) });
            }
            if let (Some(_), Some(attr)) = (after.built_by(&old.id), before.key.product.attr()) {
                limits = limits.disproved(before.key.system, attr);
            }
        }
        if let Some(new) = new {
            let (Build { key, .. }, policy) = (before, d.policy().allowing(new.seconds));
            limits = limits.open_for(key.system, now)?.reserve(&new.id, &key.product, new.size, now, &policy)?;
        }
        swaps.push(Swap { seen, row: Row::Limits(limits) });
    }
    Ok(Some((after, swaps)))
}

/// Why the task of a lease was not started, if the event says so.
fn refusal<'a>(event: &'a Event, lease: &Lease, policy: &Policy) -> Option<&'a str> {
    match event {
        Event::Lapse if !lease.has_started(policy) => Some("its start was not confirmed"),
        Event::Refused { failure, .. } => Some(failure.detail.as_deref().unwrap_or_default()),
        Event::Stopped { failure, .. } if failure.kind.class() == Class::Launcher => {
            Some(failure.detail.as_deref().unwrap_or_default())
        }
        _ => None,
    }
}

/// The pause of a system that begins with these swaps.
fn pauses(swaps: &[Swap], system: System, now: Timestamp) -> Option<Why> {
    let limits = swaps.iter().find_map(|swap| if let Row::Limits(limits) = &swap.row { Some(limits) } else { None });
    limits?.paused(system).filter(|paused| paused.since == now).map(|paused| paused.why)
}

pub(crate) fn told<D: Deployment>(d: &D, advanced: Advanced) -> Advanced {
    let Advanced { before, after, paused } = &advanced;
    if let Some(moved) = Moved::between(before, after) {
        let lease = before.lease().or(after.lease()).map(|lease| &lease.id);
        let about = lease.map_or(About::Build(&after.key), |lease| About::Attempt(&after.key, lease));
        d.emit(about, Signal::Moved(&moved));
        if let Some(why) = paused {
            d.emit(About::Service, Signal::Looked(after.key.system, Some(*why)));
        }
    }
    advanced
}

/// Wakes the dispatcher: a build is queued, or a slot is free. The rows say so already, so a failed ring costs only time:
/// the next ring or sweep finds them.
pub(crate) async fn ring<D: HasBell>(d: &D) {
    if let Err(error) = d.bell().ring().await {
        d.warn(About::Service, "the bell was not rung", &error);
    }
}
