//! The shared Nix binary cache, and its quarantine.

use std::future::Future;

use crate::{
    id::key::{Sha256, StoreHash},
    objects::{
        artifact::{AttemptPrefix, ObjectName},
        narinfo::StoreDir,
        stored::Measured,
    },
    ports::Unavailable,
};

/// The quarantine, and the shared Nix cache behind it, for the one step that may write the latter ([`crate::flow::schedule::promote`]). All
/// that is written stays as it is: a second write under a name is passed over.
pub trait BinaryCache: Send + Sync {
    /// Where the store lies whose paths these are.
    fn store_dir(&self) -> &StoreDir;

    /// A small offer's content; `None`: it is not there.
    fn read(
        &self,
        prefix: &AttemptPrefix,
        offer: ObjectName,
    ) -> impl Future<Output = Result<Option<Vec<u8>>, Unavailable>> + Send;

    /// The store paths that an attempt has offered, by its narinfos.
    fn offers(&self, prefix: &AttemptPrefix) -> impl Future<Output = Result<Vec<StoreHash>, Unavailable>> + Send;

    /// What an offered file is, and what it unpacks to, of which no more than `most` bytes are looked at; `None`: it is not there.
    fn measure(
        &self,
        prefix: &AttemptPrefix,
        nar: &Sha256,
        most: u64,
    ) -> impl Future<Output = Result<Option<Measured>, Unavailable>> + Send;

    /// Whether the cache has a store path.
    fn has(&self, path: &StoreHash) -> impl Future<Output = Result<bool, Unavailable>> + Send;

    /// Puts an offered file into the cache.
    fn keep(&self, prefix: &AttemptPrefix, nar: &Sha256) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// Puts a narinfo into the cache, whose file is there by now.
    fn publish(&self, path: &StoreHash, narinfo: String) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// The cache's signature of a text, as it stands in a narinfo.
    fn sign(&self, text: &str) -> String;

    /// Removes all that an attempt has offered. Where it fails, some may be gone.
    fn clear(&self, prefix: &AttemptPrefix) -> impl Future<Output = Result<(), Unavailable>> + Send;
}
