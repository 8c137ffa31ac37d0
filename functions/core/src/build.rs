//! A build's row: where it stands, and what became of its attempts. What may become of it is said by [`apply`].

use serde::{Deserialize, Serialize};

use crate::{
    failure::Failure,
    key::{BuildKey, LeaseId, Token},
    protocol::Stats,
    size::Size,
    time::Timestamp,
};

mod apply;

pub use apply::{Event, Illegal, Step, apply};

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
    },
    /// One task works on it.
    Building(Lease),
    /// Its programs are in the store.
    Ready {
        /// The attempt that made them; part of their paths.
        lease: LeaseId,
        /// Since when.
        since: Timestamp,
    },
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
    /// How; `None`: it built what was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// What it took, as far as its builder told.
    #[serde(default)]
    pub stats: Stats,
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

    /// The newest attempt's lease, running or ended: the one whose log people want.
    pub fn newest_lease(&self) -> Option<&LeaseId> {
        self.lease().map(|lease| &lease.id).or(self.history.last().map(|attempt| &attempt.lease))
    }
}
