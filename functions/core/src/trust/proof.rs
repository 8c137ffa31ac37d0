//! Offline proofs (c2sp.org/tlog-proof): a leaf, its place in the log, and a checkpoint of a tree that has it.

use std::{fmt, str::FromStr};

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::trust::{
    checkpoint::Checkpoint,
    merkle::{Hash, includes, leaf_hash},
    note::{BadNote, Note},
};

const FIRST: &str = "c2sp.org/tlog-proof@v1";
/// Most hashes: those of a tree of 2^63 leaves.
const HASHES_MAX: usize = 63;

/// A proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Text beside it that nothing in the format authenticates: here the entry itself, which the proof then hashes.
    pub extra: Vec<u8>,
    /// The leaf's place, from 0.
    pub index: u64,
    /// The hashes of the inclusion proof.
    pub hashes: Vec<Hash>,
    /// The signed checkpoint.
    pub checkpoint: Note,
}

impl Proof {
    /// Whether the checkpoint's tree has the entry at its place. Who has signed the checkpoint, the caller checks.
    ///
    /// # Errors
    /// [`BadNote`]: the checkpoint is none.
    pub fn holds(&self, entry: &[u8]) -> Result<bool, BadNote> {
        let Checkpoint { size, root, .. } = self.checkpoint.text.parse()?;
        Ok(includes(&root, size, self.index, &leaf_hash(entry), &self.hashes))
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FIRST}\nextra {}\nindex {}", BASE64_STANDARD.encode(&self.extra), self.index)?;
        self.hashes.iter().try_for_each(|hash| writeln!(f, "{}", BASE64_STANDARD.encode(hash)))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

impl FromStr for Proof {
    type Err = BadNote;
    fn from_str(s: &str) -> Result<Self, BadNote> {
        let decode = |text: &str| BASE64_STANDARD.decode(text).map_err(|_| BadNote::Form);
        let (head, checkpoint) = s.split_once("\n\n").ok_or(BadNote::Form)?;
        let mut lines = head.lines();
        if lines.next() != Some(FIRST) {
            return Err(BadNote::Form);
        }
        let mut line = lines.next().ok_or(BadNote::Form)?;
        let mut extra = Vec::new();
        if let Some(text) = line.strip_prefix("extra ") {
            extra = decode(text)?;
            line = lines.next().ok_or(BadNote::Form)?;
        }
        let digits = line.strip_prefix("index ").ok_or(BadNote::Form)?;
        let index: u64 = digits.parse().map_err(|_| BadNote::Form)?;
        let hash = |line| decode(line)?.try_into().map_err(|_| BadNote::Form);
        let hashes: Vec<Hash> = lines.map(hash).collect::<Result<_, _>>()?;
        if index.to_string() != digits || hashes.len() > HASHES_MAX {
            return Err(BadNote::Form);
        }
        Ok(Proof { extra, index, hashes, checkpoint: checkpoint.parse()? })
    }
}
