//! How rows lie in the embedded ledger, both ways. Whoever changes a row's shape in core finds out here: the golden
//! files in `tests/golden/` are rows as earlier versions wrote them, and must stay readable.
//!
//! A key is a row's name as text (core's `row.rs`). A row is the JSON of its core type; of which type is said by its key.

use binplz_core::{
    build::protocol::Progress,
    id::key::BuildKey,
    nixpkgs::{pins::Pinned, served::ServedKey},
    ports::{Row, RowKey, StatusIndex},
};

/// What is stored under a key is not what belongs there.
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

/// A row's content.
///
/// # Errors
/// [`Unreadable`], where JSON can not say it; no row of core's is such.
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

/// The row that was stored under `key`.
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

/// A lease's progress, as JSON.
///
/// # Errors
/// [`Unreadable`], where JSON can not say it.
pub fn progress_bytes(progress: &Progress) -> Result<Vec<u8>, Unreadable> {
    serde_json::to_vec(progress).map_err(|e| Unreadable::new("progress", e))
}

/// A lease's progress from JSON.
///
/// # Errors
/// [`Unreadable`].
pub fn progress_from_bytes(bytes: &[u8]) -> Result<Progress, Unreadable> {
    serde_json::from_slice(bytes).map_err(|e| Unreadable::new("progress", e))
}

/// A shelf's number in the index.
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

/// The number of the shelf that all served rows share which are not stale.
pub const SERVED: u8 = 2;

/// Where what was found under `pinned` begins on that shelf: `NAME/REV/`. Behind it stands what was asked.
pub fn served_place(pinned: &Pinned) -> String {
    format!("{pinned}/")
}

/// What was asked, of an entry of that shelf.
///
/// # Errors
/// [`Unreadable`].
pub fn listed_served(place: &str) -> Result<ServedKey, Unreadable> {
    // Neither a name nor a revision has a slash; a target may.
    let asked = place.splitn(3, '/').nth(2).and_then(|asked| asked.parse().ok());
    asked.ok_or_else(|| Unreadable::new("index entry", place))
}

/// The build that an index entry names.
///
/// # Errors
/// [`Unreadable`].
pub fn listed_key(text: &str) -> Result<BuildKey, Unreadable> {
    text.parse().map_err(|_| Unreadable::new("index entry", text))
}
