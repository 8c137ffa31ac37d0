//! The index of builds by status.

use crate::{
    build::{Build, State},
    id::{key::BuildKey, time::Timestamp},
};

/// Where a build stands in line, or among those that are over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StatusIndex {
    /// Queued, and somebody waits for it; ordered by when it is due.
    Queued,
    /// Queued, and nobody has asked for it yet; likewise.
    Warming,
    /// Building, ordered by when its lease expires.
    Building,
    /// Left to another build, ordered by since when.
    Joined,
    /// Ready, ordered by when it became so.
    Ready,
    /// Failed, likewise.
    Failed,
}

/// A build on a shelf. The list may be late: whoever acts on it loads the row first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Which build.
    pub key: BuildKey,
    /// Due, expiring, left to another, or settled at.
    pub at: Timestamp,
}

impl Build {
    /// On which shelf it belongs, and under which instant; `None` where nobody wants it.
    pub fn status_index(&self) -> Option<(StatusIndex, Timestamp)> {
        match &self.state {
            State::Queued { due, warming: false, .. } => Some((StatusIndex::Queued, *due)),
            State::Queued { due, warming: true, .. } => Some((StatusIndex::Warming, *due)),
            State::Building(lease) => Some((StatusIndex::Building, lease.expires)),
            State::Joined { since, .. } => Some((StatusIndex::Joined, *since)),
            State::Ready(made) => Some((StatusIndex::Ready, made.since)),
            State::Failed { since, .. } => Some((StatusIndex::Failed, *since)),
            State::Unasked => None,
        }
    }

    /// Whether it is still to come to an end.
    pub fn is_under_way(&self) -> bool {
        matches!(
            self.status_index(),
            Some((StatusIndex::Queued | StatusIndex::Warming | StatusIndex::Building | StatusIndex::Joined, _))
        )
    }
}
