//! Dependencies that fail for good: what a hundred packages need is not built a hundred times to fail again.
//!
//! Nix remembers what it has built and not what has failed. A builder tells which derivations it is about to build, and where one of
//! them has failed before, its build has failed, too, without a try.
//!
//! A builder's word is one package's word, and a stolen token may say anything. So a dependency is believed to be doomed when
//! [`WITNESSES`] builds of different packages have come to it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    build::{Build, failure::Failure},
    id::{
        key::{Attr, DrvHash, Product, System},
        time::Timestamp,
    },
    objects::artifact::AttemptPrefix,
};

/// How many packages must have come to a failing dependency until the others are spared it.
pub const WITNESSES: usize = 2;
/// Most dependencies that are remembered, those that were seen last.
const MOST: usize = 100;

/// The row: what is known to fail for a system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedDependencies {
    /// For which system.
    pub system: System,
    dependencies: BTreeMap<DrvHash, Doom>,
}

/// A dependency that fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Doom {
    /// How, as a package that needs it is told.
    failure: Failure,
    /// Whose log tells of it.
    #[serde(rename = "home")]
    prefix: AttemptPrefix,
    /// Which packages have come to it; no more than are asked for.
    witnesses: Vec<Attr>,
    /// When one did last.
    seen: Timestamp,
}

impl FailedDependencies {
    /// Nothing is.
    pub fn none(system: System) -> FailedDependencies {
        FailedDependencies { system, dependencies: BTreeMap::new() }
    }

    /// The row after a build has failed for good; `None`: not in a dependency, or that is known.
    pub fn after(&self, build: &Build, now: Timestamp) -> Option<FailedDependencies> {
        let (drv, last) = (build.dependency()?, build.history.last()?);
        let (Product::Package(attr), Some(failure)) = (&build.key.product, &last.failure) else { return None };
        let prefix = AttemptPrefix { key: build.key.clone(), lease: last.lease.clone() };
        let mut next = self.clone();
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

    /// How one of these fails, and whose log tells of it, if that is known.
    pub fn among(&self, dependencies: &[DrvHash]) -> Option<(&Failure, &AttemptPrefix)> {
        let believed = |drv| self.dependencies.get(drv).filter(|doom| doom.witnesses.len() >= WITNESSES);
        dependencies.iter().find_map(believed).map(|doom| (&doom.failure, &doom.prefix))
    }

    /// Where the logs lie that tell of them.
    pub fn prefixes(&self) -> impl Iterator<Item = &AttemptPrefix> {
        self.dependencies.values().map(|doom| &doom.prefix)
    }

    /// The row without those whose log is of no use any more; `None`: all are.
    pub fn without(&self, useless: impl Fn(&AttemptPrefix) -> bool) -> Option<FailedDependencies> {
        let mut next = self.clone();
        next.dependencies.retain(|_, doom| !useless(&doom.prefix));
        (next != *self).then_some(next)
    }

    /// The row where an operator wants that one tried again; `None`: nothing was known of it.
    pub fn pardoned(&self, drv: &DrvHash) -> Option<FailedDependencies> {
        let mut next = self.clone();
        next.dependencies.remove(drv).map(|_| next)
    }
}
