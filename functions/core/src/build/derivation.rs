//! The second claim (contract §6): on a derivation, where a lease is one on a build. Attributes of one derivation, and one
//! attribute before and after its pin moved, are one realisation: whoever evaluates to it first realises it, and the others follow.
//!
//! The row is a pointer. How the realisation stands is said by the row of the build that it points to, so that there is
//! nothing to keep in step with it, and no list of those who follow.

use serde::{Deserialize, Serialize};

use crate::{
    build::{Build, State, failure::Failure},
    id::key::{DrvHash, System},
    objects::artifact::AttemptPrefix,
};

/// A derivation's row: which attempt has taken it on. There is one for each system that asks for it, since what a program of
/// it is worth depends on that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Derivation {
    /// Which derivation.
    pub drv: DrvHash,
    /// The attempt, and where its objects lie, or will.
    #[serde(rename = "home")]
    pub prefix: AttemptPrefix,
}

/// How the realisation of a derivation stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Realisation {
    /// Nobody is at it: whoever evaluates to it takes it on.
    Free,
    /// A build is, or will be when its turn comes.
    UnderWay,
    /// Its programs lie here.
    Made(AttemptPrefix),
    /// It fails, for good.
    Failed(Failure),
}

impl Derivation {
    /// For programs of which system.
    pub fn system(&self) -> System {
        self.prefix.key.system
    }

    /// How it stands, as the row of the build says that it points to. An end counts if it is that very attempt's: any other may have
    /// failed before it had evaluated, or, with another Nix, have come to another derivation.
    pub fn stands(&self, holder: &Build) -> Realisation {
        let ended = || holder.history.last().is_some_and(|attempt| attempt.lease == self.prefix.lease);
        match &holder.state {
            State::Queued { .. } | State::Building(_) => Realisation::UnderWay,
            State::Ready(made) if made.prefix(&holder.key) == self.prefix => Realisation::Made(self.prefix.clone()),
            State::Failed { failure, until: None, .. } if ended() => Realisation::Failed(failure.clone()),
            // It has failed in passing, and rests; or it is cancelled. Whoever wants it now need not wait for that.
            State::Unasked | State::Joined { .. } | State::Ready { .. } | State::Failed { .. } => Realisation::Free,
        }
    }
}
