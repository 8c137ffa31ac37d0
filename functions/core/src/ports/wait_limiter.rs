//! The limit of waiting requests (long polling).

use std::{future::Future, time::Duration};

use crate::{id::key::BuildKey, ports::Unavailable};

/// Where those are who wait for a build: apart from hits, and no more of them than there are seats.
pub trait WaitLimiter: Send + Sync {
    /// One of them.
    type Watch: Watch;

    /// Whether one more may come in.
    fn admits(&self) -> impl Future<Output = Result<bool, Unavailable>> + Send;

    /// One who has been held until now goes on waiting, and keeps its seat.
    fn keeps(&self) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// Begins to watch a build, for `patience` at most. `None`: no seat is free.
    fn watch(&self, key: &BuildKey, patience: Duration) -> Option<Self::Watch>;
}

/// Tells one who waits for a build that there may be something to see.
pub trait Watch: Send {
    /// Returns when the build's row may have been settled since the watch began, or since the last return: true. Too often is fine,
    /// for whoever waits looks again; false where the time is over.
    fn changed(&mut self) -> impl Future<Output = bool> + Send;
}
