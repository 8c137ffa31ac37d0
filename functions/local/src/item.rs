//! The encoding of rows in the embedded ledger, in both directions. The golden files in `tests/golden/` are rows as
//! earlier versions wrote them, which must stay readable: a change of a row's shape in core fails there.
//!
//! A key is the row's name as text (core's `row` module). A row is the JSON of its core type; the key says which type.

use binplz_core::{
    build::protocol::Progress,
    id::key::BuildKey,
    nixpkgs::{pins::Pinned, served::ServedKey},
    row::{Row, RowKey, StatusIndex},
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
    row.to_json().map(String::into_bytes).map_err(|e| Unreadable::new("row", e))
}

/// Decodes the row that is stored under `key`.
///
/// # Errors
/// [`Unreadable`].
pub fn row_from_bytes(key: &RowKey, bytes: &[u8]) -> Result<Row, Unreadable> {
    Row::from_json(key, bytes).map_err(|e| Unreadable::new("row", e))
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
