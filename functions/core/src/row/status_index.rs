//! The index of builds by status.

use crate::{
    build::{Build, State},
    id::{key::BuildKey, time::Timestamp},
};

/// A build's status in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StatusIndex {
    /// Queued and requested; ordered by due time.
    Queued,
    /// Queued in advance, not requested yet; ordered by due time.
    Warming,
    /// Building, ordered by when its lease expires.
    Building,
    /// Follows another build, or waits for its dependencies; ordered by since when.
    Joined,
    /// Ready, ordered by when it became so.
    Ready,
    /// Failed, likewise.
    Failed,
}

/// An index entry. The index may lag behind the rows: load the row before acting on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Which build.
    pub key: BuildKey,
    /// Due, expiring, following or settled at.
    pub at: Timestamp,
}

impl Build {
    /// Its status and the instant that orders it; `None` if it is not requested.
    pub fn status_index(&self) -> Option<(StatusIndex, Timestamp)> {
        match &self.state {
            State::Queued { due, warming: false, .. } => Some((StatusIndex::Queued, *due)),
            State::Queued { due, warming: true, .. } => Some((StatusIndex::Warming, *due)),
            State::Building(lease) => Some((StatusIndex::Building, lease.expires)),
            State::Joined { since, .. } => Some((StatusIndex::Joined, *since)),
            State::Waiting(waiting) => Some((StatusIndex::Joined, waiting.since)),
            State::Ready(made) => Some((StatusIndex::Ready, made.since)),
            State::Failed { since, .. } => Some((StatusIndex::Failed, *since)),
            State::Unasked => None,
        }
    }

    /// Whether it is queued, being built, follows another build, or waits for its dependencies.
    pub fn is_under_way(&self) -> bool {
        matches!(
            self.status_index(),
            Some((StatusIndex::Queued | StatusIndex::Warming | StatusIndex::Building | StatusIndex::Joined, _))
        )
    }
}
