//! Garbage collection: pure decisions over all rows, which [`crate::flow::operator::gc`] carries out once a day, and
//! when an operator runs `binplz gc`.
//!
//! Pins keep rows, and rows keep objects. A row is deleted when no pin needs its nixpkgs and the retention of its pin has
//! ended, or when its package was taken down; either must be longer ago than a
//! [grace period](crate::build::policy::Policy::grace). An attempt's objects are deleted when no row has needed them for a
//! grace period.
//!
//! So everything that is deleted has been unreferenced for longer than any request or function lives, and no request acts on
//! an older read. This matters for rows, because the versions of a new row begin at 1 again, and for objects, because a
//! client may be about to download them.
//!
//! The references of attempts keep blobs. A new attempt may reference a blob again at any time ([`Found::blob`]).

mod blobs;
mod cached;

pub use blobs::Blobs;
pub use cached::{CACHED, Files, Shared, shared};

use std::{
    collections::{BTreeMap, HashSet},
    ops::AddAssign,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    build::{Build, State, derivation::Derivation, failed_dependencies::FailedDependencies, learned},
    id::{
        key::{BuildKey, DrvHash, Product, System},
        time::Timestamp,
    },
    nixpkgs::{pins::Pins, served::Served},
    objects::artifact::AttemptPrefix,
    row::{Row, RowKey, Unreferenced, Version},
};

/// How long unused information is kept: a retryable failure, and the profile of a package without builds.
pub const FORGOTTEN: Duration = Duration::from_secs(30 * 24 * 3600);

/// The basis of all decisions.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The pins.
    pub pins: Pins,
    /// When the pins were read, before any other row.
    pub now: Timestamp,
    /// The grace period.
    pub grace: Duration,
}

impl Rule {
    /// Whether a request may still want the product of a build.
    fn needs(&self, key: &BuildKey) -> bool {
        let down = key.product.attr().and_then(|attr| self.pins.withheld().get(attr));
        self.pins.needs(&key.rev, self.now, self.grace) && down.is_none_or(|down| self.now < down.since + self.grace)
    }

    /// Whether a build's row stays, even if no other row needs its objects.
    fn keeps(&self, build: &Build) -> bool {
        let forgotten = match &build.state {
            State::Failed { until: Some(until), .. } => self.now >= *until + FORGOTTEN,
            _ => false,
        };
        build.is_under_way() || (self.needs(&build.key) && !forgotten)
    }

    fn serves(&self, served: &Served) -> bool {
        self.needs(&served.key()) && self.pins.resolve(&served.asked.target(), served.asked.system()).is_ok()
    }

    /// The failed dependencies without those whose log belongs to an unneeded build; `None` if all stay.
    pub fn failed_dependencies(&self, failed_dependencies: &FailedDependencies) -> Option<FailedDependencies> {
        failed_dependencies.without(|prefix| !self.needs(&prefix.key))
    }
}

/// The prefixes that a row needs.
pub fn prefixes(row: &Row) -> Vec<AttemptPrefix> {
    match row {
        Row::Build(build) => build.prefixes(),
        Row::Derivation(taken) => vec![taken.prefix.clone()],
        // A lost object is not served.
        Row::Served(served) if served.lost => Vec::new(),
        Row::Served(served) => {
            vec![served.object.prefix()]
        }
        Row::FailedDependencies(failed_dependencies) => failed_dependencies.prefixes().cloned().collect(),
        Row::Trash(_)
        | Row::Dependency(_)
        | Row::BuildProfile(_)
        | Row::Learned(_)
        | Row::Allowance(_)
        | Row::Keys(_)
        | Row::Limits(_)
        | Row::Pins(_)
        | Row::LogHead(_)
        | Row::Logged(_) => Vec::new(),
    }
}

/// A count of all rows, one by one.
#[derive(Debug)]
pub struct Census {
    rule: Rule,
    goes: Vec<(RowKey, Version)>,
    /// The prefixes that deleted rows needed.
    leaves: Vec<AttemptPrefix>,
    failed_dependencies: Vec<(FailedDependencies, Version)>,
    /// Builds that stay only if other builds need their objects.
    open: Vec<(Build, Version)>,
    /// Builds that stay.
    stay: HashSet<BuildKey>,
    derivations: Vec<(Derivation, Version)>,
    /// The derivations that staying builds have left to other builds, and whose rows they still need.
    left: HashSet<(System, DrvHash)>,
    /// Package profiles, until it is known whether their packages have builds.
    pasts: Vec<(System, Product, Version)>,
    /// The rows that list a build's entries in the transparency log. The log itself stays.
    logged: Vec<(BuildKey, Version)>,
    found: Found,
}

/// The decision about all rows, and the basis of the decisions about objects.
#[derive(Debug)]
pub struct Verdict {
    /// The pins that it is based on.
    pub pins: Pins,
    /// The rows to delete, with the versions that were seen.
    pub goes: Vec<(RowKey, Version)>,
    /// Prefixes in the trash that one of the deleted rows needs. Their trash rows are deleted first, because a client may
    /// recently have been redirected to these objects.
    pub was_needed: Vec<(Unreferenced, Version)>,
    /// Rows that lose entries.
    pub failed_dependencies: Vec<(FailedDependencies, Version)>,
    /// The references that remain.
    pub found: Found,
}

impl Census {
    /// A census without rows.
    pub fn new(rule: Rule) -> Census {
        let found = Found::none(rule.now, rule.grace);
        let (goes, leaves, failed_dependencies, open, stay, derivations, left, pasts, logged) = Default::default();
        Census { rule, goes, leaves, failed_dependencies, open, stay, derivations, left, pasts, logged, found }
    }

    /// Adds a row.
    pub fn count(&mut self, row: Row, version: Version) {
        match row {
            Row::Build(build) if self.rule.keeps(&build) => self.stays(&build),
            Row::Build(build) => self.open.push((build, version)),
            Row::Derivation(taken) => self.derivations.push((taken, version)),
            Row::Served(served) if !self.rule.serves(&served) => self.goes(&Row::Served(served), version),
            Row::BuildProfile(past) if self.rule.now >= past.at + FORGOTTEN => {
                self.pasts.push((past.system, past.product, version));
            }
            // No attempt lasts that long.
            Row::Dependency(claimed) if self.rule.now >= claimed.since + FORGOTTEN => {
                self.goes(&Row::Dependency(claimed), version);
            }
            Row::Learned(learned) if self.rule.now >= learned.at + learned::LIFE => {
                self.goes(&Row::Learned(learned), version);
            }
            Row::Logged(logged) => self.logged.push((logged.key, version)),
            // An allowance of a past day has no meaning; one day more, since clocks differ.
            Row::Allowance(allowance) if self.rule.now >= allowance.day.next().next().start() => {
                self.goes(&Row::Allowance(allowance), version);
            }
            Row::FailedDependencies(failed_dependencies) => match self.rule.failed_dependencies(&failed_dependencies) {
                Some(shorter) => {
                    self.found.needed.extend(shorter.prefixes().cloned());
                    self.failed_dependencies.push((shorter, version));
                }
                None => self.found.needed.extend(failed_dependencies.prefixes().cloned()),
            },
            row => self.found.count(&row, version),
        }
    }

    fn goes(&mut self, row: &Row, version: Version) {
        self.leaves.extend(prefixes(row));
        self.goes.push((row.key(), version));
    }

    fn stays(&mut self, build: &Build) {
        self.found.needed.extend(build.prefixes());
        self.stay.insert(build.key.clone());
        let left = match &build.state {
            State::Ready(_) => None,
            _ => build.left(),
        };
        self.left.extend(left.map(|drv| (build.key.system, drv.clone())));
    }

    /// The decision.
    ///
    /// A build's row stays while a staying row needs the build's objects: other builds of the same derivation find the
    /// objects through this row.
    pub fn verdict(mut self) -> Verdict {
        for (taken, _) in &self.derivations {
            if self.left.contains(&(taken.system(), taken.drv.clone())) {
                self.found.needed.insert(taken.prefix.clone());
            }
        }
        let of_others: HashSet<_> = self.found.needed.iter().map(|prefix| prefix.key.clone()).collect();
        let (stay, go): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.open).into_iter().partition(|(build, _)| of_others.contains(&build.key));
        stay.iter().for_each(|(build, _)| self.stays(build));
        go.into_iter().for_each(|(build, version)| self.goes(&Row::Build(build), version));
        for (taken, version) in std::mem::take(&mut self.derivations) {
            let left = self.left.contains(&(taken.system(), taken.drv.clone()));
            if left || self.stay.contains(&taken.prefix.key) {
                self.found.needed.insert(taken.prefix);
            } else {
                self.goes(&Row::Derivation(taken), version);
            }
        }
        let gone = std::mem::take(&mut self.logged).into_iter().filter(|(key, _)| !self.stay.contains(key));
        self.goes.extend(gone.map(|(key, version)| (RowKey::Logged(key), version)));
        let products: HashSet<_> = self.stay.iter().map(|key| (key.system, &key.product)).collect();
        for (system, product, version) in self.pasts {
            if !products.contains(&(system, &product)) {
                self.goes.push((RowKey::BuildProfile(system, product), version));
            }
        }
        let trash = &mut self.found.trash;
        let was_needed = self.leaves.into_iter().map(Unreferenced::Attempt);
        let was_needed =
            was_needed.filter_map(|what| trash.remove(&what).map(|(_, version)| (what, version))).collect();
        Verdict {
            pins: self.rule.pins,
            goes: self.goes,
            was_needed,
            failed_dependencies: self.failed_dependencies,
            found: self.found,
        }
    }
}

/// The prefixes that rows need.
#[derive(Clone, Debug)]
pub struct Found {
    /// When the first row was read.
    pub at: Timestamp,
    grace: Duration,
    needed: HashSet<AttemptPrefix>,
    /// In order, so that two runs over the same rows make the same calls.
    trash: BTreeMap<Unreferenced, (Timestamp, Version)>,
}

/// The decision about a prefix with objects, or about a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is needed. Delete its trash row, if there is one.
    Needed(Option<Version>),
    /// It is not needed: write a trash row.
    Unneeded,
    /// It stays in the trash until this time.
    Waits(Timestamp),
    /// Its time in the trash is over: delete it.
    Over(Version),
}

impl Found {
    /// No references yet.
    pub fn none(at: Timestamp, grace: Duration) -> Found {
        Found { at, grace, needed: HashSet::new(), trash: BTreeMap::new() }
    }

    /// Adds a row's references.
    pub fn count(&mut self, row: &Row, version: Version) {
        self.needed.extend(prefixes(row));
        if let Row::Trash(trash) = row {
            self.trash.insert(trash.what.clone(), (trash.since, version));
        }
    }

    /// The decision about a prefix.
    pub fn fate(&self, prefix: &AttemptPrefix) -> Fate {
        let known = self.trash.get(&Unreferenced::Attempt(prefix.clone()));
        match known {
            _ if self.needed.contains(prefix) => Fate::Needed(known.map(|(_, version)| *version)),
            None => Fate::Unneeded,
            Some((since, version)) if self.at >= *since + self.grace => Fate::Over(*version),
            Some((since, _)) => Fate::Waits(*since + self.grace),
        }
    }

    /// Trash rows of attempts without objects: those whose prefix is not in `there`.
    pub fn gone(&self, there: &HashSet<AttemptPrefix>) -> Vec<(AttemptPrefix, Version)> {
        let gone = self.trash.iter().filter_map(|(what, (_, version))| match what {
            Unreferenced::Attempt(prefix) if !there.contains(prefix) => Some((prefix.clone(), *version)),
            _ => None,
        });
        gone.collect()
    }
}

/// The result of a run, or of a dry run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// A dry run: nothing was changed.
    pub rehearsal: bool,
    /// Deleted rows.
    pub rows: Rows,
    /// Deleted objects.
    pub removed: Amount,
    /// Unneeded objects in their grace period.
    pub waiting: Amount,
    /// When the last of these grace periods ends.
    pub waiting_until: Option<Timestamp>,
    /// All other objects.
    pub kept: Amount,
    /// Deleted databases of programs.
    #[serde(default)]
    pub databases: u64,
    /// Deleted nixpkgs tarballs.
    pub nixpkgs: u64,
    /// The contents of programs.
    #[serde(default)]
    pub blobs: Blobs,
    /// The builders' binary cache.
    pub cache: Shared,
}

impl Report {
    /// Bytes in the store at the time of the run.
    pub fn there(&self) -> u64 {
        let blobs = self.blobs.kept.bytes + self.blobs.waiting.bytes;
        self.kept.bytes + self.waiting.bytes + blobs + self.cache.kept.bytes + self.cache.offered
    }
}

/// Deleted rows, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    /// Builds, including catalogues.
    pub builds: u64,
    /// Served rows.
    pub served: u64,
    /// Derivations.
    pub derivations: u64,
    /// Package profiles, and the figures of derivations' builds.
    pub past: u64,
    /// Rows written meanwhile: the next run decides about them.
    pub busy: u64,
}

impl Rows {
    /// Counts a deleted row.
    pub fn count(&mut self, key: &RowKey) {
        match key {
            RowKey::Build(_) => self.builds += 1,
            RowKey::Served(_) => self.served += 1,
            RowKey::Derivation(..) => self.derivations += 1,
            RowKey::BuildProfile(..) | RowKey::Learned(..) => self.past += 1,
            // Rows of these kinds are not counted.
            RowKey::Dependency(..)
            | RowKey::FailedDependencies(_)
            | RowKey::Trash(_)
            | RowKey::Allowance(_)
            | RowKey::Keys
            | RowKey::Limits
            | RowKey::Pins
            | RowKey::LogHead
            | RowKey::Logged(_) => {}
        }
    }
}

/// Attempts, and their objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// Attempts at builds.
    #[serde(rename = "homes")]
    pub prefixes: u64,
    /// Their objects.
    pub objects: u64,
    /// The objects' bytes.
    pub bytes: u64,
}

impl AddAssign<&crate::objects::stored::Held> for Amount {
    fn add_assign(&mut self, held: &crate::objects::stored::Held) {
        self.prefixes += 1;
        self.objects += held.objects;
        self.bytes += held.bytes;
    }
}
