//! Garbage collection of blobs. Each attempt's references lie beside its other objects, so a listing of these shows which
//! blobs are kept.
//!
//! A blob without a reference gets a trash row. A grace period later its deletion is begun, by writing that row again, and
//! then it is deleted. The row stays for another grace period. So every trash row of a blob outlives any deletion that was
//! begun before it was last written.
//!
//! A new reference needs that there is no trash row ([`crate::flow::lease::blob`]), and is written within a grace period
//! of that check. A deletion needs a trash row that is older than the grace period, and lists the references after it has
//! read the row. So it sees each reference that was made before the row was.

use std::{collections::HashSet, ops::AddAssign};

use serde::{Deserialize, Serialize};

use crate::{
    gc::{Fate, Files, Found},
    id::key::Sha256,
    objects::stored::HeldBlob,
    row::{Unreferenced, Version},
};

/// Blobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blobs {
    /// Deleted ones.
    pub removed: Files,
    /// Unreferenced ones in their grace period.
    pub waiting: Files,
    /// Referenced ones.
    pub kept: Files,
}

impl AddAssign<&HeldBlob> for Files {
    fn add_assign(&mut self, blob: &HeldBlob) {
        self.files += 1;
        self.bytes += blob.bytes;
    }
}

impl Found {
    /// The decision about a blob; `referenced`: whether any attempt keeps it.
    pub fn blob(&self, sha256: &Sha256, referenced: bool) -> Fate {
        match self.trash.get(&Unreferenced::Blob(sha256.clone())) {
            None if referenced => Fate::Needed(None),
            None => Fate::Unneeded,
            Some((since, version)) if self.at >= *since + self.grace => {
                if referenced {
                    Fate::Needed(Some(*version))
                } else {
                    Fate::Over(*version)
                }
            }
            // Its deletion may be under way.
            Some(_) if referenced => Fate::Needed(None),
            Some((since, _)) => Fate::Waits(*since + self.grace),
        }
    }

    /// Trash rows of blobs that are gone, as long as their deletion may be under way: those that are not in `there`.
    pub fn gone_blobs(&self, there: &HashSet<Sha256>) -> Vec<(Sha256, Version)> {
        let gone = self.trash.iter().filter_map(|(what, (since, version))| match what {
            Unreferenced::Blob(sha256) if !there.contains(sha256) && self.at >= *since + self.grace => {
                Some((sha256.clone(), *version))
            }
            _ => None,
        });
        gone.collect()
    }
}
