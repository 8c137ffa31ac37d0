//! An incomplete build: the results of its attempts so far. For a package, these are in the builders' cache or in their store,
//! and the row only counts the attempts. The rest of this module is about catalogues.
//!
//! Each attempt writes below its own prefix. The row refers to the newest file of each kind. So an attempt that dies between
//! two checkpoints loses only what it has evaluated since the first one, and the next attempt continues from there.

use serde::{Deserialize, Serialize};

use crate::{build::continued::Continued, id::key::LeaseId};

/// The most parts of an attempt's checkpoint.
pub const PARTS_MAX: u32 = 256;
/// The most bytes of a part.
pub const PART_MAX: u64 = 1 << 20;

/// The stored results of an incomplete build.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partial {
    /// The catalogue that requests use until this build is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Published>,
    /// The evaluated attributes from which the next attempt continues.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Checkpoint>,
    /// The attempts that ran out of time, and were continued.
    #[serde(default, skip_serializing_if = "Continued::is_none")]
    pub continued: Continued,
}

/// A catalogue that is in use although its build is not ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The attempt that stored it.
    pub lease: LeaseId,
    /// Whether it is an earlier, complete catalogue that is being built again. Otherwise it has the top level only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
}

/// The attributes that an attempt has evaluated, or has taken over from the checkpoint before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The attempt that stored it.
    pub lease: LeaseId,
    /// The number of its parts: [`crate::objects::artifact::ObjectName::Checkpoint`] 1 to this.
    pub parts: u32,
    /// Bytes of all partial files of that attempt.
    pub bytes: u64,
}

impl Partial {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        *self == Partial::default()
    }

    /// An attempt's own checkpoint.
    pub fn of(&self, lease: &LeaseId) -> Option<&Checkpoint> {
        self.checkpoint.as_ref().filter(|checkpoint| checkpoint.lease == *lease)
    }

    /// The attempts whose files are needed.
    pub fn leases(&self) -> impl Iterator<Item = &LeaseId> {
        let published = self.published.as_ref().map(|published| &published.lease);
        published.into_iter().chain(self.checkpoint.as_ref().map(|checkpoint| &checkpoint.lease))
    }

    /// After that attempt has stored a checkpoint and, if `top_level`, the catalogue of the top level. A checkpoint with
    /// fewer parts than are known is an older report. A complete catalogue stays in use: it has more names.
    pub(super) fn with(&self, checkpoint: &Checkpoint, top_level: bool) -> Partial {
        let mut next = self.clone();
        if self.of(&checkpoint.lease).is_none_or(|known| known.parts <= checkpoint.parts) {
            next.checkpoint = Some(checkpoint.clone());
        }
        if top_level && !self.published.as_ref().is_some_and(|published| published.whole) {
            next.published = Some(Published { lease: checkpoint.lease.clone(), whole: false });
        }
        next
    }
}
