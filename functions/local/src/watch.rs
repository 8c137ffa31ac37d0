//! Waiting for a build inside one process: whoever waits hears of every build that is settled.

use std::{sync::Arc, time::Duration};

use binplz_core::{
    key::BuildKey,
    ports::{Row, Watch},
};
use tokio::{
    sync::{OwnedSemaphorePermit, broadcast},
    time::{Instant, timeout_at},
};

/// How many settled builds a waiter may be behind; one who is further behind looks at its own row instead.
const BACKLOG: usize = 64;

/// Tells all who wait of builds that are settled.
#[derive(Clone, Debug)]
pub(crate) struct Settled(broadcast::Sender<Arc<BuildKey>>);

impl Settled {
    pub(crate) fn new() -> Settled {
        Settled(broadcast::Sender::new(BACKLOG))
    }

    /// A row has been committed.
    pub(crate) fn written(&self, row: &Row) {
        if let Row::Build(build) = row
            && build.shelf().is_none()
        {
            // Nobody waits: that is no error here.
            let _ = self.0.send(Arc::new(build.key.clone()));
        }
    }
}

/// One who waits for a build, and the seat that it takes.
#[derive(Debug)]
pub struct LocalWatch {
    key: BuildKey,
    settled: broadcast::Receiver<Arc<BuildKey>>,
    until: Instant,
    _seat: OwnedSemaphorePermit,
}

impl LocalWatch {
    pub(crate) fn new(key: &BuildKey, settled: &Settled, patience: Duration, seat: OwnedSemaphorePermit) -> LocalWatch {
        let settled = settled.0.subscribe();
        LocalWatch { key: key.clone(), settled, until: Instant::now() + patience, _seat: seat }
    }

    async fn own_key(&mut self) {
        use broadcast::error::RecvError::{Closed, Lagged};
        loop {
            match self.settled.recv().await {
                Ok(key) if *key != self.key => {}
                Ok(_) | Err(Lagged(_)) => return,
                // The ledger is gone, and there will be no news.
                Err(Closed) => std::future::pending().await,
            }
        }
    }
}

impl Watch for LocalWatch {
    async fn changed(&mut self) -> bool {
        timeout_at(self.until, self.own_key()).await.is_ok()
    }
}
