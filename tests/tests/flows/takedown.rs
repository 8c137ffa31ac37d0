//! A package that is taken down is not served from then on, by any of its names, also when requests and builds are under way.

use std::sync::Arc;

use binplz_core::{
    answer::problem::Problem,
    build::State,
    flow::{
        operator::pins,
        request::{denial::Denial, outcome::RequestOutcome, package::package, status::status},
        schedule::{dispatch::dispatch, sweep::sweep},
    },
    id::key::Attr,
    nixpkgs::{
        pins::{Change, SETTLING},
        served::{Served, ServedKey},
    },
    ports::{Deployment, HasLedger, Ledger, Read},
    row::{Row, RowKey, Swap, Version},
};
use binplz_tests::world::{World, ask, target};

fn tree() -> Attr {
    "tree".parse().expect("a name")
}

async fn take_down(w: &Arc<World>) {
    pins::change(&**w, &Change::Withhold(tree(), "its authors ask for it".to_owned())).await.expect("a change");
}

/// A program that is served.
async fn served() -> Arc<World> {
    let w = World::new();
    ask(&w, "tree").await;
    dispatch(&*w).await.expect("the ledger");
    w.finish("tree").await;
    for path in ["tree", "tree/tree"] {
        assert!(matches!(ask(&w, path).await, RequestOutcome::Hit { .. }), "{path}");
    }
    w
}

fn gone(reply: &RequestOutcome) -> bool {
    matches!(reply, RequestOutcome::Denied(denial) if denied(denial))
}

fn denied(denial: &Denial) -> bool {
    let (told, problem) = ("tree is not served here any more: its authors ask for it", Problem::from(denial));
    problem.reason.status() == 451 && problem.sentence == told && problem.retry_after.is_none()
}

#[tokio::test]
async fn whoever_asks_is_told_why_at_once_and_nothing_is_built() {
    let w = served().await;
    take_down(&w).await;
    let commit = format!("tree?nixpkgs-commit={}", w.key("dash").await.rev);
    for path in ["tree", "tree/tree", "tree?sys=aarch64-linux", &commit] {
        let reply = ask(&w, path).await;
        assert!(gone(&reply), "{path}: {reply:?}");
    }
    let told = status(&*w, &target("tree")).await.expect_err("no build");
    let page = package(&*w, &target("tree")).await.expect_err("no page");
    assert!(denied(&told) && denied(&page));
    // Others are served as ever.
    assert!(matches!(ask(&w, "dash").await, RequestOutcome::Pending(_)));

    pins::change(&*w, &Change::Restore(tree())).await.expect("a change");
    assert!(matches!(ask(&w, "tree").await, RequestOutcome::Hit { .. }));
}

#[tokio::test]
async fn a_moved_pins_last_good_binary_is_not_served_either() {
    let w = served().await;
    w.move_pin('b').await;
    assert!(matches!(ask(&w, "tree").await, RequestOutcome::Hit { .. }), "the last good one");
    take_down(&w).await;
    assert!(gone(&ask(&w, "tree").await));
}

#[tokio::test]
async fn what_a_late_request_writes_down_is_found_by_the_sweep() {
    let w = served().await;
    let key = RowKey::Served(ServedKey::of(&target("tree"), w.system()));
    let Some((Row::Served(row), _)) = w.ledger().load(&key, Read::Consistent).await.expect("the ledger") else {
        panic!("it is served")
    };
    take_down(&w).await;
    // It had looked at the pins before.
    let late = Served { asked: ServedKey::of(&target("tree/tree?pin=unstable"), w.system()), ..row };
    let swap = Swap { seen: Version(0), row: Row::Served(late) };
    w.ledger().commit(vec![swap]).await.expect("the ledger");
    sweep(&*w).await.expect("the ledger");
    assert!(w.served("tree/tree?pin=unstable").await.is_some_and(|served| served.stale));
    // That is looked for as long as it can happen, and no longer: then nothing that is served is read any more.
    ask(&w, "dash").await;
    dispatch(&*w).await.expect("the ledger");
    w.finish("dash").await;
    ask(&w, "dash").await;
    let rows_read = async || {
        w.reads();
        sweep(&*w).await.expect("the ledger");
        w.reads().iter().filter(|(key, _)| matches!(key, RowKey::Served(_))).count()
    };
    assert_eq!(rows_read().await, 1);
    w.pass(SETTLING);
    assert_eq!([rows_read().await, rows_read().await], [1, 0]);
}

#[tokio::test]
async fn its_build_that_waits_is_dropped() {
    let w = World::new();
    ask(&w, "tree").await;
    take_down(&w).await;
    dispatch(&*w).await.expect("the ledger");
    let key = w.key("dash").await;
    let key = binplz_core::id::key::BuildKey { product: "tree".parse().expect("a package"), ..key };
    assert_eq!((w.build_of(&key).await.state, w.limits().await.taken()), (State::Unasked, 0));
}
