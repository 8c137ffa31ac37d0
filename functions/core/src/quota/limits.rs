//! Slots, budget, the store's size and pauses: pure arithmetic over one row.
//!
//! The row maps each lease to its reservation, and is swapped together with the build's own row. So a crash between two
//! steps cannot leak a reservation: there is no step between.
//!
//! A reservation lasts as long as its task may. When a lease ends, room in the store that its task cannot use any more
//! is released; its slot and its money stay reserved until it is known that the task has stopped, and how long it ran.
//! Each of the two is idempotent.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    build::{policy::Policy, profile::DurationEstimate, size::Size, told::Errors},
    id::{
        key::{LeaseId, Product, Rev, System},
        money::Micros,
        time::{Day, Month, SKEW_MAX, Timestamp, later_of},
    },
};

mod egress;
mod pauses;
mod refusals;
mod reports;

pub use egress::Egress;
pub use pauses::{Paused, Why};
pub use reports::WITNESSES;

use egress::Counted;
use pauses::Stopped;
use refusals::Refusal;
use reports::OperatorReport;

/// The reservation of one lease and its task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// Its worst-case price.
    pub worst: Micros,
    /// Since when it is charged.
    pub since: Timestamp,
    /// Whether it is for a catalogue, which takes no slot.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub catalogue: bool,
    /// The size of its task.
    #[serde(default, skip_serializing_if = "Size::is_usual")]
    pub size: Size,
    /// The most bytes that it may still store.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bytes: u64,
    /// When the lease ended, if it has. Its task may still run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<Timestamp>,
}

/// How often garbage is collected while the store is nearly full. Nothing is deleted before the
/// [grace period](Policy::grace), which is little longer.
pub const COLLECT_EARLY: Duration = Duration::from_secs(3600);
/// The most errors of estimates that the row keeps.
const MISSES_MAX: usize = 32;

fn is_zero(bytes: &u64) -> bool {
    *bytes == 0
}

/// The row of slots, budget and store size.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    reserved: BTreeMap<LeaseId, Reservation>,
    month: Month,
    spent: Micros,
    /// The month of `spent`.
    #[serde(default, skip_serializing_if = "never")]
    charged: Timestamp,
    /// The operator's budget for one month, which replaces the policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    granted: Option<Granted>,
    /// Bytes in the store.
    #[serde(default, skip_serializing_if = "is_zero")]
    stored: u64,
    /// When garbage was collected last.
    #[serde(default, skip_serializing_if = "never")]
    collected: Timestamp,
    /// The bytes served in a day, if there is an egress ceiling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    served: Option<Counted>,
    /// The estimate of build durations.
    #[serde(default, skip_serializing_if = "DurationEstimate::is_empty")]
    pace: DurationEstimate,
    /// The same of bundles, which are fetched and packed as a rule.
    #[serde(default, skip_serializing_if = "DurationEstimate::is_empty")]
    bundle_pace: DurationEstimate,
    /// By how much the first estimates of the last builds were wrong, in percent of what they took.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    misses: Vec<u32>,
    /// The same of what their status said halfway.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    status_misses: Vec<u32>,
    /// The same of `Retry-After`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    retry_misses: Vec<u32>,
    /// The systems for which a sweep has found that no builder can be started.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    paused: BTreeMap<System, Paused>,
    /// The systems that failures have paused, until an operator resumes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    broken: BTreeMap<System, Paused>,
    /// Builders' reports of such failures.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    reports: BTreeMap<System, Vec<OperatorReport>>,
    /// The systems for which the launcher refuses to start tasks.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    refusals: BTreeMap<System, Refusal>,
    /// The nixpkgs whose tarballs builds wait for, and since when.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    no_nixpkgs: BTreeMap<Rev, Timestamp>,
    /// When Spot capacity was refused last.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    spot_refused: BTreeMap<System, Timestamp>,
    /// The operator's pause of all builds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stopped: Option<Stopped>,
}

fn never(at: &Timestamp) -> bool {
    *at == Timestamp(0)
}

/// An operator's budget for one month.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Granted {
    month: Month,
    budget: Micros,
}

/// Why no build may start now.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum LimitExceeded {
    /// The concurrency limit is reached.
    #[error("the limit of concurrent builds is reached")]
    Slots,
    /// A catalogue is being made.
    #[error("another catalogue is being built")]
    Catalogue,
    /// The month's budget does not cover the worst case of this build.
    #[error("the monthly build budget is spent")]
    Budget {
        /// Its worst-case price.
        worst: Micros,
    },
    /// The store has no room for the worst case of this build.
    #[error("the store is full")]
    Store,
    /// Builds for its system are paused.
    #[error("builds are paused: {}", .0.sentence())]
    Paused(Why),
    /// The client has reached its rate limit.
    #[error("this client has started {most} builds today, which is its daily limit")]
    Client {
        /// The limit, in builds per day.
        most: u32,
        /// The day on which it may start builds again.
        until: Day,
    },
}

impl Limits {
    /// Adds a lease's reservation, of its machine's worst case. Idempotent.
    ///
    /// Slots are for packages. A catalogue takes none, so that no program waits for it; one is made at a time.
    ///
    /// # Errors
    /// [`LimitExceeded`], if a limit would be exceeded.
    pub fn reserve(
        &self,
        lease: &LeaseId,
        product: &Product,
        size: Size,
        now: Timestamp,
        policy: &Policy,
    ) -> Result<Limits, LimitExceeded> {
        if self.reserved.contains_key(lease) {
            return Ok(self.clone());
        }
        let mut next = self.in_month(now);
        let (worst, bytes) = (policy.worst_price(size), policy.worst_bytes());
        let catalogue = *product == Product::Catalogue;
        match catalogue {
            true if next.reserved.len() > next.taken() => return Err(LimitExceeded::Catalogue),
            false if next.taken() >= policy.slots => return Err(LimitExceeded::Slots),
            _ => {}
        }
        if next.budget(policy, now).is_some_and(|budget| next.spent + next.reserved() + worst > budget) {
            return Err(LimitExceeded::Budget { worst });
        }
        if policy.store_bytes.is_some_and(|most| next.stored_at_most().saturating_add(bytes) > most) {
            return Err(LimitExceeded::Store);
        }
        next.reserved.insert(lease.clone(), Reservation { worst, since: now, catalogue, size, bytes, over: None });
        Ok(next)
    }

    /// Ends a lease: it has stored so many bytes, and stores no more. Unknown bytes stay reserved until its task is gone
    /// ([`Limits::left`]). A lease without a reservation changes nothing.
    #[must_use]
    pub fn over(&self, lease: &LeaseId, stored: Option<u64>, now: Timestamp) -> Limits {
        let mut next = self.clone();
        if let Some(held) = next.reserved.get_mut(lease).filter(|held| held.over.is_none()) {
            if let Some(stored) = stored {
                (next.stored, held.bytes) = (next.stored.saturating_add(stored), 0);
            }
            held.over = Some(now);
        }
        next
    }

    /// Whether it is unknown how much an ended lease has stored.
    pub fn is_unmeasured(&self, lease: &LeaseId) -> bool {
        self.reserved.get(lease).is_some_and(|held| held.over.is_some() && held.bytes > 0)
    }

    /// The task of an ended lease is gone, and has left so many bytes in the store.
    #[must_use]
    pub fn left(&self, lease: &LeaseId, bytes: u64) -> Limits {
        let mut next = self.clone();
        if self.is_unmeasured(lease)
            && let Some(held) = next.reserved.get_mut(lease)
        {
            (next.stored, held.bytes) = (next.stored.saturating_add(bytes), 0);
        }
        next
    }

    /// Ends the task of a lease: its slot is free, and the price of its machine is spent, never more than was reserved.
    /// `ran`: the time that is charged, by the task's own timestamps; if unknown, until its lease ended. A lease
    /// without a reservation changes nothing. What it has stored counts as the most that it might have if that is not known,
    /// until the store is [measured](Limits::measured).
    #[must_use]
    pub fn charged(&self, lease: &LeaseId, ran: Option<Duration>, now: Timestamp, policy: &Policy) -> Limits {
        let mut next = self.over(lease, None, now).in_month(now);
        let Some(held) = next.reserved.remove(lease) else { return self.clone() };
        next.stored = next.stored.saturating_add(held.bytes);
        let ran = ran.unwrap_or(held.over.unwrap_or(now) - held.since);
        next.spent = next.spent + policy.price(held.size, ran).min(held.worst);
        next.charged = later_of(next.charged, now, &(now + SKEW_MAX));
        next
    }

    /// Sets the budget of this month only.
    #[must_use]
    pub fn granted(&self, budget: Micros, now: Timestamp) -> Limits {
        Limits { granted: Some(Granted { month: now.month(), budget }), ..self.clone() }
    }

    /// Records a measurement of the store, which began when the row said `began` bytes. Bytes stored since then may be
    /// included or not: they count as not included.
    #[must_use]
    pub fn measured(&self, there: u64, thought: u64, now: Timestamp) -> Limits {
        let stored = there.saturating_add(self.stored.saturating_sub(thought));
        Limits { stored, collected: later_of(self.collected, now, &(now + SKEW_MAX)), ..self.clone() }
    }

    /// Whether garbage is collected before its day has passed: the store has no room for as many attempts as there are
    /// slots, and the last collection was long enough ago for another one to delete more.
    pub fn collects_early(&self, policy: &Policy, now: Timestamp) -> bool {
        let wanted = policy.worst_bytes().saturating_mul(policy.slots as u64);
        let full = policy.store_bytes.is_some_and(|most| self.stored.saturating_add(wanted) > most);
        full && (now >= self.collected + COLLECT_EARLY || self.collected.is_ahead_of(now))
    }

    /// The budget of this month; `None`: no limit.
    pub fn budget(&self, policy: &Policy, now: Timestamp) -> Option<Micros> {
        let granted = self.granted.filter(|granted| granted.month == now.month());
        granted.map(|granted| granted.budget).or(policy.budget)
    }

    /// The estimate of how long builds take.
    pub fn pace(&self) -> &DurationEstimate {
        &self.pace
    }

    /// The same for builds of this kind.
    pub fn pace_of(&self, product: &Product) -> &DurationEstimate {
        match product {
            Product::Bundle { .. } => &self.bundle_pace,
            Product::Package(_) | Product::Catalogue => &self.pace,
        }
    }

    /// Records the duration of a successful build.
    #[must_use]
    pub fn learnt(&self, product: &Product, derivations: u32, took: Duration) -> Limits {
        let mut next = self.clone();
        let pace = if let Product::Bundle { .. } = product { &mut next.bundle_pace } else { &mut next.pace };
        pace.learn(derivations, took);
        next
    }

    /// Records how long a build took for which an estimate was given before.
    #[must_use]
    pub fn compared(&self, estimate: Duration, took: Duration) -> Limits {
        let mut next = self.clone();
        let errors = Errors::of(estimate, took);
        for (kept, error) in [
            (&mut next.misses, errors.estimate),
            (&mut next.status_misses, errors.status),
            (&mut next.retry_misses, errors.retry_after),
        ] {
            kept.push(error);
            kept.drain(..kept.len().saturating_sub(MISSES_MAX));
        }
        next
    }

    /// The medians of the errors of what was told of the last builds. `None`: there was no estimate yet.
    pub fn errors(&self) -> Option<Errors> {
        let median = |kept: &[u32]| {
            let mut sorted = kept.to_vec();
            sorted.sort_unstable();
            sorted.get(sorted.len() / 2).copied()
        };
        Some(Errors {
            estimate: median(&self.misses)?,
            status: median(&self.status_misses)?,
            retry_after: median(&self.retry_misses)?,
        })
    }

    /// Whether a lease is live, so that its builder's requests count.
    pub fn is_live(&self, lease: &LeaseId) -> bool {
        self.reserved.get(lease).is_some_and(|held| held.over.is_none())
    }

    /// The ended leases whose tasks are not known to have stopped, and since when.
    pub fn lingering(&self) -> impl Iterator<Item = (&LeaseId, Timestamp)> {
        self.reserved.iter().filter_map(|(lease, held)| Some((lease, held.over?)))
    }

    /// Occupied slots.
    pub fn taken(&self) -> usize {
        self.reserved.values().filter(|held| !held.catalogue).count()
    }

    /// The sum of all reservations.
    pub fn reserved(&self) -> Micros {
        self.reserved.values().map(|held| held.worst).sum()
    }

    /// The amount spent in the current month.
    pub fn spent(&self) -> Micros {
        self.spent
    }

    /// Bytes in the store, as far as known: the last measurement, and what was stored since.
    pub fn stored(&self) -> u64 {
        self.stored
    }

    /// The same, if every running attempt stores the most that it may.
    pub fn stored_at_most(&self) -> u64 {
        self.reserved.values().fold(self.stored, |sum, held| sum.saturating_add(held.bytes))
    }

    /// A new month starts with nothing spent; reservations stay.
    pub(crate) fn in_month(&self, now: Timestamp) -> Limits {
        let month = now.month();
        let spent = if month > self.month { Micros(0) } else { self.spent };
        Limits { month: later_of(self.month, month, &(now + SKEW_MAX).month()), spent, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::build::policy::Prices;

    fn lease(n: u8) -> LeaseId {
        format!("{n:032x}").parse().expect("32 hex digits")
    }

    fn tree() -> Product {
        "tree".parse().expect("a package")
    }

    fn policy() -> Policy {
        let mut policy = Policy {
            slots: 3,
            budget: Some(Micros(100)),
            prices: Prices { task: Micros(3600), ..Prices::default() },
            ..Policy::default()
        };
        policy.job.seconds = 20;
        policy
    }

    #[test]
    fn the_next_month_starts_with_nothing_spent_and_what_is_reserved_stays() {
        let (policy, december) = (policy(), Timestamp(1_798_761_590_000));
        let january = december + Duration::from_secs(10);
        let limits =
            Limits::default().reserve(&lease(1), &tree(), Size::default(), december, &policy).expect("a free slot");
        let limits = limits.charged(&lease(1), None, december + Duration::from_secs(5), &policy);
        assert_eq!((limits.spent(), limits.reserved()), (Micros(5), Micros(0)));
        let limits = limits.reserve(&lease(2), &tree(), Size::default(), december, &policy).expect("a free slot");
        let limits = limits.reserve(&lease(3), &tree(), Size::default(), january, &policy).expect("a free slot");
        assert_eq!((limits.spent(), limits.reserved()), (Micros(0), Micros(40)));
        // A clock that is behind neither brings back December's spending nor drops January's.
        let limits = limits.charged(&lease(3), None, january + Duration::from_secs(7), &policy);
        assert_eq!(limits.charged(&lease(2), None, december, &policy).spent(), Micros(7));
    }

    #[test]
    fn a_clock_that_was_years_ahead_locks_a_budget_for_a_month_only() {
        let (policy, now) = (policy(), Timestamp(1_800_000_000_000));
        let ahead = now + Duration::from_secs(10 * 365 * 86_400);
        let spend = |limits: &Limits, at| {
            let limits = limits.reserve(&lease(1), &tree(), Size::default(), at, &policy)?;
            Ok::<_, LimitExceeded>(limits.charged(&lease(1), Some(Duration::from_secs(20)), at, &policy))
        };
        let spent = (0..4).try_fold(Limits::default(), |limits, _| spend(&limits, ahead)).expect("80 of 100");
        let spent = spend(&spent, now).expect("100 of 100");
        assert_eq!((spent.spent(), spent.in_month(now).spent()), (Micros(100), Micros(100)));
        assert_eq!(spend(&spent, now), Err(LimitExceeded::Budget { worst: Micros(20) }));
        let next = now.month().next().first().start();
        assert_eq!(spend(&spent, next).expect("a new month").spent(), Micros(20));
    }

    #[test]
    fn a_slot_and_its_money_stay_held_until_the_task_is_gone_and_then_its_own_time_is_spent() {
        let (policy, began) = (Policy { slots: 1, ..policy() }, Timestamp(1_800_000_000_000));
        let later = |seconds| began + Duration::from_secs(seconds);
        let reserve = |limits: &Limits, n| limits.reserve(&lease(n), &tree(), Size::default(), later(12), &policy);
        let limits =
            Limits::default().reserve(&lease(1), &tree(), Size::default(), began, &policy).expect("a free slot");
        let over = limits.over(&lease(1), Some(7), later(10));
        assert_eq!((over.is_live(&lease(1)), over.taken(), over.reserved(), over.stored()), (false, 1, Micros(20), 7));
        assert_eq!(
            (reserve(&over, 2), over.over(&lease(1), Some(7), later(11))),
            (Err(LimitExceeded::Slots), over.clone())
        );
        let gone = over.charged(&lease(1), Some(Duration::from_secs(13)), later(14), &policy);
        assert_eq!((gone.taken(), gone.reserved(), gone.spent(), gone.stored()), (0, Micros(0), Micros(13), 7));
        assert_eq!(gone.charged(&lease(1), Some(Duration::from_secs(13)), later(15), &policy), gone);
        // If the task's time is unknown, the lease's is spent.
        assert_eq!(over.charged(&lease(1), None, later(99), &policy).spent(), Micros(10));
        assert!(reserve(&gone, 2).is_ok());
    }

    #[test]
    fn a_budget_that_the_operator_has_granted_is_that_months() {
        let (policy, december) = (policy(), Timestamp(1_798_761_590_000));
        let limits = Limits::default().granted(Micros(10), december);
        let reserve = |limits: &Limits, at| limits.reserve(&lease(1), &tree(), Size::default(), at, &policy);
        assert_eq!(reserve(&limits, december), Err(LimitExceeded::Budget { worst: Micros(20) }));
        assert!(reserve(&limits.granted(Micros(20), december), december).is_ok());
        assert_eq!(limits.budget(&policy, december + Duration::from_secs(10)), Some(Micros(100)));
    }

    #[test]
    fn the_store_never_holds_more_than_its_ceiling_whatever_builds_store() {
        let began = Timestamp(1_800_000_000_000);
        let mut policy = Policy { store_bytes: Some(100), budget: None, ..policy() };
        (policy.job.package_bytes, policy.job.log_bytes, policy.job.cache_bytes) = (20, 10, 10);
        let reserve = |limits: &Limits, n| limits.reserve(&lease(n), &tree(), Size::default(), began, &policy);
        let limits = reserve(&reserve(&Limits::default(), 1).expect("room"), 2).expect("room");
        assert_eq!((reserve(&limits, 3), limits.stored_at_most()), (Err(LimitExceeded::Store), 80));
        let limits = limits.over(&lease(1), Some(15), began);
        assert_eq!(limits.stored_at_most(), 55);
        let limits = reserve(&limits, 3).expect("room");
        // The bytes of the other two stay reserved while their tasks may run.
        let limits = limits.over(&lease(2), None, began).over(&lease(3), None, began);
        assert_eq!((limits.stored(), limits.stored_at_most(), limits.is_unmeasured(&lease(2))), (15, 95, true));
        // Of one it is known what it has left. What the other has left is unknown until the store is measured.
        let limits = limits.left(&lease(2), 3);
        assert_eq!((limits.stored_at_most(), limits.is_unmeasured(&lease(2))), (58, false));
        assert_eq!(limits.left(&lease(2), 99), limits);
        let gone = |limits: &Limits, n| limits.charged(&lease(n), None, began, &policy);
        let limits = gone(&gone(&limits, 2), 3);
        assert_eq!((limits.stored(), limits.measured(20, 58, began).stored()), (58, 20));
        // The last one ended during the measurement.
        assert_eq!(limits.measured(20, 18, began).stored(), 60);
    }

    #[test]
    fn garbage_is_collected_each_hour_while_the_store_is_nearly_full() {
        let mut policy = Policy { store_bytes: Some(1000), slots: 2, ..policy() };
        (policy.job.package_bytes, policy.job.log_bytes, policy.job.cache_bytes) = (100, 0, 0);
        let began = Timestamp(1_800_000_000_000);
        for (stored, early) in [(0, false), (800, false), (801, true), (5000, true)] {
            let limits = Limits::default().measured(stored, 0, began);
            assert!(!limits.collects_early(&policy, Timestamp((began + COLLECT_EARLY).0 - 1)), "{stored}");
            assert_eq!(limits.collects_early(&policy, began + COLLECT_EARLY), early, "{stored}");
            // A clock that was ahead delays nothing.
            let ahead = Limits::default().measured(stored, 0, began + 9000 * COLLECT_EARLY);
            assert_eq!(ahead.collects_early(&policy, began), early, "{stored}");
            let endless = Policy { store_bytes: None, ..policy.clone() };
            assert!(!limits.collects_early(&endless, began + COLLECT_EARLY), "{stored}");
        }
    }

    proptest! {
        #[test]
        fn no_sequence_passes_a_limit_or_leaks(steps in prop::collection::vec((0u8..3, 0u8..8, 0u64..30), 0..200)) {
            // Two of the leases are for catalogues.
            let product = |n| if n < 2 { Product::Catalogue } else { tree() };
            let policy = policy();
            let (mut limits, mut now) = (Limits::default(), Timestamp(0));
            for (step, n, seconds) in steps {
                now = now + Duration::from_secs(seconds);
                let next = |limits: &Limits| match step {
                    0 => limits.reserve(&lease(n), &product(n), Size::default(), now, &policy).ok(),
                    1 => Some(limits.over(&lease(n), None, now)),
                    _ => Some(limits.charged(&lease(n), Some(Duration::from_secs(seconds)), now, &policy)),
                };
                if let Some(once) = next(&limits) {
                    prop_assert_eq!(next(&once), Some(once.clone()));
                    limits = once;
                }
                prop_assert!(limits.taken() <= policy.slots && limits.reserved.len() <= limits.taken() + 1);
                prop_assert!(limits.spent() + limits.reserved() <= Micros(100));
            }
            for n in 0..8 {
                limits = limits.charged(&lease(n), None, now, &policy);
            }
            prop_assert_eq!((limits.taken(), limits.reserved()), (0, Micros(0)));
        }
    }
}
