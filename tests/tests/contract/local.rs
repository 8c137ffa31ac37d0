//! The local adapters, as the suite wants them: new ones for each promise.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use binplz_core::{
    build::protocol::PresignedUpload,
    id::{key::Rev, time::Timestamp},
    objects::{
        artifact::{CacheName, ObjectPath},
        content::Content,
        narinfo::StoreDir,
        stored::Method,
    },
    ports::{BinaryCache, Collect, Inspect, Intake, Signer, Store},
};
use binplz_local::{DataDir, LocalBell, LocalBinaryCache, LocalLedger, LocalSigner, LocalStore, UploadError};
use binplz_tests::contract::{binary_cache::Promotes, signer::Signs, store::Uploads};
use tempfile::TempDir;

const ORIGIN: &str = "http://localhost:8080";

/// Adapters that hold nothing yet.
pub(crate) struct Fresh {
    ledger: LocalLedger,
    store: LocalUploads,
    binary_cache: LocalBinaryCache,
    signer: LocalSigner,
    pub(crate) bell: LocalBell,
    dir: TempDir,
}

pub(crate) fn fresh() -> Fresh {
    let tmp = tempfile::tempdir().expect("a temporary directory");
    let dir = DataDir::open(tmp.path()).expect("a data directory");
    Fresh {
        ledger: LocalLedger::open(&dir).expect("a ledger"),
        store: LocalUploads(LocalStore::open(&dir, ORIGIN).expect("a store"), tmp.path().to_owned()),
        binary_cache: LocalBinaryCache::open(&dir, StoreDir::default()).expect("a cache"),
        signer: LocalSigner::open(&dir).expect("keys"),
        bell: LocalBell::default(),
        dir: tmp,
    }
}

/// The adapter that each module of the suite is about.
impl Fresh {
    pub(crate) fn fencing(&self) -> &LocalLedger {
        &self.ledger
    }
    pub(crate) fn reading(&self) -> &LocalLedger {
        &self.ledger
    }
    pub(crate) fn store(&self) -> &LocalUploads {
        &self.store
    }
    pub(crate) fn binary_cache(&self) -> &Fresh {
        self
    }
    pub(crate) fn signer(&self) -> &Fresh {
        self
    }
}

impl Signs for Fresh {
    fn store(&self) -> &impl Intake {
        &self.store.0
    }
    fn signer(&self) -> &impl Signer {
        &self.signer
    }
}

impl Promotes for Fresh {
    fn store(&self) -> &(impl Intake + Collect) {
        &self.store.0
    }
    fn binary_cache(&self) -> &impl BinaryCache {
        &self.binary_cache
    }
    async fn cached(&self, name: &CacheName) -> Option<Vec<u8>> {
        std::fs::read(self.dir.path().join(name.to_string())).ok()
    }
}

/// The store, with uploads as the HTTP layer makes them.
pub(crate) struct LocalUploads(LocalStore, PathBuf);

impl LocalUploads {
    async fn put_at(&self, grant: &PresignedUpload, body: &[u8], now: Timestamp) -> Result<(), UploadError> {
        let (url, query) = grant.url.split_once('?').unwrap_or((&grant.url, ""));
        // A URL that names no object is not routed to the store.
        let Some(path) = object_of(url) else { return Err(UploadError::Forged) };
        let mut receiver = self.0.receive(&path, query, now).await?;
        for chunk in body.chunks(5) {
            receiver.write(chunk.to_vec()).await?;
        }
        receiver.finish().await
    }
}

/// The object that a URL below `/-/objects/` names, once it is percent-decoded.
fn object_of(url: &str) -> Option<ObjectPath> {
    let path = url.strip_prefix(ORIGIN)?.strip_prefix("/-/objects/")?;
    percent_encoding::percent_decode_str(path).decode_utf8().ok()?.parse().ok()
}

fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    Timestamp(u64::try_from(since_epoch.as_millis()).expect("a clock before the year 500 000 000"))
}

impl Uploads for LocalUploads {
    fn store(&self) -> &(impl Intake + Collect) {
        &self.0
    }
    async fn put(&self, grant: &PresignedUpload, body: &[u8]) -> bool {
        self.put_at(grant, body, now()).await.is_ok()
    }
    async fn put_late(&self, grant: &PresignedUpload, body: &[u8]) -> bool {
        self.put_at(grant, body, now() + Duration::from_secs(24 * 3600)).await.is_ok()
    }
    async fn keep_nixpkgs(&self, rev: &Rev) {
        // As Nix does it: it leads into the store.
        let roots = self.1.join("roots");
        std::fs::create_dir_all(&roots).expect("a directory");
        std::os::unix::fs::symlink("/nix/store/none", roots.join(rev.as_str())).expect("a link");
    }
    async fn keep_programs(&self, bytes: &[u8]) -> Content {
        binplz_local::keep_programs(&self.1, bytes).expect("a disk")
    }
    async fn serves(&self, path: &ObjectPath, body: Option<&[u8]>) -> bool {
        let at = self.0.url(path, &"saved".parse().expect("a program's name"), Method::Get).await.expect("a URL");
        let url = at.url().strip_suffix("/saved").expect("it ends with the program's name");
        let source = self.0.source(path).await.expect("a URL");
        for url in [url, &source] {
            assert_eq!(object_of(url).as_ref(), Some(path), "{url}");
        }
        // What the HTTP layer serves is this file.
        let read = std::fs::read(self.0.file(path)).ok();
        assert_eq!(self.0.size(path).await, Ok(read.as_ref().map(|content| content.len() as u64)));
        read.as_deref() == body
    }
}
