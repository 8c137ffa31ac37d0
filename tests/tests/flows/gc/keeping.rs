//! What is needed stays, however long ago it was made; and garbage goes, however young its pin.

use std::time::Duration;

use binplz_core::{
    build::{State, failure::Kind, protocol::Turn},
    flow::{
        operator::gc::gc,
        request::{log::log, outcome::RequestOutcome, program::request},
        schedule::dispatch::dispatch,
    },
    gc::FORGOTTEN,
    nixpkgs::pins::KEEP,
    objects::stored::Method,
    ports::{Collect, Deployment, HasLedger, HasStore, Ledger},
    row::RowKey,
};
use binplz_tests::world::{World, target};

use super::{
    add, again, ask, building, everything, fail, grace, hit, made, prefix, prefixes, retire, rows_of, run,
    run_to_the_end, turn, world,
};

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

#[tokio::test]
async fn what_a_pin_stands_for_stays_and_so_do_its_failures_that_are_for_good() {
    let w = world();
    made(&w, "tree", 'a').await;
    building(&w, "bad").await;
    fail(&w, "bad", Kind::BuildFailed).await;
    let before = everything(&w).await;
    w.pass(YEAR);
    run_to_the_end(&w).await;
    assert_eq!(everything(&w).await, before);
    hit(&w, "tree").await;
    assert_eq!(told(&w, "bad").await, "it works\n");
}

#[tokio::test]
async fn a_run_tells_the_limits_how_much_the_store_holds() {
    let w = world();
    made(&w, "tree", 'a').await;
    building(&w, "bad").await;
    fail(&w, "bad", Kind::BuildFailed).await;
    let thought = w.limits().await.stored();
    gc(&*w, true).await.expect("the ledger");
    assert_eq!(w.limits().await.stored(), thought, "a rehearsal changes nothing");
    gc(&*w, false).await.expect("the ledger");
    let bytes = w.store().prefixes(None, 999).await.expect("the store").iter().map(|held| held.bytes).sum::<u64>();
    // The builders' cache says whose it is.
    let cached: u64 = w.store().cached().await.expect("the store").iter().map(|file| file.bytes).sum();
    let blobs: u64 = w.store().blobs(None, 999).await.expect("the store").iter().map(|blob| blob.bytes).sum();
    assert!(blobs > 0);
    let bytes = bytes + blobs + cached;
    assert!(cached > 0 && bytes != thought, "{bytes} {thought}");
    assert_eq!(w.limits().await.stored(), bytes);
}

/// The log that is shown of a target.
async fn told(w: &World, path: &str) -> String {
    let part = log(w, &target(path), 1).await.expect("a build");
    String::from_utf8(part.content).expect("text")
}

#[tokio::test]
async fn a_failure_that_passes_is_forgotten_when_nobody_has_asked_for_a_month() {
    let w = world();
    building(&w, "tree").await;
    fail(&w, "tree", Kind::SourceUnavailable).await;
    while matches!(w.build("tree").await.state, State::Queued { .. }) {
        again(&w, "tree").await;
        fail(&w, "tree", Kind::SourceUnavailable).await;
    }
    let State::Failed { until: Some(until), .. } = w.build("tree").await.state else { panic!("it rests") };
    w.pass(until - w.now() + FORGOTTEN - Duration::from_millis(1));
    assert_eq!(run(&w).await.rows.builds, 0);
    w.pass(Duration::from_millis(1));
    assert_eq!(run(&w).await.rows.builds, 1);
    w.pass(grace(&w));
    run(&w).await;
    assert!(prefixes(&w).await.is_empty());
    // The next request begins anew.
    assert!(matches!(ask(&w, "tree").await, RequestOutcome::Pending(_)));
}

#[tokio::test]
async fn what_is_under_way_goes_on_whatever_becomes_of_its_pin() {
    let w = world();
    w.change(add("old", '6')).await;
    let bearer = building(&w, "tree?pin=old").await;
    assert_eq!(turn(&w, "tree?pin=old", 'a').await, Turn::Go);
    building(&w, "tree").await;
    assert_eq!(turn(&w, "tree", 'a').await, Turn::Elsewhere, "it follows the other one");
    retire(&w, "old", Duration::ZERO).await;
    w.pass(Duration::from_secs(1));
    let (lease, report) = (bearer.prefix(), w.report(&bearer).await);
    run_with_no_grace(&w).await;
    assert!(prefixes(&w).await.contains(&lease));
    binplz_core::flow::lease::settle::settle(&*w, &bearer, report).await.expect("its lease is live");
    // It is made, for the one that follows: no request has come yet.
    run_to_the_end(&w).await;
    dispatch(&*w).await.expect("the ledger");
    assert_eq!((prefix(&w, "tree").await, hit(&w, "tree").await.object.lease), (lease.clone(), lease.lease));
}

/// As if all had been let alone for long.
async fn run_with_no_grace(w: &World) {
    gc(w, false).await.expect("the ledger");
}

#[tokio::test]
async fn a_log_that_tells_of_a_failure_elsewhere_stays_as_long_as_it_is_told() {
    let w = world();
    w.change(add("old", '6')).await;
    let log_source = building(&w, "bad?pin=old").await.prefix();
    assert_eq!(turn(&w, "bad?pin=old", 'b').await, Turn::Go);
    fail(&w, "bad?pin=old", Kind::BuildFailed).await;
    building(&w, "bad").await;
    assert_eq!(turn(&w, "bad", 'b').await, Turn::Elsewhere);
    assert!(matches!(w.build("bad").await.state, State::Failed { until: None, .. }));
    retire(&w, "old", Duration::ZERO).await;
    w.pass(YEAR);
    run_to_the_end(&w).await;
    assert!(prefixes(&w).await.contains(&log_source));
    assert_eq!(told(&w, "bad").await, "it works\n");
    // And no longer.
    w.move_pin('7').await;
    w.pass(KEEP);
    run_to_the_end(&w).await;
    run_to_the_end(&w).await;
    assert_eq!((prefixes(&w).await, rows_of(&w, '6').await), (Default::default(), vec![]));
}

#[tokio::test]
async fn what_a_package_took_is_forgotten_when_there_is_no_build_of_it() {
    let w = world();
    made(&w, "tree", 'a').await;
    w.change(add("second", '6')).await;
    w.move_pin('7').await;
    made(&w, "dash", 'b').await;
    w.pass(YEAR);
    run_to_the_end(&w).await;
    let past = async |attr: &str| {
        let key = RowKey::BuildProfile(w.system(), attr.parse().expect("a product"));
        w.ledger().load(&key, binplz_core::ports::Read::Consistent).await.expect("the ledger").is_some()
    };
    assert_eq!((past("tree").await, past("dash").await), (false, true));
}

#[tokio::test]
async fn what_nobody_may_ask_for_any_more_is_not_remembered_as_served() {
    let w = world();
    made(&w, "tree", 'a').await;
    w.change(add("again", '5')).await;
    hit(&w, "tree?pin=again").await;
    retire(&w, "again", KEEP).await;
    assert_eq!(run(&w).await.rows.served, 1);
    assert!(w.served("tree").await.is_some());
    hit(&w, "tree").await;
}

#[tokio::test]
async fn a_rehearsal_changes_nothing_and_tells_what_a_run_does() {
    let w = world();
    w.change(add("old", '6')).await;
    made(&w, "tree", 'a').await;
    made(&w, "dash?pin=old", 'b').await;
    retire(&w, "old", Duration::ZERO).await;
    w.pass(grace(&w));
    for round in 0..3 {
        let before = everything(&w).await;
        let commits = w.commits();
        let rehearsal = gc(&*w, true).await.expect("the ledger");
        assert_eq!((everything(&w).await, w.commits()), (before, commits));
        let mut run = run(&w).await;
        assert!(rehearsal.rehearsal && !run.rehearsal);
        run.rehearsal = true;
        assert_eq!(rehearsal, run, "round {round}");
        w.pass(grace(&w));
    }
    assert!(matches!(request(&*w, &target("tree"), Method::Get, None).await, RequestOutcome::Hit { .. }));
}
