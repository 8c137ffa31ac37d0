//! The hash and size of some bytes: of a stored file, or of what it unpacks to.

use serde::{Deserialize, Serialize};

use crate::id::key::Sha256;

/// The hash and size of some bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Their sha256.
    pub sha256: Sha256,
    /// Their number.
    pub size: u64,
}

impl Content {
    /// Those of these bytes.
    pub fn of(bytes: &[u8]) -> Content {
        Content { sha256: Sha256::of(bytes), size: bytes.len() as u64 }
    }
}
