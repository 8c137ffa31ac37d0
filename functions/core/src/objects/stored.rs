//! What a store reports of its objects: listings for garbage collection, URLs, and measured uploads.

use crate::{
    id::{key::Rev, time::Timestamp},
    objects::{
        artifact::{AttemptPrefix, CacheName},
        narinfo::Content,
    },
};

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
}

/// A nixpkgs that is kept for builders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptNixpkgs {
    /// Of which revision.
    pub rev: Rev,
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

/// What a redirect is followed with: a presigned URL is for one method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET.
    Get,
    /// HEAD.
    Head,
}
