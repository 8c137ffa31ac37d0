//! Ports: the traits through which flows do I/O, one role per file. `local` and `aws` both implement them. One contract suite
//! (`tests/src/contract`) tests both against these descriptions.

use thiserror::Error;

mod binary_cache;
mod catalogue;
mod collect;
mod deployment;
mod doorbell;
mod download_stats;
mod launcher;
mod ledger;
mod signer;
mod store;
mod wait_limiter;

pub use binary_cache::BinaryCache;
pub use catalogue::{Catalogue, Unreadable};
pub use collect::Collect;
pub use deployment::{
    Deployment, Fault, HasBell, HasCatalogues, HasDownloadStats, HasLauncher, HasLedger, HasStore, HasWaitLimiter,
};
pub use doorbell::Bell;
pub use download_stats::DownloadStats;
pub use launcher::{Launcher, NotLaunched};
pub use ledger::{Cursor, Ledger, NotCommitted, Read, Scanned};
pub use signer::{KeyUse, MESSAGE_MAX, Signer};
pub use store::{Inspect, Intake, Store};
pub use wait_limiter::{WaitLimiter, Watch};

/// A backend failed, or its answer was lost. The outcome is unknown, and the caller should retry.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{role}: {cause}")]
pub struct Unavailable {
    /// The role that failed.
    pub role: &'static str,
    /// The cause, for the operator's log. Clients never see it.
    pub cause: String,
}

impl Unavailable {
    /// A failure of `role`, with its cause.
    pub fn new(role: &'static str, cause: impl ToString) -> Unavailable {
        Unavailable { role, cause: cause.to_string() }
    }
}
