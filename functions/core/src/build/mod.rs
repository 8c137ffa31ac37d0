//! A build: its row, with the state and the ended attempts. [`apply`] decides how the state may change.

use serde::{Deserialize, Serialize};

use crate::{
    build::{
        failure::{Failure, Kind},
        partial::Partial,
        plan::Plan,
        policy::Policy,
        protocol::Stats,
        size::Size,
        waiting::Waiting,
    },
    id::{
        key::{BuildKey, DrvHash, LeaseId, Token},
        time::Timestamp,
    },
    objects::artifact::{AttemptPrefix, Declared, Manifest},
};

mod apply;
pub mod continued;
pub mod dependency;
pub mod derivation;
mod event;
pub mod failed_dependencies;
pub mod failure;
pub mod learned;
pub mod partial;
pub mod plan;
pub mod policy;
pub mod profile;
pub mod protocol;
pub mod size;
pub mod told;
pub mod waiting;

pub use apply::apply;
pub use event::{Event, Illegal, Step};

/// How many ended attempts a row keeps; older ones are dropped.
pub const HISTORY_MAX: usize = 8;

/// A build's row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// The build's identity.
    pub key: BuildKey,
    /// The build's state.
    pub state: State,
    /// Its ended attempts, oldest first.
    #[serde(default)]
    pub history: Vec<Attempt>,
    /// The stored parts of an incomplete catalogue, and the work of continued attempts.
    #[serde(default, skip_serializing_if = "Partial::is_empty")]
    pub partial: Partial,
}

/// The state of a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum State {
    /// Not requested: there is no row, or it was cancelled.
    Unasked,
    /// Waits for a slot.
    Queued {
        /// Since when.
        since: Timestamp,
        /// The earliest time of its claim.
        due: Timestamp,
        /// The number of the next attempt, from 1.
        attempt: u32,
        /// Whether an operator queued it in advance, without a request. It then waits behind all requested builds.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        warming: bool,
    },
    /// One task works on it.
    Building(Lease),
    /// Its task found that another build has the same derivation, and left the work to that build.
    Joined {
        /// The derivation.
        derivation: DrvHash,
        /// As for [`Borrowed`].
        #[serde(flatten)]
        declared: Declared,
        /// Since when.
        since: Timestamp,
    },
    /// Its task ended, because other tasks build everything that it could build now.
    Waiting(Waiting),
    /// Its programs are in the store.
    Ready(Made),
    /// It failed.
    Failed {
        /// The last failure.
        failure: Failure,
        /// Since when.
        since: Timestamp,
        /// When a request may start it again; `None`: only an operator can.
        until: Option<Timestamp>,
    },
}

/// The result of a successful build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// The attempt that made it; part of the objects' paths.
    pub lease: LeaseId,
    /// The other build, if another build made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub borrowed: Option<Borrowed>,
    /// When this build got it.
    pub since: Timestamp,
}

impl Made {
    /// The prefix of the objects, for the build with this key.
    pub fn prefix(&self, key: &BuildKey) -> AttemptPrefix {
        let key = self.borrowed.as_ref().map_or(key, |borrowed| &borrowed.from);
        AttemptPrefix { key: key.clone(), lease: self.lease.clone() }
    }

    /// The stored manifest, adapted to this build.
    pub fn own(&self, manifest: Manifest) -> Manifest {
        match &self.borrowed {
            Some(borrowed) => Manifest { declared: borrowed.declared.clone(), ..manifest },
            None => manifest,
        }
    }
}

/// Programs that another build has made of the same derivation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Borrowed {
    /// The other build.
    pub from: BuildKey,
    /// The facts that this attribute declares beyond the derivation. They may differ from the other build's manifest. Name
    /// and version are part of a derivation and cannot differ.
    #[serde(flatten)]
    pub declared: Declared,
}

/// A claim on a build: one task holds it while its heartbeats arrive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Its public id.
    pub id: LeaseId,
    /// Its secret.
    pub token: Token,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// The size of its task.
    #[serde(default, skip_serializing_if = "Size::is_usual")]
    pub size: Size,
    /// When it was claimed.
    pub claimed: Timestamp,
    /// When it expires without another heartbeat. At this instant it has expired.
    pub expires: Timestamp,
    /// The launcher's name for its task, once it has started one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// Spot capacity was refused lately, so its task may not be on Spot.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_demand: bool,
    /// The derivation that it has claimed, if any (builders of an earlier version claim none). A lease claims only one, so
    /// a thief of its token cannot claim another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub derivation: Option<DrvHash>,
    /// The time limit that an operator allows this package, in seconds; `None`: the deployment's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// The plan, once the builder has evaluated the package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
}

impl Lease {
    /// Whether its task is not on Spot. This holds for later attempts, and for all attempts while Spot capacity is refused.
    pub fn is_on_demand(&self) -> bool {
        self.on_demand || self.attempt > 1
    }

    /// Whether its task has started: the launcher or the builder has said so.
    pub(crate) fn has_started(&self, policy: &Policy) -> bool {
        self.task.is_some() || self.derivation.is_some() || self.expires > self.claimed + policy.lease
    }
}

/// An attempt that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its lease's id.
    pub lease: LeaseId,
    /// Its number, from 1.
    pub number: u32,
    /// The size of its task.
    #[serde(default, skip_serializing_if = "Size::is_usual")]
    pub size: Size,
    /// When it was claimed.
    pub claimed: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// The launcher's name for its task, if one was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// Its failure; `None` if it built the product, left the work to another build, or ended to wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Whether it ran out of time, and the next attempt continues its work.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub continued: bool,
    /// The derivation that it left to another build. A failure is then the other build's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<DrvHash>,
    /// The dependency that another task was building. This attempt ended to wait for it, and does not count as an attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awaited: Option<DrvHash>,
    /// The earlier attempt that hit the same failing dependency. This attempt then did not try to build the dependency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_in: Option<AttemptPrefix>,
    /// The plan, if the builder had evaluated the package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// The statistics that its builder reported.
    #[serde(default)]
    pub stats: Stats,
}

impl Attempt {
    /// Whether it ended because of another task's work.
    fn has_left_work(&self) -> bool {
        self.left.is_some() || self.awaited.is_some()
    }

    /// The bytes that it has left in the store. `None`: they were not measured, and may be up to its limit.
    pub fn stored(&self) -> Option<u64> {
        let not_begun = |failure: &Failure| failure.kind == Kind::NoImage || failure.kind.is_foreseen();
        // An attempt that left its work to another, or failed by a known dependency, has built nothing.
        let nothing = self.left.is_some() || self.seen_in.is_some() || self.failure.as_ref().is_some_and(not_begun);
        if nothing { Some(0) } else { self.stats.stored }
    }
}

impl Build {
    /// A build without a row.
    pub fn unasked(key: BuildKey) -> Build {
        Build { key, state: State::Unasked, history: Vec::new(), partial: Partial::default() }
    }

    /// The lease that holds it, if any.
    pub fn lease(&self) -> Option<&Lease> {
        match &self.state {
            State::Building(lease) => Some(lease),
            _ => None,
        }
    }

    /// The prefix of its objects, once they exist.
    pub fn prefix(&self) -> Option<AttemptPrefix> {
        match &self.state {
            State::Ready(made) => Some(made.prefix(&self.key)),
            _ => None,
        }
    }

    /// The prefixes of the objects that its answers and its next attempt need: its programs; or, before they exist, the log
    /// of its newest attempt, the log of the attempt whose failure it shares, and the parts of a catalogue.
    pub fn prefixes(&self) -> Vec<AttemptPrefix> {
        let own = |lease: &LeaseId| AttemptPrefix { key: self.key.clone(), lease: lease.clone() };
        match self.prefix() {
            Some(prefix) => vec![prefix],
            None => {
                let seen_in = self.history.last().and_then(|last| last.seen_in.clone());
                self.newest_lease().into_iter().chain(self.partial.leases()).map(own).chain(seen_in).collect()
            }
        }
    }

    /// The newest attempt's lease, running or ended.
    pub fn newest_lease(&self) -> Option<&LeaseId> {
        self.lease().map(|lease| &lease.id).or(self.history.last().map(|attempt| &attempt.lease))
    }

    /// The attempt of this lease, if it built the product.
    pub fn built_by(&self, lease: &LeaseId) -> Option<&Attempt> {
        let built = |last: &&Attempt| last.lease == *lease && last.failure.is_none() && !last.has_left_work();
        self.history.last().filter(built)
    }

    /// The failure of this lease's attempt, if it has ended with a failure.
    pub fn failure_of(&self, lease: &LeaseId) -> Option<&Failure> {
        self.history.iter().rfind(|attempt| attempt.lease == *lease)?.failure.as_ref()
    }

    /// The dependency whose permanent failure made this build fail.
    pub fn dependency(&self) -> Option<&DrvHash> {
        match &self.state {
            State::Failed { failure, until: None, .. } => failure.drv.as_ref(),
            _ => None,
        }
    }

    /// The derivation that its newest attempt left to another build.
    pub fn left(&self) -> Option<&DrvHash> {
        self.history.last().filter(|_| self.lease().is_none()).and_then(|attempt| attempt.left.as_ref())
    }
}
