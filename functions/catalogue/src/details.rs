//! The second file, with the descriptions that pages show: blocks of packages in attribute order, compressed, one JSON
//! object a line. The lookup file has the place of each block, so a page reads one range. Behind them is the index of words.

use std::collections::BTreeMap;

use binplz_core::{
    id::key::{Attr, Rev, System},
    nixpkgs::catalogue::About,
};
use miniz_oxide::{deflate::compress_to_vec, inflate::decompress_to_vec_with_limit};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::record::Standing;

/// Packages per block.
pub(crate) const BLOCK: usize = 64;
/// The largest unpacked block, in bytes: far more than 64 packages with the longest texts.
const UNPACKED_MAX: usize = 1 << 20;
/// A medium level: 9 takes three times as long for 1 % less.
const LEVEL: u8 = 6;

/// The details of a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// The attribute.
    pub attr: Attr,
    /// Its description.
    #[serde(flatten)]
    pub about: About,
    /// Whether it can be built, by system. Systems that were not evaluated are missing.
    pub standings: BTreeMap<System, Standing>,
}

/// A range of the details file that does not match the lookup file.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BadBlock {
    /// The block is truncated or changed.
    #[error("a block of the catalogue's details is damaged")]
    Damaged,
    /// The block is intact, but another one: the two files were not made together.
    #[error("the catalogue's two files are not of one catalogue")]
    Other,
}

/// The file's first line.
pub(crate) fn title(rev: &Rev) -> String {
    format!("binplz details 1 {rev}\n")
}

/// A block of the file: a checksum, then its lines, compressed.
pub(crate) fn pack(packages: impl Iterator<Item = Details>) -> Vec<u8> {
    let lines: Vec<String> = packages.map(|details| serde_json::json!(details).to_string()).collect();
    let packed = compress_to_vec(lines.join("\n").as_bytes(), LEVEL);
    [crc32fast::hash(&packed).to_le_bytes().as_slice(), &packed].concat()
}

/// Reads a package from its block: the bytes of the range that [`crate::Lookup::details`] returns.
///
/// # Errors
/// [`BadBlock`], if these are other bytes.
pub fn read(block: &[u8], attr: &Attr) -> Result<Details, BadBlock> {
    let (sum, packed) = block.split_first_chunk().ok_or(BadBlock::Damaged)?;
    if u32::from_le_bytes(*sum) != crc32fast::hash(packed) {
        return Err(BadBlock::Damaged);
    }
    let lines = decompress_to_vec_with_limit(packed, UNPACKED_MAX).map_err(|_| BadBlock::Damaged)?;
    let mut all = lines.split(|byte| *byte == b'\n').map(serde_json::from_slice::<Details>);
    all.find_map(|details| details.ok().filter(|details| details.attr == *attr)).ok_or(BadBlock::Other)
}
