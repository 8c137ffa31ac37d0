//! The Nix cache that builders share, as it is told to them; and the queue in which a promotion hears of what they offer.

use std::sync::{Arc, OnceLock};

use aws_sdk_sqs::Client;
use binplz_core::{
    build::protocol::Cache,
    objects::artifact::{AttemptPrefix, CACHE, CacheName},
    ports::Unavailable,
};

use crate::{account::Account, config::Settings, objects::S3Objects, unavailable};

/// Where builders are sent, and who is told when they have offered something.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    sqs: Client,
    queue: String,
    /// By whom the cache is signed, once something is in there: that stays so.
    signed_by: Arc<OnceLock<String>>,
}

impl Shared {
    /// That of the settings; `None`: builders share none.
    pub(crate) fn open(account: &Account, settings: &Settings) -> Option<Shared> {
        let queue = settings.find("BINPLZ_OFFERS_URL")?.to_owned();
        Some(Shared { sqs: Client::new(&account.sdk), queue, signed_by: Arc::default() })
    }

    /// The cache in a bucket, which builders read without credentials: the bucket's policy lets in who comes from their network.
    pub(crate) async fn cache(&self, objects: &S3Objects) -> Result<Cache, Unavailable> {
        if self.signed_by.get().is_none()
            && let Some(key) = objects.text(&CacheName::PublicKey.to_string()).await?
        {
            // Whoever else was as quick has found the same.
            let _ = self.signed_by.set(key);
        }
        let url = objects.unsigned(CACHE);
        Ok(Cache { url, public_key: self.signed_by.get().cloned() })
    }

    /// Tells of an attempt that is over, and has offered something.
    pub(crate) async fn tell(&self, prefix: &AttemptPrefix) -> Result<(), Unavailable> {
        let send = self.sqs.send_message().queue_url(&self.queue).message_body(prefix.to_string());
        send.send().await.map(drop).map_err(|error| unavailable("offers", &error))
    }
}
