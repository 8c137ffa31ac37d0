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
    /// A row has another version than the one that was seen: nothing was written; load again and decide again.
    #[error("another writer was first")]
    Conflict,
    /// The swaps may be written or not.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The consistency of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// May miss the newest commit: cheap, and enough for a hit.
    Eventual,
    /// Sees every commit that was acknowledged before.
    Consistent,
}

/// The position of a scan, in the ledger's own form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(pub String);

/// A page of all rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// The rows, each with its version; perhaps none.
    pub rows: Vec<(Row, Version)>,
    /// Where to continue; `None` after the last page.
    pub next: Option<Cursor>,
}

/// The ledger: compare-and-swap of rows, without any rules.
pub trait Ledger: Send + Sync {
    /// The row and its version; `None` is version 0.
    fn load(
        &self,
        key: &RowKey,
        read: Read,
    ) -> impl Future<Output = Result<Option<(Row, Version)>, Unavailable>> + Send;

    /// Writes all of one to [`SWAPS_MAX`](crate::row::SWAPS_MAX) swaps of different rows, each with its version raised by one, or nothing.
    fn commit(&self, swaps: Vec<Swap>) -> impl Future<Output = Result<(), NotCommitted>> + Send;

    /// Up to `limit` builds of a status index, the earliest first, beginning behind `after`. The list may lag behind
    /// the rows: never decide by it.
    fn list(
        &self,
        status_index: StatusIndex,
        after: Option<&Listed>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Listed>, Unavailable>> + Send;

    /// Up to `limit` builds of a status index, the latest first. The list may lag behind the rows.
    fn latest(
        &self,
        status_index: StatusIndex,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Listed>, Unavailable>> + Send;

    /// Up to `limit` served rows under `pinned` that are not stale, ordered by the requested target's text, beginning
    /// behind `after`. The list may lag behind the rows.
    fn list_served(
        &self,
        pinned: &Pinned,
        after: Option<&ServedKey>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<ServedKey>, Unavailable>> + Send;

    /// Up to `limit` rows of every kind behind `after`, in the ledger's own order. A complete scan shows each row that
    /// exists all that time once, as it was at some instant of the scan.
    ///
    /// A row of an unknown kind is an error: garbage collection must know what all rows need.
    fn scan(&self, after: Option<&Cursor>, limit: usize) -> impl Future<Output = Result<Scanned, Unavailable>> + Send;

    /// Removes a row, if its version is the one that was seen. A row that is gone already is fine.
    ///
    /// A row that is created again begins with version 1. So only rows that no flow can still write by an older read
    /// may be removed: those that were unreferenced for longer than any flow lives ([`crate::gc`]).
    fn remove(&self, key: &RowKey, seen: Version) -> impl Future<Output = Result<(), NotCommitted>> + Send;

    /// Replaces a lease's progress. Without a version condition: progress is not state, and conflicts with nothing.
    fn put_progress(
        &self,
        lease: &LeaseId,
        progress: &Progress,
    ) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// The last progress that a lease's builder reported.
    fn progress(&self, lease: &LeaseId) -> impl Future<Output = Result<Option<Progress>, Unavailable>> + Send;

    /// Removes a lease's progress, if there is any.
    fn remove_progress(&self, lease: &LeaseId) -> impl Future<Output = Result<(), Unavailable>> + Send;
}
