//! What happened, for whoever runs the service: flows [tell](crate::ports::Deployment::tell) it, and a deployment makes lines
//! of a log and metrics of it. Nothing is decided by it.

use std::{fmt, net::IpAddr, time::Duration};

use crate::{
    answer::reply::Reply,
    build::{
        Build, State,
        failure::{Failure, Kind},
    },
    gc::Report,
    id::key::{BuildKey, LeaseId, System},
    quota::limits::{Egress, LimitExceeded, Micros, Why},
};

/// What a piece of news is about.
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
    /// Which build, if it is about one.
    pub fn key(self) -> Option<&'a BuildKey> {
        match self {
            About::Service => None,
            About::Build(key) | About::Attempt(key, _) => Some(key),
        }
    }

    /// Which attempt, if it is about one.
    pub fn lease(self) -> Option<&'a LeaseId> {
        match self {
            About::Service | About::Build(_) => None,
            About::Attempt(_, lease) => Some(lease),
        }
    }
}

/// A piece of news. Its text is a few words without a full stop; which build it is about is said beside it.
#[derive(Clone, Copy)]
pub enum Signal<'a> {
    /// A build's row has changed.
    Moved(&'a Moved),
    /// A queued build that is due stays where it is.
    Held(LimitExceeded),
    /// Builds for a system are paused, or go on.
    Looked(System, Option<Why>),
    /// As much was served today as may be: no program is, until the next day.
    Exceeded(Egress),
    /// The operator has paused all builds (true), or lets them go on.
    Stopped(bool),
    /// So many store paths of an attempt have come into the shared cache.
    Promoted(usize),
    /// The operator lets builds cost so much in this month.
    Granted(Micros),
    /// What nobody needs any more was cleared away.
    Cleared(&'a Report),
    /// A program was asked for.
    Answered {
        /// What was answered.
        reply: &'a Reply,
        /// To whom, where that is known.
        to: Option<IpAddr>,
    },
    /// Something was passed over, or will be tried again.
    Trouble {
        /// What, as a sentence.
        what: &'a str,
        /// Why.
        error: &'a dyn fmt::Display,
    },
}

/// What became of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moved {
    /// Somebody wants it.
    Queued,
    /// An attempt begins, this long after the build was due.
    Claimed {
        /// How long it waited.
        waited: Duration,
    },
    /// The launcher has started the attempt's task.
    Launched {
        /// What the launcher calls it.
        task: String,
    },
    /// An attempt has ended.
    Ended {
        /// How.
        end: End,
        /// From its claim to its end.
        took: Duration,
    },
    /// It has come to the end that another build of its derivation has come to, without a task.
    Followed {
        /// Which.
        end: End,
    },
    /// An operator wants it no more.
    Cancelled,
    /// An operator wants nothing built: it waits again.
    Suspended,
}

/// How an attempt has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Its programs are in the store.
    Ready,
    /// Another build has its derivation, and it follows that one.
    Joined,
    /// The package itself fails: for good.
    Failed(Failure),
    /// It failed, and is tried again.
    Delayed(Failure),
    /// It failed, and was the last attempt for a while.
    Exhausted(Failure),
}

impl Moved {
    /// What happened between two states of a build's row; `None` where that is nobody's news: a lease was renewed.
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
                    (State::Queued { .. }, Some(failure)) => End::Delayed(failure),
                    (State::Joined { .. }, _) => End::Joined,
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
            Moved::Ended { end: End::Exhausted(failure), took } => {
                write!(f, "rests; its last attempt ended after {} s: {}", took.as_secs(), failure.sentence())
            }
            Moved::Ended { end: End::Joined, took } => {
                write!(f, "follows another build of its derivation after {} s", took.as_secs())
            }
            Moved::Followed { end: End::Failed(failure) } => {
                write!(f, "failed, as the other build of its derivation: {}", failure.sentence())
            }
            Moved::Followed { .. } => f.write_str("ready, by another build of its derivation"),
            Moved::Cancelled => f.write_str("cancelled"),
            Moved::Suspended => f.write_str("stopped, and queued again"),
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
            Signal::Answered { reply: Reply::Hit { .. }, .. } => f.write_str("a hit"),
            Signal::Answered { .. } => f.write_str("a miss"),
            Signal::Trouble { what, .. } => f.write_str(what),
        }
    }
}
