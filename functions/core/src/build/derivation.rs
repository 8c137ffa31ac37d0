//! The second claim: on a derivation, as a lease is one on a build (single-flight). Attributes with the same
//! derivation, and one attribute before and after its pin moved, are realised once: the first build that evaluates to
//! the derivation realises it, and the others follow.
//!
//! The row is a pointer. The state of the realisation is that of the build it points to, so nothing has to be kept in
//! step with it, and there is no list of followers.

use serde::{Deserialize, Serialize};

use crate::{
    build::{Build, State, failure::Failure},
    id::key::{DrvHash, System},
    objects::artifact::AttemptPrefix,
};

/// A derivation's row: the attempt that has claimed it. There is one per requesting system, since that decides whether
/// a program of it can be served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Derivation {
    /// The derivation.
    pub drv: DrvHash,
    /// The attempt, and the prefix of its objects.
    #[serde(rename = "home")]
    pub prefix: AttemptPrefix,
}

/// The state of a derivation's realisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Realisation {
    /// Unclaimed: the next build that evaluates to it claims it.
    Free,
    /// A build realises it, or will when its turn comes.
    UnderWay,
    /// Its programs are stored here.
    Made(AttemptPrefix),
    /// It failed permanently.
    Failed(Failure),
}

impl Derivation {
    /// The system whose programs are wanted.
    pub fn system(&self) -> System {
        self.prefix.key.system
    }

    /// The state of the realisation, from the row of the build that it points to. Only the end of that very attempt
    /// counts: another attempt may have failed before its evaluation, or, with another Nix, have evaluated to another
    /// derivation.
    pub fn stands(&self, holder: &Build) -> Realisation {
        let ended = || holder.history.last().is_some_and(|attempt| attempt.lease == self.prefix.lease);
        match &holder.state {
            State::Queued { .. } | State::Building(_) | State::Waiting(_) => Realisation::UnderWay,
            State::Ready(made) if made.prefix(&holder.key) == self.prefix => Realisation::Made(self.prefix.clone()),
            State::Failed { failure, until: None, .. } if ended() => Realisation::Failed(failure.clone()),
            // It failed transiently and rests, or was cancelled. A new request need not wait for that.
            State::Unasked | State::Joined { .. } | State::Ready { .. } | State::Failed { .. } => Realisation::Free,
        }
    }
}
