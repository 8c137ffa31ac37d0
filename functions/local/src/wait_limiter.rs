//! Long polling inside one process: each waiter holds a permit, and is notified of every build that settles.

use std::{sync::Arc, time::Duration};

use binplz_core::{
    id::key::BuildKey,
    ports::{Unavailable, WaitLimiter, Watch},
    row::Row,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, broadcast},
    time::{Instant, timeout_at},
};

/// How many notifications a waiter may lag behind; beyond that it reads its row instead.
const BACKLOG: usize = 64;

/// Notifies all waiters of settled builds.
#[derive(Clone, Debug)]
pub(crate) struct Settled(broadcast::Sender<Arc<BuildKey>>);

impl Settled {
    pub(crate) fn new() -> Settled {
        Settled(broadcast::Sender::new(BACKLOG))
    }

    /// A row has been committed.
    pub(crate) fn written(&self, row: &Row) {
        let key = match row {
            Row::Build(build) if !build.is_under_way() => &build.key,
            Row::Logged(logged) => &logged.key,
            _ => return,
        };
        // Without waiters, sending fails, and that is fine.
        let _ = self.0.send(Arc::new(key.clone()));
    }
}

/// The builds that settle, for a reader of its own.
#[derive(Debug)]
pub struct SettledBuilds(broadcast::Receiver<Arc<BuildKey>>);

impl SettledBuilds {
    pub(crate) fn of(settled: &Settled) -> SettledBuilds {
        SettledBuilds(settled.0.subscribe())
    }

    /// Waits for builds that have settled. `None`: there were more than could be kept, and any may be among them.
    pub async fn some(&mut self) -> Option<Vec<BuildKey>> {
        use broadcast::error::RecvError::Lagged;
        let mut keys = match self.0.recv().await {
            Ok(key) => vec![BuildKey::clone(&key)],
            Err(Lagged(_)) => return None,
            // The ledger is closed: nothing will come.
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        };
        while let Ok(key) = self.0.try_recv() {
            keys.push(BuildKey::clone(&key));
        }
        Some(keys)
    }
}

/// The permits, and the notifications.
#[derive(Debug)]
pub struct LocalWaitLimiter {
    seats: Arc<Semaphore>,
    settled: Settled,
}

impl LocalWaitLimiter {
    pub(crate) fn new(seats: usize, settled: Settled) -> LocalWaitLimiter {
        LocalWaitLimiter { seats: Arc::new(Semaphore::new(seats.min(Semaphore::MAX_PERMITS))), settled }
    }
}

impl WaitLimiter for LocalWaitLimiter {
    type Watch = LocalWatch;

    async fn admits(&self) -> Result<bool, Unavailable> {
        Ok(self.seats.available_permits() > 0)
    }

    /// Here the waiting connection itself holds the permit.
    async fn keeps(&self) -> Result<(), Unavailable> {
        Ok(())
    }

    fn watch(&self, key: &BuildKey, patience: Duration) -> Option<LocalWatch> {
        let seat = Arc::clone(&self.seats).try_acquire_owned().ok()?;
        let (key, settled) = (key.clone(), self.settled.0.subscribe());
        Some(LocalWatch { key, settled, until: Instant::now() + patience, _seat: seat })
    }
}

/// A waiter for one build, and the permit that it holds.
#[derive(Debug)]
pub struct LocalWatch {
    key: BuildKey,
    settled: broadcast::Receiver<Arc<BuildKey>>,
    until: Instant,
    _seat: OwnedSemaphorePermit,
}

impl LocalWatch {
    async fn own_key(&mut self) {
        use broadcast::error::RecvError::{Closed, Lagged};
        loop {
            match self.settled.recv().await {
                Ok(key) if *key != self.key => {}
                Ok(_) | Err(Lagged(_)) => return,
                // The ledger is closed: no notification will come.
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

#[cfg(test)]
mod tests {
    use super::*;
    use binplz_core::{
        build::{Build, Made, State},
        id::time::Timestamp,
    };

    fn key(attr: &str) -> BuildKey {
        format!("{}/x86_64-linux/{attr}", "0".repeat(40)).parse().expect("a key")
    }

    fn row(attr: &str, state: State) -> Row {
        Row::Build(Build { state, ..Build::unasked(key(attr)) })
    }

    fn ready() -> State {
        State::Ready(Made { lease: "1".repeat(32).parse().expect("hex"), borrowed: None, since: Timestamp(1) })
    }

    /// Whether a waiter for `tree` is notified of writes that come after its watch began, without waiting.
    async fn hears(rows: &[Row]) -> bool {
        let settled = Settled::new();
        let mut watch = LocalWaitLimiter::new(1, settled.clone()).watch(&key("tree"), Duration::ZERO).expect("a seat");
        rows.iter().for_each(|row| settled.written(row));
        watch.changed().await
    }

    #[tokio::test]
    async fn a_build_that_was_settled_since_the_watch_began_is_heard_of_however_late_one_waits() {
        assert!(hears(&[row("tree", ready())]).await);
        assert!(hears(&[row("hello", ready()), row("tree", State::Unasked), row("hello", ready())]).await);
        assert!(!hears(&[]).await);
    }

    #[tokio::test]
    async fn other_builds_and_other_moves_wake_nobody() {
        let queued = State::Queued { since: Timestamp(1), due: Timestamp(1), attempt: 1, warming: false };
        assert!(!hears(&[row("hello", ready()), row("tree", queued)]).await);
    }

    #[tokio::test]
    async fn one_who_was_told_more_than_it_could_hear_looks_again() {
        let many: Vec<_> = (0..=BACKLOG).map(|n| row(&format!("p{n}"), ready())).collect();
        assert!(hears(&many).await);
    }

    #[tokio::test]
    async fn a_seat_is_taken_while_one_waits_and_then_free_again() {
        let wait_limiter = LocalWaitLimiter::new(1, Settled::new());
        assert_eq!(wait_limiter.admits().await, Ok(true));
        let seated = wait_limiter.watch(&key("tree"), Duration::ZERO).expect("a seat");
        assert_eq!(wait_limiter.admits().await, Ok(false));
        assert!(wait_limiter.watch(&key("tree"), Duration::ZERO).is_none());
        drop(seated);
        assert_eq!(wait_limiter.admits().await, Ok(true));
    }
}
