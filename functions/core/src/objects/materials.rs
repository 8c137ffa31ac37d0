//! What a build is made of, as its package declares it and its derivation shows it: `materials.json` beside the manifest.
//!
//! A builder reports it with its manifest, and it is the builder's word. The service cleans it and writes it when the build
//! settles, with the SBOM that follows from it ([`crate::trust::sbom`]). Earlier versions wrote neither. Everything in it is a
//! function of the derivation, its package's `meta` and the builder's own version, so two builds of one derivation by one
//! builder have the same bytes.
//!
//! Licences, CPEs and PURLs are nixpkgs' statements. Which inputs are linked is a guess: no derivation says it, but a static
//! program can contain only what its package declares as inputs of the host (`buildInputs`, `propagatedBuildInputs` and the
//! C library), followed through theirs. What a source carries inside itself, such as vendored crates, is not listed.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::id::{
    key::{NAME_MAX, Sha256},
    text::clean_line,
};

/// Most components of a kind, sources of a component, and URLs of a source.
const LIST_MAX: usize = 500;
/// Most store paths in the list of inputs.
pub const INPUTS_MAX: usize = 8000;
/// Longest text, in characters.
const TEXT_MAX: usize = 2000;

/// What a build is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Materials {
    /// What has made it.
    #[serde(default)]
    pub builder: Builder,
    /// The package itself.
    pub package: Component,
    /// The inputs of the host, as declared: what a static program of the package may contain.
    #[serde(default)]
    pub linked: Vec<Component>,
    /// Of a bundle: the other store paths in it. It has these for certain, and no package declares them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contained: Vec<String>,
    /// The inputs that only build it, as declared.
    #[serde(default)]
    pub build_time: Vec<Component>,
    /// The store paths of all derivations and files that the derivation is made from, itself included, in order. Empty: there are
    /// more than [`INPUTS_MAX`], and the derivation's own hash stands for them.
    #[serde(default)]
    pub inputs: Vec<String>,
}

/// The programs that have made a build.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Builder {
    /// The version of `binplz-builder`.
    pub version: String,
    /// The version of Nix.
    pub nix: String,
    /// The digest of the container image that it ran in, where it knows that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Sha256>,
}

/// A package that is an input, or the one that is built.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Component {
    /// Its name without its version.
    pub name: String,
    /// Its version; may be empty.
    #[serde(default)]
    pub version: String,
    /// Its derivation.
    pub derivation: String,
    /// Its licences.
    #[serde(default)]
    pub licences: Vec<Licence>,
    /// Its CPE (`meta.identifiers`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpe: Option<String>,
    /// Its package URL (`meta.identifiers`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purl: Option<String>,
    /// Its sources: the downloads among its derivation's own inputs. They are not listed for what is only a build-time input.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Source>,
}

/// A licence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Licence {
    /// By its SPDX identifier, as nixpkgs has it.
    Spdx(String),
    /// By its name.
    Name(String),
}

impl Licence {
    /// The identifier or name.
    pub fn text(&self) -> &str {
        match self {
            Licence::Spdx(text) | Licence::Name(text) => text,
        }
    }
}

/// A download with a fixed hash.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// Where to get it; `mirror://NAME/` is one of nixpkgs' lists of mirrors. Empty: the derivation does not say, as for vendored
    /// dependencies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// The commit or tag, if it is taken from a repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rev: Option<String>,
    /// The hash's algorithm, by Nix's name.
    pub algorithm: String,
    /// The hash, in hexadecimal digits.
    pub hash: String,
    /// What the hash is of.
    pub mode: HashMode,
}

/// What a fixed hash is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HashMode {
    /// The file's bytes.
    Flat,
    /// The NAR of the unpacked files.
    Recursive,
}

impl Materials {
    /// The same with all foreign text sanitised, and all lists in order, each element once, and not too long.
    #[must_use]
    pub fn cleaned(self) -> Materials {
        let Materials { builder, package, linked, contained, build_time, mut inputs } = self;
        if inputs.len() > INPUTS_MAX {
            inputs.clear();
        }
        let package = package.cleaned();
        // Each derivation is listed once, as what it is first.
        let mut seen = BTreeSet::from([package.derivation.clone()]);
        let mut once = |list: Vec<Component>| {
            let mut list = in_order(list.into_iter().map(Component::cleaned).collect());
            list.retain(|one| seen.insert(one.derivation.clone()));
            list
        };
        let (linked, build_time) = (once(linked), once(build_time));
        let mut contained = in_order(contained.iter().map(|path| long(path)).collect());
        contained.retain(|path| seen.insert(path.clone()));
        Materials {
            builder: Builder { version: short(&builder.version), nix: short(&builder.nix), ..builder },
            inputs: in_order_all(inputs.iter().map(|path| long(path)).collect()),
            package,
            linked,
            contained,
            build_time,
        }
    }

    /// As JSON: equal values have equal bytes.
    ///
    /// # Errors
    /// serde's; there is no such value.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }
}

impl Component {
    fn cleaned(self) -> Component {
        let licences = self.licences.into_iter().map(|licence| match licence {
            Licence::Spdx(id) => Licence::Spdx(short(&id)),
            Licence::Name(name) => Licence::Name(short(&name)),
        });
        let kept =
            |text: Option<String>, scheme: &str| text.map(|text| long(&text)).filter(|text| text.starts_with(scheme));
        Component {
            name: short(&self.name),
            version: short(&self.version),
            derivation: long(&self.derivation),
            licences: licences.filter(|licence| !licence.text().is_empty()).take(LIST_MAX).collect(),
            cpe: kept(self.cpe, "cpe:"),
            purl: kept(self.purl, "pkg:"),
            sources: in_order(self.sources.into_iter().map(Source::cleaned).collect()),
        }
    }
}

impl Source {
    /// The hash with what it is of, for people.
    pub fn told_hash(&self) -> String {
        match self.mode {
            HashMode::Flat => format!("{} {}", self.algorithm, self.hash),
            HashMode::Recursive => format!("{} {} of the unpacked files' NAR", self.algorithm, self.hash),
        }
    }

    fn cleaned(self) -> Source {
        Source {
            name: long(&self.name),
            urls: self.urls.iter().map(|url| long(url)).filter(|url| is_url(url)).take(LIST_MAX).collect(),
            rev: self.rev.map(|rev| long(&rev)),
            algorithm: short(&self.algorithm),
            hash: long(&self.hash),
            mode: self.mode,
        }
    }
}

/// Whether a text can be a URL, with a scheme (RFC 3986).
fn is_url(text: &str) -> bool {
    let legal = |c: char| c.is_ascii_graphic() && !"<>\"{}|\\^`".contains(c);
    text.split_once("://").is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty())
        && text.chars().all(legal)
}

fn short(text: &str) -> String {
    clean_line(text, NAME_MAX)
}

fn long(text: &str) -> String {
    clean_line(text, TEXT_MAX)
}

fn in_order<T: Ord>(list: Vec<T>) -> Vec<T> {
    let mut list = in_order_all(list);
    list.truncate(LIST_MAX);
    list
}

fn in_order_all<T: Ord>(mut list: Vec<T>) -> Vec<T> {
    list.sort();
    list.dedup();
    list
}
