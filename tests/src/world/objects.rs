//! The local store, with what can go wrong around it.

use std::{
    ops::Range,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use binplz_core::{
    build::protocol::{Cache, PresignedUpload},
    id::key::{Bin, Rev, Sha256, StoreHash},
    objects::{
        artifact::{AttemptPrefix, CacheName, ObjectName, ObjectPath},
        content::Content,
        stored::{Cached, Fingerprint, Held, HeldBlob, Integrity, KeptNixpkgs, KeptPrograms, Location, Method},
    },
    ports::{Collect, Inspect, Intake, Store, Unavailable},
    trust::head::LogName,
};
use binplz_local::LocalStore;

use super::{Life, Meddling};

/// The objects.
pub struct Objects {
    inner: LocalStore,
    life: Arc<Life>,
    /// Those that were put here, by this world's clock.
    nixpkgs: Mutex<Vec<KeptNixpkgs>>,
    programs: Mutex<Vec<KeptPrograms>>,
    /// Done once, right before this object is read next.
    before_read: Mutex<Option<(ObjectPath, Meddling)>>,
    /// Done once, right before segments or partial files are removed next.
    before_removal: Mutex<Option<Meddling>>,
    /// Done once, right before a blob is removed next.
    before_blob_removal: Mutex<Option<Meddling>>,
    /// Done once, right before blobs are listed next.
    before_blob_listing: Mutex<Option<Meddling>>,
    /// Whether nothing can be removed for now.
    keeps_all: AtomicBool,
}

impl Objects {
    pub(super) fn new(inner: LocalStore, life: Arc<Life>) -> Objects {
        let (before_read, before_removal, before_blob_removal, before_blob_listing) = Default::default();
        Objects {
            inner,
            life,
            nixpkgs: Mutex::default(),
            programs: Mutex::default(),
            before_read,
            before_removal,
            before_blob_removal,
            before_blob_listing,
            keeps_all: AtomicBool::default(),
        }
    }

    /// An object's file.
    pub fn file(&self, path: &ObjectPath) -> PathBuf {
        self.inner.file(path)
    }

    /// Uploads an object as a builder does.
    pub async fn upload(&self, grant: &PresignedUpload, content: &[u8]) {
        let (path, query) = grant.url.split_once('?').expect("a query");
        let (_, path) = path.split_once("/-/objects/").expect("an object");
        let path = percent_encoding::percent_decode_str(path).decode_utf8().expect("text");
        let path: ObjectPath = path.parse().expect("an object's path");
        // The local store grants by the real clock.
        let mut receiver = self.inner.receive(&path, query, binplz_clock::now()).await.expect("a grant");
        receiver.write(content.to_vec()).await.expect("the store");
        receiver.finish().await.expect("the store");
    }

    /// The next read of an object comes too late: this happens first.
    pub fn before_next_read(&self, path: ObjectPath, meddling: impl Future<Output = ()> + Send + 'static) {
        *self.before_read.lock().expect("a lock") = Some((path, Box::pin(meddling)));
    }

    /// The next removal comes too late: this happens first.
    pub fn before_next_removal(&self, meddling: impl Future<Output = ()> + Send + 'static) {
        *self.before_removal.lock().expect("a lock") = Some(Box::pin(meddling));
    }

    async fn before_removal(&self) -> Result<(), Unavailable> {
        let meddling = self.before_removal.lock().expect("a lock").take();
        if let Some(meddling) = meddling {
            meddling.await;
        }
        match self.keeps_all.load(SeqCst) {
            true => Err(Unavailable::new("store", "it removes nothing now")),
            false => Ok(()),
        }
    }

    /// The next removal of a blob is slow: this happens first.
    pub fn before_next_blob_removal(&self, meddling: impl Future<Output = ()> + Send + 'static) {
        *self.before_blob_removal.lock().expect("a lock") = Some(Box::pin(meddling));
    }

    /// Blobs are listed next after this has happened.
    pub fn before_next_blob_listing(&self, meddling: impl Future<Output = ()> + Send + 'static) {
        *self.before_blob_listing.lock().expect("a lock") = Some(Box::pin(meddling));
    }

    /// Puts a nixpkgs here, as an operator does.
    pub fn keep_nixpkgs(&self, kept: KeptNixpkgs) {
        let mut all = self.nixpkgs.lock().expect("a lock");
        all.retain(|other| other.rev != kept.rev);
        all.push(kept);
    }

    /// Those that are here.
    pub fn nixpkgs_kept(&self) -> Vec<Rev> {
        self.nixpkgs.lock().expect("a lock").iter().map(|kept| kept.rev.clone()).collect()
    }

    /// Puts a database of programs here, as an operator does.
    pub fn keep_programs(&self, kept: KeptPrograms) {
        let mut all = self.programs.lock().expect("a lock");
        all.retain(|other| other.sha256 != kept.sha256);
        all.push(kept);
    }

    /// Those that are here.
    pub fn programs_kept(&self) -> Vec<Sha256> {
        self.programs.lock().expect("a lock").iter().map(|kept| kept.sha256.clone()).collect()
    }

    /// Whether nothing can be removed from now on.
    pub fn keep_all(&self, keep: bool) {
        self.keeps_all.store(keep, SeqCst);
    }
}

impl Store for Objects {
    async fn url(&self, path: &ObjectPath, name: &Bin, method: Method) -> Result<Location, Unavailable> {
        self.inner.url(path, name, method).await
    }
    async fn read(&self, path: &ObjectPath) -> Result<Option<Vec<u8>>, Unavailable> {
        let meddling = self.before_read.lock().expect("a lock").take_if(|(at, _)| at == path);
        if let Some((_, meddling)) = meddling {
            meddling.await;
        }
        self.inner.read(path).await
    }
    async fn log_object(&self, name: &LogName) -> Result<Option<Vec<u8>>, Unavailable> {
        self.inner.log_object(name).await
    }
    async fn part(&self, path: &ObjectPath, range: Range<u64>) -> Result<Option<Vec<u8>>, Unavailable> {
        self.inner.part(path, range).await
    }
    async fn glance(&self, path: &ObjectPath, content: &Content) -> Result<Integrity, Unavailable> {
        self.inner.glance(path, content).await
    }
}

impl Inspect for Objects {
    async fn size(&self, path: &ObjectPath) -> Result<Option<u64>, Unavailable> {
        self.inner.size(path).await
    }

    async fn digest(&self, path: &ObjectPath) -> Result<Option<Fingerprint>, Unavailable> {
        self.inner.digest(path).await
    }
}

impl Intake for Objects {
    async fn grant(&self, path: &ObjectPath, size: u64, sha256: &Sha256) -> Result<PresignedUpload, Unavailable> {
        self.inner.grant(path, size, sha256).await
    }
    async fn nixpkgs(&self, rev: &Rev) -> Result<String, Unavailable> {
        self.inner.nixpkgs(rev).await
    }
    async fn programs(&self, sha256: &Sha256) -> Result<String, Unavailable> {
        self.inner.programs(sha256).await
    }
    async fn source(&self, path: &ObjectPath) -> Result<String, Unavailable> {
        self.inner.source(path).await
    }
    async fn write(&self, path: &ObjectPath, content: Vec<u8>) -> Result<(), Unavailable> {
        self.inner.write(path, content).await
    }
    async fn remove_segments(&self, prefix: &AttemptPrefix) -> Result<(), Unavailable> {
        self.before_removal().await?;
        self.inner.remove_segments(prefix).await
    }
    async fn remove_partial(&self, prefix: &AttemptPrefix) -> Result<(), Unavailable> {
        self.before_removal().await?;
        self.inner.remove_partial(prefix).await
    }
    async fn cache(&self) -> Result<Option<Cache>, Unavailable> {
        self.inner.cache().await
    }
    async fn offered_bytes(&self, prefix: &AttemptPrefix) -> Result<u64, Unavailable> {
        self.inner.offered_bytes(prefix).await
    }
    async fn offered_paths(&self, prefix: &AttemptPrefix) -> Result<Vec<StoreHash>, Unavailable> {
        self.inner.offered_paths(prefix).await
    }
    async fn offered(&self, prefix: &AttemptPrefix) -> Result<(), Unavailable> {
        self.inner.offered(prefix).await
    }
}

impl Collect for Objects {
    async fn prefixes(&self, after: Option<&AttemptPrefix>, limit: usize) -> Result<Vec<Held>, Unavailable> {
        self.inner.prefixes(after, limit).await
    }
    async fn remove_prefix(&self, prefix: &AttemptPrefix) -> Result<(), Unavailable> {
        if let Err(dead) = self.life.spend("store") {
            // It dies in the middle.
            let _ = std::fs::remove_file(self.inner.file(&prefix.object(ObjectName::Manifest)));
            return Err(dead);
        }
        self.inner.remove_prefix(prefix).await
    }
    async fn blobs(&self, after: Option<&Sha256>, limit: usize) -> Result<Vec<HeldBlob>, Unavailable> {
        let meddling = self.before_blob_listing.lock().expect("a lock").take();
        if let Some(meddling) = meddling {
            meddling.await;
        }
        self.inner.blobs(after, limit).await
    }
    async fn remove_blob(&self, sha256: &Sha256) -> Result<(), Unavailable> {
        self.life.spend("store")?;
        let meddling = self.before_blob_removal.lock().expect("a lock").take();
        if let Some(meddling) = meddling {
            meddling.await;
        }
        self.inner.remove_blob(sha256).await
    }
    async fn kept_nixpkgs(&self) -> Result<Vec<KeptNixpkgs>, Unavailable> {
        Ok(self.nixpkgs.lock().expect("a lock").clone())
    }
    async fn remove_nixpkgs(&self, rev: &Rev) -> Result<(), Unavailable> {
        self.life.spend("store")?;
        self.nixpkgs.lock().expect("a lock").retain(|kept| kept.rev != *rev);
        Ok(())
    }
    async fn kept_programs(&self) -> Result<Vec<KeptPrograms>, Unavailable> {
        Ok(self.programs.lock().expect("a lock").clone())
    }
    async fn remove_programs(&self, sha256: &Sha256) -> Result<(), Unavailable> {
        self.life.spend("store")?;
        self.programs.lock().expect("a lock").retain(|kept| kept.sha256 != *sha256);
        Ok(())
    }
    async fn cached(&self) -> Result<Vec<Cached>, Unavailable> {
        self.inner.cached().await
    }
    async fn remove_cached(&self, name: &CacheName) -> Result<(), Unavailable> {
        self.life.spend("store")?;
        self.inner.remove_cached(name).await
    }
    async fn in_quarantine(&self) -> Result<u64, Unavailable> {
        self.inner.in_quarantine().await
    }
}
