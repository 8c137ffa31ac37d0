//! The ledger: versioned rows with compare-and-swap (optimistic concurrency).

use std::future::Future;

use thiserror::Error;

use crate::{
    build::protocol::Progress,
    id::key::LeaseId,
    nixpkgs::{pins::Pinned, served::ServedKey},
    ports::Unavailable,
    row::{Listed, Row, RowKey, StatusIndex, Swap, Version},
};

/// Why nothing was committed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NotCommitted {
    /// A row is not at the version that was seen: nothing was written; load again and decide again.
    #[error("somebody else wrote first")]
    Conflict,
    /// Perhaps written, perhaps not.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// May miss the newest commit: cheap, and enough for a hit.
    Eventual,
    /// Sees every commit that was acknowledged before.
    Consistent,
}

/// How far a scan has come, in a ledger's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(pub String);

/// Some of all rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// The rows, each with its version; perhaps none.
    pub rows: Vec<(Row, Version)>,
    /// Where to go on; `None`: those were the last.
    pub next: Option<Cursor>,
}

/// The rows. Knows compare-and-swap, and no rules.
pub trait Ledger: Send + Sync {
    /// The row and its version; `None` is version 0.
    fn load(
        &self,
        key: &RowKey,
        read: Read,
    ) -> impl Future<Output = Result<Option<(Row, Version)>, Unavailable>> + Send;

    /// Writes all of one to [`SWAPS_MAX`] swaps of different rows, each with its version raised by one, or nothing.
    fn commit(&self, swaps: Vec<Swap>) -> impl Future<Output = Result<(), NotCommitted>> + Send;

    /// Up to `limit` builds of a shelf, the earliest first, beginning after `after`. A list for looking, never for deciding.
    fn list(
        &self,
        status_index: StatusIndex,
        after: Option<&Listed>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Listed>, Unavailable>> + Send;

    /// Up to `limit` builds of a shelf, the latest first. A list for looking.
    fn latest(
        &self,
        status_index: StatusIndex,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Listed>, Unavailable>> + Send;

    /// Up to `limit` served rows that are not stale and were found under `pinned`, by what was asked, in the order of its
    /// text, beginning after `after`. A list for looking.
    fn list_served(
        &self,
        pinned: &Pinned,
        after: Option<&ServedKey>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<ServedKey>, Unavailable>> + Send;

    /// Up to `limit` rows of every kind behind `after`, in an order of the ledger's own. From its first page to its last a scan shows
    /// each row once that is there all that time, as it was at some instant of it.
    ///
    /// A row of a kind that this version does not know is an error: whoever scans wants to know what all rows need.
    fn scan(&self, after: Option<&Cursor>, limit: usize) -> impl Future<Output = Result<Scanned, Unavailable>> + Send;

    /// Removes a row, on the condition that nobody has replaced it since it was seen. One that is gone already is well.
    ///
    /// A row that is made anew begins with version 1 again. So only that may be removed which nobody writes on a sighting from before:
    /// what was let alone for longer than any flow lives ([`crate::gc`]).
    fn remove(&self, key: &RowKey, seen: Version) -> impl Future<Output = Result<(), NotCommitted>> + Send;

    /// Replaces what is known of a lease's progress. Unfenced: it is not state, and can fight nobody.
    fn put_progress(
        &self,
        lease: &LeaseId,
        progress: &Progress,
    ) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// What a lease's builder said last.
    fn progress(&self, lease: &LeaseId) -> impl Future<Output = Result<Option<Progress>, Unavailable>> + Send;

    /// Forgets it. What is not known is forgotten.
    fn remove_progress(&self, lease: &LeaseId) -> impl Future<Output = Result<(), Unavailable>> + Send;
}
