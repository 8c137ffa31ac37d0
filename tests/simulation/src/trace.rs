//! What has happened lately, by build: what a failing seed prints.

use std::{
    collections::{BTreeMap, VecDeque},
    hash::{DefaultHasher, Hash},
    time::Duration,
};

use binplz_core::{
    build::{Build, State},
    id::{
        key::{BuildKey, DrvHash},
        time::Timestamp,
    },
};

use crate::site::short;

/// How many events are kept of a build, and of the service.
const KEPT: usize = 24;

/// How many of the service are shown with those of a build.
const FEW: usize = 6;

/// The last events.
#[derive(Default)]
pub(crate) struct Trace {
    of: BTreeMap<Option<BuildKey>, VecDeque<(Timestamp, String)>>,
}

impl Trace {
    pub(crate) fn note(&mut self, now: Timestamp, key: Option<&BuildKey>, what: String, hasher: &mut DefaultHasher) {
        (now, &what).hash(hasher);
        let of = self.of.entry(key.cloned()).or_default();
        if of.len() == KEPT {
            of.pop_front();
        }
        of.push_back((now, what));
    }

    /// The last events of a build and of the service, in order.
    pub(crate) fn of(&self, key: Option<&BuildKey>, now: Timestamp) -> String {
        let of_service = self.of.get(&None);
        let service = of_service
            .into_iter()
            .flat_map(|of| of.iter().skip(of.len().saturating_sub(if key.is_some() { FEW } else { KEPT })));
        let build = key.and_then(|key| self.of.get(&Some(key.clone()))).into_iter().flatten();
        let mut all: Vec<_> = service.map(|event| (event, "")).chain(build.map(|event| (event, "* "))).collect();
        all.sort_by_key(|((at, _), _)| *at);
        let lines = all.into_iter().map(|((at, what), mark)| format!("{:>14} before  {mark}{what}\n", ago(now - *at)));
        lines.collect()
    }
}

fn ago(time: Duration) -> String {
    format!("{:.3} s", time.as_secs_f64())
}

/// A build's state in a few words.
pub(crate) fn told(build: &Build, now: Timestamp) -> String {
    match &build.state {
        State::Unasked => "not requested".to_owned(),
        State::Queued { due, attempt, .. } => format!("queued, attempt {attempt}, due in {}", ago(*due - now)),
        State::Building(lease) => {
            let of = |drv: &DrvHash| format!(", holds {drv}");
            let held = lease.derivation.as_ref().map(of).unwrap_or_default();
            let task = lease.task.as_ref().map_or("", |_| ", launched");
            format!(
                "building by {}, attempt {}, expires in {}{task}{held}",
                short(&lease.id),
                lease.attempt,
                ago(lease.expires - now)
            )
        }
        State::Joined { derivation, .. } => format!("follows {derivation}"),
        State::Waiting(waiting) => format!("waits for {} dependencies", waiting.plan.len()),
        State::Ready(made) => format!("ready, by {}", short(&made.lease)),
        State::Failed { failure, until, .. } => {
            format!("failed: {}{}", failure.kind.name(), until.map_or("", |_| ", for a while"))
        }
    }
}
