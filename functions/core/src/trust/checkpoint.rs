//! Checkpoints (c2sp.org/tlog-checkpoint): which tree a log claims to have, as the text of a [note](super::note).

use std::{fmt, str::FromStr};

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::trust::{merkle::Hash, note::BadNote};

/// The size and the root of a log's tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name: its URL without the scheme.
    pub origin: String,
    /// The number of its leaves.
    pub size: u64,
    /// The tree's root.
    pub root: Hash,
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.size, BASE64_STANDARD.encode(self.root))
    }
}

impl FromStr for Checkpoint {
    type Err = BadNote;
    fn from_str(s: &str) -> Result<Self, BadNote> {
        let mut lines = s.split_inclusive('\n').map(|line| line.strip_suffix('\n'));
        let mut line = || lines.next().flatten().filter(|line| !line.is_empty()).ok_or(BadNote::Form);
        let (origin, digits, root) = (line()?, line()?, line()?);
        let size: u64 = digits.parse().map_err(|_| BadNote::Form)?;
        let root = BASE64_STANDARD.decode(root).ok().and_then(|root| root.try_into().ok()).ok_or(BadNote::Form)?;
        // Extension lines may follow; this log writes none.
        if size.to_string() != digits || lines.any(|line| line.is_none_or(str::is_empty)) {
            return Err(BadNote::Form);
        }
        Ok(Checkpoint { origin: origin.into(), size, root })
    }
}
