//! Those who wait, counted in the table.

use std::time::Duration;

use binplz_aws::{ledger::DynamoLedger, wait_limiter::DynamoWaitLimiter};
use binplz_core::{id::time::Timestamp, ports::WaitLimiter};

use crate::bed::{Fresh, fresh};

/// An instant in the middle of a window: a hop's 25 s and 5 more.
const NOW: Timestamp = Timestamp(1_800_000_015_000);
const WINDOW: Duration = Duration::from_secs(30);

fn wait_limiter(adapters: &Fresh, seats: usize) -> DynamoWaitLimiter {
    let settings = adapters.settings.clone().with("BINPLZ_WAITERS", &seats.to_string());
    let rows = DynamoLedger::open(&adapters.account, &settings).expect("settings");
    DynamoWaitLimiter::open(&rows, &settings).expect("settings")
}

/// How many of ten come in at an instant, all at once.
async fn admitted(wait_limiter: &DynamoWaitLimiter, now: Timestamp) -> usize {
    let tries: Vec<_> = (0..10)
        .map(|_| {
            let wait_limiter = wait_limiter.clone();
            tokio::spawn(async move { wait_limiter.admits_at(now).await.expect("the table") })
        })
        .collect();
    let mut count = 0;
    for one in tries {
        count += usize::from(one.await.expect("a task"));
    }
    count
}

#[tokio::test]
#[ignore = "needs AWS beside it: tests/bed/up"]
async fn no_more_come_in_than_there_are_seats_however_many_ask_at_once() {
    let adapters = fresh().await;
    let wait_limiter = wait_limiter(&adapters, 4);
    assert_eq!(admitted(&wait_limiter, NOW).await, 4);
    assert_eq!(admitted(&wait_limiter, NOW).await, 0);
    // A waiter that goes on keeps its permit in the next window, before it has been counted there and after.
    assert_eq!(admitted(&wait_limiter, NOW + WINDOW).await, 0);
    for _ in 0..3 {
        wait_limiter.keeps_at(NOW + WINDOW).await.expect("the table");
    }
    assert_eq!(admitted(&wait_limiter, NOW + WINDOW).await, 0);
    // One of the four did not, and one seat is free.
    assert_eq!(admitted(&wait_limiter, NOW + 2 * WINDOW).await, 1);
    // No other waiter went on: all permits but the newest one's are free.
    assert_eq!(admitted(&wait_limiter, NOW + 3 * WINDOW).await, 3);
    assert_eq!(admitted(&wait_limiter, NOW + 5 * WINDOW).await, 4);
}

#[tokio::test]
#[ignore = "needs AWS beside it: tests/bed/up"]
async fn without_seats_nobody_comes_in() {
    let adapters = fresh().await;
    assert_eq!(wait_limiter(&adapters, 0).admits().await, Ok(false));
    assert_eq!(wait_limiter(&adapters, 1).admits().await, Ok(true));
}
