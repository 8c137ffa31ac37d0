//! The signer's keys, and the objects of the transparency log.

use std::future::Future;

use crate::{
    id::key::LeaseId,
    objects::{artifact::ObjectPath, content::Content},
    ports::Unavailable,
    trust::{
        head::{LogName, PublicKeys},
        leaf::Blake2b,
        tile::TileName,
    },
};

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyUse {
    /// Signs artifacts.
    Artifacts,
    /// Signs checkpoints.
    Log,
}

/// The longest message that a signer signs, in bytes: KMS' limit.
pub const MESSAGE_MAX: usize = 4096;

/// The one step that signs artifacts and writes the log ([`crate::flow::schedule::sign`]). No builder reaches it.
pub trait Signer: Send + Sync {
    /// The public keys.
    fn public(&self) -> impl Future<Output = Result<PublicKeys, Unavailable>> + Send;

    /// An Ed25519 signature (RFC 8032) of at most [`MESSAGE_MAX`] bytes.
    fn sign(&self, by: KeyUse, message: &[u8]) -> impl Future<Output = Result<[u8; 64], Unavailable>> + Send;

    /// Reads a stored object once: its size, its sha256 and its BLAKE2b-512. `None` if it does not exist.
    fn digest(&self, path: &ObjectPath)
    -> impl Future<Output = Result<Option<(Content, Blake2b)>, Unavailable>> + Send;

    /// Writes an object of the log. An object that exists has the same content.
    fn write(&self, name: &LogName, content: Vec<u8>) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// Removes the batch of a tree that is published, or that another one came before.
    fn remove_staged(&self, name: &LeaseId) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// Removes the narrower versions of a tile that is full. Readers take the full one.
    fn remove_narrower(&self, full: &TileName) -> impl Future<Output = Result<(), Unavailable>> + Send;
}
