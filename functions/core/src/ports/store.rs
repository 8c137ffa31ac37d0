//! The store: objects for clients, and uploads from builders.

use std::{future::Future, ops::Range};

use crate::{
    build::protocol::{Cache, PresignedUpload},
    id::key::{Bin, Rev, Sha256, StoreHash},
    objects::{
        artifact::{AttemptPrefix, ObjectPath},
        content::Content,
        stored::{Fingerprint, Integrity, Location, Method},
    },
    ports::Unavailable,
    trust::head::LogName,
};

/// Access to objects for answers to clients.
pub trait Store: Send + Sync {
    /// A URL of the object that answers GET and HEAD, Range and conditional requests, for a limited time. Clients that
    /// ask the server for a file's name save it as `name`.
    fn url(
        &self,
        path: &ObjectPath,
        name: &Bin,
        method: Method,
    ) -> impl Future<Output = Result<Location, Unavailable>> + Send;

    /// A small object's content; `None` if it does not exist.
    fn read(&self, path: &ObjectPath) -> impl Future<Output = Result<Option<Vec<u8>>, Unavailable>> + Send;

    /// An object of the transparency log; `None` if it does not exist.
    fn log_object(&self, name: &LogName) -> impl Future<Output = Result<Option<Vec<u8>>, Unavailable>> + Send;

    /// A non-empty range of an object's bytes; `None` if the object does not exist or is shorter.
    fn part(
        &self,
        path: &ObjectPath,
        range: Range<u64>,
    ) -> impl Future<Output = Result<Option<Vec<u8>>, Unavailable>> + Send;

    /// Compares an object with what it must be, as quickly as every hit can afford. A store that checks what it returns
    /// by itself, and is looked through by [`crate::flow::schedule::scrub`], uses this default.
    fn glance(
        &self,
        path: &ObjectPath,
        content: &Content,
    ) -> impl Future<Output = Result<Integrity, Unavailable>> + Send {
        let _ = (path, content);
        async { Ok(Integrity::Intact) }
    }
}

/// What is stored: an object's size and content, without reading it into memory.
pub trait Inspect: Store {
    /// An object's size in bytes; `None` if it does not exist.
    fn size(&self, path: &ObjectPath) -> impl Future<Output = Result<Option<u64>, Unavailable>> + Send;

    /// An object's size and sha256, of the bytes as they are stored now; `None` if it does not exist. An object whose
    /// sha256 the store does not know was not written by this service.
    fn digest(&self, path: &ObjectPath) -> impl Future<Output = Result<Option<Fingerprint>, Unavailable>> + Send;
}

/// Uploads of objects from builders: each is written once, completely or not at all. A blob is shared by all attempts, and
/// may be written again, with the content that its name says.
pub trait Intake: Inspect {
    /// A presigned upload of one object of exactly this size and content, valid for a short time.
    fn grant(
        &self,
        path: &ObjectPath,
        size: u64,
        sha256: &Sha256,
    ) -> impl Future<Output = Result<PresignedUpload, Unavailable>> + Send;

    /// A presigned URL of the nixpkgs tarball that an operator has uploaded. A store without tarballs uses this
    /// default.
    fn nixpkgs(&self, rev: &Rev) -> impl Future<Output = Result<String, Unavailable>> + Send {
        let error = Unavailable::new("store", format!("it keeps no nixpkgs, and the pin of {rev} wants one"));
        async { Err(error) }
    }

    /// A URL, for builders, of a database of programs that an operator has added.
    fn programs(&self, sha256: &Sha256) -> impl Future<Output = Result<String, Unavailable>> + Send;

    /// A URL by which a builder can read an object of an earlier attempt, for some minutes.
    fn source(&self, path: &ObjectPath) -> impl Future<Output = Result<String, Unavailable>> + Send;

    /// Writes a small object.
    fn write(&self, path: &ObjectPath, content: Vec<u8>) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// Removes the segments of an attempt's log. After an error, some may be gone.
    fn remove_segments(&self, prefix: &AttemptPrefix) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// Removes the partial files of a catalogue. After an error, some may be gone. Nothing else is ever removed here.
    fn remove_partial(&self, prefix: &AttemptPrefix) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// The builders' shared Nix binary cache; `None` if there is none.
    fn cache(&self) -> impl Future<Output = Result<Option<Cache>, Unavailable>> + Send {
        async { Ok(None) }
    }

    /// The bytes that an attempt has offered to that cache so far.
    fn offered_bytes(&self, prefix: &AttemptPrefix) -> impl Future<Output = Result<u64, Unavailable>> + Send;

    /// The store paths that it has offered so far, by their narinfos in the quarantine.
    fn offered_paths(&self, prefix: &AttemptPrefix)
    -> impl Future<Output = Result<Vec<StoreHash>, Unavailable>> + Send;

    /// Notifies the promoter that an attempt has offered something. A lost notification delays builds that wait for it, and
    /// fails none.
    fn offered(&self, prefix: &AttemptPrefix) -> impl Future<Output = Result<(), Unavailable>> + Send {
        let _ = prefix;
        async { Ok(()) }
    }
}
