//! Waiting for a build inside one process: whoever waits has a seat, and hears of every build that is settled.

use std::{sync::Arc, time::Duration};

use binplz_core::{
    id::key::BuildKey,
    ports::{Row, Unavailable, WaitLimiter, Watch},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, broadcast},
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
            && !build.is_under_way()
        {
            // Nobody waits: that is no error here.
            let _ = self.0.send(Arc::new(build.key.clone()));
        }
    }
}

/// The seats, and the news.
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

    /// A seat is held by the connection that waits, and by nothing else.
    async fn keeps(&self) -> Result<(), Unavailable> {
        Ok(())
    }

    fn watch(&self, key: &BuildKey, patience: Duration) -> Option<LocalWatch> {
        let seat = Arc::clone(&self.seats).try_acquire_owned().ok()?;
        let (key, settled) = (key.clone(), self.settled.0.subscribe());
        Some(LocalWatch { key, settled, until: Instant::now() + patience, _seat: seat })
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

    /// Whether one who waits for `tree` hears something of what is written after the watch began, if it does not wait at all.
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
