//! Garbage collection's access to the store.

use std::future::Future;

use crate::{
    id::key::{Rev, Sha256},
    objects::{
        artifact::{AttemptPrefix, CacheName},
        stored::{Cached, Held, HeldBlob, KeptNixpkgs, KeptPrograms},
    },
    ports::Unavailable,
};

/// Lists and deletes objects: garbage collection's access to the store.
pub trait Collect: Send + Sync {
    /// Up to `limit` homes that hold something, in an order of the store's own, beginning behind `after`.
    fn prefixes(
        &self,
        after: Option<&AttemptPrefix>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Held>, Unavailable>> + Send;

    /// Up to `limit` blobs in the order of their names, beginning behind `after`.
    fn blobs(
        &self,
        after: Option<&Sha256>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<HeldBlob>, Unavailable>> + Send;

    /// Removes a blob. One that is gone already is well.
    fn remove_blob(&self, sha256: &Sha256) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// Removes all that lies in a home, but no blob. Where it fails, some may be gone.
    fn remove_prefix(&self, prefix: &AttemptPrefix) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// Every nixpkgs that an operator has put where builders find it.
    fn kept_nixpkgs(&self) -> impl Future<Output = Result<Vec<KeptNixpkgs>, Unavailable>> + Send;

    /// Removes one. One that is gone already is well.
    fn remove_nixpkgs(&self, rev: &Rev) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// Every database of programs that an operator has put where builders find it.
    fn kept_programs(&self) -> impl Future<Output = Result<Vec<KeptPrograms>, Unavailable>> + Send;

    /// Removes one. One that is gone already is well.
    fn remove_programs(&self, sha256: &Sha256) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// Every file of the shared Nix cache.
    fn cached(&self) -> impl Future<Output = Result<Vec<Cached>, Unavailable>> + Send;

    /// Removes one. One that is gone already is well.
    fn remove_cached(&self, name: &CacheName) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// The bytes of offers that are not promoted yet.
    fn in_quarantine(&self) -> impl Future<Output = Result<u64, Unavailable>> + Send;
}
