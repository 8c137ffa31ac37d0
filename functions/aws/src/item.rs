//! The encoding of rows in the DynamoDB table, in both directions. The golden files in `tests/golden/` are items as
//! earlier versions wrote them, which must stay readable: a change of a row's shape in core fails there.
//!
//! ```text
//! pk     S  a row's name (core's `row` module) · progress/LEASE · waiters/WINDOW    (the table's only key)
//! v      N  the version, from 1: on rows only
//! body   S  the row, as the JSON of its core type
//! shelf  S  queued · warming · building · joined · ready · failed: on builds only      (the index `shelves`: partition key)
//!           served/PIN/REV: on served rows that are not stale
//! at     S  a build's instant, padded, then its key: 00000001700000000000/REV/SYSTEM/ATTR        (… sort key)
//!           the requested target: tree?sys=x86_64-linux
//! ttl    N  seconds since 1970, when the item is no longer needed: on progress, allowances and waiters only
//! new, more  N  counts: on waiters only
//! ```
//!
//! The body is one text, not a map of attributes: no condition and no index needs its inside, so a row has one shape in
//! every ledger, and a hit parses it in one go. The attributes that conditions and the index need stand beside it. The
//! index's sort key includes the build's key, so it orders all entries, also those of one instant, and a page can begin
//! behind an entry that has left the index meanwhile.

use std::{collections::HashMap, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue;
use binplz_core::{
    build::protocol::Progress,
    id::{key::LeaseId, time::Timestamp},
    nixpkgs::{pins::Pinned, served::ServedKey},
    row::{Listed, Row, RowKey, StatusIndex, Swap, Version},
};
use thiserror::Error;

/// An item: its attributes by name.
pub type Item = HashMap<String, AttributeValue>;

/// The table's key.
pub const PK: &str = "pk";
/// The version.
pub const VERSION: &str = "v";
/// The index of builds by status, and of served rows.
pub const SHELVES: &str = "shelves";
/// The index's partition key.
pub const SHELF: &str = "shelf";
/// The index's sort key.
pub const AT: &str = "at";
/// When DynamoDB may remove the item.
pub const TTL: &str = "ttl";
const BODY: &str = "body";

/// How long a lease's last progress is kept after its write: longer than any build takes.
const PROGRESS_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);

/// An item that does not match its key, with the reason.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("an item is unreadable: {0}")]
pub struct Unreadable(String);

/// A row's key.
pub fn pk(key: &RowKey) -> AttributeValue {
    AttributeValue::S(key.to_string())
}

/// The key of an item that is a row.
///
/// # Errors
/// [`Unreadable`]: a row of a kind that this version does not know.
pub fn row_key(item: &Item) -> Result<RowKey, Unreadable> {
    let pk = text(item, PK)?;
    pk.parse().map_err(|_| Unreadable(format!("this version does not know the row {pk}")))
}

/// The key of the waiters' counts in a window of time.
pub fn waiters_pk(window: u64) -> AttributeValue {
    AttributeValue::S(format!("waiters/{window}"))
}

/// The key of a lease's progress.
pub fn progress_pk(lease: &LeaseId) -> AttributeValue {
    AttributeValue::S(format!("progress/{lease}"))
}

/// A status index's value of the partition key.
pub fn status_index(status_index: StatusIndex) -> AttributeValue {
    let name = match status_index {
        StatusIndex::Queued => "queued",
        StatusIndex::Warming => "warming",
        StatusIndex::Building => "building",
        StatusIndex::Joined => "joined",
        StatusIndex::Ready => "ready",
        StatusIndex::Failed => "failed",
    };
    AttributeValue::S(name.to_owned())
}

/// The partition key of served rows under `pinned` that are not stale.
pub fn served_shelf(pinned: &Pinned) -> AttributeValue {
    AttributeValue::S(format!("served/{pinned}"))
}

/// The sort key of a served row.
pub fn served_at(asked: &ServedKey) -> AttributeValue {
    AttributeValue::S(asked.to_string())
}

/// The sort key of a build: instant, then key. The instant is padded to the digits of the latest possible one, so that
/// the order of the texts is that of the numbers.
pub fn at(listed: &Listed) -> AttributeValue {
    AttributeValue::S(format!("{:020}/{}", listed.at.0, listed.key))
}

/// The item that a swap writes; `None` if the version that was seen is the last possible one.
///
/// # Errors
/// [`Unreadable`], if JSON cannot express the row; no row of core is such.
pub fn write(swap: &Swap) -> Result<Option<Item>, Unreadable> {
    let Some(version) = swap.seen.0.checked_add(1) else { return Ok(None) };
    let body = swap.row.to_json().map_err(|error| Unreadable(error.to_string()))?;
    let place = match &swap.row {
        Row::Build(build) => {
            build.status_index().map(|(on, at)| (status_index(on), self::at(&Listed { key: build.key.clone(), at })))
        }
        Row::Served(served) if served.is_listed() => Some((served_shelf(&served.pinned()), served_at(&served.asked))),
        _ => None,
    };
    let mut item = Item::from([
        (PK.to_owned(), pk(&swap.row.key())),
        (VERSION.to_owned(), AttributeValue::N(version.to_string())),
        (BODY.to_owned(), AttributeValue::S(body)),
    ]);
    if let Some((on, at)) = place {
        item.insert(SHELF.to_owned(), on);
        item.insert(AT.to_owned(), at);
    }
    if let Row::Allowance(allowance) = &swap.row {
        // A day later than it has a meaning, since clocks differ.
        let until = allowance.day.next().next().start().0 / 1000;
        item.insert(TTL.to_owned(), AttributeValue::N(until.to_string()));
    }
    Ok(Some(item))
}

/// Decodes the row that is stored under `key`.
///
/// # Errors
/// [`Unreadable`].
pub fn read(key: &RowKey, item: &Item) -> Result<(Row, Version), Unreadable> {
    let row = Row::from_json(key, text(item, BODY)?.as_bytes()).map_err(|error| Unreadable(error.to_string()))?;
    let version = match item.get(VERSION) {
        Some(AttributeValue::N(number)) => number.parse().ok(),
        _ => None,
    };
    Ok((row, Version(version.ok_or_else(|| Unreadable("it has no version".to_owned()))?)))
}

/// Encodes a lease's progress.
///
/// # Errors
/// [`Unreadable`], if JSON cannot express it.
pub fn write_progress(lease: &LeaseId, progress: &Progress, now: Timestamp) -> Result<Item, Unreadable> {
    let body = serde_json::to_string(progress).map_err(|error| Unreadable(error.to_string()))?;
    let until = (now + PROGRESS_LIFE).0 / 1000;
    Ok(Item::from([
        (PK.to_owned(), progress_pk(lease)),
        (BODY.to_owned(), AttributeValue::S(body)),
        (TTL.to_owned(), AttributeValue::N(until.to_string())),
    ]))
}

/// Decodes a lease's progress.
///
/// # Errors
/// [`Unreadable`].
pub fn read_progress(item: &Item) -> Result<Progress, Unreadable> {
    serde_json::from_str(text(item, BODY)?).map_err(|error| Unreadable(error.to_string()))
}

/// Decodes the requested target of an index entry of served rows.
///
/// # Errors
/// [`Unreadable`].
pub fn read_served(item: &Item) -> Result<ServedKey, Unreadable> {
    let place = text(item, AT)?;
    place.parse().map_err(|_| Unreadable(format!("malformed target: {place}")))
}

/// Decodes a build's index entry.
///
/// # Errors
/// [`Unreadable`].
pub fn read_listed(item: &Item) -> Result<Listed, Unreadable> {
    let place = text(item, AT)?;
    let read = place.split_once('/').and_then(|(at, key)| Some((at.parse().ok()?, key.parse().ok()?)));
    let (at, key) = read.ok_or_else(|| Unreadable(format!("malformed index key: {place}")))?;
    Ok(Listed { key, at: Timestamp(at) })
}

fn text<'i>(item: &'i Item, name: &str) -> Result<&'i str, Unreadable> {
    match item.get(name) {
        Some(AttributeValue::S(text)) => Ok(text),
        _ => Err(Unreadable(format!("the attribute {name} is missing"))),
    }
}
