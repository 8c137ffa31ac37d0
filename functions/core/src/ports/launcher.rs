//! The launcher: starts and stops builders.

use std::future::Future;

use thiserror::Error;

use crate::{
    build::Lease,
    id::key::{BuildKey, LeaseId, Rev, System},
    objects::artifact::AttemptPrefix,
    ports::Unavailable,
    quota::limits::Why,
};

/// What a launcher says of a task that it did not start.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NotLaunched {
    /// No task exists, and none will.
    #[error("{0}")]
    Refused(String),
    /// A task may exist or not.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Starts and stops builders.
pub trait Launcher: Send + Sync {
    /// Starts the builder of a lease, and returns the launcher's name for it. Idempotent: the same lease starts no
    /// second builder.
    fn launch(&self, key: &BuildKey, lease: &Lease) -> impl Future<Output = Result<String, NotLaunched>> + Send;

    /// Asks the builder of a lease to stop, without waiting for it. A builder that is gone already is fine. `task`: the
    /// launcher's name for it, if recorded.
    fn stop(&self, lease: &LeaseId, task: Option<&str>) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// The leases whose builders run now, as far as known.
    fn running(&self) -> impl Future<Output = Result<Vec<LeaseId>, Unavailable>> + Send;

    /// The reason why no builder for a system can start; `None` if none is known.
    fn obstacle(&self, system: System) -> impl Future<Output = Result<Option<Why>, Unavailable>> + Send {
        // A local server checked its machine before it started.
        let _ = system;
        async { Ok(None) }
    }

    /// Whether the tarball of a nixpkgs that builders get from the deployment's store is missing. A launcher whose builders
    /// get none there uses this default.
    fn lacks_nixpkgs(&self, rev: &Rev) -> impl Future<Output = Result<bool, Unavailable>> + Send {
        let _ = rev;
        async { Ok(false) }
    }

    /// Bytes that an attempt has left in the store, now that its task is gone; `None` if this launcher cannot look.
    fn left(&self, prefix: &AttemptPrefix) -> impl Future<Output = Result<Option<u64>, Unavailable>> + Send {
        let _ = prefix;
        async { Ok(None) }
    }
}
