//! The doorbell inside one process.

use binplz_core::ports::{Bell, Unavailable};
use tokio::sync::Notify;

/// Wakes the dispatcher. A ring that nobody waits for is kept until somebody does; several such are one.
#[derive(Debug, Default)]
pub struct LocalBell(Notify);

impl LocalBell {
    /// Returns after a ring: at once, where one came since the last return.
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
