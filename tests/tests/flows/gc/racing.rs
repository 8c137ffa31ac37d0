//! A second actor interferes at exactly the wrong moment.

use std::{sync::Arc, time::Duration};

use binplz_core::{
    build::{Event, State, failure::Kind, protocol::Turn},
    flow::{advance, operator::gc::gc},
    gc::FORGOTTEN,
    nixpkgs::{pins::KEEP, served::Served},
    ports::{HasLedger, Ledger},
    row::{Row, Swap, Version},
};
use binplz_tests::world::rev;

use super::{
    add, again, ask, building, fail, grace, hit, made, prefix, prefixes, retire, run, run_to_the_end, turn, world,
};

#[tokio::test]
async fn whoever_borrows_what_is_about_to_go_keeps_it() {
    let w = world();
    w.change(add("old", '6')).await;
    made(&w, "tree?pin=old", 'a').await;
    let made_once = prefix(&w, "tree?pin=old").await;
    building(&w, "tree").await;
    retire(&w, "old", Duration::ZERO).await;
    w.pass(grace(&w));
    // Its lease is over by its time: what asks now has another one.
    binplz_core::flow::schedule::sweep::sweep(&*w).await.expect("the ledger");
    again(&w, "tree").await;
    let borrower = Arc::clone(&w);
    w.after_next_scan(async move { assert_eq!(turn(&borrower, "tree", 'a').await, Turn::Elsewhere) });
    let report = run(&w).await;
    assert_eq!((report.rows.builds, prefix(&w, "tree").await), (1, made_once.clone()));
    run_to_the_end(&w).await;
    assert!(prefixes(&w).await.contains(&made_once));
    hit(&w, "tree").await;
}

#[tokio::test]
async fn what_a_late_request_has_written_is_found_and_begins_the_wait_anew() {
    let w = world();
    made(&w, "tree", 'a').await;
    w.move_pin('6').await;
    let (old, served) = (prefixes(&w).await, w.served("tree").await.expect("a row"));
    w.pass(KEEP + grace(&w));
    run(&w).await;
    assert_eq!(w.served("tree").await, None);
    // It had looked before, and its client follows where it leads.
    let late = Served { stale: false, ..served };
    let swap = Swap { seen: Version(0), row: Row::Served(late) };
    w.ledger().commit(vec![swap]).await.expect("the ledger");
    w.pass(grace(&w));
    let found = run(&w).await;
    assert_eq!((found.rows.served, found.removed.prefixes, prefixes(&w).await), (1, 0, old.clone()));
    w.pass(grace(&w) - Duration::from_millis(1));
    run(&w).await;
    assert_eq!(prefixes(&w).await, old, "so long after it was seen");
    w.pass(Duration::from_millis(1));
    run(&w).await;
    assert!(prefixes(&w).await.is_empty());
}

#[tokio::test]
async fn the_wait_begins_anew_also_where_whoever_found_the_late_row_was_killed() {
    for writes in 0.. {
        let w = world();
        made(&w, "tree", 'a').await;
        w.move_pin('6').await;
        let served = w.served("tree").await.expect("a row");
        w.pass(KEEP + grace(&w));
        run(&w).await;
        let swap = Swap { seen: Version(0), row: Row::Served(served) };
        w.ledger().commit(vec![swap]).await.expect("the ledger");
        w.pass(grace(&w));
        w.die_after(Some(writes));
        let killed = gc(&*w, false).await.is_err();
        w.die_after(None);
        run(&w).await;
        assert_eq!(prefixes(&w).await.len(), 1, "killed after {writes} writes");
        run_to_the_end(&w).await;
        assert!(prefixes(&w).await.is_empty());
        if !killed {
            assert!(writes >= 3, "{writes} writes");
            return;
        }
    }
}

#[tokio::test]
async fn a_pin_that_is_there_again_before_its_rows_go_loses_nothing() {
    let w = world();
    made(&w, "tree", 'a').await;
    w.move_pin('6').await;
    w.pass(KEEP + grace(&w));
    let operator = Arc::clone(&w);
    w.after_next_scan(async move { operator.move_pin('5').await });
    assert_eq!(run(&w).await.rows, Default::default());
    run_to_the_end(&w).await;
    assert_eq!((hit(&w, "tree").await.rev, w.launcher.started.lock().expect("a lock").len()), (rev('5'), 1));
}

#[tokio::test]
async fn what_somebody_has_written_meanwhile_stays() {
    let w = world();
    building(&w, "tree").await;
    fail(&w, "tree", Kind::SourceUnavailable).await;
    while matches!(w.build("tree").await.state, State::Queued { .. }) {
        again(&w, "tree").await;
        fail(&w, "tree", Kind::SourceUnavailable).await;
    }
    w.pass(2 * FORGOTTEN);
    let (operator, key) = (Arc::clone(&w), w.key("tree").await);
    w.before_next_commit(async move { drop(advance(&*operator, &key, &Event::Retry).await.expect("it has failed")) });
    let report = run(&w).await;
    assert_eq!((report.rows.builds, report.rows.busy), (0, 1));
    assert!(matches!(w.build("tree").await.state, State::Queued { .. }));
}

#[tokio::test]
async fn of_two_runs_at_once_neither_minds_the_other() {
    let w = world();
    w.change(add("old", '6')).await;
    made(&w, "tree", 'a').await;
    made(&w, "dash?pin=old", 'b').await;
    retire(&w, "old", Duration::ZERO).await;
    for _ in 0..2 {
        w.pass(grace(&w));
        let other = Arc::clone(&w);
        w.before_next_commit(async move { assert_eq!(run(&other).await.rows.busy, 0) });
        run(&w).await;
    }
    assert_eq!(prefixes(&w).await, [prefix(&w, "tree").await].into());
    hit(&w, "tree").await;
}

#[tokio::test]
async fn a_removal_whose_reply_was_lost_is_done() {
    let w = world();
    w.change(add("old", '6')).await;
    made(&w, "dash?pin=old", 'b').await;
    retire(&w, "old", Duration::ZERO).await;
    for _ in 0..2 {
        w.pass(grace(&w));
        w.lose_replies(1);
        run(&w).await;
    }
    assert!(prefixes(&w).await.is_empty());
    // Its name means nothing any more.
    assert!(
        matches!(ask(&w, "dash?pin=old").await, binplz_core::flow::request::outcome::RequestOutcome::Denied(denial) if denial.status() == 400)
    );
}
