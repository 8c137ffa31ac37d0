//! What nobody needs any more: pure verdicts over all rows. [`crate::flow::operator::gc`] tells the story.
//!
//! Rows go by pins, objects by homes. A row goes when no pin stands for its nixpkgs and what that has left is kept no longer, or its
//! package was taken down, and neither is younger than a [grace](crate::policy::Policy::grace); a home goes when no row has needed it for as long.
//!
//! So what goes was let alone for longer than any request or function lives: none of them comes, after it, with a sighting from
//! before. That matters for rows, whose versions begin anew, and for objects, which somebody may be on the way to.

mod cached;

pub use cached::{CACHED, Files, Shared, shared};

use std::{
    collections::{HashMap, HashSet},
    ops::AddAssign,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    build::{Build, State, derivation::Derivation, failed_dependencies::FailedDependencies},
    id::{
        key::{Attr, BuildKey, DrvHash, Product, System},
        time::Timestamp,
    },
    nixpkgs::{pins::Pins, served::Served},
    objects::artifact::AttemptPrefix,
    ports::{Row, RowKey, Version},
};

/// For how long what is of use to nobody but the curious is kept: how a build failed that may be tried again, and what a package
/// took of which there is no build any more.
pub const FORGOTTEN: Duration = Duration::from_secs(30 * 24 * 3600);

/// The row of a home that nobody needs any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trash {
    /// Which.
    #[serde(rename = "home")]
    pub prefix: AttemptPrefix,
    /// Since when, at least.
    pub since: Timestamp,
}

/// What all verdicts depend on.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The pins.
    pub pins: Pins,
    /// When they were looked at, before any row was.
    pub now: Timestamp,
    /// For how long all is let alone.
    pub grace: Duration,
}

impl Rule {
    /// Whether there is still somebody who may want what a build makes.
    fn needs(&self, key: &BuildKey) -> bool {
        let down = match &key.product {
            Product::Package(attr) => self.pins.withheld().get(attr),
            Product::Catalogue => None,
        };
        self.pins.needs(&key.rev, self.now, self.grace) && down.is_none_or(|down| self.now < down.since + self.grace)
    }

    /// Whether a build's row stays, whatever others need.
    fn keeps(&self, build: &Build) -> bool {
        let forgotten = match &build.state {
            State::Failed { until: Some(until), .. } => self.now >= *until + FORGOTTEN,
            _ => false,
        };
        build.is_under_way() || (self.needs(&build.key) && !forgotten)
    }

    fn serves(&self, served: &Served) -> bool {
        let key = BuildKey {
            rev: served.rev.clone(),
            system: served.asked.system(),
            product: Product::Package(served.attr.clone()),
        };
        self.needs(&key) && self.pins.resolve(&served.asked.target(), served.asked.system()).is_ok()
    }

    /// What is known of failing dependencies without those whose log belongs to a build that nobody wants; `None`: all stays.
    pub fn failed_dependencies(&self, failed_dependencies: &FailedDependencies) -> Option<FailedDependencies> {
        failed_dependencies.without(|prefix| !self.needs(&prefix.key))
    }
}

/// The homes that a row needs.
pub fn prefixes(row: &Row) -> Vec<AttemptPrefix> {
    match row {
        Row::Build(build) => build.prefixes(),
        Row::Derivation(taken) => vec![taken.prefix.clone()],
        Row::Served(served) => {
            vec![AttemptPrefix { key: served.object.key.clone(), lease: served.object.lease.clone() }]
        }
        Row::FailedDependencies(failed_dependencies) => failed_dependencies.prefixes().cloned().collect(),
        Row::Trash(_) | Row::BuildProfile(_) | Row::Allowance(_) | Row::Keys(_) | Row::Limits(_) | Row::Pins(_) => {
            Vec::new()
        }
    }
}

/// All rows, as they are counted one after the other.
#[derive(Debug)]
pub struct Census {
    rule: Rule,
    goes: Vec<(RowKey, Version)>,
    /// What those that go have needed until now.
    leaves: Vec<AttemptPrefix>,
    failed_dependencies: Vec<(FailedDependencies, Version)>,
    /// Builds that stay only if others need what they have made.
    open: Vec<(Build, Version)>,
    /// All others.
    stay: HashSet<BuildKey>,
    derivations: Vec<(Derivation, Version)>,
    /// What builds that stay have left to others, and still need these for.
    left: HashSet<(System, DrvHash)>,
    /// Packages with what they took, until it is known whether there are builds of them.
    pasts: Vec<(System, Attr, Version)>,
    found: Found,
}

/// What is to be done about the rows, and what will be found thereafter.
#[derive(Debug)]
pub struct Verdict {
    /// The pins that it rests on.
    pub pins: Pins,
    /// The rows that go, each as it was seen.
    pub goes: Vec<(RowKey, Version)>,
    /// Homes that a row of these needs, and that were thought not to be needed. That is to be forgotten first: somebody may have been
    /// sent there lately.
    pub was_needed: Vec<(AttemptPrefix, Version)>,
    /// Rows that get shorter.
    pub failed_dependencies: Vec<(FailedDependencies, Version)>,
    /// What is found once this is done, as far as can be told now.
    pub found: Found,
}

impl Census {
    /// Nobody is counted yet.
    pub fn new(rule: Rule) -> Census {
        let found = Found::none(rule.now, rule.grace);
        let (goes, leaves, failed_dependencies, open, stay, derivations, left, pasts) = Default::default();
        Census { rule, goes, leaves, failed_dependencies, open, stay, derivations, left, pasts, found }
    }

    /// Counts a row.
    pub fn count(&mut self, row: Row, version: Version) {
        match row {
            Row::Build(build) if self.rule.keeps(&build) => self.stays(&build),
            Row::Build(build) => self.open.push((build, version)),
            Row::Derivation(taken) => self.derivations.push((taken, version)),
            Row::Served(served) if !self.rule.serves(&served) => self.goes(&Row::Served(served), version),
            Row::BuildProfile(past) if self.rule.now >= past.at + FORGOTTEN => {
                self.pasts.push((past.system, past.attr, version));
            }
            // What it says of a day that is over means nothing; a clock may be behind.
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

    /// What is to be done.
    ///
    /// The row of a build stays while one that stays needs what lies in its homes: whoever has the same derivation gets it through that row.
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
        let packages: HashSet<_> = self.stay.iter().map(|key| (key.system, &key.product)).collect();
        for (system, attr, version) in self.pasts {
            let product = Product::Package(attr.clone());
            if !packages.contains(&(system, &product)) {
                self.goes.push((RowKey::BuildProfile(system, attr), version));
            }
        }
        let trash = &mut self.found.trash;
        let was_needed =
            self.leaves.into_iter().filter_map(|prefix| trash.remove(&prefix).map(|(_, version)| (prefix, version)));
        let was_needed = was_needed.collect();
        Verdict {
            pins: self.rule.pins,
            goes: self.goes,
            was_needed,
            failed_dependencies: self.failed_dependencies,
            found: self.found,
        }
    }
}

/// What rows say of homes.
#[derive(Clone, Debug)]
pub struct Found {
    /// When the first of them was looked at.
    pub at: Timestamp,
    grace: Duration,
    needed: HashSet<AttemptPrefix>,
    trash: HashMap<AttemptPrefix, (Timestamp, Version)>,
}

/// What is to be done about a home that holds something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is needed, and was not thought to be so if there is a row of it.
    Needed(Option<Version>),
    /// Nobody needs it, which is to be written down.
    Unneeded,
    /// It was so before, and not for long enough until then.
    Waits(Timestamp),
    /// It goes.
    Over(Version),
}

impl Found {
    /// Nothing, yet.
    pub fn none(at: Timestamp, grace: Duration) -> Found {
        Found { at, grace, needed: HashSet::new(), trash: HashMap::new() }
    }

    /// Looks at a row.
    pub fn count(&mut self, row: &Row, version: Version) {
        self.needed.extend(prefixes(row));
        if let Row::Trash(trash) = row {
            self.trash.insert(trash.prefix.clone(), (trash.since, version));
        }
    }

    /// What is to be done about a home.
    pub fn fate(&self, prefix: &AttemptPrefix) -> Fate {
        let known = self.trash.get(prefix);
        match known {
            _ if self.needed.contains(prefix) => Fate::Needed(known.map(|(_, version)| *version)),
            None => Fate::Unneeded,
            Some((since, version)) if self.at >= *since + self.grace => Fate::Over(*version),
            Some((since, _)) => Fate::Waits(*since + self.grace),
        }
    }

    /// Homes that were thought not to be needed, and of which nothing else is left: those that `there` does not hold any more.
    pub fn gone(&self, there: &HashSet<AttemptPrefix>) -> Vec<(AttemptPrefix, Version)> {
        let gone = self.trash.iter().filter(|(prefix, _)| !there.contains(*prefix));
        gone.map(|(prefix, (_, version))| (prefix.clone(), *version)).collect()
    }
}

/// What was done, or in a rehearsal would be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Nothing was changed.
    pub rehearsal: bool,
    /// Rows that went.
    pub rows: Rows,
    /// Objects that went.
    pub removed: Amount,
    /// Objects that nobody needs, and that are let alone for now.
    pub waiting: Amount,
    /// Until when the last of these are.
    pub waiting_until: Option<Timestamp>,
    /// All other objects.
    pub kept: Amount,
    /// Nixpkgs that went.
    pub nixpkgs: u64,
    /// The builders' cache.
    pub cache: Shared,
}

impl Report {
    /// Bytes in the store, when it was looked at.
    pub fn there(&self) -> u64 {
        self.kept.bytes + self.waiting.bytes + self.cache.kept.bytes + self.cache.offered
    }
}

/// Rows that went, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    /// Of builds, those of catalogues among them.
    pub builds: u64,
    /// What was served.
    pub served: u64,
    /// Which attempt has a derivation.
    pub derivations: u64,
    /// What packages took.
    pub past: u64,
    /// Written meanwhile: the next run looks at them again.
    pub busy: u64,
}

impl Rows {
    /// One more that went.
    pub fn count(&mut self, key: &RowKey) {
        match key {
            RowKey::Build(_) => self.builds += 1,
            RowKey::Served(_) => self.served += 1,
            RowKey::Derivation(..) => self.derivations += 1,
            RowKey::BuildProfile(..) => self.past += 1,
            // No verdict names these.
            RowKey::FailedDependencies(_)
            | RowKey::Trash(_)
            | RowKey::Allowance(_)
            | RowKey::Keys
            | RowKey::Limits
            | RowKey::Pins => {}
        }
    }
}

/// Homes, and what lies in them.
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

impl AddAssign<&crate::ports::Held> for Amount {
    fn add_assign(&mut self, held: &crate::ports::Held) {
        self.prefixes += 1;
        self.objects += held.objects;
        self.bytes += held.bytes;
    }
}
