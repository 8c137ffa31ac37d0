//! Download statistics.

use std::future::Future;

use crate::{
    billing::traffic::{Asked, Traffic},
    id::time::Timestamp,
    ports::Unavailable,
};

/// Counts hits, without a write in the path of a hit.
pub trait DownloadStats: Send + Sync {
    /// The packages that were served most since an instant, up to `most` of them. The last minutes may be missing.
    fn top(&self, since: Timestamp, most: usize) -> impl Future<Output = Result<Vec<Asked>, Unavailable>> + Send;

    /// All that was served since an instant, as far back as it is remembered. The last minutes may be missing.
    fn served(&self, since: Timestamp) -> impl Future<Output = Result<Traffic, Unavailable>> + Send;
}
