//! The third claim: on a dependency, as a lease is one on a build (single-flight). A task builds no derivation that
//! another live task is building.
//!
//! The row is a pointer to an attempt, and lives as long as that attempt's lease: nothing has to be kept in step with
//! it, and a holder that dies, is cancelled or lies delays others by at most one lease. A task holds the claims of what
//! it builds, and of its package's own derivation. A build that [waits](crate::build::waiting) has no lease, and so
//! holds nothing: builds cannot wait for each other.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    build::{Build, State},
    id::{
        key::{BuildKey, DrvHash, LeaseId},
        time::Timestamp,
    },
    objects::artifact::AttemptPrefix,
};

/// How long others wait for the cache to have what was offered. If the promoter is dead, they build it then.
pub const OFFERED: Duration = Duration::from_secs(5 * 60);
/// How long a dependency is promised to a build that has not started.
pub const PROMISED: Duration = Duration::from_secs(5 * 60);
/// A builder waits in its task for what was begun so recently; for anything else its task ends, and its build waits.
const YOUNG: Duration = Duration::from_secs(30);

/// A dependency's row. There is one per requesting system: each has its own machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// The derivation.
    pub drv: DrvHash,
    /// The build whose attempt holds it, or that it is promised to.
    pub holder: BuildKey,
    /// How far it is.
    #[serde(flatten)]
    pub stage: Stage,
    /// Since when.
    pub since: Timestamp,
    /// It is the holder's own package, and other builds need it: its task offers it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wanted: bool,
}

/// How far a claimed dependency is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "kebab-case")]
pub enum Stage {
    /// The build waited, and was queued again to build it.
    Promised,
    /// The attempt builds it.
    Building {
        /// Its lease.
        lease: LeaseId,
    },
    /// The attempt has built it and offered it to the binary cache.
    Offered {
        /// Its lease.
        lease: LeaseId,
    },
    /// Every builder can fetch it, or has it in the store that builders share.
    Made,
    /// The attempt has left it to others: it was built and not offered, or not built.
    Left,
}

/// The state of a dependency for builds that need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A task that needs it may build it.
    Free,
    /// It is promised to a build that has not started to build.
    Promised {
        /// The build.
        to: BuildKey,
        /// Whether its task runs.
        started: bool,
    },
    /// A live attempt builds it.
    Held {
        /// Its build.
        by: BuildKey,
        /// Since when.
        since: Timestamp,
    },
    /// It is built, and on its way into the binary cache.
    Offered {
        /// By which build.
        by: BuildKey,
    },
    /// It need not be built.
    Made,
}

/// What a builder does about a dependency that it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It claims and builds it.
    Build,
    /// It fetches it.
    Fetch,
    /// It waits in its task.
    Wait,
    /// It does something else, or its task ends.
    Leave,
}

impl Dependency {
    /// The claim of an attempt that begins to build it.
    pub fn building(drv: DrvHash, attempt: &AttemptPrefix, now: Timestamp) -> Dependency {
        let stage = Stage::Building { lease: attempt.lease.clone() };
        Dependency { drv, holder: attempt.key.clone(), stage, since: now, wanted: false }
    }

    /// Its state, from the row of its holder.
    pub fn stands(&self, holder: &Build, now: Timestamp) -> Standing {
        let by = || self.holder.clone();
        let within = |life| now < self.since + life && !self.since.is_ahead_of(now);
        let lease = holder.lease().filter(|lease| now < lease.expires);
        match (&self.stage, &holder.state) {
            (Stage::Made, _) => Standing::Made,
            (Stage::Offered { .. }, _) if within(OFFERED) => Standing::Offered { by: by() },
            (Stage::Building { lease: id }, _) if lease.is_some_and(|lease| lease.id == *id) => {
                Standing::Held { by: by(), since: self.since }
            }
            (Stage::Promised, State::Queued { .. }) if within(PROMISED) => {
                Standing::Promised { to: by(), started: false }
            }
            // Once it has claimed its own derivation, it claims the dependency, or needs it no more.
            (Stage::Promised, _) if within(PROMISED) && lease.is_some_and(|lease| lease.derivation.is_none()) => {
                Standing::Promised { to: by(), started: true }
            }
            _ => Standing::Free,
        }
    }

    /// Whether that attempt holds it.
    pub fn is_held_by(&self, key: &BuildKey, id: &LeaseId) -> bool {
        let of_lease = matches!(&self.stage, Stage::Building { lease } | Stage::Offered { lease } if lease == id);
        of_lease && self.holder == *key
    }
}

impl Standing {
    /// What a running task does about it. `missing`: it was told that the dependency is made, and could not fetch it.
    /// `cheap`: earlier builds took so little time that this one is nearly over.
    pub fn action(&self, missing: bool, cheap: bool, now: Timestamp) -> Action {
        match self {
            Standing::Free | Standing::Promised { started: false, .. } => Action::Build,
            Standing::Made if missing => Action::Build,
            Standing::Made => Action::Fetch,
            Standing::Offered { .. } => Action::Wait,
            // What has taken long will probably take longer.
            Standing::Held { since, .. } if cheap || now < *since + YOUNG => Action::Wait,
            Standing::Held { .. } | Standing::Promised { started: true, .. } => Action::Leave,
        }
    }
}
