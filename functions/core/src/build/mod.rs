//! A build's row: where it stands, and what became of its attempts. What may become of it is said by [`apply`].

use serde::{Deserialize, Serialize};

use crate::{
    build::{
        failure::{Failure, Kind},
        protocol::Stats,
        size::Size,
    },
    id::{
        key::{BuildKey, DrvHash, LeaseId, Token},
        time::Timestamp,
    },
    objects::artifact::{AttemptPrefix, Manifest},
};

mod apply;
pub mod derivation;
mod event;
pub mod failed_dependencies;
pub mod failure;
pub mod profile;
pub mod protocol;
pub mod size;

pub use apply::apply;
pub use event::{Event, Illegal, Step};

/// How many ended attempts a row remembers; older ones are forgotten.
pub const HISTORY_MAX: usize = 8;

/// A build's row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// Which build this is.
    pub key: BuildKey,
    /// Where it stands.
    pub state: State,
    /// Its ended attempts, oldest first.
    #[serde(default)]
    pub history: Vec<Attempt>,
}

/// Where a build stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum State {
    /// Nobody wants it: no row, or a cancelled one.
    Unasked,
    /// Waits for a slot.
    Queued {
        /// Since when.
        since: Timestamp,
        /// Not to be claimed before.
        due: Timestamp,
        /// The number of the attempt that it waits for, from 1.
        attempt: u32,
        /// Nobody has asked for it yet: an operator wants it there before somebody does. It waits behind all others.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        warming: bool,
    },
    /// One task works on it.
    Building(Lease),
    /// Its task has found that another build has the same derivation, and has left the rest to that one.
    Joined {
        /// Which derivation.
        derivation: DrvHash,
        /// As for [`Borrowed`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        main_program: Option<String>,
        /// Since when.
        since: Timestamp,
    },
    /// Its programs are in the store.
    Ready(Made),
    /// It failed.
    Failed {
        /// Why, the last time.
        failure: Failure,
        /// Since when.
        since: Timestamp,
        /// When a request may start it again; `None`: never by itself.
        until: Option<Timestamp>,
    },
}

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// The attempt that made it; part of the objects' paths.
    pub lease: LeaseId,
    /// Where that is another build's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub borrowed: Option<Borrowed>,
    /// Since when it is there for this one.
    pub since: Timestamp,
}

impl Made {
    /// Where the objects lie, for the build of that key.
    pub fn prefix(&self, key: &BuildKey) -> AttemptPrefix {
        let key = self.borrowed.as_ref().map_or(key, |borrowed| &borrowed.from);
        AttemptPrefix { key: key.clone(), lease: self.lease.clone() }
    }

    /// The manifest that lies there, as it is for this build.
    pub fn own(&self, manifest: Manifest) -> Manifest {
        match &self.borrowed {
            Some(borrowed) => Manifest { main_program: borrowed.main_program.clone(), ..manifest },
            None => manifest,
        }
    }
}

/// Programs that another build has made of the same derivation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Borrowed {
    /// Which build.
    pub from: BuildKey,
    /// `meta.mainProgram` of the attribute itself. Nothing of `meta` is part of a derivation, so that it may differ from what the
    /// other build's manifest says; name and version are, and do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub main_program: Option<String>,
}

/// A claim on a build, held by one task for as long as it is heard of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Its public name.
    pub id: LeaseId,
    /// Its secret.
    pub token: Token,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// The machine of its task.
    #[serde(default, skip_serializing_if = "Size::is_usual")]
    pub size: Size,
    /// When it was claimed.
    pub claimed: Timestamp,
    /// When it ends without another pulse. At that instant it is over.
    pub expires: Timestamp,
    /// What the launcher calls its task, once it has started one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The derivation that it has taken on, once it has (a builder of an earlier version does not). It is one: whoever got hold of the
    /// token while that is built can claim no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub derivation: Option<DrvHash>,
}

/// An attempt that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its lease's name.
    pub lease: LeaseId,
    /// Its number, from 1.
    pub number: u32,
    /// The machine of its task.
    #[serde(default, skip_serializing_if = "Size::is_usual")]
    pub size: Size,
    /// When it was claimed.
    pub claimed: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// What the launcher called its task, if one was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// How; `None`: it built what was asked for, or left that to another build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The derivation that it left to another build. Then the failure is that one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<DrvHash>,
    /// The attempt that has come to this failure before, in a dependency of both. Then this one has not tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_in: Option<AttemptPrefix>,
    /// What it took, as far as its builder told.
    #[serde(default)]
    pub stats: Stats,
}

impl Attempt {
    /// Bytes that it has left in the store; `None`: nobody has looked, and it may be as many as it was allowed to.
    pub fn stored(&self) -> Option<u64> {
        let not_begun = |failure: &Failure| matches!(failure.kind, Kind::NotStarted | Kind::NoImage);
        // Whoever leaves its work to another, or was spared it, has built nothing yet.
        let nothing = self.left.is_some() || self.seen_in.is_some() || self.failure.as_ref().is_some_and(not_begun);
        if nothing { Some(0) } else { self.stats.stored }
    }
}

impl Build {
    /// The build that no row speaks of.
    pub fn unasked(key: BuildKey) -> Build {
        Build { key, state: State::Unasked, history: Vec::new() }
    }

    /// The lease that holds it, if one does.
    pub fn lease(&self) -> Option<&Lease> {
        match &self.state {
            State::Building(lease) => Some(lease),
            _ => None,
        }
    }

    /// Where its objects lie, once they do.
    pub fn prefix(&self) -> Option<AttemptPrefix> {
        match &self.state {
            State::Ready(made) => Some(made.prefix(&self.key)),
            _ => None,
        }
    }

    /// Where what is told and served of it lies: its programs, or as long as there are none the log of its newest attempt, and the
    /// one that has come to its failure before.
    pub fn prefixes(&self) -> Vec<AttemptPrefix> {
        let own = |lease: &LeaseId| AttemptPrefix { key: self.key.clone(), lease: lease.clone() };
        match self.prefix() {
            Some(prefix) => vec![prefix],
            None => {
                let seen_in = self.history.last().and_then(|last| last.seen_in.clone());
                self.newest_lease().map(own).into_iter().chain(seen_in).collect()
            }
        }
    }

    /// The newest attempt's lease, running or ended.
    pub fn newest_lease(&self) -> Option<&LeaseId> {
        self.lease().map(|lease| &lease.id).or(self.history.last().map(|attempt| &attempt.lease))
    }

    /// That lease's attempt, if it has built what was asked for.
    pub fn built_by(&self, lease: &LeaseId) -> Option<&Attempt> {
        let built = |last: &&Attempt| last.lease == *lease && last.failure.is_none() && last.left.is_none();
        self.history.last().filter(built)
    }

    /// How that lease's attempt failed, if it is over and did.
    pub fn failure_of(&self, lease: &LeaseId) -> Option<&Failure> {
        self.history.iter().rfind(|attempt| attempt.lease == *lease)?.failure.as_ref()
    }

    /// The dependency that it has failed by, for good.
    pub fn dependency(&self) -> Option<&DrvHash> {
        match &self.state {
            State::Failed { failure, until: None, .. } => failure.drv.as_ref(),
            _ => None,
        }
    }

    /// The derivation that its newest attempt has left to another build.
    pub fn left(&self) -> Option<&DrvHash> {
        self.history.last().filter(|_| self.lease().is_none()).and_then(|attempt| attempt.left.as_ref())
    }
}
