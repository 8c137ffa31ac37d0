//! The builders' Nix binary cache in the bucket, and the quarantine in front of it. An offered file is measured while
//! it streams through; S3 itself copies it into the cache.

use std::time::Duration;

use aws_sdk_s3::{
    operation::{get_object::GetObjectError, head_object::HeadObjectError},
    primitives::ByteStream,
};
use binplz_core::{
    id::key::{Sha256, StoreHash},
    objects::{
        artifact::{AttemptPrefix, CacheName, ObjectName},
        narinfo::StoreDir,
        stored::Measured,
    },
    ports::{BinaryCache, Store, Unavailable},
};
use binplz_nar::{Key, Meter};

use crate::{
    config::{ConfigError, Settings},
    objects::ROLE,
    presign::encoded,
    store::{S3Store, within},
    unavailable,
};

/// The timeout of S3's copy of a file. One upload has at most 5 GB, which takes about fifty seconds at 100 MB a second.
const COPY: Duration = Duration::from_secs(300);

/// The binary cache, and the key that signs it.
#[derive(Debug)]
pub struct S3BinaryCache {
    store: S3Store,
    of: StoreDir,
    key: Key,
}

impl S3BinaryCache {
    /// Opens the cache in the store's bucket, for the default Nix store directory, with the key that the settings'
    /// secret makes.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn open(store: &S3Store, settings: &Settings) -> Result<S3BinaryCache, ConfigError> {
        let key = Key::of_secret(&settings.need("BINPLZ_CACHE_SECRET")?);
        Ok(S3BinaryCache { store: store.clone(), of: StoreDir::default(), key })
    }

    /// Publishes the cache's store directory and public key. Builders read the cache from then on.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn announce(&self) -> Result<(), Unavailable> {
        let (at, ours) = (CacheName::PublicKey.to_string(), self.key.public());
        if self.store.objects.text(&at).await?.as_ref() == Some(&ours) {
            return Ok(());
        }
        // Nix does not accept a cache without this file.
        self.put_new(&CacheName::Info, format!("StoreDir: {}\n", self.of)).await?;
        // The only object that is ever replaced: after the stack's secret has changed.
        let put = self.store.s3.put_object().bucket(&self.store.bucket).key(at).content_type(TEXT);
        put.body(ByteStream::from(ours.into_bytes())).send().await.map(drop).map_err(|error| unavailable(ROLE, &error))
    }

    async fn put_new(&self, name: &CacheName, text: String) -> Result<(), Unavailable> {
        self.store.put_new(&name.to_string(), TEXT, text.into_bytes()).await.map(drop)
    }
}

/// The media type of narinfos and of the cache's description.
const TEXT: &str = "text/plain; charset=utf-8";

/// The S3 key of an offered object.
fn offer(prefix: &AttemptPrefix, name: ObjectName) -> String {
    prefix.object(name).to_string()
}

impl S3Store {
    /// The store paths whose narinfos lie below that prefix.
    pub(crate) async fn offers_in(&self, prefix: &str) -> Result<Vec<StoreHash>, Unavailable> {
        // The NAR files lie one level deeper.
        let list = self.s3.list_objects_v2().bucket(&self.bucket).prefix(prefix).delimiter("/");
        let (mut pages, mut paths) = (list.into_paginator().send(), Vec::new());
        while let Some(page) = pages.next().await {
            for object in page.map_err(|error| unavailable(ROLE, &error))?.contents() {
                let name = object.key().and_then(|key| key.strip_prefix(prefix)?.parse().ok());
                if let Some(ObjectName::Narinfo(path)) = name {
                    paths.push(path);
                }
            }
        }
        Ok(paths)
    }
}

impl BinaryCache for S3BinaryCache {
    fn store_dir(&self) -> &StoreDir {
        &self.of
    }

    async fn read(&self, prefix: &AttemptPrefix, offer: ObjectName) -> Result<Option<Vec<u8>>, Unavailable> {
        self.store.read(&prefix.object(offer)).await
    }

    async fn offers(&self, prefix: &AttemptPrefix) -> Result<Vec<StoreHash>, Unavailable> {
        self.store.offers_in(&prefix.quarantine()).await
    }

    async fn measure(&self, prefix: &AttemptPrefix, nar: &Sha256, most: u64) -> Result<Option<Measured>, Unavailable> {
        let key = offer(prefix, ObjectName::Nar(nar.clone()));
        let mut body = match self.store.s3.get_object().bucket(&self.store.bucket).key(key).send().await {
            Ok(object) => object.body,
            Err(error) if error.as_service_error().is_some_and(GetObjectError::is_no_such_key) => return Ok(None),
            Err(error) => return Err(unavailable(ROLE, &error)),
        };
        let mut meter = Meter::new(most);
        while let Some(piece) = body.next().await {
            meter.feed(&piece.map_err(|error| unavailable(ROLE, &error))?);
        }
        Ok(Some(meter.finish()))
    }

    async fn has(&self, path: &StoreHash) -> Result<bool, Unavailable> {
        let key = CacheName::Narinfo(path.clone()).to_string();
        match self.store.s3.head_object().bucket(&self.store.bucket).key(key).send().await {
            Ok(_) => Ok(true),
            Err(error) if error.as_service_error().is_some_and(HeadObjectError::is_not_found) => Ok(false),
            Err(error) => Err(unavailable(ROLE, &error)),
        }
    }

    async fn keep(&self, prefix: &AttemptPrefix, nar: &Sha256) -> Result<(), Unavailable> {
        let from = format!("{}/{}", self.store.bucket, encoded(&offer(prefix, ObjectName::Nar(nar.clone()))));
        let copy = self.store.s3.copy_object().copy_source(from).bucket(&self.store.bucket);
        // An object of that name has the same content: the name is its hash.
        let copy = copy.key(CacheName::Nar(nar.clone()).to_string()).customize().config_override(within(COPY));
        copy.send().await.map(drop).map_err(|error| unavailable(ROLE, &error))
    }

    async fn publish(&self, path: &StoreHash, narinfo: String) -> Result<(), Unavailable> {
        self.put_new(&CacheName::Narinfo(path.clone()), narinfo).await
    }

    fn sign(&self, text: &str) -> String {
        self.key.sign(text)
    }

    async fn clear(&self, prefix: &AttemptPrefix) -> Result<(), Unavailable> {
        self.store.remove_below(&prefix.quarantine()).await
    }
}
