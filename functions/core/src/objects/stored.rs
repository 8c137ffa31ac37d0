//! What a store reports of its objects: listings for garbage collection, URLs, and measured uploads.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    id::{
        key::{Bin, Rev, Sha256},
        time::Timestamp,
    },
    objects::{
        artifact::{AttemptPrefix, CacheName},
        content::Content,
    },
};

/// An object, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// Its size, in bytes.
    pub size: u64,
    /// Its sha256, if the store knows it.
    pub sha256: Option<Sha256>,
}

impl Fingerprint {
    /// The content, if the store knows all of it.
    pub fn content(self) -> Option<Content> {
        Some(Content { sha256: self.sha256?, size: self.size })
    }
}

/// An object, compared with what it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Integrity {
    /// It is as it must be.
    Intact,
    /// It does not exist.
    Missing,
    /// It has another size.
    OtherSize,
    /// It has another sha256.
    OtherContent,
}

impl Integrity {
    /// Compares an object with what it must be.
    pub fn of(stored: Option<&Fingerprint>, content: &Content) -> Integrity {
        match stored {
            None => Integrity::Missing,
            Some(stored) if stored.size != content.size => Integrity::OtherSize,
            Some(stored) if stored.sha256.as_ref() != Some(&content.sha256) => Integrity::OtherContent,
            Some(_) => Integrity::Intact,
        }
    }
}

/// The text follows "`OBJECT` …".
impl fmt::Display for Integrity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Integrity::Intact => "is intact",
            Integrity::Missing => "is missing",
            Integrity::OtherSize => "has changed its size since it was stored",
            Integrity::OtherContent => "has changed since it was stored",
        })
    }
}

/// What a packed file turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// The file.
    pub packed: Content,
    /// What it unpacks to; `None`: to nothing, or to more than was looked at.
    pub unpacked: Option<Content>,
}

/// A home, and what lies in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Which.
    pub prefix: AttemptPrefix,
    /// How many objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The blobs that its references keep.
    pub blobs: Vec<Sha256>,
}

/// A blob in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldBlob {
    /// Its name.
    pub sha256: Sha256,
    /// Its size.
    pub bytes: u64,
}

/// A nixpkgs that is kept for builders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptNixpkgs {
    /// Of which revision.
    pub rev: Rev,
    /// When it was put there last.
    pub since: Timestamp,
}

/// A database of programs that is kept for builders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptPrograms {
    /// The sha256 of its content.
    pub sha256: Sha256,
    /// When it was put there last.
    pub since: Timestamp,
}

/// A file of the shared Nix cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cached {
    /// Which.
    pub name: CacheName,
    /// Its size.
    pub bytes: u64,
    /// When it was put there last.
    pub since: Timestamp,
}

/// A URL of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// The store's own URL, valid for minutes: a client follows it at once.
    Store(String),
    /// That of a CDN in front of the store, good for as long as the object is there: a redirect to it may be kept.
    Cdn(String),
}

impl Location {
    /// The URL.
    pub fn url(&self) -> &str {
        match self {
            Location::Store(url) | Location::Cdn(url) => url,
        }
    }
}

/// The `Content-Disposition` of a file that clients save under a program's name, which contains no quotes.
pub fn attachment(name: &Bin) -> String {
    format!("attachment; filename=\"{name}\"")
}

/// What a redirect is followed with: a presigned URL is for one method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET.
    Get,
    /// HEAD.
    Head,
}
