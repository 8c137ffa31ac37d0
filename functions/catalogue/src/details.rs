//! The second file: what pages show. Blocks of packages in the order of their attributes, compressed, one JSON object a line. The
//! lookup file knows where each block lies, so that a page takes one read of one range.

use std::collections::BTreeMap;

use binplz_core::{
    id::key::{Attr, Rev, System},
    nixpkgs::catalogue::About,
};
use miniz_oxide::{deflate::compress_to_vec, inflate::decompress_to_vec_with_limit};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::record::Standing;

/// Packages in a block.
pub(crate) const BLOCK: usize = 64;
/// Largest block, unpacked, in bytes: far more than 64 packages with the longest texts.
const UNPACKED_MAX: usize = 1 << 20;
/// The middle: 9 takes three times as long for 1 % less.
const LEVEL: u8 = 6;

/// All that is known of a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// Which.
    pub attr: Attr,
    /// What it says of itself.
    #[serde(flatten)]
    pub about: About,
    /// Whether it can be built, by system. A system that was not evaluated is not there.
    pub standings: BTreeMap<System, Standing>,
}

/// A range of the details file is not what the lookup file says.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BadBlock {
    /// Cut, or changed.
    #[error("a block of the catalogue's details is damaged")]
    Damaged,
    /// Whole, and another one: the two files are not of the same making.
    #[error("the catalogue's two files do not belong together")]
    Other,
}

/// The file's first line.
pub(crate) fn title(rev: &Rev) -> String {
    format!("binplz details 1 {rev}\n")
}

/// A block as it lies in the file: a checksum, then its lines, compressed.
pub(crate) fn pack(packages: impl Iterator<Item = Details>) -> Vec<u8> {
    let lines: Vec<String> = packages.map(|details| serde_json::json!(details).to_string()).collect();
    let packed = compress_to_vec(lines.join("\n").as_bytes(), LEVEL);
    [crc32fast::hash(&packed).to_le_bytes().as_slice(), &packed].concat()
}

/// Reads a package from its block: the bytes of the range that [`crate::Lookup::details`] names.
///
/// # Errors
/// [`BadBlock`], where these are other bytes.
pub fn read(block: &[u8], attr: &Attr) -> Result<Details, BadBlock> {
    let (sum, packed) = block.split_first_chunk().ok_or(BadBlock::Damaged)?;
    if u32::from_le_bytes(*sum) != crc32fast::hash(packed) {
        return Err(BadBlock::Damaged);
    }
    let lines = decompress_to_vec_with_limit(packed, UNPACKED_MAX).map_err(|_| BadBlock::Damaged)?;
    let mut all = lines.split(|byte| *byte == b'\n').map(serde_json::from_slice::<Details>);
    all.find_map(|details| details.ok().filter(|details| details.attr == *attr)).ok_or(BadBlock::Other)
}
