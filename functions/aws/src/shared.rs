//! The builders' shared binary cache, as described to them, and the queue that notifies the promoter of offers.

use std::sync::{Arc, OnceLock};

use aws_sdk_sqs::Client;
use binplz_core::{
    build::protocol::Cache,
    objects::artifact::{AttemptPrefix, CACHE, CacheName},
    ports::Unavailable,
};

use crate::{account::Account, config::Settings, objects::S3Objects, unavailable};

/// The cache's location, and the promoter's queue.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    sqs: Client,
    queue: String,
    /// The cache's public key, once it is published; it never changes for a running function.
    signed_by: Arc<OnceLock<String>>,
}

impl Shared {
    /// Opens the cache of the settings; `None` if builders share none.
    pub(crate) fn open(account: &Account, settings: &Settings) -> Option<Shared> {
        let queue = settings.find("BINPLZ_OFFERS_URL")?.to_owned();
        Some(Shared { sqs: Client::new(&account.sdk), queue, signed_by: Arc::default() })
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

    /// Notifies the promoter that an attempt with offers has ended.
    pub(crate) async fn tell(&self, prefix: &AttemptPrefix) -> Result<(), Unavailable> {
        let send = self.sqs.send_message().queue_url(&self.queue).message_body(prefix.to_string());
        send.send().await.map(drop).map_err(|error| unavailable("offers", &error))
    }
}
