//! Refusals: the launcher could not start a task, because of a quota, missing capacity, throttling or a permission. That is
//! a condition of the account, so it is charged to no build: the system waits, longer after each refusal (backoff).
//!
//! A builder that has started ends the backoff, and a task that has stopped ends the delay: a quota may have room again. When
//! Spot is refused, the next task is on demand, at once.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    build::{
        Lease,
        policy::{Policy, REFUSED_MAX},
    },
    id::{key::System, time::Timestamp},
    quota::limits::{Limits, Paused, Why},
};

/// How long tasks are on demand after Spot capacity was refused.
const SPOT_REST: Duration = Duration::from_secs(15 * 60);
/// How long a refusal counts after the time of the next try. If nothing was queued by then, nothing was tried.
const STALE: Duration = Duration::from_secs(10 * 60);

/// The refusals of a system since a builder was last started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Refusal {
    since: Timestamp,
    times: u32,
    until: Timestamp,
    /// The launcher's reason, for everyone to read.
    detail: String,
}

impl Limits {
    /// Records that the task of a lease was not started. Of a machine that is larger than usual this proves nothing about
    /// others. Refusals of tasks that were to start at the same time count as one.
    #[must_use]
    pub fn refused(&self, system: System, lease: &Lease, detail: &str, now: Timestamp, policy: &Policy) -> Limits {
        let mut next = self.clone();
        if !lease.is_on_demand() {
            next.spot_refused.insert(system, now);
            return next;
        }
        let first = Refusal { since: now, times: 0, until: now, detail: String::new() };
        if self.refusal(system, now).is_none() {
            next.refusals.remove(&system);
        }
        let refusal = next.refusals.entry(system).or_insert(first);
        detail.clone_into(&mut refusal.detail);
        if lease.size == policy.size && now >= refusal.until {
            refusal.times = refusal.times.saturating_add(1);
            refusal.until = now + policy.delay_after(refusal.times).min(REFUSED_MAX);
        }
        next
    }

    /// Records that a builder of a system has started.
    #[must_use]
    pub fn started(&self, system: System) -> Limits {
        let mut next = self.clone();
        next.refusals.remove(&system);
        next
    }

    /// Records that a task has stopped, which may make room for another one.
    #[must_use]
    pub fn vacated(&self, now: Timestamp) -> Limits {
        let mut next = self.clone();
        next.refusals.values_mut().for_each(|refusal| refusal.until = refusal.until.min(now));
        next
    }

    /// Whether Spot capacity was refused lately.
    pub fn spares_spot(&self, system: System, now: Timestamp) -> bool {
        self.spot_refused.get(&system).is_some_and(|at| !at.is_ahead_of(now) && now < *at + SPOT_REST)
    }

    /// The refusals since a builder of the system was last started, if there are any. The pause's end is the next try.
    pub fn refusal(&self, system: System, now: Timestamp) -> Option<Paused> {
        let fresh = |refusal: &&Refusal| now < refusal.until + STALE && !refusal.until.is_ahead_of(now);
        let Refusal { since, until, detail, .. } = self.refusals.get(&system).filter(fresh)?;
        let detail = Some(detail.clone()).filter(|detail| !detail.is_empty());
        Some(Paused { detail, until: Some(*until), ..Paused::since(Why::BackingOff, *since) })
    }

    /// The same, until the next try.
    pub fn backs_off(&self, system: System, now: Timestamp) -> Option<Paused> {
        self.refusal(system, now).filter(|paused| paused.until.is_some_and(|until| now < until))
    }

    /// The same, if it has lasted for so long that a new request would wait for long.
    pub fn refuses(&self, system: System, policy: &Policy, now: Timestamp) -> Option<Paused> {
        let paused = self.refusal(system, now).filter(|paused| now >= paused.since + policy.cool_down)?;
        Some(Paused { why: Why::Refused, ..paused })
    }
}
