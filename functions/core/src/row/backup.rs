//! A ledger as text: a line of JSON for each row, between a header and a trailer that shows whether the text is whole.
//!
//! ```text
//! {"binplz-backup":1,"at":1800000000000}
//! {"key":"pins","row":{…}}
//! {"rows":1,"sha256":"…"}                    the sha256 of all lines before
//! ```
//!
//! A row is written as in every ledger ([`Row::to_json`]), so a backup of one stack can be restored to the other.

use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256 as Hasher};
use thiserror::Error;

use crate::{
    id::{key::hex, time::Timestamp},
    row::{Row, RowKey},
};

/// The format that this version writes, and the newest that it reads.
const FORMAT: u32 = 1;

#[derive(Deserialize)]
struct Header {
    #[serde(rename = "binplz-backup")]
    format: u32,
}

#[derive(Deserialize)]
struct Line {
    key: String,
    row: Value,
}

#[derive(Deserialize)]
struct Trailer {
    rows: usize,
    sha256: String,
}

/// Why a text is not restored.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BadBackup {
    /// It has another first line.
    #[error("it is not a backup of a ledger")]
    Foreign,
    /// A later version wrote it.
    #[error("a newer binplz has written it (format {0}; this one knows {FORMAT}): use that version")]
    Newer(u32),
    /// The end is missing.
    #[error("it is cut off: its last line is missing")]
    Incomplete,
    /// It does not match its own checksum.
    #[error("it is damaged: its checksum differs from the one in its last line")]
    Damaged,
    /// A row that this version does not know.
    #[error("line {line}: {cause}")]
    Row {
        /// The line's number, from 1.
        line: usize,
        /// What is wrong with it.
        cause: String,
    },
}

/// Writes a backup line by line.
#[derive(Debug)]
pub struct BackupWriter {
    hasher: Hasher,
    rows: usize,
}

impl BackupWriter {
    /// A writer, and the first line.
    pub fn new(at: Timestamp) -> (BackupWriter, String) {
        let mut writer = BackupWriter { hasher: Hasher::new(), rows: 0 };
        let header = writer.line(format!("{{\"binplz-backup\":{FORMAT},\"at\":{}}}", at.0));
        (writer, header)
    }

    /// A row's line.
    ///
    /// # Errors
    /// serde's; no row is such that JSON cannot express it.
    pub fn row(&mut self, row: &Row) -> serde_json::Result<String> {
        self.rows += 1;
        let (key, row) = (Value::String(row.key().to_string()), row.to_json()?);
        Ok(self.line(format!("{{\"key\":{key},\"row\":{row}}}")))
    }

    /// The last line.
    pub fn end(mut self) -> String {
        let sha256 = hex(&self.hasher.clone().finalize());
        self.line(format!("{{\"rows\":{},\"sha256\":\"{sha256}\"}}", self.rows))
    }

    fn line(&mut self, mut line: String) -> String {
        line.push('\n');
        self.hasher.update(&line);
        line
    }
}

/// The rows of a backup.
///
/// # Errors
/// [`BadBackup`].
pub fn read_backup(text: &[u8]) -> Result<Vec<Row>, BadBackup> {
    let first = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let header: Header = serde_json::from_slice(first).map_err(|_| BadBackup::Foreign)?;
    if header.format > FORMAT {
        return Err(BadBackup::Newer(header.format));
    }
    let text = text.strip_suffix(b"\n").ok_or(BadBackup::Incomplete)?;
    let end = text.iter().rposition(|byte| *byte == b'\n').ok_or(BadBackup::Incomplete)? + 1;
    let (lines, trailer) = text.split_at(end);
    let trailer: Trailer = serde_json::from_slice(trailer).map_err(|_| BadBackup::Incomplete)?;
    if trailer.sha256 != hex(&Hasher::digest(lines)) {
        return Err(BadBackup::Damaged);
    }
    let rows = lines.strip_suffix(b"\n").unwrap_or(lines).split(|byte| *byte == b'\n').enumerate().skip(1);
    let rows: Vec<Row> = rows.map(|(at, line)| read_row(at + 1, line)).collect::<Result<_, _>>()?;
    if rows.len() == trailer.rows { Ok(rows) } else { Err(BadBackup::Damaged) }
}

fn read_row(line: usize, json: &[u8]) -> Result<Row, BadBackup> {
    let bad = |cause: String| BadBackup::Row { line, cause };
    let Line { key, row } = serde_json::from_slice(json).map_err(|error| bad(error.to_string()))?;
    let key: RowKey = key.parse().map_err(|_| bad(format!("this version knows no such row: {key}")))?;
    Row::from_json(&key, row.to_string().as_bytes()).map_err(|error| bad(error.to_string()))
}
