//! The builders' Nix cache in the bucket, and the quarantine before it. What an offered file comes to is found out while it streams
//! by; into the cache it is copied by S3 itself.

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
    },
    ports::{BinaryCache, Measured, Store, Unavailable},
};
use binplz_nar::{Key, Meter};

use crate::{
    config::{ConfigError, Settings},
    objects::ROLE,
    presign::encoded,
    store::{S3Store, within},
    unavailable,
};

/// How long S3 may take to copy a file: of the 5 GB that one upload can have, at 100 MB in a second, some fifty seconds.
const COPY: Duration = Duration::from_secs(300);

/// The cache, and what it is signed with.
#[derive(Debug)]
pub struct S3BinaryCache {
    store: S3Store,
    of: StoreDir,
    key: Key,
}

impl S3BinaryCache {
    /// The one in that bucket, of builders whose store is where nearly all are, signed with the key that the settings' secret makes.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn open(store: &S3Store, settings: &Settings) -> Result<S3BinaryCache, ConfigError> {
        let key = Key::of_secret(&settings.need("BINPLZ_CACHE_SECRET")?);
        Ok(S3BinaryCache { store: store.clone(), of: StoreDir::default(), key })
    }

    /// Lets builders know whose cache it is, and by whom it is signed: from then on they read it.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn announce(&self) -> Result<(), Unavailable> {
        let (at, ours) = (CacheName::PublicKey.to_string(), self.key.public());
        if self.store.objects.text(&at).await?.as_ref() == Some(&ours) {
            return Ok(());
        }
        // Without it Nix takes it for no cache.
        self.put_new(&CacheName::Info, format!("StoreDir: {}\n", self.of)).await?;
        // The one thing that is ever replaced: where the stack's secret is another one now.
        let put = self.store.s3.put_object().bucket(&self.store.bucket).key(at).content_type(TEXT);
        put.body(ByteStream::from(ours.into_bytes())).send().await.map(drop).map_err(|error| unavailable(ROLE, &error))
    }

    async fn put_new(&self, name: &CacheName, text: String) -> Result<(), Unavailable> {
        self.store.put_new(&name.to_string(), TEXT, text.into_bytes()).await.map(drop)
    }
}

/// What narinfos and all that describes the cache are.
const TEXT: &str = "text/plain; charset=utf-8";

/// The key of an offer.
fn offer(prefix: &AttemptPrefix, name: ObjectName) -> String {
    prefix.object(name).to_string()
}

impl BinaryCache for S3BinaryCache {
    fn store_dir(&self) -> &StoreDir {
        &self.of
    }

    async fn read(&self, prefix: &AttemptPrefix, offer: ObjectName) -> Result<Option<Vec<u8>>, Unavailable> {
        self.store.read(&prefix.object(offer)).await
    }

    async fn offers(&self, prefix: &AttemptPrefix) -> Result<Vec<StoreHash>, Unavailable> {
        let prefix = prefix.quarantine();
        // The files lie one level deeper.
        let list = self.store.s3.list_objects_v2().bucket(&self.store.bucket).prefix(&prefix).delimiter("/");
        let (mut pages, mut paths) = (list.into_paginator().send(), Vec::new());
        while let Some(page) = pages.next().await {
            for object in page.map_err(|error| unavailable(ROLE, &error))?.contents() {
                let name = object.key().and_then(|key| key.strip_prefix(&prefix)?.parse().ok());
                if let Some(ObjectName::Narinfo(path)) = name {
                    paths.push(path);
                }
            }
        }
        Ok(paths)
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
        // What is there by that name is the same.
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
