//! Partial progress: a build that ran out of time is continued if the next attempt finds what this one has built. So a
//! toolchain that takes longer than the time limit is built in several attempts.
//!
//! Each has a limit of its own, so a package without end costs what the policy allows, and no more.

use serde::{Deserialize, Serialize};

use crate::{
    build::{Build, Lease, failure::Kind, policy::Policy, protocol::Stats},
    id::{money::Micros, time::Timestamp},
};

/// The attempts of a build that were continued. Those after an operator's retry count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Continued {
    /// Their number.
    pub attempts: u32,
    /// Derivations that they have built, as their builders report it.
    pub built: u32,
    /// Their run time, in seconds.
    pub seconds: u64,
    /// Their price, in millionths of a dollar.
    #[serde(default, skip_serializing_if = "is_free")]
    pub cost: Micros,
}

fn is_free(cost: &Micros) -> bool {
    *cost == Micros(0)
}

impl Continued {
    /// Whether there are none.
    pub fn is_none(&self) -> bool {
        self.attempts == 0
    }

    /// "3rd part": the attempt after them. `None` if it is the first one.
    pub fn part(&self) -> Option<String> {
        let part = self.attempts.saturating_add(1);
        let ending = match (part % 10, part % 100) {
            (_, 11..=13) => "th",
            (1, _) => "st",
            (2, _) => "nd",
            (3, _) => "rd",
            _ => "th",
        };
        (!self.is_none()).then(|| format!("{part}{ending} part"))
    }
}

/// Whether a build is continued after an attempt that ran out of time.
pub(super) enum Next {
    /// It is, after these attempts.
    Continue(Continued),
    /// The attempt leaves nothing that the next one finds: that would come no further.
    NoProgress,
    /// A limit is reached; the reason for people.
    Limit(String),
}

impl Build {
    /// What follows an attempt that ended at `now`; `None` if its time was not over.
    pub(super) fn next_part(
        &self,
        lease: &Lease,
        failure: Kind,
        stats: &Stats,
        now: Timestamp,
        policy: &Policy,
    ) -> Option<Next> {
        if failure != Kind::TimedOut {
            return None;
        }
        if stats.built == 0 && self.partial.of(&lease.id).is_none() {
            return Some(Next::NoProgress);
        }
        let (before, took) = (self.partial.continued, now - lease.claimed);
        let worst = policy.allowing(lease.seconds).worst_price(lease.size);
        let next = Continued {
            attempts: before.attempts.saturating_add(1),
            built: before.built.saturating_add(stats.built),
            seconds: before.seconds.saturating_add(took.as_secs()),
            cost: before.cost + policy.price(lease.size, took).min(worst),
        };
        Some(match policy.package_budget {
            _ if next.attempts > policy.continued_attempts => {
                Next::Limit(format!("it has had {} attempts, and no more are allowed", next.attempts))
            }
            Some(budget) if next.cost + worst > budget => {
                Next::Limit(format!("it has cost {}, and another attempt could exceed {budget}", next.cost))
            }
            _ => Next::Continue(next),
        })
    }
}
