//! Pins: the nixpkgs that a deployment serves, by name. They give a [`Target`] its commit.
//!
//! They are one row of the ledger, and change while the service runs: [`Pins::changed`] says what is legal. What was
//! served under another meaning of a name is told by [`Pins::lately_left`], and marked by [`crate::flow::operator::pins`].

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    build::protocol::Nixpkgs,
    id::{
        key::{Attr, BuildKey, Product, Rev, System},
        target::{PinRef, Target, Wanted},
        text::clean_line,
        time::{Timestamp, seconds},
    },
};

/// Longest reason for which a package is taken down, in characters.
const WHY_MAX: usize = 200;

/// For how long after a change served rows are looked through that it made stale: longer than the longest request, which may
/// have looked at the pins before and write its row after, and longer than an index lags; and as much again as an
/// operator's clock may be off (AWS hears nobody whose clock is off by more than five minutes).
pub const SETTLING: Duration = Duration::from_secs(10 * 60);

pub use crate::id::key::PinName;
/// For how long after its time it is remembered until when something was kept: longer than the longest grace.
const PAST_ENTRY: Duration = Duration::from_secs(7 * 24 * 3600);

/// One nixpkgs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Which revision the name stands for now.
    pub rev: Rev,
    /// Where it is.
    pub nixpkgs: Source,
    /// Since when it stands for it.
    #[serde(default)]
    pub since: Timestamp,
    /// For how long that is kept which it stands for no more.
    #[serde(default = "usually_kept", with = "seconds", skip_serializing_if = "is_usually_kept")]
    pub keep: Duration,
}

/// For how long what a pin has left is kept where its operator says nothing else.
pub const KEEP: Duration = Duration::from_secs(30 * 24 * 3600);

fn usually_kept() -> Duration {
    KEEP
}

fn is_usually_kept(keep: &Duration) -> bool {
    *keep == KEEP
}

/// Where a pin's nixpkgs is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// In the deployment's own store, as a tarball ([`crate::objects::artifact::nixpkgs_path`]): a builder gets a URL of it.
    Stored {
        /// The unpacked tree's hash, in any spelling that Nix reads.
        nar_hash: String,
    },
    /// Where a builder finds it by itself.
    #[serde(untagged)]
    Elsewhere(Nixpkgs),
}

impl From<Nixpkgs> for Source {
    fn from(nixpkgs: Nixpkgs) -> Source {
        Source::Elsewhere(nixpkgs)
    }
}

/// What a name stood for when something was found under it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Pinned {
    /// The name.
    pub pin: PinName,
    /// What it stood for.
    pub rev: Rev,
}

/// `NAME/REV`.
impl fmt::Display for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.pin, self.rev)
    }
}

/// The pins of a deployment, of which one is the default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Pins {
    default: PinName,
    pins: BTreeMap<PinName, Pin>,
    /// What requests were given lately, and no longer are, and until when they were.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    left: Vec<(Pinned, Timestamp)>,
    /// What no pin stands for any more, and until when it is kept.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    past: BTreeMap<Rev, Timestamp>,
    /// Packages that are served to nobody.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    withheld: BTreeMap<Attr, Withheld>,
}

/// A package that an operator has taken down, of every nixpkgs and for every system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withheld {
    /// Why, for people: a few words without a full stop.
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
}

impl TryFrom<Unchecked> for Pins {
    type Error = PinRefusal;
    fn try_from(Unchecked { default, pins, left, past, withheld }: Unchecked) -> Result<Pins, PinRefusal> {
        match pins.contains_key(&default) {
            true => Ok(Pins { default, pins, left, past, withheld }),
            false => Err(PinRefusal::NoSuchPin(default)),
        }
    }
}

/// What an operator does to the pins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// A new name.
    Add(PinName, Rev, Source),
    /// A name stands for another nixpkgs.
    Move(PinName, Rev, Source),
    /// What a name stands for no more, is kept for so many seconds from now on.
    Keep(PinName, #[serde(with = "seconds")] Duration),
    /// A name is served no more.
    Retire(PinName),
    /// What is meant where a request names none.
    Default(PinName),
    /// A package is served no more, whatever it is asked for as; why, for people.
    Withhold(Attr, String),
    /// It is served again.
    Restore(Attr),
}

/// Why the pins do not change.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PinRefusal {
    /// The name stands for another nixpkgs already.
    #[error("there is a pin {0} already; `binplz pin move` makes it stand for another nixpkgs")]
    Exists(PinName),
    /// Nothing is called so.
    #[error("there is no pin {0}")]
    NoSuchPin(PinName),
    /// A deployment always has a default.
    #[error("{0} is the default pin; make another one the default first: binplz pin default NAME")]
    IsDefault(PinName),
    /// It is served.
    #[error("{0} is not taken down")]
    NotWithheld(Attr),
}

/// In which nixpkgs a target is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedPin {
    /// Under which pin.
    pub pin: PinName,
    /// What that stands for.
    pub rev: Rev,
    /// For which system.
    pub system: System,
}

impl ResolvedPin {
    /// The build of something of it.
    pub fn build(&self, product: Product) -> BuildKey {
        BuildKey { rev: self.rev.clone(), system: self.system, product }
    }

    /// Whether what is found in it is written down as found there.
    pub(crate) fn is(&self, pinned: &Pinned) -> bool {
        (&self.pin, &self.rev) == (&pinned.pin, &pinned.rev)
    }
}

/// The request names a nixpkgs that this deployment does not serve.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("this service has no such nixpkgs; it serves {}", .served.join(", "))]
pub struct Unserved {
    /// What it serves: "NAME (COMMIT)".
    pub served: Vec<String>,
}

impl Pins {
    /// These pins, and which one is meant where a request names none.
    ///
    /// # Errors
    /// [`PinRefusal::NoSuchPin`]: the default is none of them.
    pub fn new(default: PinName, pins: BTreeMap<PinName, Pin>) -> Result<Pins, PinRefusal> {
        let (left, past, withheld) = Default::default();
        Unchecked { default, pins, left, past, withheld }.try_into()
    }

    /// One pin, which is the default.
    pub fn one(name: PinName, rev: Rev, nixpkgs: Source) -> Pins {
        let pin = Pin { rev, nixpkgs, since: Timestamp(0), keep: KEEP };
        let pins = BTreeMap::from([(name.clone(), pin)]);
        let (left, past, withheld) = Default::default();
        Pins { default: name, pins, left, past, withheld }
    }

    /// The default's name.
    pub fn default_name(&self) -> &PinName {
        &self.default
    }

    /// All of them, by name.
    pub fn all(&self) -> &BTreeMap<PinName, Pin> {
        &self.pins
    }

    /// Gives a target its pin and that pin's revision, and its system, which is `system` where it names none.
    ///
    /// # Errors
    /// [`Unserved`], where it names another nixpkgs: nobody can make the store grow by naming commits.
    pub fn resolve(&self, target: &Target, system: System) -> Result<ResolvedPin, Unserved> {
        self.find(target.pin.as_ref(), target.system.unwrap_or(system))
    }

    /// The nixpkgs that is meant, for a system.
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
        Ok(ResolvedPin { pin: name.clone(), rev: pin.rev.clone(), system })
    }

    /// What to ask for to get what a build makes, as short as can be; `None`: no pin stands for its nixpkgs, or it is no package.
    /// `system` is the deployment's.
    pub fn target(&self, key: &BuildKey, system: System) -> Option<Target> {
        let BuildKey { rev, system: of, product } = key;
        let Product::Package(attr) = product else { return None };
        let stands = |(_, pin): &(&PinName, &Pin)| pin.rev == *rev;
        let default = self.pins.get_key_value(&self.default).filter(stands);
        let (name, _) = default.or_else(|| self.pins.iter().find(stands))?;
        Some(Target {
            wanted: Wanted::Package(attr.clone()),
            system: (*of != system).then_some(*of),
            pin: (*name != self.default).then(|| PinRef::Name(name.clone())),
        })
    }

    /// Where the nixpkgs of a revision is, if a pin still stands for it.
    pub fn nixpkgs(&self, rev: &Rev) -> Option<&Source> {
        self.pins.values().find(|pin| &pin.rev == rev).map(|pin| &pin.nixpkgs)
    }

    /// Whether what a build makes would be served to anybody.
    pub fn serve(&self, key: &BuildKey) -> bool {
        let withheld = matches!(&key.product, Product::Package(attr) if self.withheld.contains_key(attr));
        !withheld && self.nixpkgs(&key.rev).is_some()
    }

    /// What no pin stands for any more and is kept yet, and until when.
    pub fn kept(&self, now: Timestamp) -> impl Iterator<Item = (&Rev, Timestamp)> {
        self.past.iter().filter(move |(_, until)| now < **until).map(|(rev, until)| (rev, *until))
    }

    /// Whether a revision is needed: a pin stands for it, or what was built of it was kept until less than `grace` ago.
    pub fn needs(&self, rev: &Rev, now: Timestamp, grace: Duration) -> bool {
        self.nixpkgs(rev).is_some() || self.past.get(rev).is_some_and(|until| now < *until + grace)
    }

    /// What is served to nobody.
    pub fn withheld(&self) -> &BTreeMap<Attr, Withheld> {
        &self.withheld
    }

    /// What has been taken down so lately that a request may just now write down that it is served.
    pub fn lately_withheld(&self, now: Timestamp) -> impl Iterator<Item = &Attr> {
        self.withheld.iter().filter(move |(_, withheld)| now < withheld.since + SETTLING).map(|(attr, _)| attr)
    }

    /// What names meant until lately, so that a request may just now write down that it found something there. Whatever is
    /// fresh of it and meant by nobody any more is to be marked.
    pub fn lately_left(&self, now: Timestamp) -> impl Iterator<Item = &Pinned> {
        self.left.iter().filter(move |(_, at)| now < *at + SETTLING).map(|(pinned, _)| pinned)
    }

    /// The pins after a change; `None` where they are so already, so that a change whose reply was lost can be made again.
    ///
    /// # Errors
    /// [`PinRefusal`].
    pub fn changed(&self, change: &Change, now: Timestamp) -> Result<Option<Pins>, PinRefusal> {
        let mut next = self.clone();
        let pin = |name, rev: &Rev, nixpkgs: &Source| {
            let keep = self.pins.get(name).map_or(KEEP, |old| old.keep);
            Pin { rev: rev.clone(), nixpkgs: nixpkgs.clone(), since: now, keep }
        };
        let none = |name: &PinName| PinRefusal::NoSuchPin(name.clone());
        match change {
            Change::Add(name, rev, nixpkgs) | Change::Move(name, rev, nixpkgs) => match self.pins.get(name) {
                Some(old) if (&old.rev, &old.nixpkgs) == (rev, nixpkgs) => {}
                Some(_) if matches!(change, Change::Add(..)) => return Err(PinRefusal::Exists(name.clone())),
                None if matches!(change, Change::Move(..)) => return Err(none(name)),
                _ => drop(next.pins.insert(name.clone(), pin(name, rev, nixpkgs))),
            },
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
                let known = self.withheld.get(attr).filter(|withheld| withheld.why == *why);
                let withheld = known.cloned().unwrap_or(Withheld { why: clean_line(why, WHY_MAX), since: now });
                next.withheld.insert(attr.clone(), withheld);
            }
            Change::Restore(attr) => {
                next.withheld.remove(attr).ok_or_else(|| PinRefusal::NotWithheld(attr.clone()))?;
            }
        }
        if (&next.default, &next.pins, &next.withheld) == (&self.default, &self.pins, &self.withheld) {
            return Ok(None);
        }
        next.left.retain(|(_, at)| now < *at + SETTLING);
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
        // Without an entry, what no pin stands for is not kept: so one is dropped long after it says nothing any more.
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
        let added = pins.changed(&Change::Add(name("unstable"), rev("cd"), source()), NOW);
        added.expect("a new name").expect("a change")
    }

    fn resolve(pins: &Pins, query: &str) -> Result<String, Unserved> {
        let query = Query::parse("/tree", Some(query)).expect("a target");
        pins.resolve(&query.target, System::X86_64Linux)
            .map(|found| format!("{} {}/{}", found.pin, found.rev, found.system))
    }

    fn left(pins: &Pins, now: Timestamp) -> Vec<String> {
        pins.lately_left(now).map(Pinned::to_string).collect()
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
    fn a_change_tells_what_it_leaves_for_as_long_as_that_settles() {
        let (stable, unstable) = (rev("ab"), rev("cd"));
        for (change, leaves) in [
            (Change::Move(name("unstable"), rev("ef"), source()), vec![format!("unstable/{unstable}")]),
            (Change::Retire(name("unstable")), vec![format!("unstable/{unstable}")]),
            (Change::Default(name("unstable")), vec![format!("stable/{stable}")]),
            (Change::Add(name("old"), rev("12"), source()), vec![]),
        ] {
            let changed = pins().changed(&change, NOW).expect("a legal change").expect("a change");
            assert_eq!(left(&changed, NOW), leaves, "{change:?}");
            assert_eq!(left(&changed, NOW + SETTLING), Vec::<String>::new(), "{change:?}");
            // Made again, since its reply was lost, it is made already.
            assert_eq!(changed.changed(&change, NOW + SETTLING / 2), Ok(None), "{change:?}");
        }
        let there = Change::Move(name("unstable"), rev("ef"), source());
        let back = Change::Move(name("unstable"), rev("cd"), source());
        let moved = pins().changed(&there, NOW).expect("legal").expect("a change");
        let again = moved.changed(&back, NOW + SETTLING / 2).expect("legal").expect("a change");
        assert_eq!(
            left(&again, NOW + SETTLING / 2),
            [format!("unstable/{unstable}"), format!("unstable/{}", rev("ef"))]
        );
        assert_eq!(left(&again, NOW + SETTLING), [format!("unstable/{}", rev("ef"))]);
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
        // A name keeps what it was told, whatever it stands for; what another name stands for is not left.
        let moved = change(&soon, Change::Add(name("old"), rev("12"), source()));
        let moved =
            change(&change(&moved, Change::Keep(name("old"), day)), Change::Move(name("old"), stable, source()));
        assert_eq!((moved.all()[&name("old")].keep, moved.kept(NOW).count()), (day, 2));
        let moved = change(&moved, Change::Move(name("old"), rev("34"), source()));
        assert_eq!(moved.kept(NOW).count(), 2);
        // What is stood for again is as if it had never been left.
        let back = change(&moved, Change::Move(name("old"), unstable, source()));
        assert_eq!(back.kept(NOW).map(|(rev, _)| rev.clone()).collect::<Vec<_>>(), [rev("12"), rev("34")]);
        assert_eq!(serde_json::from_value::<Pins>(serde_json::json!(back)).ok(), Some(back));
    }

    #[test]
    fn what_can_not_be_changed_says_why() {
        for (change, why) in [
            (Change::Add(name("stable"), rev("12"), source()), PinRefusal::Exists(name("stable"))),
            (Change::Move(name("old"), rev("12"), source()), PinRefusal::NoSuchPin(name("old"))),
            (Change::Retire(name("old")), PinRefusal::NoSuchPin(name("old"))),
            (Change::Retire(name("stable")), PinRefusal::IsDefault(name("stable"))),
            (Change::Default(name("old")), PinRefusal::NoSuchPin(name("old"))),
            (Change::Keep(name("old"), KEEP), PinRefusal::NoSuchPin(name("old"))),
        ] {
            assert_eq!(pins().changed(&change, NOW), Err(why));
        }
    }

    #[test]
    fn pins_without_their_default_are_none() {
        let text = serde_json::to_string(&pins()).expect("JSON");
        assert_eq!(serde_json::from_str::<Pins>(&text).ok(), Some(pins()));
        assert!(serde_json::from_str::<Pins>(&text.replace("\"default\":\"stable\"", "\"default\":\"old\"")).is_err());
    }
}
