//! The events of a build, and the answers of [`super::apply`].

use thiserror::Error;

use crate::{
    build::{
        Build, derivation::Realisation, failure::Failure, partial::Checkpoint, plan::Plan, protocol::Stats, size::Size,
        waiting::Planned,
    },
    id::key::{DrvHash, LeaseId, Token},
    objects::artifact::{AttemptPrefix, Declared},
};

/// An event of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A client requests it.
    Ask,
    /// An operator wants it built before it is requested.
    Warm,
    /// A dispatcher claims it, with a new lease.
    Claim {
        /// The new lease's id.
        id: LeaseId,
        /// The new lease's secret.
        token: Token,
        /// The machine of a first attempt.
        size: Size,
        /// Whether Spot capacity was refused lately.
        on_demand: bool,
        /// The time limit that an operator allows, in seconds.
        seconds: Option<u64>,
    },
    /// The launcher has started a task for a lease.
    Launched {
        /// The lease.
        id: LeaseId,
        /// The launcher's name for the task.
        task: String,
    },
    /// The builder that holds a lease is alive.
    Heartbeat {
        /// The lease.
        id: LeaseId,
    },
    /// The builder of a catalogue has stored what it has evaluated so far, for the attempt that continues if this one
    /// does not finish.
    Checkpoint {
        /// The checkpoint, with its lease.
        checkpoint: Checkpoint,
        /// Whether the catalogue of the top level is stored, for requests.
        top_level: bool,
    },
    /// The builder of a lease has evaluated, and claims the derivation.
    Hold {
        /// The lease.
        id: LeaseId,
        /// The derivation.
        derivation: DrvHash,
        /// What it will build, if its builder says so.
        plan: Option<Plan>,
    },
    /// The builder of a lease has evaluated, and its plan shows that the attempt would be in vain.
    Decline {
        /// The lease.
        id: LeaseId,
        /// The plan.
        plan: Plan,
        /// Why.
        failure: Failure,
    },
    /// The builder of a lease has evaluated, and leaves the derivation to another build.
    Join {
        /// The lease.
        id: LeaseId,
        /// The derivation.
        derivation: DrvHash,
        /// What the attribute says beyond that.
        declared: Declared,
        /// The state of the other build's realisation.
        realisation: Realisation,
    },
    /// The builder of a lease could only wait for what others build, and ends.
    Wait {
        /// The lease.
        id: LeaseId,
        /// What is left to build.
        plan: Vec<Planned>,
        /// The number in `plan` of the one that it waits for.
        first: usize,
        /// The statistics of the attempt.
        stats: Stats,
    },
    /// A flow has found something that a waiting build can do.
    Wake,
    /// The builder of a lease has evaluated, and needs a dependency that is known to fail.
    Doom {
        /// The lease.
        id: LeaseId,
        /// The dependency's permanent failure.
        failure: Failure,
        /// The attempt whose log shows it.
        seen_in: AttemptPrefix,
    },
    /// A flow has read the state of a derivation's realisation.
    Follow {
        /// The derivation.
        derivation: DrvHash,
        /// Its state.
        realisation: Realisation,
    },
    /// Its derivation is known without a builder, and was built by another build.
    Adopt {
        /// The prefix of the objects.
        prefix: AttemptPrefix,
        /// What is known of the attribute beyond that.
        declared: Declared,
    },
    /// The builder of a lease has finished.
    Settle {
        /// The lease.
        id: LeaseId,
        /// Success, with programs in the store, or a failure.
        end: Result<(), Failure>,
        /// The statistics of the attempt.
        stats: Stats,
    },
    /// The launcher reports that a lease's task has stopped or never started. A settle that came before stands.
    Stopped {
        /// The lease.
        id: LeaseId,
        /// The reason, as far as the launcher knows it.
        failure: Failure,
    },
    /// The launcher refuses to start a lease's task. Another start of the same lease stands.
    Refused {
        /// The lease.
        id: LeaseId,
        /// The reason, as far as the launcher knows it.
        failure: Failure,
    },
    /// Time has passed: the lease may have expired.
    Lapse,
    /// An operator retries a failed build, at once.
    Retry,
    /// An operator cancels a build that is queued or under way.
    Cancel,
    /// An operator pauses all builds: this one returns to the queue, as if it had not begun.
    Suspend,
    /// An operator deletes a failure and the attempts that led to it.
    Forget,
    /// The objects of an attempt are not served any more: one is missing or damaged, or an operator wants them built
    /// anew.
    Withdraw {
        /// The prefix of the objects.
        prefix: AttemptPrefix,
    },
}

/// Why an event was refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Illegal {
    /// A claim of a build that is not queued.
    #[error("the build is not queued")]
    NotQueued,
    /// A claim before the build is due.
    #[error("the build is not due yet")]
    NotDue,
    /// The lease is not the live one: it has expired, was settled or cancelled, or never existed.
    #[error("the lease is not live")]
    NotLive,
    /// A second derivation claimed by one lease.
    #[error("the lease has another derivation")]
    OtherDerivation,
    /// A derivation was left to another build, and no build has it.
    #[error("no other build has the derivation")]
    NotHeld,
    /// A retry of a build that has not failed.
    #[error("the build has not failed")]
    NotFailed,
    /// A cancellation of a build that is neither queued nor being built.
    #[error("the build is neither queued nor running")]
    NotUnderWay,
}

/// The effect of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "it is taken apart where it is made, and nowhere kept")]
pub enum Step {
    /// The row becomes this.
    Move(Build),
    /// The row stays: the event brings nothing new, or was applied before.
    Stay,
}
