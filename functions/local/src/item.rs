//! The encoding of rows in the embedded ledger, in both directions. The golden files in `tests/golden/` are rows as
//! earlier versions wrote them, which must stay readable: a change of a row's shape in core fails there.
//!
//! A key is the row's name as text (core's `row` module). A row is the JSON of its core type; the key says which type.

use binplz_core::{
    build::protocol::Progress,
    id::key::BuildKey,
    nixpkgs::{pins::Pinned, served::ServedKey},
    ports::{Row, RowKey, StatusIndex},
};

/// A stored row that does not match its key.
#[derive(Debug, thiserror::Error)]
#[error("unreadable {what}: {cause}")]
pub struct Unreadable {
    what: &'static str,
    cause: String,
}

impl Unreadable {
    fn new(what: &'static str, cause: impl ToString) -> Unreadable {
        Unreadable { what, cause: cause.to_string() }
    }
}

/// Encodes a row.
///
/// # Errors
/// [`Unreadable`], if JSON cannot express it; no row of core is such.
pub fn row_bytes(row: &Row) -> Result<Vec<u8>, Unreadable> {
    match row {
        Row::Build(build) => serde_json::to_vec(build),
        Row::Derivation(taken) => serde_json::to_vec(taken),
        Row::Served(served) => serde_json::to_vec(served),
        Row::BuildProfile(past) => serde_json::to_vec(past),
        Row::FailedDependencies(failed_dependencies) => serde_json::to_vec(failed_dependencies),
        Row::Allowance(allowance) => serde_json::to_vec(allowance),
        Row::Keys(keys) => serde_json::to_vec(keys),
        Row::Trash(trash) => serde_json::to_vec(trash),
        Row::Limits(limits) => serde_json::to_vec(limits),
        Row::Pins(pins) => serde_json::to_vec(pins),
    }
    .map_err(|e| Unreadable::new("row", e))
}

/// Decodes the row that is stored under `key`.
///
/// # Errors
/// [`Unreadable`].
pub fn row_from_bytes(key: &RowKey, bytes: &[u8]) -> Result<Row, Unreadable> {
    match key {
        RowKey::Build(_) => serde_json::from_slice(bytes).map(Row::Build),
        RowKey::Derivation(..) => serde_json::from_slice(bytes).map(Row::Derivation),
        RowKey::Served(_) => serde_json::from_slice(bytes).map(Row::Served),
        RowKey::BuildProfile(..) => serde_json::from_slice(bytes).map(Row::BuildProfile),
        RowKey::FailedDependencies(_) => serde_json::from_slice(bytes).map(Row::FailedDependencies),
        RowKey::Allowance(_) => serde_json::from_slice(bytes).map(Row::Allowance),
        RowKey::Keys => serde_json::from_slice(bytes).map(Row::Keys),
        RowKey::Trash(_) => serde_json::from_slice(bytes).map(Row::Trash),
        RowKey::Limits => serde_json::from_slice(bytes).map(Row::Limits),
        RowKey::Pins => serde_json::from_slice(bytes).map(Row::Pins),
    }
    .map_err(|e| Unreadable::new("row", e))
}

/// Encodes a lease's progress as JSON.
///
/// # Errors
/// [`Unreadable`], if JSON cannot express it.
pub fn progress_bytes(progress: &Progress) -> Result<Vec<u8>, Unreadable> {
    serde_json::to_vec(progress).map_err(|e| Unreadable::new("progress", e))
}

/// Decodes a lease's progress from JSON.
///
/// # Errors
/// [`Unreadable`].
pub fn progress_from_bytes(bytes: &[u8]) -> Result<Progress, Unreadable> {
    serde_json::from_slice(bytes).map_err(|e| Unreadable::new("progress", e))
}

/// A status index's number in the database's index table.
pub fn shelf_number(status_index: StatusIndex) -> u8 {
    match status_index {
        StatusIndex::Queued => 0,
        StatusIndex::Warming => 6,
        StatusIndex::Building => 1,
        StatusIndex::Joined => 3,
        StatusIndex::Ready => 4,
        StatusIndex::Failed => 5,
    }
}

/// The index number that all served rows share that are not stale.
pub const SERVED: u8 = 2;

/// The start of the index entries of served rows under `pinned`: `NAME/REV/`. The requested target follows.
pub fn served_place(pinned: &Pinned) -> String {
    format!("{pinned}/")
}

/// Parses the requested target from such an index entry.
///
/// # Errors
/// [`Unreadable`].
pub fn listed_served(place: &str) -> Result<ServedKey, Unreadable> {
    // A pin's name and a revision contain no slash; a target may.
    let asked = place.splitn(3, '/').nth(2).and_then(|asked| asked.parse().ok());
    asked.ok_or_else(|| Unreadable::new("index entry", place))
}

/// Parses the build key of an index entry.
///
/// # Errors
/// [`Unreadable`].
pub fn listed_key(text: &str) -> Result<BuildKey, Unreadable> {
    text.parse().map_err(|_| Unreadable::new("index entry", text))
}
