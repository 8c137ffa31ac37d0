//! Garbage collection's view of the bucket: lists what is stored, and removes it.

use aws_sdk_s3::types::Object;
use binplz_core::{
    id::{
        key::{Rev, Sha256},
        time::Timestamp,
    },
    objects::{
        artifact::{
            AttemptPrefix, BLOBS, BUILDS, CACHE, CacheName, NIXPKGS, ObjectName, ObjectPath, QUARANTINE, blob_path,
            nixpkgs_at, nixpkgs_path, programs_at, programs_path,
        },
        stored::{Cached, Held, HeldBlob, KeptNixpkgs, KeptPrograms},
    },
    ports::{Collect, Unavailable},
};

use crate::{objects::ROLE, store::S3Store, unavailable};

impl Collect for S3Store {
    async fn prefixes(&self, after: Option<&AttemptPrefix>, limit: usize) -> Result<Vec<Held>, Unavailable> {
        // S3 lists keys in order, so an attempt's objects are adjacent. `0` is the character after the slash: the first
        // key behind all of them.
        let behind = |prefix: &AttemptPrefix| prefix.objects().trim_end_matches('/').to_owned() + "0";
        let (mut prefixes, mut next) = (Vec::<Held>::new(), after.map(behind));
        loop {
            let list = self.s3.list_objects_v2().bucket(&self.bucket).prefix(BUILDS).set_start_after(next);
            let list = list.send().await.map_err(|error| unavailable(ROLE, &error))?;
            for object in list.contents() {
                // A key outside of any attempt was not written by this service.
                let Some(prefix) = object.key().and_then(home_of) else { continue };
                if prefixes.last().is_none_or(|last| last.prefix != prefix) {
                    if prefixes.len() == limit {
                        return Ok(prefixes);
                    }
                    prefixes.push(Held { prefix, objects: 0, bytes: 0, blobs: Vec::new() });
                }
                if let Some(held) = prefixes.last_mut() {
                    held.objects += 1;
                    held.bytes += bytes_of(object);
                    held.blobs.extend(object.key().and_then(blob_of));
                }
            }
            next = list.contents().last().and_then(|object| object.key()).map(str::to_owned);
            if list.is_truncated() != Some(true) {
                return Ok(prefixes);
            }
        }
    }

    async fn blobs(&self, after: Option<&Sha256>, limit: usize) -> Result<Vec<HeldBlob>, Unavailable> {
        let list = self.s3.list_objects_v2().bucket(&self.bucket).prefix(BLOBS);
        let list = list.set_start_after(after.map(blob_path)).set_max_keys(i32::try_from(limit).ok());
        let list = list.send().await.map_err(|error| unavailable(ROLE, &error))?;
        let named = |object: &Object| {
            let sha256 = object.key()?.strip_prefix(BLOBS)?.parse().ok()?;
            Some(HeldBlob { sha256, bytes: bytes_of(object) })
        };
        Ok(list.contents().iter().filter_map(named).collect())
    }

    async fn remove_blob(&self, sha256: &Sha256) -> Result<(), Unavailable> {
        self.remove(&blob_path(sha256)).await
    }

    async fn remove_prefix(&self, prefix: &AttemptPrefix) -> Result<(), Unavailable> {
        self.remove_below(&prefix.objects()).await
    }

    async fn kept_nixpkgs(&self) -> Result<Vec<KeptNixpkgs>, Unavailable> {
        let there = self.below(NIXPKGS).await?.into_iter();
        Ok(there.filter_map(|Found { key, since, .. }| Some(KeptNixpkgs { rev: nixpkgs_at(&key)?, since })).collect())
    }

    async fn remove_nixpkgs(&self, rev: &Rev) -> Result<(), Unavailable> {
        self.remove(&nixpkgs_path(rev)).await
    }

    async fn kept_programs(&self) -> Result<Vec<KeptPrograms>, Unavailable> {
        let there = self.below(NIXPKGS).await?.into_iter();
        let named = |Found { key, since, .. }| Some(KeptPrograms { sha256: programs_at(&key)?, since });
        Ok(there.filter_map(named).collect())
    }

    async fn remove_programs(&self, sha256: &Sha256) -> Result<(), Unavailable> {
        self.remove(&programs_path(sha256)).await
    }

    async fn cached(&self) -> Result<Vec<Cached>, Unavailable> {
        let there = self.below(&format!("{CACHE}/")).await?.into_iter();
        let named = |Found { key, bytes, since }| Some(Cached { name: CacheName::at(&key)?, bytes, since });
        Ok(there.filter_map(named).collect())
    }

    async fn remove_cached(&self, name: &CacheName) -> Result<(), Unavailable> {
        self.remove(&name.to_string()).await
    }

    async fn in_quarantine(&self) -> Result<u64, Unavailable> {
        self.bytes_below(QUARANTINE).await
    }
}

impl S3Store {
    /// All objects whose keys begin with `prefix`.
    async fn below(&self, prefix: &str) -> Result<Vec<Found>, Unavailable> {
        let mut pages = self.s3.list_objects_v2().bucket(&self.bucket).prefix(prefix).into_paginator().send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            for object in page.map_err(|error| unavailable(ROLE, &error))?.contents() {
                let at = object.last_modified().and_then(|at| u64::try_from(at.secs()).ok());
                if let (Some(key), Some(at)) = (object.key(), at) {
                    let since = Timestamp(at * 1000);
                    found.push(Found { key: key.to_owned(), bytes: bytes_of(object), since });
                }
            }
        }
        Ok(found)
    }

    async fn remove(&self, key: &str) -> Result<(), Unavailable> {
        let removed = self.s3.delete_object().bucket(&self.bucket).key(key).send().await;
        removed.map(drop).map_err(|error| unavailable(ROLE, &error))
    }

    /// The bytes of all objects whose keys begin with `prefix`.
    pub(crate) async fn bytes_below(&self, prefix: &str) -> Result<u64, Unavailable> {
        Ok(self.below(prefix).await?.iter().map(|found| found.bytes).sum())
    }
}

/// A listed object.
struct Found {
    key: String,
    bytes: u64,
    /// The time of its last write.
    since: Timestamp,
}

fn bytes_of(object: &Object) -> u64 {
    object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or(0)
}

/// The attempt that an object's key belongs to.
fn home_of(key: &str) -> Option<AttemptPrefix> {
    let path = key.strip_prefix(BUILDS)?;
    let (fourth, _) = path.match_indices('/').nth(3)?;
    path[..fourth].parse().ok()
}

/// The blob that an object keeps, if it is a reference.
fn blob_of(key: &str) -> Option<Sha256> {
    let path: ObjectPath = key.parse().ok()?;
    if let ObjectName::Reference(sha256) = path.name { Some(sha256) } else { None }
}
