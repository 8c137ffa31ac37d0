//! A build's status, for people and for the stub. Reads only.

use std::time::Duration;

use serde::Serialize;

use crate::{
    build::{
        Build, State,
        continued::Continued,
        dependency::Standing,
        failure::Failure,
        plan::{Plan, about},
        protocol::{Phase, Progress},
        told,
        waiting::Waiting,
    },
    flow::{
        load_build, load_limits, load_profile, queued,
        request::{denial::Denial, serving, trust},
        schedule::{follow, wait::Claims},
    },
    id::{
        key::{BuildKey, LeaseId, Product, Rev, System},
        money::Micros,
        target::{Target, Wanted},
        time::{Timestamp, seconds_up},
    },
    nixpkgs::catalogue::NOT_MADE,
    ports::{HasCatalogues, HasLedger, HasStore, Ledger, Read, Unavailable},
    quota::limits::{Limits, Paused},
    row::StatusIndex,
};

/// How many queued builds are searched for a build. Beyond that, its position is "more than this many".
const QUEUE_LOOK: usize = 100;

/// The retry delay in seconds if the end of a pause is unknown: sweeps check its cause once a minute.
const PAUSE_LOOK: u64 = 60;

/// The step of a build that is made, but not signed yet.
const SIGNING: &str = "signing";

/// The retry delay in seconds of a build that waits for a dependency.
const WAIT_LOOK: u64 = 15;

/// The status document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// `unasked`, `queued`, `building`, `ready`, `failed` or `cooling-down`.
    pub state: &'static str,
    /// The package.
    pub package: Product,
    /// The system.
    pub system: System,
    /// The nixpkgs.
    pub nixpkgs: Rev,
    /// Whether its catalogue is not made yet, so that the name was taken for an attribute.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub by_attribute: bool,
    /// The number of the current or newest attempt, from 1. If this build follows another one, it is the other build's.
    pub attempt: u32,
    /// The number of builds that are due before this one, if it is queued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ahead: Option<usize>,
    /// Why no build of its system is started, if that is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
    /// When the current attempt started, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// How long it has run, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elapsed_seconds: Option<u64>,
    /// The builder's last report. Derivations that earlier, continued attempts have built count as done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// The plan of what it builds and fetches, once it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// The dependency that it waits for, if other builds build everything that it could build now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<WaitsFor>,
    /// Why it failed, the last time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The same as a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The estimated seconds until it is ready, from its own earlier builds and from builds of similar size. `None` if there is no
    /// estimate, or its time has passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimate_seconds: Option<u64>,
    /// Seconds after which to ask again; 0 if nothing will change by itself.
    pub retry_after: u64,
    /// The derivations that its ended attempts have started to build, as far as these attempts are remembered.
    pub derivations_started: u32,
    /// What these attempts have cost, in millionths of a dollar; `None`: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Micros>,
    /// The public name of the attempt whose log is the build's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseId>,
    /// The attempts before this one that ran out of time, and were continued.
    #[serde(skip_serializing_if = "Continued::is_none")]
    pub continued: Continued,
    /// The same program of other packages, the best first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<Wanted>,
}

/// A dependency that a build waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WaitsFor {
    /// Its name: `gcc-14.2`.
    pub dependency: String,
    /// The build that builds it; `None` if there is none at the moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package: Option<Product>,
}

impl WaitsFor {
    /// In words.
    pub fn sentence(&self) -> String {
        match &self.package {
            Some(package) => format!("waits for {}, which {package} builds", self.dependency),
            None => format!("waits for {}", self.dependency),
        }
    }
}

impl Status {
    /// Whether a builder has started on it, so that there may be a log.
    pub fn has_log(&self) -> bool {
        self.lease.is_some()
    }

    /// The steps of a build by the names of their phases, and in words.
    pub const STEPS: [(&'static str, &'static str); 6] = [
        ("queued", "queue"),
        ("starting", "start"),
        ("evaluating", "evaluate"),
        ("building", "build"),
        ("inspecting", "inspect"),
        ("uploading", "store"),
    ];

    /// The name of its current step.
    pub fn step(&self) -> &'static str {
        match (self.state, &self.progress) {
            ("building", _) if self.waits_for.is_some() => Phase::Building.name(),
            ("building", Some(progress)) => progress.phase.name(),
            ("building", None) => Phase::Starting.name(),
            (state, _) => state,
        }
    }

    /// The current activity, in a few words for a progress line: "tree-2.1.0 buildPhase, 3 of 7 built".
    pub fn headline(&self) -> String {
        if let Some(paused) = &self.paused {
            return format!("waits: {}", paused.sentence());
        }
        let mut headline = self.happening();
        if let Some(left) = self.estimate_seconds {
            headline.push_str(&format!(", about {} left", about(Duration::from_secs(left))));
        }
        if let Some(plan) = self.plan.filter(|plan| self.state == "building" && plan.is_notable()) {
            headline.push_str(&format!(" (in all: {plan})"));
        }
        if self.by_attribute { format!("{headline} ({NOT_MADE})") } else { headline }
    }

    fn happening(&self) -> String {
        let mut tried = self.continued.part().map_or(String::new(), |part| format!(", continued: {part}"));
        if self.attempt > 1 {
            tried.push_str(&format!(", attempt {}", self.attempt));
        }
        if let Some(waits_for) = &self.waits_for {
            return format!("{}{tried}", waits_for.sentence());
        }
        match (self.state, &self.progress, self.ahead) {
            ("building", Some(progress), _) => {
                let step = progress.step.clone().unwrap_or_else(|| progress.phase.sentence().to_owned());
                let of = match progress.expected {
                    0 | 1 => String::new(),
                    expected => format!(", {} of {expected} built", progress.done),
                };
                format!("{step}{of}{tried}")
            }
            ("building", None, _) => format!("starting{tried}"),
            ("queued", _, Some(0)) => format!("next in the queue{tried}"),
            ("queued", _, Some(ahead)) if ahead < QUEUE_LOOK => format!("{ahead} ahead in the queue{tried}"),
            ("queued", _, _) => match &self.reason {
                Some(reason) => format!("waits for a retry: {reason}{tried}"),
                None => format!("queued{tried}"),
            },
            _ => self.reason.clone().unwrap_or_else(|| self.state.to_owned()),
        }
    }
}

/// The status of what a target means.
///
/// # Errors
/// [`Denial`]: it means no build, or the ledger does not answer.
pub async fn status<D: HasLedger + HasStore + HasCatalogues>(d: &D, target: &Target) -> Result<Status, Denial> {
    let resolved = serving::of(d, target).await?;
    let (build, _) = load_build(d, &resolved.key).await?;
    Ok(Status { alternatives: resolved.others, ..view(d, build, resolved.basis.is_guess()).await? })
}

/// A state's name in the status document.
pub(crate) fn name(state: &State) -> &'static str {
    match state {
        State::Unasked => "unasked",
        State::Queued { .. } => "queued",
        State::Building(_) | State::Joined { .. } | State::Waiting(_) => "building",
        State::Ready { .. } => "ready",
        State::Failed { until: None, .. } => "failed",
        State::Failed { until: Some(_), .. } => "cooling-down",
    }
}

/// The status document of a build's row. If another build does its work, the document shows the other build's progress.
pub(crate) async fn view<D: HasLedger>(d: &D, build: Build, by_attribute: bool) -> Result<Status, Unavailable> {
    let now = d.now();
    let leader = follow::leader(d, &build).await?;
    let last = leader.history.last();
    let mut status = Status {
        state: name(&leader.state),
        package: build.key.product.clone(),
        system: build.key.system,
        nixpkgs: build.key.rev.clone(),
        by_attribute,
        attempt: last.map_or(0, |attempt| attempt.number),
        ahead: None,
        paused: None,
        started: None,
        elapsed_seconds: None,
        progress: None,
        plan: last.and_then(|attempt| attempt.plan),
        waits_for: None,
        failure: None,
        reason: None,
        estimate_seconds: None,
        retry_after: 0,
        derivations_started: build.history.iter().map(|attempt| attempt.stats.derivations).sum(),
        cost: build.cost(d.policy()),
        lease: follow::log_source(d, &build).await?.map(|prefix| prefix.lease),
        continued: leader.partial.continued,
        alternatives: Vec::new(),
    };
    match &leader.state {
        State::Queued { due, attempt, warming, .. } => {
            status.attempt = *attempt;
            status.failure = last.and_then(|attempt| attempt.failure.clone()).filter(|_| *attempt > 1);
            let (limits, _) = load_limits(d, Read::Eventual).await?;
            let system = leader.key.system;
            // A machine that is larger than usual may wait alone.
            let refused = || limits.refusal(system, now).filter(|_| *due > now);
            let refused = || Some(Paused { until: Some(*due), ..refused()? });
            let paused = limits.closed(system, d.policy(), now).or_else(|| limits.held(system, now));
            status.paused = paused.or_else(|| limits.lacks_nixpkgs(&leader.key.rev)).or_else(refused);
            if let Some(paused) = &status.paused {
                status.retry_after = paused_for(paused, now);
            } else if *due <= now {
                let ahead = ahead(d, &leader.key, *warming).await?;
                let turn = limits.pace().of_any().map(|took| took * ahead as u32 / d.policy().slots.max(1) as u32);
                let takes = expected(d, &leader.key, &limits, status.plan.as_ref(), None).await?;
                status.ahead = Some(ahead);
                status.estimate_seconds = takes.map(|takes| seconds_up(turn.unwrap_or_default() + takes).max(1));
                status.retry_after = turn.map_or(2 + 5 * ahead as u64, |turn| 2 + turn.as_secs()).min(60);
            } else {
                status.retry_after = seconds_up(*due - now) + 1;
            }
        }
        State::Building(lease) => {
            let elapsed = now - lease.claimed;
            status.attempt = lease.attempt;
            status.started = Some(lease.claimed);
            status.elapsed_seconds = Some(elapsed.as_secs());
            status.progress = d.ledger().progress(&lease.id).await?;
            let (limits, _) = load_limits(d, Read::Eventual).await?;
            status.plan = lease.plan;
            let takes = expected(d, &leader.key, &limits, status.plan.as_ref(), status.progress.as_ref()).await?;
            status.progress = status.progress.map(|progress| progress.after(status.continued.built));
            status.estimate_seconds = takes.and_then(|takes| told::left(takes, elapsed));
            status.retry_after = told::retry_after(elapsed, status.estimate_seconds);
        }
        State::Waiting(waiting) => {
            status.attempt = waiting.attempt;
            status.waits_for = waits_for(d, leader.key.system, waiting).await?;
            status.retry_after = WAIT_LOOK;
        }
        // The other build has ended, and this one is about to follow.
        _ if matches!(build.state, State::Joined { .. }) => (status.state, status.retry_after) = ("building", 2),
        State::Ready(_) if trust::awaits_log(d, &leader).await? => {
            let (phase, step) = (Phase::Uploading, Some(SIGNING.to_owned()));
            (status.state, status.retry_after) = ("building", 1);
            status.progress = Some(Progress { phase, step, ..Progress::default() });
        }
        State::Unasked | State::Joined { .. } | State::Ready(_) => {}
        State::Failed { failure, until, .. } => {
            status.failure = Some(failure.clone());
            status.retry_after = until.map_or(0, |until| seconds_up(until - now).max(1));
        }
    }
    status.reason = status.failure.as_ref().map(Failure::sentence);
    Ok(status)
}

/// The dependency that a build waited for first, and the build that builds it now.
async fn waits_for<D: HasLedger>(d: &D, system: System, waiting: &Waiting) -> Result<Option<WaitsFor>, Unavailable> {
    let Some(awaited) = waiting.awaited() else { return Ok(None) };
    let package = match Claims::new(d).of(system, &awaited.drv).await?.standing {
        Standing::Held { by, .. } | Standing::Offered { by } | Standing::Promised { to: by, .. } => Some(by.product),
        Standing::Free | Standing::Made => None,
    };
    Ok(Some(WaitsFor { dependency: awaited.name.clone(), package }))
}

/// Builds that are due before one that is queued; counted up to [`QUEUE_LOOK`].
async fn ahead<D: HasLedger>(d: &D, key: &BuildKey, warming: bool) -> Result<usize, Unavailable> {
    let line = match warming {
        true => queued(d, QUEUE_LOOK).await?,
        false => d.ledger().list(StatusIndex::Queued, None, QUEUE_LOOK).await?,
    };
    Ok(line.iter().position(|listed| listed.key == *key).unwrap_or(line.len()))
}

/// The expected duration of an attempt at a build, by the first of these that is known: its plan; the last build of its package; builds
/// with as many derivations to build; all builds.
async fn expected<D: HasLedger>(
    d: &D,
    key: &BuildKey,
    limits: &Limits,
    plan: Option<&Plan>,
    progress: Option<&Progress>,
) -> Result<Option<Duration>, Unavailable> {
    if let Some(expected) = plan.and_then(Plan::expected) {
        return Ok(Some(expected));
    }
    // Other builds say nothing about a catalogue.
    if key.product == Product::Catalogue {
        return Ok(None);
    }
    if let Some(past) = load_profile(d, key, Read::Eventual).await?.0 {
        return Ok(Some(past.expected()));
    }
    let known = progress.filter(|progress| progress.expected > 0);
    Ok(match known {
        Some(progress) => limits.pace_of(&key.product).of(u32::try_from(progress.expected).unwrap_or(u32::MAX)),
        None => limits.pace_of(&key.product).of_any(),
    })
}

/// Seconds after which to ask again whether builds go on.
pub(crate) fn paused_for(paused: &Paused, now: Timestamp) -> u64 {
    paused.until.map_or(PAUSE_LOOK, |until| seconds_up(until - now).max(1))
}
