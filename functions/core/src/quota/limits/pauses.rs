//! Why nothing is built, and since when.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Serialize};

use crate::{
    build::failure::Kind,
    id::{key::System, time::Timestamp},
    policy::Policy,
    quota::limits::{LimitExceeded, Limits},
};

/// Why nothing is built.
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
    /// What builds may cost in a month is spent.
    Budget,
    /// The store has no room for what a build may make.
    Store,
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
            Why::Budget => "what builds may cost this month is spent",
            Why::Store => "the store is full, and the operator has to make room",
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
    /// Until when, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl Paused {
    /// Until somebody has done something about it.
    pub fn since(why: Why, since: Timestamp) -> Paused {
        Paused { why, since, until: None }
    }

    /// A few words that read on after "waits: ".
    pub fn sentence(self) -> Cow<'static, str> {
        match self.until {
            None => self.why.sentence().into(),
            Some(until) => format!("{}; it goes on at {} (UTC)", self.why.sentence(), until.day()).into(),
        }
    }
}

/// Nothing new is built, at an operator's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stopped {
    since: Timestamp,
    /// What was under way may end.
    drain: bool,
}

impl Limits {
    /// Why nothing is built for a system until an operator has done something, where that is so.
    pub fn paused(&self, system: System) -> Option<Paused> {
        let stopped = self.stopped.map(|stopped| Paused::since(Why::Operator, stopped.since));
        stopped.or_else(|| self.broken.get(&system).or(self.paused.get(&system)).copied())
    }

    /// Why whoever asks for a new build now would not get it for long: builds are paused, or what is spent and stored leaves nothing
    /// for one on the usual machine, whatever those that are under way come to.
    pub fn closed(&self, system: System, policy: &Policy, now: Timestamp) -> Option<Paused> {
        let limits = self.in_month(now);
        let spent = |budget| limits.spent + policy.worst_price(policy.size) > budget;
        let full = |most| limits.stored.saturating_add(policy.worst_bytes()) > most;
        let until = Some(limits.month.next().first().start());
        let by_budget = Paused { why: Why::Budget, since: limits.charged, until };
        let by_budget = limits.budget(policy, now).is_some_and(spent).then_some(by_budget);
        let by_store = policy.store_bytes.is_some_and(full).then(|| Paused::since(Why::Store, limits.charged));
        limits.paused(system).or(by_budget).or(by_store)
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
        let known = next.broken.entry(system).or_insert(Paused::since(why, now));
        if known.why != why {
            *known = Paused::since(why, now);
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
                next.paused.insert(system, Paused::since(why, now));
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
    /// [`LimitExceeded::Paused`].
    pub fn open_for(&self, system: System) -> Result<&Limits, LimitExceeded> {
        self.paused(system).map_or(Ok(self), |paused| Err(LimitExceeded::Paused(paused.why)))
    }
}
