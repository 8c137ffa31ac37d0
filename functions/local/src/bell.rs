//! The doorbell inside one process.

use std::{
    collections::BTreeSet,
    mem::take,
    sync::{Mutex, PoisonError},
};

use binplz_core::{
    id::key::BuildKey,
    ports::{Bell, Unavailable},
};
use tokio::sync::Notify;

/// Wakes the dispatcher and the signer. A ring without a waiter is kept until one comes; several such rings count as one.
#[derive(Debug, Default)]
pub struct LocalBell {
    dispatcher: Notify,
    signer: Notify,
    /// The builds that the signer was woken for, and has not taken.
    unsigned: Mutex<BTreeSet<BuildKey>>,
}

impl LocalBell {
    /// Waits for a ring. Returns at once if one came since the last return.
    pub async fn wait(&self) {
        self.dispatcher.notified().await;
    }

    /// Waits for a ring for the signer. Returns the builds that it was rung for.
    pub async fn unsigned(&self) -> BTreeSet<BuildKey> {
        self.signer.notified().await;
        take(&mut self.unsigned.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Bell for LocalBell {
    async fn ring(&self) -> Result<(), Unavailable> {
        self.dispatcher.notify_one();
        Ok(())
    }

    async fn ring_signer(&self, key: &BuildKey) -> Result<(), Unavailable> {
        self.unsigned.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
        self.signer.notify_one();
        Ok(())
    }
}
