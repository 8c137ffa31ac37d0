//! What a path means in one nixpkgs, before anything is built (contract §1). [`crate::ports::Catalogue`] says it.

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

/// Largest of a catalogue's two files, in bytes: whoever answers requests has the lookup file in memory.
pub const FILE_MAX: u64 = 64 << 20;

/// Most near names of a name that is nothing.
pub const NEAR_MAX: usize = 5;

/// Longest description, in characters.
const TEXT_MAX: usize = 300;

/// Most licences of a package.
const LICENSES_MAX: usize = 8;

/// What a path means. Each one is a kind of answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// A package that can be built, and which of its programs is meant: 302, or 202.
    Found {
        /// The package.
        attr: Attr,
        /// The program; `None`: its main one, and only a build can tell which that is.
        bin: Option<Bin>,
        /// Its main program, where that is known.
        main: Option<Bin>,
        /// Its derivation, where that is known. Attributes with the same one are the same build.
        drv: Option<DrvHash>,
    },
    /// A package of several programs without a main one: 300.
    Choice {
        /// The package.
        attr: Attr,
        /// Those of its programs that may be asked for.
        programs: Vec<Bin>,
    },
    /// A package that can not be had from this nixpkgs on this system: 422.
    Refused {
        /// The package.
        attr: Attr,
        /// Why not. Its kind is one of those that evaluating finds.
        failure: Failure,
    },
    /// The package is there, and ships no such program: 404.
    NoSuchProgram {
        /// The package.
        attr: Attr,
        /// What it ships.
        programs: Vec<Bin>,
    },
    /// No such package and no such program: 404.
    Unknown {
        /// Up to [`NEAR_MAX`] paths of nearly that name, the nearest first.
        near: Vec<Wanted>,
    },
}

/// What is known of a package on one system, without reading more than the lookup file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which.
    pub attr: Attr,
    /// Its main program, if one is known.
    pub main: Option<Bin>,
    /// Its programs that may be asked for. None: nobody knows them.
    pub programs: Vec<Bin>,
    /// Why it can not be had on this system; `None`: nothing speaks against it.
    pub refused: Option<Failure>,
    /// Which range of the details file has what there is to say on it.
    pub details: Range<u64>,
}

/// What a package says of itself. All of it is foreign text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct About {
    /// Its name without its version.
    pub pname: String,
    /// Its version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// One line.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// A URL, or so it says.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub homepage: String,
    /// SPDX identifiers, or what nixpkgs calls licences that have none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub license: Vec<String>,
    /// `meta.mainProgram`: it may name what is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub main_program: Option<String>,
}

impl About {
    /// The same made harmless, and short, whoever wrote it.
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
