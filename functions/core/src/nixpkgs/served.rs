//! The served row: all that a hit needs, in one read.
//!
//! Its key is the *requested* target, so a hit needs no pin; and it stays when its pin moves, marked
//! [stale](Served::stale), until there is a newer one. `flow/operator/pins.rs` marks it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    id::{
        key::{Attr, BadName, Bin, BuildKey, OutputName, PinName, Product, Rev, Sha256, System, serde_as_text},
        target::{COMMIT_MIN, PinRef, Query, Target, Wanted},
    },
    nixpkgs::pins::Pinned,
    objects::{
        artifact::{Bundled, Manifest, ObjectPath, Program, Verdict},
        content::Content,
        needs::{Need, sentence},
    },
};

/// The key of a hit: a target with its system, and of a commit only the first seven digits, so that all spellings of a
/// commit lead to one row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServedKey {
    wanted: Wanted,
    system: System,
    pin: Option<PinRef>,
}

impl ServedKey {
    /// The key of a target; `system` is the deployment's, for targets that name none.
    pub fn of(target: &Target, system: System) -> ServedKey {
        let pin = target.pin.clone().map(|pin| match pin {
            PinRef::Commit(start) => PinRef::Commit(start.chars().take(COMMIT_MIN).collect()),
            name => name,
        });
        ServedKey { wanted: target.wanted.clone(), system: target.system.unwrap_or(system), pin }
    }

    /// The system.
    pub fn system(&self) -> System {
        self.system
    }

    /// What the path names.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// The target of this key, with its system.
    pub fn target(&self) -> Target {
        Target { wanted: self.wanted.clone(), system: Some(self.system), pin: self.pin.clone() }
    }
}

/// The target's canonical text: `procps/ps?sys=x86_64-linux&pin=unstable`.
impl fmt::Display for ServedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.target().fmt(f)
    }
}

impl FromStr for ServedKey {
    type Err = BadName;
    fn from_str(s: &str) -> Result<Self, BadName> {
        let (path, query) = s.split_once('?').ok_or(BadName::Form)?;
        let target = Query::parse(path, Some(query)).map_err(|_| BadName::Form)?.target;
        let key = ServedKey::of(&target, target.system.ok_or(BadName::Form)?);
        // Each key has one form; any other is refused.
        if key.to_string() == s { Ok(key) } else { Err(BadName::Form) }
    }
}

serde_as_text!(ServedKey, BadName);

/// The last good program of a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// The requested target.
    pub asked: ServedKey,
    /// The pin under which it was found.
    pub pin: PinName,
    /// The nixpkgs that it was built from: the pin's revision at that time.
    pub rev: Rev,
    /// The package.
    pub attr: Attr,
    /// The program.
    pub bin: Bin,
    /// The package's version; may be empty.
    pub version: String,
    /// The file's sha256.
    pub sha256: Sha256,
    /// The file's size, in bytes.
    pub size: u64,
    /// The file's object.
    pub object: ObjectPath,
    /// What answers say of it beyond that.
    #[serde(flatten)]
    pub notes: Notes,
    /// The target means another nixpkgs by now, or none. The program is still served while the newer one is built.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stale: bool,
    /// The object was found missing or damaged: it is not served any more. The row stays, so that its version goes on,
    /// until a request finds a successor.
    #[serde(default, skip_serializing_if = "is_false")]
    pub lost: bool,
}

impl Served {
    /// The product that it is, or is part of. Its object may be of another package with the same derivation.
    pub fn product(&self) -> Product {
        match self.object.key.product {
            Product::Bundle { full, .. } => Product::Bundle { attr: self.attr.clone(), full },
            Product::Package(_) | Product::Catalogue => Product::Package(self.attr.clone()),
        }
    }
}

/// What answers say of a program. A row of an earlier version has nothing of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notes {
    /// The output that contains it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<OutputName>,
    /// What the program needs beyond its file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<Vec<Need>>,
    /// Its package's wrapper, which has its name, is not what is served.
    #[serde(default, skip_serializing_if = "is_false")]
    pub unwrapped: bool,
    /// The file has other names too: it may act by the name that it is called by.
    #[serde(default, skip_serializing_if = "is_false")]
    pub name_matters: bool,
    /// What is in it, if it is a bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<Bundled>,
    /// The same program of other packages, the best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Wanted>,
}

impl Notes {
    /// What is said of a program of a package.
    pub fn of(manifest: &Manifest, program: &Program) -> Notes {
        let (needs, unwrapped) = match &program.verdict {
            Verdict::Static { needs, unwrapped, .. } => (needs.clone(), *unwrapped),
            Verdict::Refused { .. } => (None, false),
        };
        let (output, name_matters) = (program.output.clone(), manifest.has_other_names(program));
        Notes { output, needs, unwrapped, name_matters, bundle: manifest.bundle.clone(), others: Vec::new() }
    }

    /// Whether the file is not all that the program needs.
    pub fn has_needs(&self) -> bool {
        self.needs.as_ref().is_some_and(|needs| !needs.is_empty())
    }

    /// What users should know of the program with that name, for people. Empty: nothing.
    ///
    /// The stub leaves out the clause on the name if the file is called so (`answer/stub/steps.sh`).
    pub fn sentence(&self, bin: &Bin) -> String {
        let name = format!("keep the name {bin}: this file has several names, and its name decides what it does");
        let needs = sentence(self.needs.as_deref().unwrap_or_default());
        let clauses = [self.name_matters.then_some(name), Some(needs).filter(|needs| !needs.is_empty())];
        clauses.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }
}

// serde passes a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl Served {
    /// The pin and revision under which it was found.
    pub fn pinned(&self) -> Pinned {
        Pinned { pin: self.pin.clone(), rev: self.rev.clone() }
    }

    /// The build that it is of. Its object may be another build's.
    pub fn key(&self) -> BuildKey {
        let product = self.asked.wanted.product(self.attr.clone());
        BuildKey { rev: self.rev.clone(), system: self.asked.system, product }
    }

    /// The object's size and sha256.
    pub fn content(&self) -> Content {
        Content { sha256: self.sha256.clone(), size: self.size }
    }

    /// Whether it is listed under its pin: its target still means it, and its object is served.
    pub fn is_listed(&self) -> bool {
        !self.stale && !self.lost
    }

    /// Whether it is of the requested nixpkgs: a request that names a commit means that commit, to its last digit.
    pub fn is_of(&self, pin: Option<&PinRef>) -> bool {
        match pin {
            Some(PinRef::Commit(start)) => self.rev.as_str().starts_with(start),
            Some(PinRef::Name(_)) | None => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(url: &str) -> String {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let query = Query::parse(path, Some(query)).expect("a target");
        ServedKey::of(&query.target, System::X86_64Linux).to_string()
    }

    #[test]
    fn a_key_is_what_was_asked_and_the_same_for_the_same() {
        for (url, text) in [
            ("/tree", "tree?sys=x86_64-linux"),
            ("/tree?sys=x86_64-linux&retry", "tree?sys=x86_64-linux"),
            ("/tree?sys=aarch64-linux", "tree?sys=aarch64-linux"),
            ("/coreutils/[?pin=abcdef0", "coreutils/%5B?sys=x86_64-linux&pin=abcdef0"),
            ("/tree?nixpkgs-commit=abcdef0", "tree?sys=x86_64-linux&nixpkgs-commit=abcdef0"),
            ("/tree?nixpkgs-commit=abcdef0123456789", "tree?sys=x86_64-linux&nixpkgs-commit=abcdef0"),
        ] {
            assert_eq!(key(url), text, "{url}");
            assert_eq!(text.parse::<ServedKey>().map(|key| key.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn what_is_not_a_keys_one_spelling_is_refused() {
        for text in [
            "tree",
            "tree?",
            "/tree?sys=x86_64-linux",
            "tr%65e?sys=x86_64-linux",
            "tree?pin=a&sys=x86_64-linux",
            "tree?sys=x86_64-linux&retry",
            "tree?sys=x86_64-linux&nixpkgs-commit=abcdef01",
            "nixos-26.05/x86_64-linux/tree",
        ] {
            assert!(text.parse::<ServedKey>().is_err(), "{text}");
        }
    }
}
