//! THE state machine of a build. What is legal is decided here and nowhere else: adapters write what [`apply`] says,
//! if nobody wrote before them.
//!
//! ```text
//! Unasked ─ask→ Queued ─claim→ Building ─settle→ Ready
//!    ↑            ↑ ↑             │  ├─(permanent)→ Failed ─retry→ Queued
//!    │            │ └─(transient)─┘  └─(exhausted)→ Failed until… ─ask→ Queued
//!    └─cancel─────┴───────────────┘
//! ```

use thiserror::Error;

use crate::{
    build::{Attempt, Build, HISTORY_MAX, Lease, State},
    failure::{Class, Failure, Kind},
    key::{LeaseId, Token},
    policy::Policy,
    protocol::Stats,
    size::Size,
    time::Timestamp,
};

/// What happens to a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody wants it.
    Ask,
    /// A dispatcher takes it on, with a lease made for this.
    Claim {
        /// The new lease's name.
        id: LeaseId,
        /// The new lease's secret.
        token: Token,
    },
    /// The launcher has started a task for a lease.
    Launched {
        /// Which lease.
        id: LeaseId,
        /// What the launcher calls the task.
        task: String,
    },
    /// The builder that holds a lease is alive.
    Pulse {
        /// Which lease.
        id: LeaseId,
    },
    /// The builder that holds a lease has come to an end.
    Settle {
        /// Which lease.
        id: LeaseId,
        /// Which end: programs in the store, or a failure.
        end: Result<(), Failure>,
        /// What it took.
        stats: Stats,
    },
    /// A lease's task is gone, or never came to be: its launcher says so. A builder's own word, if it came, stands.
    Stopped {
        /// Which lease.
        id: LeaseId,
        /// Why, as far as the launcher knows.
        failure: Failure,
    },
    /// Time has passed: a lease may be over.
    Lapse,
    /// An operator wants a failed build tried again.
    Retry,
    /// An operator wants it stopped, or no longer queued.
    Cancel,
}

/// Why an event changes nothing and should have.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Illegal {
    /// A claim of what does not wait.
    #[error("the build is not queued")]
    NotQueued,
    /// A claim before its time.
    #[error("the build is not due yet")]
    NotDue,
    /// A word from a lease that is not the live one: it is expired, settled, cancelled, or never was.
    #[error("the lease is not live")]
    NotLive,
    /// A retry of what has not failed.
    #[error("the build has not failed")]
    NotFailed,
    /// A cancellation of what is neither queued nor building.
    #[error("the build is not under way")]
    NotUnderWay,
}

/// What an event does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The row becomes this.
    Move(Build),
    /// The row is as it should be: the event brings nothing new, or was applied before.
    Stay,
}

impl Build {
    fn with(&self, state: State) -> Step {
        Step::Move(Build { state, ..self.clone() })
    }

    /// The row after `lease` came to `end`.
    fn ended(&self, lease: &Lease, end: Result<(), Failure>, stats: Stats, now: Timestamp, policy: &Policy) -> Step {
        let state = match &end {
            Ok(()) => State::Ready { lease: lease.id.clone(), since: now },
            Err(failure) => after_failure(failure.clone(), lease.attempt, now, policy),
        };
        let mut history = self.history.clone();
        history.push(Attempt {
            lease: lease.id.clone(),
            number: lease.attempt,
            size: lease.size,
            claimed: lease.claimed,
            ended: now,
            failure: end.err(),
            stats,
        });
        history.drain(..history.len().saturating_sub(HISTORY_MAX));
        Step::Move(Build { key: self.key.clone(), state, history })
    }

    /// The machine for an attempt: the deployment's usual one, and what the attempt before has shown to be needed.
    fn next_size(&self, attempt: u32, policy: &Policy) -> Size {
        match self.history.last() {
            Some(Attempt { size, failure: Some(failure), .. }) if attempt > 1 => size.after(failure.kind),
            _ => policy.size,
        }
    }

    /// Whether the newest ended attempt is that lease's and ended so: then its word has been heard before, and only the reply was lost.
    fn heard(&self, id: &LeaseId, end: &Result<(), Failure>) -> bool {
        self.history.last().is_some_and(|last| &last.lease == id && last.failure.as_ref() == end.as_ref().err())
    }
}

fn after_failure(failure: Failure, attempt: u32, now: Timestamp, policy: &Policy) -> State {
    match failure.kind.class() {
        Class::Permanent => State::Failed { failure, since: now, until: None },
        Class::Transient | Class::TransientLarger | Class::Operator if attempt < policy.attempts => {
            State::Queued { since: now, due: now + policy.delay_after(attempt), attempt: attempt + 1 }
        }
        Class::Transient | Class::TransientLarger | Class::Operator => {
            State::Failed { failure, since: now, until: Some(now + policy.cool_down) }
        }
    }
}

/// What `event` does to `build` at `now`. Pure: the same arguments give the same step, and applying an event a second time is
/// [`Step::Stay`], so that a write whose reply was lost can simply be made again.
///
/// # Errors
/// [`Illegal`], where the event must change nothing.
pub fn apply(build: &Build, event: &Event, now: Timestamp, policy: &Policy) -> Result<Step, Illegal> {
    let queued = || build.with(State::Queued { since: now, due: now, attempt: 1 });
    match (event, &build.state) {
        (Event::Ask, State::Unasked) => Ok(queued()),
        (Event::Ask, State::Failed { until: Some(until), .. }) if now >= *until => Ok(queued()),
        (Event::Ask, _) => Ok(Step::Stay),

        (Event::Claim { id, .. }, State::Building(lease)) if &lease.id == id => Ok(Step::Stay),
        (Event::Claim { .. }, State::Queued { due, .. }) if now < *due => Err(Illegal::NotDue),
        (Event::Claim { id, token }, State::Queued { attempt, .. }) => Ok(build.with(State::Building(Lease {
            id: id.clone(),
            token: token.clone(),
            attempt: *attempt,
            size: build.next_size(*attempt, policy),
            claimed: now,
            expires: now + policy.lease,
            task: None,
        }))),
        (Event::Claim { .. }, _) => Err(Illegal::NotQueued),

        (Event::Lapse, State::Building(lease)) if now >= lease.expires => {
            let failure = match lease.task {
                Some(_) => Failure::new(Kind::LostHeartbeat, ""),
                None => Failure::new(Kind::NotStarted, ""),
            };
            Ok(build.ended(lease, Err(failure), Stats::default(), now, policy))
        }
        (Event::Lapse, _) => Ok(Step::Stay),

        (Event::Launched { id, task }, State::Building(lease)) if &lease.id == id => match &lease.task {
            Some(known) if known == task => Ok(Step::Stay),
            _ => Ok(build.with(State::Building(Lease { task: Some(task.clone()), ..lease.clone() }))),
        },
        (Event::Pulse { id }, State::Building(lease)) if live(lease, id, now) => match now + policy.lease {
            expires if expires > lease.expires => Ok(build.with(State::Building(Lease { expires, ..lease.clone() }))),
            _ => Ok(Step::Stay),
        },
        (Event::Settle { id, end, stats }, State::Building(lease)) if live(lease, id, now) => {
            Ok(build.ended(lease, end.clone(), *stats, now, policy))
        }
        (Event::Settle { id, end, .. }, _) if build.heard(id, end) => Ok(Step::Stay),
        (Event::Stopped { id, failure }, State::Building(lease)) if &lease.id == id => {
            Ok(build.ended(lease, Err(failure.clone()), Stats::default(), now, policy))
        }
        // A task that is gone after its build ended is what should be.
        (Event::Stopped { .. }, _) => Ok(Step::Stay),
        (Event::Launched { .. } | Event::Pulse { .. } | Event::Settle { .. }, _) => Err(Illegal::NotLive),

        (Event::Retry, State::Failed { .. }) => Ok(queued()),
        (Event::Retry, State::Queued { .. } | State::Building(_)) => Ok(Step::Stay),
        (Event::Retry, _) => Err(Illegal::NotFailed),

        (Event::Cancel, State::Queued { .. } | State::Building(_)) => Ok(build.with(State::Unasked)),
        (Event::Cancel, State::Unasked) => Ok(Step::Stay),
        (Event::Cancel, _) => Err(Illegal::NotUnderWay),
    }
}

fn live(lease: &Lease, id: &LeaseId, now: Timestamp) -> bool {
    &lease.id == id && now < lease.expires
}
