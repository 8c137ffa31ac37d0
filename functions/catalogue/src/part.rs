//! The parts of a checkpoint: records of attributes that were evaluated, for a builder that continues where another one
//! was interrupted.
//!
//! A part is `binplz part 1`, a checksum (CRC-32) of all that follows, and compressed lines: the basis of the records, and
//! then one record a line as JSON. Each part is read by itself, and a part that is missing or damaged costs the evaluation
//! of its records.

use miniz_oxide::{deflate::compress_to_vec, inflate::decompress_to_vec_with_limit};
use thiserror::Error;

use crate::record::Record;

/// The start of a part.
const MAGIC: &[u8; 14] = b"binplz part 1 ";
/// The largest unpacked part, in bytes.
const UNPACKED_MAX: usize = 64 << 20;
/// The records that are packed at a time: a few hundred kilobytes at most, since texts are cut.
const RECORDS_MAX: usize = 2000;
/// A medium level.
const LEVEL: u8 = 6;

/// The part is truncated or changed, or it is none.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("it is damaged")]
pub struct Damaged;

/// Packs records into parts of at most `most` bytes. `basis` is one line, and names all that the records depend on.
/// Records that are too large for a part are left out.
pub fn pack(basis: &str, records: &[Record], most: usize) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    for records in records.chunks(RECORDS_MAX) {
        let part = pack_one(basis, records);
        match records.split_at(records.len() / 2) {
            _ if part.len() <= most => parts.push(part),
            ([], _) => {}
            (first, rest) => {
                parts.extend(pack(basis, first, most));
                parts.extend(pack(basis, rest, most));
            }
        }
    }
    parts
}

fn pack_one(basis: &str, records: &[Record]) -> Vec<u8> {
    let records = records.iter().map(|record| serde_json::json!(record.clone().cleaned()).to_string());
    let lines: Vec<String> = [basis.to_owned()].into_iter().chain(records).collect();
    let packed = compress_to_vec(lines.join("\n").as_bytes(), LEVEL);
    [MAGIC.as_slice(), &crc32fast::hash(&packed).to_le_bytes(), &packed].concat()
}

/// Reads a part: the basis of its records, and the records.
///
/// # Errors
/// [`Damaged`].
pub fn read(part: &[u8]) -> Result<(String, Vec<Record>), Damaged> {
    let behind = part.strip_prefix(MAGIC.as_slice()).ok_or(Damaged)?;
    let (sum, packed) = behind.split_first_chunk().ok_or(Damaged)?;
    if u32::from_le_bytes(*sum) != crc32fast::hash(packed) {
        return Err(Damaged);
    }
    let text = decompress_to_vec_with_limit(packed, UNPACKED_MAX).map_err(|_| Damaged)?;
    let mut lines = str::from_utf8(&text).map_err(|_| Damaged)?.split('\n');
    let basis = lines.next().unwrap_or_default().to_owned();
    let records = lines.map(serde_json::from_str).collect::<Result<_, _>>().map_err(|_| Damaged)?;
    Ok((basis, records))
}
