//! What may happen to a build, and what [`super::apply`] says to it.

use thiserror::Error;

use crate::{
    build::{Build, derivation::Realisation, failure::Failure, protocol::Stats, size::Size},
    id::key::{DrvHash, LeaseId, Token},
    objects::artifact::AttemptPrefix,
};

/// What happens to a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody wants it.
    Ask,
    /// Somebody may want it later.
    Warm,
    /// A dispatcher takes it on, with a lease made for this.
    Claim {
        /// The new lease's name.
        id: LeaseId,
        /// The new lease's secret.
        token: Token,
        /// The machine for a first attempt.
        size: Size,
    },
    /// The launcher has started a task for a lease.
    Launched {
        /// Which lease.
        id: LeaseId,
        /// What the launcher calls the task.
        task: String,
    },
    /// The builder that holds a lease is alive.
    Heartbeat {
        /// Which lease.
        id: LeaseId,
    },
    /// The builder that holds a lease has evaluated, and takes the derivation on.
    Hold {
        /// Which lease.
        id: LeaseId,
        /// What it came to.
        derivation: DrvHash,
    },
    /// The builder that holds a lease has evaluated, and leaves the derivation to another build.
    Join {
        /// Which lease.
        id: LeaseId,
        /// What it came to.
        derivation: DrvHash,
        /// `meta.mainProgram` of the attribute.
        main_program: Option<String>,
        /// How the other build stands.
        realisation: Realisation,
    },
    /// The builder that holds a lease has evaluated, and needs a dependency that is known to fail.
    Doom {
        /// Which lease.
        id: LeaseId,
        /// How it fails: for good.
        failure: Failure,
        /// The attempt whose log tells of it.
        seen_in: AttemptPrefix,
    },
    /// Somebody has looked how the realisation of a derivation stands.
    Follow {
        /// Which derivation.
        derivation: DrvHash,
        /// How.
        realisation: Realisation,
    },
    /// Its derivation is known without a builder, and was made by another build.
    Adopt {
        /// Where that lies.
        prefix: AttemptPrefix,
        /// The attribute's main program, where that is known.
        main_program: Option<String>,
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
    /// An operator wants a failed build tried again, and now.
    Retry,
    /// An operator wants it stopped, or no longer queued.
    Cancel,
    /// An operator wants nothing built now: it waits in the queue again, as if it had not been begun.
    Suspend,
    /// An operator wants a failure forgotten, and all that led to it.
    Forget,
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
    /// A claim on a second derivation, by one lease.
    #[error("the lease has another derivation")]
    OtherDerivation,
    /// A derivation was left to another build, and none has it.
    #[error("no other build has the derivation")]
    NotHeld,
    /// A retry of what has not failed.
    #[error("the build has not failed")]
    NotFailed,
    /// A cancellation of what is neither queued nor being built.
    #[error("the build is not under way")]
    NotUnderWay,
}

/// What an event does.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "it is taken apart where it is made, and nowhere kept")]
pub enum Step {
    /// The row becomes this.
    Move(Build),
    /// The row is as it should be: the event brings nothing new, or was applied before.
    Stay,
}
