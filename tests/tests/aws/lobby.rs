//! Those who wait, counted in the table.

use std::time::Duration;

use binplz_aws::{ledger::DynamoLedger, lobby::DynamoLobby};
use binplz_core::{ports::Lobby, time::Timestamp};

use crate::bed::{Fresh, fresh};

/// An instant in the middle of a window: a hop's 25 s and 5 more.
const NOW: Timestamp = Timestamp(1_800_000_015_000);
const WINDOW: Duration = Duration::from_secs(30);

fn lobby(adapters: &Fresh, seats: usize) -> DynamoLobby {
    let settings = adapters.settings.clone().with("BINPLZ_WAITERS", &seats.to_string());
    let rows = DynamoLedger::open(&adapters.account, &settings).expect("settings");
    DynamoLobby::open(&rows, &settings).expect("settings")
}

/// How many of ten come in at an instant, all at once.
async fn admitted(lobby: &DynamoLobby, now: Timestamp) -> usize {
    let tries: Vec<_> = (0..10)
        .map(|_| {
            let lobby = lobby.clone();
            tokio::spawn(async move { lobby.admits_at(now).await.expect("the table") })
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
    let lobby = lobby(&adapters, 4);
    assert_eq!(admitted(&lobby, NOW).await, 4);
    assert_eq!(admitted(&lobby, NOW).await, 0);
    // Whoever went on waiting keeps its seat in the next window, before it has been counted there and after.
    assert_eq!(admitted(&lobby, NOW + WINDOW).await, 0);
    for _ in 0..3 {
        lobby.keeps_at(NOW + WINDOW).await.expect("the table");
    }
    assert_eq!(admitted(&lobby, NOW + WINDOW).await, 0);
    // One of the four did not, and one seat is free.
    assert_eq!(admitted(&lobby, NOW + 2 * WINDOW).await, 1);
    // Nobody else went on: all seats but that of the newest.
    assert_eq!(admitted(&lobby, NOW + 3 * WINDOW).await, 3);
    assert_eq!(admitted(&lobby, NOW + 5 * WINDOW).await, 4);
}

#[tokio::test]
#[ignore = "needs AWS beside it: tests/bed/up"]
async fn without_seats_nobody_comes_in() {
    let adapters = fresh().await;
    assert_eq!(lobby(&adapters, 0).admits().await, Ok(false));
    assert_eq!(lobby(&adapters, 1).admits().await, Ok(true));
}
