//! Pins: the nixpkgs that a deployment serves, by name. They turn a [`Target`] into a [`BuildKey`].

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    key::{BadName, BuildKey, Rev, System, serde_as_text},
    protocol::Nixpkgs,
    target::{PinRef, Target},
};

/// A pin's name: `nixos-26.05`, `unstable`. 1 to 64 of `[a-z0-9.-]`, starting with a letter or a digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PinName(String);

impl FromStr for PinName {
    type Err = BadName;
    fn from_str(s: &str) -> Result<Self, BadName> {
        let fits = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-');
        match s.as_bytes() {
            [] => Err(BadName::Empty),
            [b'.' | b'-', ..] => Err(BadName::Start),
            bytes if bytes.len() > 64 => Err(BadName::TooLong),
            bytes if bytes.iter().all(|b| fits(*b)) => Ok(PinName(s.to_owned())),
            _ => Err(BadName::Character),
        }
    }
}
serde_as_text!(PinName, BadName);
impl fmt::Display for PinName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One nixpkgs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Which revision the name stands for now.
    pub rev: Rev,
    /// Where it is.
    pub nixpkgs: Source,
}

/// Where a pin's nixpkgs is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// In the deployment's own store, as a tarball ([`crate::artifact::nixpkgs_path`]): a builder gets a URL of it.
    Stored {
        /// The unpacked tree's hash, as Nix writes it (`sha256-…`).
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

/// The pins of a deployment: at least the default one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pins {
    default: PinName,
    pins: BTreeMap<PinName, Pin>,
    /// The system that is meant where a request names none.
    system: System,
}

/// A target's identity, and how it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Under which pin.
    pub pin: PinName,
    /// What to build.
    pub key: BuildKey,
}

/// The request names a nixpkgs that this deployment does not serve.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("this service has no such nixpkgs; it serves {}", .served.join(", "))]
pub struct Unserved {
    /// What it serves: "NAME (COMMIT)".
    pub served: Vec<String>,
}

impl Pins {
    /// A deployment that serves one pin.
    pub fn one(name: PinName, pin: Pin, system: System) -> Pins {
        Pins { default: name.clone(), pins: BTreeMap::from([(name, pin)]), system }
    }

    /// A deployment that serves none.
    pub fn none() -> Pins {
        Pins { default: PinName("none".to_owned()), pins: BTreeMap::new(), system: System::X86_64Linux }
    }

    /// Gives a target its system, its pin and that pin's revision.
    ///
    /// # Errors
    /// [`Unserved`], where it names another nixpkgs: nobody can make the store grow by naming commits.
    pub fn resolve(&self, target: &Target) -> Result<Resolved, Unserved> {
        let found = match &target.pin {
            None => self.pins.get_key_value(&self.default),
            Some(PinRef::Name(name)) => self.pins.get_key_value(name),
            Some(PinRef::Commit(start)) => self.pins.iter().find(|(_, pin)| pin.rev.as_str().starts_with(start)),
        };
        let (name, pin) = found.ok_or_else(|| Unserved {
            served: self.pins.iter().map(|(name, pin)| format!("{name} ({})", pin.rev)).collect(),
        })?;
        let key = BuildKey {
            rev: pin.rev.clone(),
            system: target.system.unwrap_or(self.system),
            attr: target.wanted.attr().clone(),
        };
        Ok(Resolved { pin: name.clone(), key })
    }

    /// Where the nixpkgs of a revision is, if a pin still names it.
    pub fn nixpkgs(&self, rev: &Rev) -> Option<&Source> {
        self.pins.values().find(|pin| &pin.rev == rev).map(|pin| &pin.nixpkgs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Query;

    fn resolve(query: &str) -> Result<String, Unserved> {
        let pin = Pin { rev: "ab".repeat(20).parse().expect("hex"), nixpkgs: Nixpkgs::Path("/set".into()).into() };
        let pins = Pins::one("nixos-26.05".parse().expect("a pin's name"), pin, System::X86_64Linux);
        let query = Query::parse("/tree", Some(query)).expect("a target");
        pins.resolve(&query.target).map(|resolved| resolved.key.to_string())
    }

    #[test]
    fn only_served_commits_are_named_by_name_or_by_prefix() {
        let key = format!("{}/x86_64-linux/tree", "ab".repeat(20));
        for query in ["", "pin=nixos-26.05", "nixpkgs-commit=abababa", &format!("nixpkgs-commit={}", "ab".repeat(20))] {
            assert_eq!(resolve(query).as_ref(), Ok(&key), "{query}");
        }
        for query in ["pin=unstable", "nixpkgs-commit=bababab"] {
            assert!(resolve(query).is_err(), "{query}");
        }
        assert!(resolve("sys=aarch64-linux").is_ok_and(|key| key.contains("/aarch64-linux/")));
    }
}
