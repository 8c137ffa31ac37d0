//! The launcher: starts and stops builders.

use std::future::Future;

use thiserror::Error;

use crate::{
    build::Lease,
    id::key::{BuildKey, LeaseId, System},
    ports::Unavailable,
    quota::limits::Why,
};

/// What a launcher says of a task that it did not start.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NotLaunched {
    /// It will not come to be.
    #[error("{0}")]
    Refused(String),
    /// It may or may not.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Starts builders.
pub trait Launcher: Send + Sync {
    /// Starts the builder of a lease and returns what the launcher calls it. The same lease again starts no second one.
    fn launch(&self, key: &BuildKey, lease: &Lease) -> impl Future<Output = Result<String, NotLaunched>> + Send;

    /// Stops the builder of a lease, soon and without waiting for it. One that is gone already is fine. `task`: what the launcher
    /// called it, where that was written down.
    fn stop(&self, lease: &LeaseId, task: Option<&str>) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// Whose builders run now, as far as it knows.
    fn running(&self) -> impl Future<Output = Result<Vec<LeaseId>, Unavailable>> + Send;

    /// What keeps it from starting any builder for a system; `None`: nothing that it knows of.
    fn obstacle(&self, system: System) -> impl Future<Output = Result<Option<Why>, Unavailable>> + Send {
        // Where builders are this machine's own processes, whoever serves has looked before.
        let _ = system;
        async { Ok(None) }
    }
}
