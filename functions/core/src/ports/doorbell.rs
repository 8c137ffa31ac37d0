//! The doorbell: wakes the dispatcher and the signer.

use std::future::Future;

use crate::{id::key::BuildKey, ports::Unavailable};

/// The doorbell: wakes the dispatcher, and carries nothing. A lost ring costs time, not a build: a sweep rings in case.
pub trait Bell: Send + Sync {
    /// Rings.
    fn ring(&self) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// Wakes the signer for a build that is ready. A lost ring costs time: each request for what is not signed rings again.
    fn ring_signer(&self, key: &BuildKey) -> impl Future<Output = Result<(), Unavailable>> + Send;
}
