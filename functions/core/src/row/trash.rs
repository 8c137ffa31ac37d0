//! The trash: prefixes whose objects garbage collection will delete.

use serde::{Deserialize, Serialize};

use crate::{id::time::Timestamp, objects::artifact::AttemptPrefix};

/// The row of an attempt's prefix that no row needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trash {
    /// The prefix.
    #[serde(rename = "home")]
    pub prefix: AttemptPrefix,
    /// Since when at least.
    pub since: Timestamp,
}
