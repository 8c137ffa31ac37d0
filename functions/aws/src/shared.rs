//! The builders' shared binary cache, as described to them. ECS's event "task stopped" notifies the promoter of offers.

use std::sync::{Arc, OnceLock};

use binplz_core::{
    build::protocol::Cache,
    objects::artifact::{CACHE, CacheName},
    ports::Unavailable,
};

use crate::{config::Settings, objects::S3Objects};

/// The cache of a bucket.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    /// The cache's public key, once it is published; it never changes for a running function.
    signed_by: Arc<OnceLock<String>>,
}

impl Shared {
    /// Opens the cache of the settings; `None` if builders share none.
    pub(crate) fn open(settings: &Settings) -> Option<Shared> {
        settings.find("BINPLZ_CACHE_BYTES").filter(|bytes| *bytes != "0").map(|_| Shared { signed_by: Arc::default() })
    }

    /// The cache in a bucket. Builders read it without credentials: the bucket's policy admits requests from their
    /// network.
    pub(crate) async fn cache(&self, objects: &S3Objects) -> Result<Cache, Unavailable> {
        if self.signed_by.get().is_none()
            && let Some(key) = objects.text(&CacheName::PublicKey.to_string()).await?
        {
            // A concurrent call has found the same key.
            let _ = self.signed_by.set(key);
        }
        let url = objects.unsigned(CACHE);
        Ok(Cache { url, public_key: self.signed_by.get().cloned() })
    }
}
