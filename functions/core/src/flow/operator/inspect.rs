//! Inspection of builds for an operator: lists, and all details of one. Reads only.

use std::collections::BTreeMap;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use crate::{
    build::{
        Attempt, Build, State,
        failure::{Failure, Kind},
        plan::Plan,
        profile::BuildProfile,
        protocol::Progress,
        size::Size,
    },
    flow::{
        load_build, load_profile, manifest_of,
        operator::pins,
        request::{
            log,
            status::{self, Status},
        },
        schedule::follow,
    },
    id::{
        key::{Bin, BuildKey, LeaseId, Product},
        money::Micros,
        text::clean_lines,
        time::Timestamp,
    },
    nixpkgs::{pins::Pins, served::Notes},
    objects::artifact::{Manifest, Program},
    ports::{Deployment, HasLedger, HasStore, Ledger, Read, Unavailable},
    row::StatusIndex,
};

/// How many of the latest builds of a status index are searched.
pub const LOOK: usize = 2000;
/// How many rows are read concurrently.
const AT_ONCE: usize = 32;

/// A filter of builds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// Only builds of this status; `None`: all.
    pub state: Option<StatusFilter>,
    /// Only builds whose last failure is of this kind.
    pub reason: Option<Kind>,
    /// Only builds whose status changed at this instant or later.
    pub since: Option<Timestamp>,
}

/// A build's status, as operators filter by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StatusFilter {
    /// Waits for a slot, for its time, or for builds to go on.
    Queued,
    /// Under way, by itself or by another build of its derivation.
    Building,
    /// Its programs are in the store.
    Ready,
    /// It failed, for good or until it has cooled down.
    Failed,
}

impl StatusFilter {
    fn status_indexes(self) -> &'static [StatusIndex] {
        match self {
            StatusFilter::Queued => &[StatusIndex::Queued, StatusIndex::Warming],
            StatusFilter::Building => &[StatusIndex::Building, StatusIndex::Joined],
            StatusFilter::Ready => &[StatusIndex::Ready],
            StatusFilter::Failed => &[StatusIndex::Failed],
        }
    }
}

/// A build in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// Which.
    pub key: BuildKey,
    /// What people ask for to get it; `None`: no pin stands for its nixpkgs any more, or it is no package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// How it stands: as in the status document.
    pub state: String,
    /// Since when, in milliseconds since 1970.
    pub since: Timestamp,
    /// How it failed, the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Kind>,
    /// What is happening, or why it failed, in a line.
    pub told: String,
}

/// All that is known of a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// What a list says.
    #[serde(flatten)]
    pub listing: Listing,
    /// Why it failed, where it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// When it may be tried again, where it has failed in passing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The attempt that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<Current>,
    /// In how many seconds it will probably be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimate_seconds: Option<u64>,
    /// The time limit that an operator allows its package, in seconds; `None`: the deployment's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_seconds: Option<u64>,
    /// The attempts that are over, oldest first.
    pub history: Vec<Attempt>,
    /// What those have cost, in millionths of a dollar; `None`: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Micros>,
    /// The profile of its package's last build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub past: Option<BuildProfile>,
    /// What users should know of its programs, in words, by their names. Programs of which that is nothing are left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub notes: BTreeMap<Bin, String>,
    /// The path of its log; `None` if it cannot be requested, or does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
}

/// An attempt that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Current {
    /// Its lease's public name.
    pub lease: LeaseId,
    /// Its number, from 1.
    pub attempt: u32,
    /// Its machine.
    pub size: Size,
    /// Since when.
    pub claimed: Timestamp,
    /// What the launcher calls its task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// What it builds and fetches, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// What its builder said last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
}

/// A part of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excerpt {
    /// Text, made harmless for a terminal.
    pub text: String,
    /// Where to go on.
    pub next: u32,
    /// Whether the log is over.
    pub complete: bool,
}

/// The matching builds, the most recently changed first. The latest [`LOOK`] of each status index are searched.
///
/// # Errors
/// [`Unavailable`].
pub(crate) async fn list<D: HasLedger>(d: &D, filter: &Filter) -> Result<Vec<Listing>, Unavailable> {
    let all = [StatusFilter::Building, StatusFilter::Queued, StatusFilter::Failed, StatusFilter::Ready];
    let wanted = all.into_iter().filter(|stands| filter.state.is_none_or(|wanted| wanted == *stands));
    let pins = pins::load(d).await?;
    let mut found = Vec::new();
    for status_index in wanted.flat_map(StatusFilter::status_indexes) {
        for build in shelved(d, *status_index, Timestamp(0)).await? {
            let fits = filter.since.is_none_or(|since| since_of(&build) >= since)
                && filter.reason.is_none_or(|reason| failure_of(&build).is_some_and(|failure| failure.kind == reason));
            if fits {
                found.push(with_pins(d, &pins, build).await?);
            }
        }
    }
    Ok(found)
}

/// The latest builds of a status index, at most [`LOOK`], that entered it at `since` or later.
///
/// # Errors
/// [`Unavailable`].
pub(crate) async fn shelved<D: HasLedger>(
    d: &D,
    status_index: StatusIndex,
    since: Timestamp,
) -> Result<Vec<Build>, Unavailable> {
    let listed = d.ledger().latest(status_index, LOOK).await?.into_iter().filter(|listed| listed.at >= since);
    let rows = stream::iter(listed).map(|listed| async move { load_build(d, &listed.key).await });
    // The list may lag behind the rows: the row's status counts.
    let there = |(build, _): (Build, _)| async move {
        Ok(build.status_index().is_some_and(|(on, _)| on == status_index).then_some(build))
    };
    rows.buffered(AT_ONCE).try_filter_map(there).try_collect().await
}

/// One build, as a list tells it.
///
/// # Errors
/// [`Unavailable`].
pub(crate) async fn listing<D: HasLedger>(d: &D, build: Build) -> Result<Listing, Unavailable> {
    with_pins(d, &pins::load(d).await?, build).await
}

async fn with_pins<D: HasLedger>(d: &D, pins: &Pins, build: Build) -> Result<Listing, Unavailable> {
    // Only of those that are under way, and they are few, more is read than their rows.
    let status = match &build.state {
        State::Building(_) | State::Joined { .. } | State::Waiting(_) => {
            Some(status::view(d, build.clone(), false).await?)
        }
        _ => None,
    };
    Ok(listed(d, pins, &build, status.as_ref()))
}

/// A build, as a list tells it; with its status, where it is under way.
fn listed<D: Deployment>(d: &D, pins: &Pins, build: &Build, status: Option<&Status>) -> Listing {
    Listing {
        key: build.key.clone(),
        target: pins.target(&build.key, d.system()).map(|target| target.to_string()),
        since: since_of(build),
        reason: failure_of(build).map(|failure| failure.kind),
        state: status::name(&build.state).to_owned(),
        told: told(build, status),
    }
}

/// What is happening, or why it failed.
fn told(build: &Build, status: Option<&Status>) -> String {
    match (&build.state, failure_of(build)) {
        (State::Building(_) | State::Joined { .. } | State::Waiting(_), _) => {
            status.map_or_else(String::new, Status::headline)
        }
        (State::Queued { .. }, Some(failure)) => format!("waits for a retry: {}", failure.sentence()),
        (State::Queued { .. }, None) if !build.partial.continued.is_none() => {
            format!("continued: {} waits for its turn", build.partial.continued.part().unwrap_or_default())
        }
        (State::Queued { warming: true, .. }, None) => "waits until no requested build is queued".to_owned(),
        (State::Queued { .. }, None) => "waits for its turn".to_owned(),
        (_, Some(failure)) => failure.sentence(),
        (State::Unasked | State::Ready(_) | State::Failed { .. }, None) => String::new(),
    }
}

/// Since when it stands as it does.
fn since_of(build: &Build) -> Timestamp {
    match &build.state {
        State::Unasked => build.history.last().map_or(Timestamp(0), |attempt| attempt.ended),
        State::Building(lease) => lease.claimed,
        State::Queued { since, .. } | State::Joined { since, .. } | State::Failed { since, .. } => *since,
        State::Waiting(waiting) => waiting.since,
        State::Ready(made) => made.since,
    }
}

/// How it failed, the last time that it did; one that is ready has not.
fn failure_of(build: &Build) -> Option<&Failure> {
    match &build.state {
        State::Ready(_) | State::Unasked => None,
        State::Failed { failure, .. } => Some(failure),
        // What is continued has not failed.
        State::Queued { .. } | State::Building(_) | State::Joined { .. } | State::Waiting(_) => {
            build.history.last().filter(|last| !last.continued)?.failure.as_ref()
        }
    }
}

/// All that is known of a build.
///
/// # Errors
/// [`Unavailable`].
pub(crate) async fn show<D: HasLedger + HasStore>(d: &D, key: BuildKey) -> Result<Shown, Unavailable> {
    let (build, _) = load_build(d, &key).await?;
    let manifest = match (&build.state, &key.product) {
        // A damaged one is found by others.
        (State::Ready(made), Product::Package(_) | Product::Bundle { .. }) => {
            manifest_of(d, &key, made).await?.ok().map(|(manifest, _)| manifest)
        }
        _ => None,
    };
    let status = status::view(d, build.clone(), false).await?;
    let current = build.lease().map(|lease| Current {
        lease: lease.id.clone(),
        attempt: lease.attempt,
        size: lease.size,
        claimed: lease.claimed,
        task: lease.task.clone(),
        plan: lease.plan,
        progress: status.progress.clone(),
    });
    let (past, _) = load_profile(d, &key, Read::Eventual).await?;
    let pins = pins::load(d).await?;
    let listing = listed(d, &pins, &build, Some(&status));
    let log = listing.target.as_ref().filter(|_| status.has_log());
    Ok(Shown {
        failure: failure_of(&build).cloned(),
        until: match &build.state {
            State::Failed { until, .. } => *until,
            _ => None,
        },
        current,
        estimate_seconds: status.estimate_seconds,
        allowed_seconds: pins.allowed(&key.product),
        log: log.map(|target| format!("{}/-/log/{target}", d.origin())),
        cost: status.cost,
        notes: manifest.as_ref().map(notes).unwrap_or_default(),
        history: build.history,
        past,
        listing,
    })
}

fn notes(manifest: &Manifest) -> BTreeMap<Bin, String> {
    let note = |program: &Program| (program.bin.clone(), Notes::of(manifest, program).sentence(&program.bin));
    manifest.by_name().into_iter().map(note).filter(|(_, note)| !note.is_empty()).collect()
}

/// A part of a build's log.
///
/// # Errors
/// [`Unavailable`].
pub(crate) async fn log<D: HasLedger + HasStore>(d: &D, key: &BuildKey, from: u32) -> Result<Excerpt, Unavailable> {
    let (build, _) = load_build(d, key).await?;
    let prefix = follow::log_source(d, &build).await?;
    let log::Part { content, next, complete } = log::read(d, &build, prefix.as_ref(), from).await?;
    Ok(Excerpt { text: clean_lines(&String::from_utf8_lossy(&content)), next, complete })
}
