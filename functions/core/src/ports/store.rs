//! The store: objects for clients, and uploads from builders.

use std::{future::Future, ops::Range};

use crate::{
    build::protocol::{Cache, PresignedUpload},
    id::key::{Rev, Sha256},
    objects::{
        artifact::{AttemptPrefix, ObjectPath},
        stored::{Location, Method},
    },
    ports::Unavailable,
};

/// The objects, for whoever hands them out.
pub trait Store: Send + Sync {
    /// A URL that answers GET and HEAD, Range and conditional requests with the object, for a while.
    fn url(&self, path: &ObjectPath, method: Method) -> impl Future<Output = Result<Location, Unavailable>> + Send;

    /// A small object's content; `None`: it is not there.
    fn read(&self, path: &ObjectPath) -> impl Future<Output = Result<Option<Vec<u8>>, Unavailable>> + Send;

    /// A range of an object's bytes, one at least; `None`: it is not there, or is shorter.
    fn part(
        &self,
        path: &ObjectPath,
        range: Range<u64>,
    ) -> impl Future<Output = Result<Option<Vec<u8>>, Unavailable>> + Send;
}

/// The objects, for whoever takes them in from builders: written once, whole or not at all.
pub trait Intake: Store {
    /// Permission to write one object, of exactly this size and content, for a short time.
    fn grant(
        &self,
        path: &ObjectPath,
        size: u64,
        sha256: &Sha256,
    ) -> impl Future<Output = Result<PresignedUpload, Unavailable>> + Send;

    /// A URL of the tarball of a nixpkgs that an operator has put into the store, for a while. A store that keeps none needs not say more.
    fn nixpkgs(&self, rev: &Rev) -> impl Future<Output = Result<String, Unavailable>> + Send {
        let error = Unavailable::new("store", format!("it keeps no nixpkgs, and the pin of {rev} wants one"));
        async { Err(error) }
    }

    /// An object's size in bytes; `None`: it is not there.
    fn size(&self, path: &ObjectPath) -> impl Future<Output = Result<Option<u64>, Unavailable>> + Send;

    /// Writes a small object.
    fn write(&self, path: &ObjectPath, content: Vec<u8>) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// Removes the segments of an attempt's log, as many as there are: nothing else is ever removed here. Where it fails, some may be gone.
    fn remove_segments(&self, prefix: &AttemptPrefix) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// The Nix cache that builders share, as they are sent there; `None`: there is none, and nobody need say more.
    fn cache(&self) -> impl Future<Output = Result<Option<Cache>, Unavailable>> + Send {
        async { Ok(None) }
    }

    /// How many bytes an attempt has offered to that cache by now.
    fn offered_bytes(&self, prefix: &AttemptPrefix) -> impl Future<Output = Result<u64, Unavailable>> + Send;

    /// An attempt is over that has offered something to that cache: whoever promotes should look. A word that is lost costs the cache a
    /// path, and nobody a build.
    fn offered(&self, prefix: &AttemptPrefix) -> impl Future<Output = Result<(), Unavailable>> + Send {
        let _ = prefix;
        async { Ok(()) }
    }
}
