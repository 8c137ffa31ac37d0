//! What a path means in one nixpkgs, before anything is built (contract §1). [`crate::ports::Catalogue`] says it.

use crate::{
    failure::Failure,
    key::{Attr, Bin, DrvHash},
    target::Wanted,
};

/// Largest of a catalogue's two files, in bytes: whoever answers requests has the lookup file in memory.
pub const FILE_MAX: u64 = 64 << 20;

/// Most near names of a name that is nothing.
pub const NEAR_MAX: usize = 5;

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
