//! Dependencies that fail permanently, so that a failing dependency of a hundred packages is not built a hundred times.
//!
//! Nix remembers successful builds but not failed ones. A builder reports the derivations that it is about to build; if
//! one of them is known to fail, its build fails at once.
//!
//! A builder's report counts as one package's report, and a thief of its token could report anything. So a dependency
//! counts as failed only after [`WITNESSES`] builds of different packages have hit it, and only for [`LIFE`]. An operator
//! can clear it earlier.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    build::{Build, failure::Failure},
    id::{
        key::{Attr, DrvHash, System},
        time::Timestamp,
    },
    objects::artifact::AttemptPrefix,
};

/// How many packages must have hit a failing dependency before others fail without a try.
pub const WITNESSES: usize = 2;
/// How long a dependency counts as failed after it was hit last.
pub const LIFE: Duration = Duration::from_secs(7 * 24 * 3600);
/// The most dependencies that are remembered, the most recently seen ones.
const MOST: usize = 100;

/// The row: the failed dependencies of a system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedDependencies {
    /// The system.
    pub system: System,
    dependencies: BTreeMap<DrvHash, Doom>,
}

/// A dependency that fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Doom {
    /// The failure, as a package that needs it reports it.
    failure: Failure,
    /// The attempt whose log shows it.
    #[serde(rename = "home")]
    prefix: AttemptPrefix,
    /// The packages that have hit it, at most [`WITNESSES`].
    witnesses: Vec<Attr>,
    /// When it was hit last.
    seen: Timestamp,
}

impl Doom {
    /// Whether others fail by it without a try.
    fn counts(&self) -> bool {
        self.witnesses.len() >= WITNESSES
    }
}

/// A dependency that fails, for an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedDependency {
    /// Its derivation.
    pub drv: DrvHash,
    /// Its system.
    pub system: System,
    /// The failure, as a package that needs it reports it.
    pub failure: Failure,
    /// The packages that have hit it, at most [`WITNESSES`].
    pub packages: Vec<Attr>,
    /// Whether other packages that need it fail without a try.
    pub counts: bool,
    /// When it is forgotten.
    pub until: Timestamp,
}

impl FailedDependencies {
    /// A row without failed dependencies.
    pub fn none(system: System) -> FailedDependencies {
        FailedDependencies { system, dependencies: BTreeMap::new() }
    }

    /// The row after a build failed permanently; `None` if no dependency failed, or that is known already.
    pub fn after(&self, build: &Build, now: Timestamp) -> Option<FailedDependencies> {
        let (drv, last) = (build.dependency()?, build.history.last()?);
        let (Some(attr), Some(failure)) = (build.key.product.attr(), &last.failure) else { return None };
        let prefix = AttemptPrefix { key: build.key.clone(), lease: last.lease.clone() };
        let mut next = self.living(now);
        let first = || Doom { failure: failure.clone(), prefix, witnesses: Vec::new(), seen: now };
        let doom = next.dependencies.entry(drv.clone()).or_insert_with(first);
        if doom.witnesses.contains(attr) || doom.witnesses.len() >= WITNESSES {
            return None;
        }
        doom.witnesses.push(attr.clone());
        doom.seen = now;
        if next.dependencies.len() > MOST {
            let oldest = next.dependencies.iter().min_by_key(|(_, doom)| doom.seen).map(|(drv, _)| drv.clone());
            oldest.map(|drv| next.dependencies.remove(&drv));
        }
        Some(next)
    }

    /// The failure of one of these dependencies, and the attempt whose log shows it, if one is known to fail.
    pub fn among(&self, dependencies: &[DrvHash], now: Timestamp) -> Option<(&Failure, &AttemptPrefix)> {
        let counts = |drv| self.dependencies.get(drv).filter(|doom| doom.counts() && now < doom.seen + LIFE);
        dependencies.iter().find_map(counts).map(|doom| (&doom.failure, &doom.prefix))
    }

    /// All that are remembered.
    pub fn all(&self, now: Timestamp) -> Vec<FailedDependency> {
        let shown = |(drv, doom): (DrvHash, Doom)| FailedDependency {
            drv,
            system: self.system,
            counts: doom.counts(),
            failure: doom.failure,
            packages: doom.witnesses,
            until: doom.seen + LIFE,
        };
        self.living(now).dependencies.into_iter().map(shown).collect()
    }

    /// The row without what is over.
    fn living(&self, now: Timestamp) -> FailedDependencies {
        let mut next = self.clone();
        next.dependencies.retain(|_, doom| now < doom.seen + LIFE);
        next
    }

    /// The attempts whose logs show the failures.
    pub fn prefixes(&self) -> impl Iterator<Item = &AttemptPrefix> {
        self.dependencies.values().map(|doom| &doom.prefix)
    }

    /// The row without entries whose log is `useless`; `None` if nothing changes.
    pub fn without(&self, useless: impl Fn(&AttemptPrefix) -> bool) -> Option<FailedDependencies> {
        let mut next = self.clone();
        next.dependencies.retain(|_, doom| !useless(&doom.prefix));
        (next != *self).then_some(next)
    }

    /// The row after an operator cleared one dependency; `None` if it had no entry.
    pub fn cleared(&self, drv: &DrvHash) -> Option<FailedDependencies> {
        let mut next = self.clone();
        next.dependencies.remove(drv).map(|_| next)
    }
}
