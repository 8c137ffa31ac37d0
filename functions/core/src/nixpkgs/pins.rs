//! Pins: the nixpkgs that a deployment serves, by name. They give a [`Target`] its commit.
//!
//! All pins are one row of the ledger, and change while the service runs: [`Pins::changed`] decides which changes are
//! legal. Served rows under a changed meaning of a name are found by [`Pins::lately_left`], and marked stale by
//! [`crate::flow::operator::pins`].

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    build::protocol::Nixpkgs,
    id::{
        key::{Attr, BuildKey, Product, Rev, Sha256, System},
        target::{PinRef, Target, Wanted},
        text::clean_line,
        time::{Timestamp, seconds},
    },
    objects::content::Content,
};

/// The longest reason for a takedown, in characters.
const WHY_MAX: usize = 200;

/// How long after a change, at least, the served rows are searched for stale ones: longer than the longest request, which may have
/// read the pins before and write its row after the change, and longer than an index lags; and twice that for an
/// operator's clock (AWS refuses clocks that are off by more than five minutes).
pub const SETTLING: Duration = Duration::from_secs(10 * 60);

pub use crate::id::key::PinName;
/// How long after its end a retention is remembered: longer than the longest grace period.
const PAST_ENTRY: Duration = Duration::from_secs(7 * 24 * 3600);

/// One nixpkgs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The revision that the name stands for now.
    pub rev: Rev,
    /// The location of the nixpkgs.
    pub nixpkgs: Source,
    /// Its database of programs; `None`: the catalogue knows only main programs, and those of packages that were built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub programs: Option<Programs>,
    /// Since when it stands for that revision.
    #[serde(default)]
    pub since: Timestamp,
    /// How long the builds of a revision are kept after the pin has left it.
    #[serde(default = "usually_kept", with = "seconds", skip_serializing_if = "is_usually_kept")]
    pub keep: Duration,
    /// The revisions that the name stood for before, the latest first; at most three. Names are resolved by
    /// their catalogues until this revision has a complete one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<Rev>,
}

/// How many revisions of a pin are remembered: a pin may move again before the catalogue of its revision is complete.
const FORMER_MAX: usize = 3;

/// The default retention of builds after a pin has left their revision.
pub const KEEP: Duration = Duration::from_secs(30 * 24 * 3600);

fn usually_kept() -> Duration {
    KEEP
}

fn is_usually_kept(keep: &Duration) -> bool {
    *keep == KEEP
}

/// The location of a pin's nixpkgs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// In the deployment's own store, as a tarball ([`crate::objects::artifact::nixpkgs_path`]): a builder gets a
    /// presigned URL.
    Stored {
        /// The unpacked tree's hash, in any form that Nix reads.
        nar_hash: String,
    },
    /// A location that builders can read themselves.
    #[serde(untagged)]
    Elsewhere(Nixpkgs),
}

impl From<Nixpkgs> for Source {
    fn from(nixpkgs: Nixpkgs) -> Source {
        Source::Elsewhere(nixpkgs)
    }
}

/// The database that says which package of a nixpkgs ships which program: SQLite, as `programs.sqlite` of a channel's
/// release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Programs {
    /// The nixpkgs contains it.
    Included,
    /// An operator has added it: an object of the deployment's store ([`crate::objects::artifact::programs_path`]).
    Stored(Content),
}

impl Programs {
    /// The object, if it is one.
    pub fn stored(&self) -> Option<&Content> {
        match self {
            Programs::Included => None,
            Programs::Stored(content) => Some(content),
        }
    }
}

/// The file's name in a nixpkgs.
pub const PROGRAMS_FILE: &str = "programs.sqlite";

/// The rows that count, as JSON: `["PACKAGE","PROGRAM"]`. Programs on one Linux system are assumed on the others, since
/// the database is made mostly from builds for x86_64.
pub const PROGRAMS_QUERY: &str = "SELECT json_array(package, name) FROM Programs WHERE system LIKE '%-linux'";

/// What an operator reads of a pin without a database.
pub const NO_PROGRAMS: &str =
    "it has no database of programs: until a package is built, only its main program can be requested by its own name";

/// The same, if the object of its database is gone.
pub const PROGRAMS_MISSING: &str = "its database of programs is missing, so that its catalogue cannot be built again";

/// The largest database, in bytes.
pub const PROGRAMS_MAX: u64 = 512 << 20;

/// A name and the revision that it stood for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Pinned {
    /// The name.
    pub pin: PinName,
    /// The revision.
    pub rev: Rev,
}

/// `NAME/REV`.
impl fmt::Display for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.pin, self.rev)
    }
}

/// The pins of a deployment, one of which is the default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Pins {
    default: PinName,
    pins: BTreeMap<PinName, Pin>,
    /// Meanings that names had until lately, and when they ended, until they have settled.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    left: Vec<(Pinned, Timestamp)>,
    /// Revisions that no pin stands for, and until when their builds are kept.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    past: BTreeMap<Rev, Timestamp>,
    /// Packages that are taken down.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    withheld: BTreeMap<Attr, Withheld>,
    /// Those of them that have settled.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    settled: BTreeSet<Attr>,
    /// The time limits that an operator allows packages, in seconds.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    allowed: BTreeMap<Attr, u64>,
}

/// A takedown by an operator, of every nixpkgs and for every system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withheld {
    /// The reason, for people: a few words without a full stop.
    pub why: String,
    /// Since when.
    pub since: Timestamp,
}

#[derive(Deserialize)]
struct Unchecked {
    default: PinName,
    pins: BTreeMap<PinName, Pin>,
    #[serde(default)]
    left: Vec<(Pinned, Timestamp)>,
    #[serde(default)]
    past: BTreeMap<Rev, Timestamp>,
    #[serde(default)]
    withheld: BTreeMap<Attr, Withheld>,
    #[serde(default)]
    settled: BTreeSet<Attr>,
    #[serde(default)]
    allowed: BTreeMap<Attr, u64>,
}

impl TryFrom<Unchecked> for Pins {
    type Error = PinRefusal;
    fn try_from(
        Unchecked { default, pins, left, past, withheld, settled, allowed }: Unchecked,
    ) -> Result<Pins, PinRefusal> {
        match pins.contains_key(&default) {
            true => Ok(Pins { default, pins, left, past, withheld, settled, allowed }),
            false => Err(PinRefusal::NoSuchPin(default)),
        }
    }
}

/// An operator's change of the pins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Adds a pin, with its database of programs.
    Add(PinName, Rev, Source, #[serde(default)] Option<Programs>),
    /// Moves a pin to another nixpkgs, with its database of programs. A pin that stands for this nixpkgs already keeps
    /// its database, unless this one replaces it.
    Move(PinName, Rev, Source, #[serde(default)] Option<Programs>),
    /// Sets how long builds are kept after this pin has left their revision.
    Keep(PinName, #[serde(with = "seconds")] Duration),
    /// Removes a pin.
    Retire(PinName),
    /// Makes a pin the default for requests that name none.
    Default(PinName),
    /// Takes a package down, under all its names; with the reason, for people.
    Withhold(Attr, String),
    /// Ends a takedown.
    Restore(Attr),
    /// Sets the time limit of a package's builds, in seconds; `None`: the deployment's.
    Allow(Attr, Option<u64>),
}

/// Why a change of the pins was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PinRefusal {
    /// The name stands for another nixpkgs already.
    #[error("the pin {0} exists already; to change its commit, use binplz pin move")]
    Exists(PinName),
    /// There is no pin of that name.
    #[error("there is no pin {0}")]
    NoSuchPin(PinName),
    /// A deployment always has a default.
    #[error("{0} is the default pin; first make another pin the default: binplz pin default NAME")]
    IsDefault(PinName),
    /// The package is not taken down.
    #[error("{0} is not taken down")]
    NotWithheld(Attr),
}

/// The nixpkgs in which a target is resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedPin {
    /// The pin.
    pub pin: PinName,
    /// The pin's revision.
    pub rev: Rev,
    /// The revisions before it, the latest first.
    pub former: Vec<Rev>,
    /// The system.
    pub system: System,
}

impl ResolvedPin {
    /// The key of the build of one of its products.
    pub fn build(&self, product: Product) -> BuildKey {
        BuildKey { rev: self.rev.clone(), system: self.system, product }
    }

    /// Whether `pinned` names this pin and revision.
    pub(crate) fn is(&self, pinned: &Pinned) -> bool {
        (&self.pin, &self.rev) == (&pinned.pin, &pinned.rev)
    }
}

/// The request names a nixpkgs that this deployment does not serve.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("this service does not serve that pin or commit; it serves {}", .served.join(", "))]
pub struct Unserved {
    /// The served ones: "NAME (COMMIT)".
    pub served: Vec<String>,
}

impl Pins {
    /// Pins with a default.
    ///
    /// # Errors
    /// [`PinRefusal::NoSuchPin`]: the default is none of them.
    pub fn new(default: PinName, pins: BTreeMap<PinName, Pin>) -> Result<Pins, PinRefusal> {
        let (left, past, withheld, settled, allowed) = Default::default();
        Unchecked { default, pins, left, past, withheld, settled, allowed }.try_into()
    }

    /// A single pin, which is the default.
    pub fn one(name: PinName, rev: Rev, nixpkgs: Source) -> Pins {
        let pin = Pin { rev, nixpkgs, programs: None, since: Timestamp(0), keep: KEEP, former: Vec::new() };
        let pins = BTreeMap::from([(name.clone(), pin)]);
        let (left, past, withheld, settled, allowed) = Default::default();
        Pins { default: name, pins, left, past, withheld, settled, allowed }
    }

    /// The default's name.
    pub fn default_name(&self) -> &PinName {
        &self.default
    }

    /// All of them, by name.
    pub fn all(&self) -> &BTreeMap<PinName, Pin> {
        &self.pins
    }

    /// Resolves a target's pin to its revision; `system` is the deployment's, for a target that names none.
    ///
    /// # Errors
    /// [`Unserved`] for any other nixpkgs, so that clients cannot make the store grow by naming commits.
    pub fn resolve(&self, target: &Target, system: System) -> Result<ResolvedPin, Unserved> {
        self.find(target.pin.as_ref(), target.system.unwrap_or(system))
    }

    /// The requested nixpkgs, for a system.
    ///
    /// # Errors
    /// [`Unserved`].
    pub fn find(&self, pin: Option<&PinRef>, system: System) -> Result<ResolvedPin, Unserved> {
        let found = match pin {
            None => self.pins.get_key_value(&self.default),
            Some(PinRef::Name(name)) => self.pins.get_key_value(name),
            Some(PinRef::Commit(start)) => self.pins.iter().find(|(_, pin)| pin.rev.as_str().starts_with(start)),
        };
        let (name, pin) = found.ok_or_else(|| Unserved {
            served: self.pins.iter().map(|(name, pin)| format!("{name} ({})", pin.rev)).collect(),
        })?;
        Ok(ResolvedPin { pin: name.clone(), rev: pin.rev.clone(), former: pin.former.clone(), system })
    }

    /// The shortest target that leads to a build; `None` if no pin stands for its nixpkgs, or it is not a package.
    /// `system` is the deployment's.
    pub fn target(&self, key: &BuildKey, system: System) -> Option<Target> {
        let BuildKey { rev, system: of, product } = key;
        let wanted = Wanted::of(product)?;
        let stands = |(_, pin): &(&PinName, &Pin)| pin.rev == *rev;
        let default = self.pins.get_key_value(&self.default).filter(stands);
        let (name, _) = default.or_else(|| self.pins.iter().find(stands))?;
        Some(Target {
            wanted,
            system: (*of != system).then_some(*of),
            pin: (*name != self.default).then(|| PinRef::Name(name.clone())),
        })
    }

    /// The location of a revision's nixpkgs, if a pin stands for it.
    pub fn nixpkgs(&self, rev: &Rev) -> Option<&Source> {
        self.pins.values().find(|pin| &pin.rev == rev).map(|pin| &pin.nixpkgs)
    }

    /// The database of programs of a revision's nixpkgs.
    pub fn programs(&self, rev: &Rev) -> Option<&Programs> {
        let of_it = self.pins.values().filter(|pin| pin.rev == *rev).filter_map(|pin| pin.programs.as_ref());
        // An operator's replaces the included one.
        of_it.max_by_key(|programs| programs.stored().is_some())
    }

    /// Whether a pin has this database of programs.
    pub fn has_programs(&self, sha256: &Sha256) -> bool {
        let stored = self.pins.values().filter_map(|pin| pin.programs.as_ref()?.stored());
        stored.into_iter().any(|content| content.sha256 == *sha256)
    }

    /// Whether a build's product would be served.
    pub fn serve(&self, key: &BuildKey) -> bool {
        let withheld = key.product.attr().is_some_and(|attr| self.withheld.contains_key(attr));
        !withheld && self.nixpkgs(&key.rev).is_some()
    }

    /// Revisions that no pin stands for and whose builds are still kept, and until when.
    pub fn kept(&self, now: Timestamp) -> impl Iterator<Item = (&Rev, Timestamp)> {
        self.past.iter().filter(move |(_, until)| now < **until).map(|(rev, until)| (rev, *until))
    }

    /// Whether a revision's builds are needed: a pin stands for it, or their retention ended less than `grace` ago.
    pub fn needs(&self, rev: &Rev, now: Timestamp, grace: Duration) -> bool {
        self.nixpkgs(rev).is_some() || self.past.get(rev).is_some_and(|until| now < *until + grace)
    }

    /// The packages that are taken down.
    pub fn withheld(&self) -> &BTreeMap<Attr, Withheld> {
        &self.withheld
    }

    /// The time limit that an operator allows a product, in seconds.
    pub fn allowed(&self, product: &Product) -> Option<u64> {
        product.attr().and_then(|attr| self.allowed.get(attr)).copied()
    }

    /// Takedowns that have not settled: a request may still write a served row of the package, or rows from before may not be
    /// marked yet.
    pub fn lately_withheld(&self) -> impl Iterator<Item = &Attr> {
        self.withheld.keys().filter(|attr| !self.settled.contains(*attr))
    }

    /// Meanings of names that have not settled. Fresh served rows of these must be marked stale.
    pub fn lately_left(&self) -> impl Iterator<Item = &Pinned> {
        self.left.iter().map(|(pinned, _)| pinned)
    }

    /// The pins after all rows of what was [left](Pins::lately_left) and [withheld](Pins::lately_withheld) were marked, from
    /// `began` on. A change settles with the first time that begins [`SETTLING`] after it; `None` if none does.
    pub fn marked(&self, began: Timestamp) -> Option<Pins> {
        let over = |at: Timestamp| at + SETTLING <= began;
        let mut next = self.clone();
        next.left.retain(|(_, at)| !over(*at));
        next.settled
            .extend(self.withheld.iter().filter(|(_, withheld)| over(withheld.since)).map(|(attr, _)| attr.clone()));
        (next != *self).then_some(next)
    }

    /// The pins after a change; `None` if nothing changes, so that a change whose reply was lost can be repeated
    /// (idempotent).
    ///
    /// # Errors
    /// [`PinRefusal`].
    pub fn changed(&self, change: &Change, now: Timestamp) -> Result<Option<Pins>, PinRefusal> {
        let mut next = self.clone();
        let pin = |name, rev: &Rev, nixpkgs: &Source, programs: &Option<Programs>| {
            let old = self.pins.get(name);
            let former = old.into_iter().flat_map(|old| [&old.rev].into_iter().chain(&old.former));
            Pin {
                rev: rev.clone(),
                nixpkgs: nixpkgs.clone(),
                programs: programs.clone(),
                since: now,
                keep: old.map_or(KEEP, |old| old.keep),
                former: former.filter(|former| *former != rev).take(FORMER_MAX).cloned().collect(),
            }
        };
        let none = |name: &PinName| PinRefusal::NoSuchPin(name.clone());
        match change {
            Change::Add(name, rev, nixpkgs, programs) | Change::Move(name, rev, nixpkgs, programs) => {
                match next.pins.get_mut(name) {
                    Some(same) if (&same.rev, &same.nixpkgs) == (rev, nixpkgs) => {
                        same.programs = programs.clone().or(same.programs.take());
                    }
                    Some(_) if matches!(change, Change::Add(..)) => return Err(PinRefusal::Exists(name.clone())),
                    None if matches!(change, Change::Move(..)) => return Err(none(name)),
                    _ => drop(next.pins.insert(name.clone(), pin(name, rev, nixpkgs, programs))),
                }
            }
            Change::Keep(name, keep) => next.pins.get_mut(name).ok_or_else(|| none(name))?.keep = *keep,
            Change::Retire(name) if *name == self.default => return Err(PinRefusal::IsDefault(name.clone())),
            Change::Retire(name) => {
                let lately = self.left.iter().any(|(left, _)| left.pin == *name);
                if next.pins.remove(name).is_none() && !lately {
                    return Err(none(name));
                }
            }
            Change::Default(name) if !self.pins.contains_key(name) => return Err(none(name)),
            Change::Default(name) => next.default = name.clone(),
            Change::Withhold(attr, why) => {
                if self.withheld.get(attr).is_none_or(|known| known.why != *why) {
                    next.withheld.insert(attr.clone(), Withheld { why: clean_line(why, WHY_MAX), since: now });
                    next.settled.remove(attr);
                }
            }
            Change::Allow(attr, Some(seconds)) => drop(next.allowed.insert(attr.clone(), *seconds)),
            Change::Allow(attr, None) => drop(next.allowed.remove(attr)),
            Change::Restore(attr) => {
                next.withheld.remove(attr).ok_or_else(|| PinRefusal::NotWithheld(attr.clone()))?;
                next.settled.remove(attr);
            }
        }
        let what = |pins: &Pins| (pins.default.clone(), pins.pins.clone(), pins.withheld.clone(), pins.allowed.clone());
        if what(&next) == what(self) {
            return Ok(None);
        }
        for (name, old) in &self.pins {
            let moved = next.pins.get(name).is_none_or(|new| new.rev != old.rev);
            if moved || (*name == self.default && next.default != self.default) {
                next.left.push((Pinned { pin: name.clone(), rev: old.rev.clone() }, now));
            }
            if moved {
                next.past.insert(old.rev.clone(), now + old.keep);
            }
        }
        let Pins { pins, past, .. } = &mut next;
        // A revision without an entry is not kept, so an entry is dropped only long after its end.
        past.retain(|rev, until| now < *until + PAST_ENTRY && pins.values().all(|pin| pin.rev != *rev));
        Ok(Some(next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::target::Query;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn name(name: &str) -> PinName {
        name.parse().expect("a pin's name")
    }

    fn rev(digits: &str) -> Rev {
        digits.repeat(40 / digits.len()).parse().expect("hex")
    }

    fn source() -> Source {
        Nixpkgs::Path("/set".into()).into()
    }

    /// `stable` at abab…, the default, and `unstable` at cdcd….
    fn pins() -> Pins {
        let pins = Pins::one(name("stable"), rev("ab"), source());
        let added = pins.changed(&Change::Add(name("unstable"), rev("cd"), source(), None), NOW);
        added.expect("a new name").expect("a change")
    }

    fn resolve(pins: &Pins, query: &str) -> Result<String, Unserved> {
        let query = Query::parse("/tree", Some(query)).expect("a target");
        pins.resolve(&query.target, System::X86_64Linux)
            .map(|found| format!("{} {}/{}", found.pin, found.rev, found.system))
    }

    fn left(pins: &Pins) -> Vec<String> {
        pins.lately_left().map(Pinned::to_string).collect()
    }

    #[test]
    fn only_served_commits_are_named_by_name_or_by_prefix() {
        let (stable, unstable) = (rev("ab"), rev("cd"));
        for query in ["", "pin=stable", "nixpkgs-commit=abababa", &format!("nixpkgs-commit={stable}")] {
            assert_eq!(resolve(&pins(), query), Ok(format!("stable {stable}/x86_64-linux")), "{query}");
        }
        for query in ["pin=unstable&sys=aarch64-linux", "sys=aarch64-linux&nixpkgs-commit=cdcdcdcdcd"] {
            assert_eq!(resolve(&pins(), query), Ok(format!("unstable {unstable}/aarch64-linux")), "{query}");
        }
        for query in ["pin=nixos-20.03", "nixpkgs-commit=bababab", "nixpkgs-commit=abababac"] {
            let why = resolve(&pins(), query).expect_err(query);
            assert_eq!(why.served, [format!("stable ({stable})"), format!("unstable ({unstable})")]);
        }
    }

    #[test]
    fn a_change_tells_what_it_leaves_until_all_was_marked_after_it_has_settled() {
        let (stable, unstable) = (rev("ab"), rev("cd"));
        for (change, leaves) in [
            (Change::Move(name("unstable"), rev("ef"), source(), None), vec![format!("unstable/{unstable}")]),
            (Change::Retire(name("unstable")), vec![format!("unstable/{unstable}")]),
            (Change::Default(name("unstable")), vec![format!("stable/{stable}")]),
            (Change::Add(name("old"), rev("12"), source(), None), vec![]),
        ] {
            let changed = pins().changed(&change, NOW).expect("a legal change").expect("a change");
            assert_eq!(left(&changed), leaves, "{change:?}");
            // Repeated after a lost reply, it is done already; and what is left stays until it is marked.
            assert_eq!(changed.changed(&change, NOW + SETTLING * 2), Ok(None), "{change:?}");
            assert_eq!(changed.marked(NOW + SETTLING / 2), None, "{change:?}");
            let settled = changed.marked(NOW + SETTLING);
            assert_eq!(settled.as_ref().map(left), (!leaves.is_empty()).then(Vec::new), "{change:?}");
        }
        let there = Change::Move(name("unstable"), rev("ef"), source(), None);
        let back = Change::Move(name("unstable"), rev("cd"), source(), None);
        let moved = pins().changed(&there, NOW).expect("legal").expect("a change");
        let again = moved.changed(&back, NOW + SETTLING / 2).expect("legal").expect("a change");
        assert_eq!(left(&again), [format!("unstable/{unstable}"), format!("unstable/{}", rev("ef"))]);
        let settled = again.marked(NOW + SETTLING).expect("the first has settled");
        assert_eq!(left(&settled), [format!("unstable/{}", rev("ef"))]);
    }

    #[test]
    fn what_no_pin_stands_for_any_more_is_kept_for_as_long_as_its_pin_said() {
        let (stable, unstable, day) = (rev("ab"), rev("cd"), Duration::from_secs(24 * 3600));
        let grace = Duration::from_secs(3600);
        let change = |pins: &Pins, change| pins.changed(&change, NOW).expect("legal").expect("a change");
        let retire = Change::Retire(name("unstable"));
        let soon = change(&change(&pins(), Change::Keep(name("unstable"), day)), retire.clone());
        for (pins, keep) in [(&change(&pins(), retire), KEEP), (&soon, day)] {
            let told = pins.kept(NOW + keep / 2).map(|(rev, until)| (rev.clone(), until)).collect::<Vec<_>>();
            assert_eq!(told, [(unstable.clone(), NOW + keep)]);
            assert_eq!(pins.kept(NOW + keep).count(), 0);
            let needs = |rev, after| pins.needs(rev, NOW + after, grace);
            assert_eq!((needs(&unstable, keep), needs(&unstable, keep + grace)), (true, false));
            assert!(needs(&stable, 99 * keep) && !needs(&rev("12"), Duration::ZERO));
        }
        // A name keeps its retention when it moves; a revision that another name stands for is not left.
        let moved = change(&soon, Change::Add(name("old"), rev("12"), source(), None));
        let moved =
            change(&change(&moved, Change::Keep(name("old"), day)), Change::Move(name("old"), stable, source(), None));
        assert_eq!((moved.all()[&name("old")].keep, moved.kept(NOW).count()), (day, 2));
        let moved = change(&moved, Change::Move(name("old"), rev("34"), source(), None));
        assert_eq!(moved.kept(NOW).count(), 2);
        // A revision that a pin returns to is as if it had never been left.
        let back = change(&moved, Change::Move(name("old"), unstable, source(), None));
        assert_eq!(back.kept(NOW).map(|(rev, _)| rev.clone()).collect::<Vec<_>>(), [rev("12"), rev("34")]);
        assert_eq!(serde_json::from_value::<Pins>(serde_json::json!(back)).ok(), Some(back));
    }

    #[test]
    fn a_pin_remembers_the_latest_revisions_that_it_stood_for() {
        let mut pins = pins();
        for (to, former) in [
            ("12", &["cd"][..]),
            ("34", &["12", "cd"]),
            // A change of its source alone, and a return.
            ("34", &["12", "cd"]),
            ("cd", &["34", "12"]),
            ("56", &["cd", "34", "12"]),
            ("78", &["56", "cd", "34"]),
        ] {
            let source = Nixpkgs::Path(format!("/{}", former.len() + pins.kept(NOW).count())).into();
            let change = Change::Move(name("unstable"), rev(to), source, None);
            pins = pins.changed(&change, NOW).expect("legal").unwrap_or(pins);
            let former: Vec<_> = former.iter().map(|digits| rev(digits)).collect();
            assert_eq!(pins.all()[&name("unstable")].former, former, "{to}");
        }
        assert!(pins.all()[&name("stable")].former.is_empty());
        assert_eq!(serde_json::from_value::<Pins>(serde_json::json!(pins)).ok(), Some(pins));
    }

    #[test]
    fn what_can_not_be_changed_says_why() {
        for (change, why) in [
            (Change::Add(name("stable"), rev("12"), source(), None), PinRefusal::Exists(name("stable"))),
            (Change::Move(name("old"), rev("12"), source(), None), PinRefusal::NoSuchPin(name("old"))),
            (Change::Retire(name("old")), PinRefusal::NoSuchPin(name("old"))),
            (Change::Retire(name("stable")), PinRefusal::IsDefault(name("stable"))),
            (Change::Default(name("old")), PinRefusal::NoSuchPin(name("old"))),
            (Change::Keep(name("old"), KEEP), PinRefusal::NoSuchPin(name("old"))),
        ] {
            assert_eq!(pins().changed(&change, NOW), Err(why));
        }
    }

    #[test]
    fn a_pin_keeps_its_database_of_programs_until_it_moves_and_an_added_one_replaces_an_included_one() {
        let stored =
            |digit: &str| Programs::Stored(Content { sha256: digit.repeat(64).parse().expect("hex"), size: 7 });
        let to = |pins: &Pins, rev, programs| {
            let moved = pins.changed(&Change::Move(name("unstable"), rev, source(), programs), NOW).expect("legal");
            moved.unwrap_or_else(|| pins.clone())
        };
        let of = |pins: &Pins| pins.programs(&pins.all()[&name("unstable")].rev).cloned();
        let with = to(&pins(), rev("cd"), Some(Programs::Included));
        assert_eq!((of(&pins()), of(&with)), (None, Some(Programs::Included)));
        let with = to(&with, rev("cd"), Some(stored("a")));
        assert_eq!((of(&with), of(&to(&with, rev("cd"), None))), (Some(stored("a")), Some(stored("a"))));
        assert!(with.has_programs(&"a".repeat(64).parse().expect("hex")));
        assert!(!with.has_programs(&"b".repeat(64).parse().expect("hex")));
        // The name stands for the same nixpkgs as before, so no served row is stale.
        assert_eq!(left(&with), [""; 0]);
        assert_eq!(of(&to(&with, rev("ef"), None)), None);
        // Two pins of one commit have one catalogue.
        let both = with.changed(&Change::Add(name("a"), rev("cd"), source(), Some(Programs::Included)), NOW);
        assert_eq!(of(&both.expect("legal").expect("a change")), Some(stored("a")));
        // Orders and rows of earlier versions have none.
        let order = serde_json::json!({"add": ["x", rev("ab"), source()]});
        assert_eq!(
            serde_json::from_value::<Change>(order).ok(),
            Some(Change::Add(name("x"), rev("ab"), source(), None))
        );
        assert_eq!(serde_json::from_value::<Pins>(serde_json::json!(with)).ok(), Some(with));
    }

    #[test]
    fn pins_without_their_default_are_none() {
        let text = serde_json::to_string(&pins()).expect("JSON");
        assert_eq!(serde_json::from_str::<Pins>(&text).ok(), Some(pins()));
        assert!(serde_json::from_str::<Pins>(&text.replace("\"default\":\"stable\"", "\"default\":\"old\"")).is_err());
    }
}
