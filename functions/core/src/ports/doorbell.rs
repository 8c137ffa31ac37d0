//! The doorbell: wakes the dispatcher.

use std::future::Future;

use crate::ports::Unavailable;

/// The doorbell: wakes the dispatcher, and carries nothing. A lost ring costs time, not a build: a sweep rings in case.
pub trait Bell: Send + Sync {
    /// Rings.
    fn ring(&self) -> impl Future<Output = Result<(), Unavailable>> + Send;
}
