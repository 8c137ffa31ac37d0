//! The served row: all that a hit needs, in one read.

use serde::{Deserialize, Serialize};

use crate::{
    artifact::ObjectPath,
    key::{Attr, Bin, Rev, Sha256, System},
    pins::PinName,
    target::Wanted,
};

/// What a hit is looked up by: the path as it was asked, under a pin, for a system.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServedKey {
    /// The pin, by name: a moved pin still finds its last good binary.
    pub pin: PinName,
    /// The system.
    pub system: System,
    /// [`Wanted`], as it prints.
    pub wanted: String,
}

/// The last good artifact of a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// Under which pin.
    pub pin: PinName,
    /// For which system.
    pub system: System,
    /// The path as asked.
    pub wanted: Wanted,
    /// The nixpkgs that it was built from.
    pub rev: Rev,
    /// The package.
    pub attr: Attr,
    /// The program.
    pub bin: Bin,
    /// The package's version; may be empty.
    pub version: String,
    /// Of the file.
    pub sha256: Sha256,
    /// Of the file, in bytes.
    pub size: u64,
    /// Where the file is.
    pub object: ObjectPath,
}

impl Served {
    /// What it is looked up by.
    pub fn key(&self) -> ServedKey {
        ServedKey { pin: self.pin.clone(), system: self.system, wanted: self.wanted.to_string() }
    }
}
