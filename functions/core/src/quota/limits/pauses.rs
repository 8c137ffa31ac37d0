//! Pauses: why no build is started, and since when.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Serialize};

use crate::{
    build::{failure::Kind, policy::Policy},
    id::{
        key::{Rev, System},
        time::Timestamp,
    },
    quota::limits::{LimitExceeded, Limits},
};

/// The reason of a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// The builder's image does not exist.
    NoImage,
    /// An operator has paused builds.
    Operator,
    /// A task could not pull the builder's image.
    Unpulled,
    /// A builder's machine cannot isolate builds.
    Sandbox,
    /// The binary cache has a path without a trusted signature.
    Signature,
    /// The month's budget is spent.
    Budget,
    /// The store has no room for a build's worst case.
    Store,
    /// The launcher has refused to start a task. The service tries again.
    BackingOff,
    /// The launcher has refused to start tasks for long.
    Refused,
    /// The tarball of the nixpkgs is not uploaded.
    NoNixpkgs,
}

impl Why {
    /// The text follows "builds are paused: ".
    pub fn sentence(self) -> &'static str {
        match self {
            Why::NoImage => "the builder's image does not exist yet",
            Why::Operator => "the operator has paused builds",
            Why::Unpulled => Kind::NoImage.sentence(),
            Why::Sandbox => Kind::Sandbox.sentence(),
            Why::Signature => Kind::Signature.sentence(),
            Why::Budget => "the monthly build budget is spent",
            Why::Store => "the store is full until the operator makes room",
            Why::BackingOff => "no builder could be started yet",
            Why::Refused => "no builder can be started",
            Why::NoNixpkgs => "the tarball of the Nixpkgs commit is not uploaded yet",
        }
    }

    /// The pause that failures of that kind cause: they would fail every other build of the system too.
    pub fn after(kind: Kind) -> Option<Why> {
        match kind {
            Kind::NoImage => Some(Why::Unpulled),
            Kind::Sandbox => Some(Why::Sandbox),
            Kind::Signature => Some(Why::Signature),
            _ => None,
        }
    }
}

/// A pause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// The reason.
    pub why: Why,
    /// Since when.
    pub since: Timestamp,
    /// Its end, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// More about the reason, as its source reported it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Paused {
    /// A pause that lasts until its cause is fixed.
    pub fn since(why: Why, since: Timestamp) -> Paused {
        Paused { why, since, until: None, detail: None }
    }

    /// Whether builds that are requested meanwhile are queued.
    pub fn is_brief(&self) -> bool {
        self.why == Why::BackingOff
    }

    /// The text follows "waits: ".
    pub fn sentence(&self) -> Cow<'static, str> {
        match (self.until, &self.detail) {
            (_, Some(detail)) => format!("{}: {detail}", self.why.sentence()).into(),
            (None, None) => self.why.sentence().into(),
            (Some(_), None) if matches!(self.why, Why::BackingOff | Why::Refused) => self.why.sentence().into(),
            (Some(until), None) => format!("{}; builds resume on {} (UTC)", self.why.sentence(), until.day()).into(),
        }
    }
}

/// An operator's pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stopped {
    since: Timestamp,
    /// Whether running builds may finish.
    drain: bool,
}

impl Limits {
    /// The pause of a system that an operator must end, if there is one.
    pub fn paused(&self, system: System) -> Option<Paused> {
        let stopped = self.stopped.map(|stopped| Paused::since(Why::Operator, stopped.since));
        stopped.or_else(|| self.broken.get(&system).or(self.paused.get(&system)).cloned())
    }

    /// Why no build of a system may be started now.
    pub fn held(&self, system: System, now: Timestamp) -> Option<Paused> {
        self.paused(system).or_else(|| self.backs_off(system, now))
    }

    /// Why a new build would wait for long: builds are paused; the budget or the store has no room for a build of the usual
    /// size, even if the running builds cost nothing more; or no task could be started for some time.
    pub fn closed(&self, system: System, policy: &Policy, now: Timestamp) -> Option<Paused> {
        let limits = self.in_month(now);
        let spent = |budget| limits.spent + policy.worst_price(policy.size) > budget;
        let full = |most| limits.stored.saturating_add(policy.worst_bytes()) > most;
        let until = Some(limits.month.next().first().start());
        let by_budget = Paused { until, ..Paused::since(Why::Budget, limits.charged) };
        let by_budget = limits.budget(policy, now).is_some_and(spent).then_some(by_budget);
        let by_store = policy.store_bytes.is_some_and(full).then(|| Paused::since(Why::Store, limits.charged));
        let paused = limits.paused(system).or(by_budget).or(by_store);
        paused.or_else(|| limits.refuses(system, policy, now))
    }

    /// Whether running builds must stop too.
    pub fn halted(&self) -> bool {
        self.stopped.is_some_and(|stopped| !stopped.drain)
    }

    /// Pauses builds. `drain`: running builds may finish. A pause keeps its start time.
    #[must_use]
    pub fn stopped(&self, drain: bool, now: Timestamp) -> Limits {
        let since = self.stopped.map_or(now, |stopped| stopped.since);
        Limits { stopped: Some(Stopped { since, drain }), ..self.clone() }
    }

    /// Resumes builds after the operator has fixed the cause. Only new reports can pause a system again.
    #[must_use]
    pub fn resumed(&self) -> Limits {
        let mut next = Limits { stopped: None, broken: BTreeMap::new(), ..self.clone() };
        next.reports.values_mut().flatten().for_each(|report| report.past = true);
        next
    }

    /// Pauses a system after failures that only an operator can fix. A pause keeps its start time.
    #[must_use]
    pub fn broken(&self, system: System, why: Why, now: Timestamp) -> Limits {
        let mut next = self.clone();
        let known = next.broken.entry(system).or_insert(Paused::since(why, now));
        if known.why != why {
            *known = Paused::since(why, now);
        }
        next
    }

    /// Records whether a system's builders can be started; `None`: they can. A pause keeps its start time.
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

    /// Records whether the tarball of a nixpkgs is missing. A wait keeps its start; `served` tells which others are kept.
    #[must_use]
    pub fn nixpkgs_looked_at(&self, rev: &Rev, lacks: bool, served: impl Fn(&Rev) -> bool, now: Timestamp) -> Limits {
        let mut next = self.clone();
        next.no_nixpkgs.retain(|known, _| served(known) && (known != rev || lacks));
        if lacks {
            next.no_nixpkgs.entry(rev.clone()).or_insert(now);
        }
        next
    }

    /// Why builds of a nixpkgs wait, if its tarball is missing.
    pub fn lacks_nixpkgs(&self, rev: &Rev) -> Option<Paused> {
        self.no_nixpkgs.get(rev).map(|since| Paused::since(Why::NoNixpkgs, *since))
    }

    /// The nixpkgs whose tarballs are missing, and since when their builds wait.
    pub fn no_nixpkgs(&self) -> &BTreeMap<Rev, Timestamp> {
        &self.no_nixpkgs
    }

    /// The limits, if builders for that system may be started.
    ///
    /// # Errors
    /// [`LimitExceeded::Paused`].
    pub fn open_for(&self, system: System, now: Timestamp) -> Result<&Limits, LimitExceeded> {
        self.held(system, now).map_or(Ok(self), |paused| Err(LimitExceeded::Paused(paused.why)))
    }
}
