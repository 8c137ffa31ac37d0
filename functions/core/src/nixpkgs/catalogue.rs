//! The meaning of a path in one nixpkgs, before anything is built: the values that [`crate::ports::Catalogue`] returns.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::{
    build::failure::Failure,
    id::{
        key::{Attr, Bin, DrvHash, NAME_MAX},
        target::Wanted,
        text::clean_line,
    },
};

/// The largest size of a catalogue's file, in bytes: a function that answers requests holds the lookup file in memory.
pub const FILE_MAX: u64 = 64 << 20;

/// The most suggestions for an unknown name.
pub const NEAR_MAX: usize = 5;

/// The most alternatives to a package: others that ship a program of the same name.
pub const ALTERNATIVES_MAX: usize = 3;

/// What answers say while a nixpkgs has no catalogue. It takes a while: the whole nixpkgs is evaluated.
pub const NOT_MADE: &str = "the catalogue of this commit is not built yet, so only names of attributes are known";

/// The longest description, in characters.
const TEXT_MAX: usize = 300;

/// The most licences of a package.
const LICENSES_MAX: usize = 8;

/// The meaning of a path. Each variant leads to a kind of answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// A package that can be built, and its requested program: 302 or 202.
    Found {
        /// The package.
        attr: Attr,
        /// The program; `None`: the main one, which only a build can determine.
        bin: Option<Bin>,
        /// Its main program, if known.
        main: Option<Bin>,
        /// Its derivation, if known. Attributes with the same derivation are the same build.
        drv: Option<DrvHash>,
        /// Up to [`ALTERNATIVES_MAX`] other packages that ship a program of that name and may be served, the best first.
        others: Vec<Attr>,
    },
    /// A package of several programs without a main one: 300.
    Choice {
        /// The package.
        attr: Attr,
        /// Its programs that can be requested.
        programs: Vec<Bin>,
    },
    /// A package that cannot be built from this nixpkgs on this system: 422.
    Refused {
        /// The package.
        attr: Attr,
        /// The reason, of a kind that evaluation finds.
        failure: Failure,
        /// As in [`Resolution::Found`]. Empty for a package's name: the package would have yielded to them.
        others: Vec<Attr>,
    },
    /// The package exists, and ships no such program: 404.
    NoSuchProgram {
        /// The package.
        attr: Attr,
        /// Its programs.
        programs: Vec<Bin>,
    },
    /// No such package and no such program: 404.
    Unknown {
        /// Up to [`NEAR_MAX`] similar paths, the nearest first.
        near: Vec<Wanted>,
    },
}

/// A package on one system, as far as the lookup file describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The attribute.
    pub attr: Attr,
    /// Its main program, if one is known.
    pub main: Option<Bin>,
    /// Its programs that can be requested; empty if they are unknown.
    pub programs: Vec<Bin>,
    /// Why it cannot be built on this system; `None` if it can.
    pub refused: Option<Failure>,
    /// The range of its block in the details file.
    pub details: Range<u64>,
}

/// A catalogue in numbers, on one system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// The attributes; each is buildable, refused or lost.
    pub attributes: usize,
    /// Attributes that nixpkgs refuses.
    pub refused: usize,
    /// Attributes that could not be evaluated, by name.
    pub lost: Vec<Lost>,
}

/// An attribute that could not be evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The attribute.
    pub attr: Attr,
    /// The first line of its error.
    pub error: String,
}

/// A package's own description. All of it is foreign text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct About {
    /// Its name without its version.
    pub pname: String,
    /// Its version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// A description of one line.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Its homepage's URL, unchecked.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub homepage: String,
    /// SPDX identifiers, or nixpkgs' names of licences without one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub license: Vec<String>,
    /// `meta.mainProgram`: the program may not exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub main_program: Option<String>,
}

impl About {
    /// Sanitised and cut.
    #[must_use]
    pub fn cleaned(self) -> About {
        About {
            pname: clean_line(&self.pname, NAME_MAX),
            version: clean_line(&self.version, NAME_MAX),
            description: clean_line(&self.description, TEXT_MAX),
            homepage: clean_line(&self.homepage, TEXT_MAX),
            license: self.license.iter().take(LICENSES_MAX).map(|name| clean_line(name, NAME_MAX)).collect(),
            main_program: self.main_program.map(|name| clean_line(&name, NAME_MAX)),
        }
    }
}
