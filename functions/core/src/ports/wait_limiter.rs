//! The limit of waiting requests (long polling).

use std::{future::Future, time::Duration};

use crate::{id::key::BuildKey, ports::Unavailable};

/// Limits waiting requests, apart from hits, by permits.
pub trait WaitLimiter: Send + Sync {
    /// A watch on one build.
    type Watch: Watch;

    /// Whether a permit is free for one more waiter.
    fn admits(&self) -> impl Future<Output = Result<bool, Unavailable>> + Send;

    /// A waiter goes on to another hop, and keeps its permit.
    fn keeps(&self) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// Begins to watch a build, for `patience` at most. `None` if no permit is free.
    fn watch(&self, key: &BuildKey, patience: Duration) -> Option<Self::Watch>;
}

/// Notifies a waiter that its build may have changed.
pub trait Watch: Send {
    /// Returns true when the build's row may have been settled since the watch began, or since the last return; false
    /// after the time is over. Spurious returns are fine: the waiter reads the row.
    fn changed(&mut self) -> impl Future<Output = bool> + Send;
}
