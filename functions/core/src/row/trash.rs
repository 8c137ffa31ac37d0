//! The trash: what garbage collection will delete.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    id::{
        key::{BadName, Sha256},
        time::Timestamp,
    },
    objects::artifact::AttemptPrefix,
};

/// What is deleted as a whole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Unreferenced {
    /// An attempt's objects, which no row needs: `REV/SYSTEM/ATTR/LEASE`.
    #[serde(rename = "home")]
    Attempt(AttemptPrefix),
    /// A blob without a reference: `blob/SHA256`.
    #[serde(rename = "blob")]
    Blob(Sha256),
}

impl fmt::Display for Unreferenced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreferenced::Attempt(prefix) => prefix.fmt(f),
            Unreferenced::Blob(sha256) => write!(f, "blob/{sha256}"),
        }
    }
}

impl FromStr for Unreferenced {
    type Err = BadName;
    fn from_str(s: &str) -> Result<Self, BadName> {
        match s.strip_prefix("blob/") {
            Some(sha256) => sha256.parse().map(Unreferenced::Blob),
            None => s.parse().map(Unreferenced::Attempt),
        }
    }
}

/// The row of an attempt's prefix or a blob that is to be deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trash {
    /// What.
    #[serde(flatten)]
    pub what: Unreferenced,
    /// Since when it is unreferenced at least; of a blob also when its deletion was begun last.
    pub since: Timestamp,
}
