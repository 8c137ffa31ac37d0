//! Slots, money, and whether anything may be built at all: pure arithmetic over one row.
//!
//! The row maps each live lease to what was reserved for it, and is swapped together with the build's own row. So releasing
//! twice is harmless, and a crash between two steps can leak nothing: there is no step between.

use std::{
    collections::BTreeMap,
    ops::{Add, Sub},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    failure::Kind,
    key::{LeaseId, Product, System},
    past::Pace,
    policy::Policy,
    size::Size,
    time::{Month, Timestamp},
};

/// Millionths of a dollar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Micros(pub u64);

impl Add for Micros {
    type Output = Micros;
    fn add(self, rhs: Micros) -> Micros {
        Micros(self.0.saturating_add(rhs.0))
    }
}
impl Sub for Micros {
    type Output = Micros;
    fn sub(self, rhs: Micros) -> Micros {
        Micros(self.0.saturating_sub(rhs.0))
    }
}
impl std::iter::Sum for Micros {
    fn sum<I: Iterator<Item = Micros>>(iter: I) -> Micros {
        iter.fold(Micros(0), Add::add)
    }
}

/// What one live lease holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// The most that it may cost.
    pub worst: Micros,
    /// Since when it is paid for.
    pub since: Timestamp,
    /// Whether it is for a catalogue, which takes no slot.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub catalogue: bool,
}

/// Why nothing is built, until the operator has done something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// There is no image of the builder.
    NoImage,
    /// The operator wants none built.
    Operator,
    /// A task could not pull the builder's image.
    Unpulled,
    /// A builder's machine can not isolate builds.
    Sandbox,
    /// A builder was given something by the binary cache that nobody it trusts has signed.
    Signature,
}

impl Why {
    /// A few words that read on after "builds are paused: ".
    pub fn sentence(self) -> &'static str {
        match self {
            Why::NoImage => "there is no builder image yet",
            Why::Operator => "the operator has paused builds",
            Why::Unpulled => Kind::NoImage.sentence(),
            Why::Sandbox => Kind::Sandbox.sentence(),
            Why::Signature => Kind::Signature.sentence(),
        }
    }

    /// What keeps all further builds of its system from being started after one has failed so: what is wrong there is wrong for
    /// every other one, too.
    pub fn after(kind: Kind) -> Option<Why> {
        match kind {
            Kind::NoImage => Some(Why::Unpulled),
            Kind::Sandbox => Some(Why::Sandbox),
            Kind::Signature => Some(Why::Signature),
            _ => None,
        }
    }
}

/// No build is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// Why not.
    pub why: Why,
    /// Since when.
    pub since: Timestamp,
}

/// The row of slots and money.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    reserved: BTreeMap<LeaseId, Reservation>,
    month: Month,
    spent: Micros,
    /// How long builds take.
    #[serde(default, skip_serializing_if = "Pace::is_empty")]
    pace: Pace,
    /// The systems for which nothing can be built, as long as somebody who looks sees so.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    paused: BTreeMap<System, Paused>,
    /// The systems for which a builder has found that nothing can be built, until an operator lets builds go on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    broken: BTreeMap<System, Paused>,
    /// The operator wants nothing built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stopped: Option<Stopped>,
}

/// Nothing new is built, at an operator's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stopped {
    since: Timestamp,
    /// What was under way may end.
    drain: bool,
}

/// Why nothing more may start now.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Full {
    /// As many builds run as may.
    #[error("as many builds run as may")]
    Slots,
    /// A catalogue is being made.
    #[error("one catalogue is made at a time")]
    Catalogue,
    /// The month's money does not cover the worst case of this one.
    #[error("the build budget of this month is spent")]
    Budget {
        /// What it could cost.
        worst: Micros,
    },
    /// Nothing can be built for its system.
    #[error("builds are paused: {}", .0.sentence())]
    Paused(Why),
}

impl Limits {
    /// Why nothing is built for a system, where that is so.
    pub fn paused(&self, system: System) -> Option<Paused> {
        let stopped = self.stopped.map(|stopped| Paused { why: Why::Operator, since: stopped.since });
        stopped.or_else(|| self.broken.get(&system).or(self.paused.get(&system)).copied())
    }

    /// Whether nothing may be under way either.
    pub fn halted(&self) -> bool {
        self.stopped.is_some_and(|stopped| !stopped.drain)
    }

    /// The limits where the operator wants nothing built; `drain`: what is under way may end. Since when, is kept.
    #[must_use]
    pub fn stopped(&self, drain: bool, now: Timestamp) -> Limits {
        let since = self.stopped.map_or(now, |stopped| stopped.since);
        Limits { stopped: Some(Stopped { since, drain }), ..self.clone() }
    }

    /// The limits where the operator lets builds go on, and has mended what builders have run into.
    #[must_use]
    pub fn resumed(&self) -> Limits {
        Limits { stopped: None, broken: BTreeMap::new(), ..self.clone() }
    }

    /// The limits after a builder has run into something that only an operator can mend. Where that is known, they are as they
    /// were, since when included.
    #[must_use]
    pub fn broken(&self, system: System, why: Why, now: Timestamp) -> Limits {
        let mut next = self.clone();
        let known = next.broken.entry(system).or_insert(Paused { why, since: now });
        if known.why != why {
            *known = Paused { why, since: now };
        }
        next
    }

    /// The limits after a look at what keeps a system's builders from being started, `None` for nothing. Where that is known,
    /// they are as they were, since when included.
    #[must_use]
    pub fn looked_at(&self, system: System, obstacle: Option<Why>, now: Timestamp) -> Limits {
        let mut next = self.clone();
        match obstacle {
            Some(why) if self.paused.get(&system).is_none_or(|paused| paused.why != why) => {
                next.paused.insert(system, Paused { why, since: now });
            }
            Some(_) => {}
            None => {
                next.paused.remove(&system);
            }
        }
        next
    }

    /// The limits, where builders for that system may be started.
    ///
    /// # Errors
    /// [`Full::Paused`].
    pub fn open_for(&self, system: System) -> Result<&Limits, Full> {
        self.paused(system).map_or(Ok(self), |paused| Err(Full::Paused(paused.why)))
    }

    /// The limits with one more lease, the worst case of its machine reserved. The same lease again changes nothing.
    ///
    /// Slots are for packages. A catalogue is made beside them, so that nobody's program waits for it; one at a time.
    ///
    /// # Errors
    /// [`Full`], where a limit would be passed.
    pub fn reserve(
        &self,
        lease: &LeaseId,
        product: &Product,
        size: Size,
        now: Timestamp,
        policy: &Policy,
    ) -> Result<Limits, Full> {
        if self.reserved.contains_key(lease) {
            return Ok(self.clone());
        }
        let mut next = self.in_month(now);
        let worst = policy.worst_price(size);
        let catalogue = *product == Product::Catalogue;
        match catalogue {
            true if next.reserved.len() > next.taken() => return Err(Full::Catalogue),
            false if next.taken() >= policy.slots => return Err(Full::Slots),
            _ => {}
        }
        if policy.budget.is_some_and(|budget| next.spent + next.reserved() + worst > budget) {
            return Err(Full::Budget { worst });
        }
        next.reserved.insert(lease.clone(), Reservation { worst, since: now, catalogue });
        Ok(next)
    }

    /// The limits without that lease: its slot is free, and what its machine cost, never more than was reserved, is spent. A
    /// lease that holds nothing changes nothing.
    pub fn release(&self, lease: &LeaseId, size: Size, now: Timestamp, policy: &Policy) -> Limits {
        let mut next = self.in_month(now);
        if let Some(held) = next.reserved.remove(lease) {
            next.spent = next.spent + policy.price(size, now - held.since).min(held.worst);
        }
        next
    }

    /// How long builds take.
    pub fn pace(&self) -> &Pace {
        &self.pace
    }

    /// The limits after a build has come to its programs: how long that took, is learnt.
    #[must_use]
    pub fn learnt(&self, derivations: u32, took: Duration) -> Limits {
        let mut next = self.clone();
        next.pace.learn(derivations, took);
        next
    }

    /// Whether a lease is live: what its builder does is paid for.
    pub fn holds(&self, lease: &LeaseId) -> bool {
        self.reserved.contains_key(lease)
    }

    /// Leases that hold a slot.
    pub fn taken(&self) -> usize {
        self.reserved.values().filter(|held| !held.catalogue).count()
    }

    /// The sum of all reservations.
    pub fn reserved(&self) -> Micros {
        self.reserved.values().map(|held| held.worst).sum()
    }

    /// Spent in the current month.
    pub fn spent(&self) -> Micros {
        self.spent
    }

    /// A new month starts with nothing spent; what is reserved stays reserved.
    pub(crate) fn in_month(&self, now: Timestamp) -> Limits {
        let month = now.month();
        // A machine whose clock is behind must not bring back a month that is over.
        let spent = if month > self.month { Micros(0) } else { self.spent };
        Limits { month: month.max(self.month), spent, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::Prices;

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
        let limits = limits.release(&lease(1), Size::default(), december + Duration::from_secs(5), &policy);
        assert_eq!((limits.spent(), limits.reserved()), (Micros(5), Micros(0)));
        let limits = limits.reserve(&lease(2), &tree(), Size::default(), december, &policy).expect("a free slot");
        let limits = limits.reserve(&lease(3), &tree(), Size::default(), january, &policy).expect("a free slot");
        assert_eq!((limits.spent(), limits.reserved()), (Micros(0), Micros(40)));
        // A clock that is behind does not bring December's spending back, nor forgets January's.
        let limits = limits.release(&lease(3), Size::default(), january + Duration::from_secs(7), &policy);
        assert_eq!(limits.release(&lease(2), Size::default(), december, &policy).spent(), Micros(7));
    }

    proptest! {
        #[test]
        fn no_sequence_passes_a_limit_or_leaks(steps in prop::collection::vec((any::<bool>(), 0u8..8, 0u64..30), 0..200)) {
            // Two of the leases are for catalogues.
            let product = |n| if n < 2 { Product::Catalogue } else { tree() };
            let policy = policy();
            let (mut limits, mut now) = (Limits::default(), Timestamp(0));
            for (reserve, n, seconds) in steps {
                now = now + Duration::from_secs(seconds);
                if reserve {
                    if let Ok(next) = limits.reserve(&lease(n), &product(n), Size::default(), now, &policy) {
                        prop_assert_eq!(&next.reserve(&lease(n), &product(n), Size::default(), now, &policy), &Ok(next.clone()));
                        limits = next;
                    }
                } else {
                    limits = limits.release(&lease(n), Size::default(), now, &policy);
                    prop_assert_eq!(&limits.release(&lease(n), Size::default(), now, &policy), &limits);
                }
                prop_assert!(limits.taken() <= policy.slots && limits.reserved.len() <= limits.taken() + 1);
                prop_assert!(limits.spent() + limits.reserved() <= Micros(100));
            }
            for n in 0..8 {
                limits = limits.release(&lease(n), Size::default(), now, &policy);
            }
            prop_assert_eq!((limits.taken(), limits.reserved()), (0, Micros(0)));
        }
    }
}
