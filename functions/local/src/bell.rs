//! The doorbell inside one process.

use binplz_core::ports::{Bell, Unavailable};
use tokio::sync::Notify;

/// Wakes the dispatcher. A ring without a waiter is kept until one comes; several such rings count as one.
#[derive(Debug, Default)]
pub struct LocalBell(Notify);

impl LocalBell {
    /// Waits for a ring. Returns at once if one came since the last return.
    pub async fn wait(&self) {
        self.0.notified().await;
    }
}

impl Bell for LocalBell {
    async fn ring(&self) -> Result<(), Unavailable> {
        self.0.notify_one();
        Ok(())
    }
}
