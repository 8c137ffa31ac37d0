//! Signals for the operator: flows emit them, and a deployment turns them into log lines and metrics. No decision
//! depends on them.

use std::{fmt, net::IpAddr, time::Duration};

use crate::{
    build::{
        Build, State,
        failure::{Failure, Kind},
    },
    gc::Report,
    id::{
        key::{BuildKey, LeaseId, System},
        money::Micros,
    },
    nixpkgs::served::Served,
    quota::limits::{Egress, LimitExceeded, Why},
};

/// The subject of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About<'a> {
    /// The service.
    Service,
    /// A build.
    Build(&'a BuildKey),
    /// One attempt at it.
    Attempt(&'a BuildKey, &'a LeaseId),
}

impl<'a> About<'a> {
    /// The build, if the signal is about one.
    pub fn key(self) -> Option<&'a BuildKey> {
        match self {
            About::Service => None,
            About::Build(key) | About::Attempt(key, _) => Some(key),
        }
    }

    /// The attempt, if the signal is about one.
    pub fn lease(self) -> Option<&'a LeaseId> {
        match self {
            About::Service | About::Build(_) => None,
            About::Attempt(_, lease) => Some(lease),
        }
    }
}

/// A signal. Its text is a few words without a full stop; its subject is shown beside it.
#[derive(Clone, Copy)]
pub enum Signal<'a> {
    /// A build's row has changed.
    Moved(&'a Moved),
    /// A due build stays in the queue.
    Held(LimitExceeded),
    /// Builds for a system were paused (`Some`) or resumed.
    Looked(System, Option<Why>),
    /// The day's egress ceiling is reached: downloads stop until the next day.
    Exceeded(Egress),
    /// The operator has paused all builds (true) or resumed them.
    Stopped(bool),
    /// So many store paths of an attempt were promoted into the binary cache.
    Promoted(usize),
    /// The operator has set this month's budget.
    Granted(Micros),
    /// Garbage was collected.
    Cleared(&'a Report),
    /// A request for a program was answered.
    Answered {
        /// The program, if it was served.
        hit: Option<&'a Served>,
        /// The client's address, if known.
        to: Option<IpAddr>,
    },
    /// A warning: something was skipped, or will be retried.
    Trouble {
        /// What happened, as a sentence.
        what: &'a str,
        /// The error.
        error: &'a dyn fmt::Display,
    },
}

/// A change of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moved {
    /// It was requested.
    Queued,
    /// An attempt has begun.
    Claimed {
        /// How long the build was due before.
        waited: Duration,
    },
    /// The launcher has started the attempt's task.
    Launched {
        /// The launcher's name for the task.
        task: String,
    },
    /// An attempt has ended.
    Ended {
        /// The end.
        end: End,
        /// The time from its claim to its end.
        took: Duration,
    },
    /// It has ended without a task, like the other build of its derivation that it followed.
    Followed {
        /// The end.
        end: End,
    },
    /// An operator cancelled it.
    Cancelled,
    /// An operator paused builds, or no task was started: it is queued again, as if it had not begun.
    Suspended,
}

/// The end of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Its programs are stored.
    Ready,
    /// Another build has its derivation, which it follows.
    Joined,
    /// Other builds' tasks build all that it could build now.
    Waiting,
    /// A permanent failure.
    Failed(Failure),
    /// A transient failure, which will be retried.
    Delayed(Failure),
    /// Its time was over, and the next attempt continues with the derivations that it has built.
    Continued(u32),
    /// A transient failure of the last attempt before the cool-down.
    Exhausted(Failure),
}

impl Moved {
    /// The change between two states of a build's row; `None` if operators need not hear of it, such as a renewed
    /// lease.
    pub fn between(before: &Build, after: &Build) -> Option<Moved> {
        match (&before.state, &after.state) {
            (_, State::Unasked) => Some(Moved::Cancelled),
            (State::Building(_), State::Queued { .. }) if before.history == after.history => Some(Moved::Suspended),
            (State::Building(_), state) if after.lease().is_none() => {
                let attempt = after.history.last()?;
                let failure = attempt.failure.clone();
                let end = match (state, failure) {
                    (State::Failed { until: None, failure, .. }, _) => End::Failed(failure.clone()),
                    (State::Failed { until: Some(_), failure, .. }, _) => End::Exhausted(failure.clone()),
                    (State::Queued { .. }, _) if attempt.continued => End::Continued(attempt.stats.built),
                    (State::Queued { .. }, Some(failure)) => End::Delayed(failure),
                    (State::Joined { .. }, _) => End::Joined,
                    (State::Waiting(_), _) => End::Waiting,
                    _ => End::Ready,
                };
                Some(Moved::Ended { end, took: attempt.ended - attempt.claimed })
            }
            (State::Queued { due, .. }, State::Building(lease)) => {
                Some(Moved::Claimed { waited: lease.claimed - *due })
            }
            (State::Building(before), State::Building(after)) if before.task != after.task => {
                after.task.clone().map(|task| Moved::Launched { task })
            }
            (State::Building(_), _) => None,
            (_, State::Ready { .. }) => Some(Moved::Followed { end: End::Ready }),
            (_, State::Failed { failure, .. }) => Some(Moved::Followed { end: End::Failed(failure.clone()) }),
            _ => Some(Moved::Queued),
        }
    }
}

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Moved::Queued => f.write_str("queued"),
            Moved::Claimed { waited } => write!(f, "claimed after {} s in the queue", waited.as_secs()),
            Moved::Launched { task } => write!(f, "its builder was started: {task}"),
            Moved::Ended { end: End::Ready, took } => write!(f, "ready after {} s", took.as_secs()),
            Moved::Ended { end: End::Failed(failure), took } => {
                write!(f, "failed after {} s: {}", took.as_secs(), failure.sentence())
            }
            Moved::Ended { end: End::Delayed(failure), took } => {
                write!(f, "will be tried again; this attempt ended after {} s: {}", took.as_secs(), failure.sentence())
            }
            Moved::Ended { end: End::Continued(built), took } => {
                write!(f, "is continued; this attempt ended after {} s, with {built} derivations built", took.as_secs())
            }
            Moved::Ended { end: End::Exhausted(failure), took } => {
                write!(f, "cools down; its last attempt ended after {} s: {}", took.as_secs(), failure.sentence())
            }
            Moved::Ended { end: End::Joined, took } => {
                write!(f, "follows another build of its derivation after {} s", took.as_secs())
            }
            Moved::Ended { end: End::Waiting, took } => {
                write!(f, "waits for dependencies that other builds build after {} s", took.as_secs())
            }
            Moved::Followed { end: End::Failed(failure) } => {
                write!(f, "failed, as the other build of its derivation: {}", failure.sentence())
            }
            Moved::Followed { .. } => f.write_str("ready, by another build of its derivation"),
            Moved::Cancelled => f.write_str("cancelled"),
            Moved::Suspended => f.write_str("queued again, as if it had not begun"),
        }
    }
}

impl Moved {
    /// The kind of failure that ended an attempt.
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Moved::Ended { end: End::Failed(failure) | End::Delayed(failure) | End::Exhausted(failure), .. } => {
                Some(failure.kind)
            }
            Moved::Ended { end: End::Continued(_), .. } => Some(Kind::TimedOut),
            _ => None,
        }
    }
}

impl fmt::Display for Signal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Signal::Moved(moved) => moved.fmt(f),
            Signal::Held(full) => write!(f, "waits: {full}"),
            Signal::Looked(system, Some(why)) => write!(f, "builds for {system} are paused: {}", why.sentence()),
            Signal::Looked(system, None) => write!(f, "builds for {system} go on"),
            Signal::Exceeded(Egress { served, ceiling, .. }) => {
                write!(f, "no program is served any more today: {served} bytes were, of {ceiling} that may be")
            }
            Signal::Stopped(true) => f.write_str("the operator has paused builds"),
            Signal::Stopped(false) => f.write_str("the operator lets builds go on"),
            Signal::Promoted(paths) => write!(f, "{paths} of its store paths are in the cache"),
            Signal::Granted(budget) => write!(f, "builds may cost {budget} this month"),
            Signal::Cleared(Report { rows, removed, waiting, kept, .. }) => write!(
                f,
                "cleared away {} builds' rows and {} objects of {} bytes; {} bytes wait for that, and {} are kept",
                rows.builds, removed.objects, removed.bytes, waiting.bytes, kept.bytes
            ),
            Signal::Answered { hit: Some(_), .. } => f.write_str("a hit"),
            Signal::Answered { .. } => f.write_str("a miss"),
            Signal::Trouble { what, .. } => f.write_str(what),
        }
    }
}
