//! Pins that change while the service runs, with a second actor at work at exactly the wrong moment.

use std::{future::pending, sync::Arc};

use binplz_core::{
    build::{State, protocol::Nixpkgs},
    flow::{
        lease::{
            job::{self, Denied},
            settle::settle,
        },
        operator::pins::{self, NotChanged},
        request::{outcome::RequestOutcome, program::request},
        schedule::{dispatch::dispatch, sweep::sweep},
    },
    id::key::{PinName, Rev},
    nixpkgs::pins::{Change, PinRefusal, SETTLING, Source},
    objects::stored::Method,
    ports::{Deployment, HasLedger, Ledger, Read},
    row::{Row, RowKey, StatusIndex, Swap, Version},
};
use binplz_tests::world::{PIN, World, ask, rev, target};
use tokio::sync::oneshot;

/// Of which revision the program is that a request gets.
async fn hit(w: &World, path: &str) -> Rev {
    let RequestOutcome::Hit { served, at } = ask(w, path).await else { panic!("{path}: no hit") };
    assert!(at.url().contains(served.rev.as_str()), "{path}: of {}, at {at:?}", served.rev);
    served.rev
}

/// Asks for a program and has it built.
async fn build(w: &World, path: &str) {
    assert!(matches!(ask(w, path).await, RequestOutcome::Pending(_)), "{path}");
    dispatch(w).await.expect("the ledger");
    w.finish(path).await;
}

fn status(reply: &RequestOutcome) -> Option<u16> {
    match reply {
        RequestOutcome::Denied(denial) => Some(denial.status()),
        _ => None,
    }
}

fn name(name: &str) -> PinName {
    name.parse().expect("a pin's name")
}

fn source() -> Source {
    Nixpkgs::Path("/set".to_owned()).into()
}

fn add(pin: &str, digit: char) -> Change {
    Change::Add(name(pin), rev(digit), source(), None)
}

fn started(w: &World) -> usize {
    w.launcher.started.lock().expect("a lock").len()
}

async fn is_stale(w: &World, path: &str) -> bool {
    w.served(path).await.expect("a served row").stale
}

#[tokio::test]
async fn a_moved_pin_serves_the_last_good_program_and_builds_the_new_one_once_and_only_if_it_is_asked_for() {
    let w = World::new();
    for path in ["tree", "hello"] {
        build(&w, path).await;
        assert_eq!(hit(&w, path).await, rev('5'));
    }
    w.move_pin('6').await;
    sweep(&*w).await.expect("the ledger");
    assert_eq!(w.ledger().list(StatusIndex::Queued, None, 9).await, Ok(vec![]), "it was not requested yet");
    let looked = request(&*w, &target("tree"), Method::Head, None).await;
    assert!(matches!(looked, RequestOutcome::Hit { served, .. } if served.rev == rev('5')));
    assert!(matches!(w.build("tree").await.state, State::Unasked), "a look starts nothing");
    for _ in 0..3 {
        assert_eq!(hit(&w, "tree").await, rev('5'));
        dispatch(&*w).await.expect("the ledger");
    }
    assert_eq!(started(&w), 3, "tree and hello of 5, tree of 6");
    w.finish("tree").await;
    assert_eq!(hit(&w, "tree").await, rev('6'));
    assert_eq!((hit(&w, "hello").await, is_stale(&w, "tree").await), (rev('5'), false));
}

#[tokio::test]
async fn a_pin_that_moves_back_serves_what_it_had_without_a_build() {
    let w = World::new();
    build(&w, "tree").await;
    hit(&w, "tree").await;
    w.move_pin('6').await;
    w.move_pin('5').await;
    assert!(is_stale(&w, "tree").await);
    assert_eq!((hit(&w, "tree").await, is_stale(&w, "tree").await, started(&w)), (rev('5'), false, 1));
}

#[tokio::test]
async fn hits_are_one_eventual_read_by_any_name_with_three_pins_cold_and_warm() {
    let mut w = World::new();
    w.change(add("stable", '6')).await;
    w.change(add("old", '7')).await;
    let all = format!("nixpkgs-commit={}", rev('7'));
    let queries = ["", "sys=x86_64-linux", "sys=aarch64-linux", "pin=test", "pin=stable", "pin=old"];
    let queries = queries.into_iter().chain(["nixpkgs-commit=6666666", "nixpkgs-commit=777777777", &all]);
    let paths: Vec<_> = queries.flat_map(|query| [format!("tree?{query}"), format!("a.b/b?{query}")]).collect();
    for path in &paths {
        if matches!(ask(&w, path).await, RequestOutcome::Pending(_)) {
            dispatch(&*w).await.expect("the ledger");
            w.finish(path).await;
        }
        hit(&w, path).await;
    }
    for path in paths.iter().chain(&paths) {
        w = w.restarted();
        for temperature in ["cold", "warm"] {
            let of = hit(&w, path).await;
            let reads = w.reads();
            assert!(matches!(reads[..], [(RowKey::Served(_), Read::Eventual)]), "{temperature}, {path}: {reads:?}");
            assert_eq!(of, w.key(path).await.rev);
            w.reads();
        }
    }
    assert_eq!(w.commits(), 0, "a hit writes nothing");
}

#[tokio::test]
async fn a_served_row_that_is_written_after_its_pin_has_moved_is_marked_by_the_next_sweep() {
    let w = World::new();
    build(&w, "tree").await;
    let other = Arc::clone(&w);
    w.before_next_commit(async move { other.move_pin('6').await });
    // Between its look at the pins and its write, the pin moves, and what was served then is marked.
    assert_eq!(hit(&w, "tree").await, rev('5'));
    assert!(!is_stale(&w, "tree").await, "it came too late");
    sweep(&*w).await.expect("the ledger");
    assert!(is_stale(&w, "tree").await);
    assert_eq!(hit(&w, "tree").await, rev('5'));
    assert!(matches!(w.build("tree").await.state, State::Queued { .. }), "the new one is built behind it");
}

#[tokio::test]
async fn a_row_written_anew_while_its_pin_moves_again_is_marked_by_the_next_sweep() {
    let w = World::new();
    build(&w, "tree").await;
    hit(&w, "tree").await;
    w.move_pin('6').await;
    hit(&w, "tree").await;
    dispatch(&*w).await.expect("the ledger");
    w.finish("tree").await;
    let other = Arc::clone(&w);
    w.before_next_commit(async move { other.move_pin('7').await });
    assert_eq!((hit(&w, "tree").await, is_stale(&w, "tree").await), (rev('6'), false));
    sweep(&*w).await.expect("the ledger");
    assert_eq!((hit(&w, "tree").await, is_stale(&w, "tree").await), (rev('6'), true));
}

#[tokio::test]
async fn whoever_marks_a_row_that_has_just_been_written_anew_leaves_it() {
    let w = World::new();
    build(&w, "tree").await;
    hit(&w, "tree").await;
    let (first, other) = (Arc::clone(&w), Arc::clone(&w));
    // The second commit is the mark's: right before it, a request has found the new program.
    w.before_next_commit(async move {
        first.before_next_commit(async move {
            hit(&other, "tree").await;
            sweep(&*other).await.expect("the ledger");
            hit(&other, "tree").await;
            dispatch(&*other).await.expect("the ledger");
            other.finish("tree").await;
            assert_eq!(hit(&other, "tree").await, rev('6'));
        });
    });
    w.move_pin('6').await;
    assert_eq!((is_stale(&w, "tree").await, hit(&w, "tree").await), (false, rev('6')));
}

#[tokio::test]
async fn an_operator_who_dies_between_the_change_and_its_marks_is_made_up_for_by_the_sweep() {
    let w = World::new();
    build(&w, "tree").await;
    hit(&w, "tree").await;
    let (died, dies) = oneshot::channel();
    let first = Arc::clone(&w);
    w.before_next_commit(async move {
        first.before_next_commit(async move {
            died.send(()).expect("the test waits");
            pending().await
        });
    });
    tokio::select! {
        () = w.move_pin('6') => panic!("it should never come to an end"),
        reached = dies => reached.expect("it came to the mark"),
    }
    assert!(!is_stale(&w, "tree").await);
    sweep(&*w).await.expect("the ledger");
    assert!(is_stale(&w, "tree").await);
}

#[tokio::test]
async fn a_change_whose_reply_was_lost_is_made_once() {
    let w = World::new();
    build(&w, "tree").await;
    hit(&w, "tree").await;
    for change in [add("stable", '7'), Change::Default(name("stable")), Change::Retire(name(PIN))] {
        w.lose_replies(2);
        w.change(change.clone()).await;
        w.lose_replies(0);
        let before = w.commits();
        w.change(change).await;
        assert_eq!(w.commits(), before, "made again, it changes nothing");
    }
    assert!(is_stale(&w, "tree").await);
}

#[tokio::test]
async fn two_operators_of_whom_each_saw_the_same_pins_both_have_their_way() {
    let w = World::new();
    let other = Arc::clone(&w);
    w.before_next_commit(async move { other.change(add("stable", '6')).await });
    w.change(add("old", '7')).await;
    let pins = pins::load(&*w).await.expect("the ledger");
    assert_eq!(pins.all().keys().map(PinName::to_string).collect::<Vec<_>>(), ["old", "stable", PIN]);
    let again = pins::change(&*w, &add("old", '8')).await;
    assert_eq!(again, Err(NotChanged::Refused(PinRefusal::Exists(name("old")))));
}

#[tokio::test]
async fn another_default_is_served_to_those_who_name_none_and_nobody_else_notices() {
    let w = World::new();
    w.change(add("stable", '6')).await;
    for path in ["tree", "tree?pin=stable"] {
        build(&w, path).await;
    }
    for path in ["tree", "tree?pin=test", "tree?nixpkgs-commit=5555555", "tree?pin=stable"] {
        hit(&w, path).await;
    }
    w.change(Change::Default(name("stable"))).await;
    assert!(is_stale(&w, "tree").await);
    for path in ["tree?pin=test", "tree?nixpkgs-commit=5555555", "tree?pin=stable"] {
        assert!(!is_stale(&w, path).await, "{path}");
    }
    assert_eq!((hit(&w, "tree").await, hit(&w, "tree?pin=test").await, started(&w)), (rev('6'), rev('5'), 2));
}

#[tokio::test]
async fn a_commit_that_is_no_pin_any_more_is_refused_and_one_that_has_become_one_is_not() {
    let w = World::new();
    build(&w, "tree").await;
    let full = format!("tree?nixpkgs-commit={}", rev('5'));
    for path in ["tree?nixpkgs-commit=5555555", &full] {
        assert_eq!(hit(&w, path).await, rev('5'));
    }
    assert_eq!(status(&ask(&w, "tree?nixpkgs-commit=55555556").await), Some(400));
    w.move_pin('6').await;
    for path in ["tree?nixpkgs-commit=5555555", &full] {
        assert_eq!(status(&ask(&w, path).await), Some(400), "{path}");
    }
    assert!(matches!(ask(&w, "tree?nixpkgs-commit=6666666").await, RequestOutcome::Pending(_)));
    w.change(add("old", '5')).await;
    assert_eq!((hit(&w, &full).await, hit(&w, "tree?pin=old").await), (rev('5'), rev('5')));
}

#[tokio::test]
async fn a_pin_that_is_retired_during_its_builds_has_the_running_one_settle_and_starts_nothing_more() {
    let w = World::new();
    w.change(add("old", '7')).await;
    build(&w, "tree?pin=old").await;
    hit(&w, "tree?pin=old").await;
    // One that is being built, one whose builder has not asked yet what to build, and one that waits for a slot.
    for path in ["a?pin=old", "b?pin=old", "c?pin=old"] {
        assert!(matches!(ask(&w, path).await, RequestOutcome::Pending(_)));
    }
    dispatch(&*w).await.expect("the ledger");
    let (running, late) = (w.bearer("a?pin=old").await, w.bearer("b?pin=old").await);
    job::job(&*w, &running).await.expect("a live lease");
    let waiting = w.key("c?pin=old").await;
    w.change(Change::Retire(name("old"))).await;
    for path in ["tree?pin=old", "a?pin=old", "tree?nixpkgs-commit=7777777"] {
        assert_eq!(status(&ask(&w, path).await), Some(400), "{path}");
    }
    assert_eq!(job::job(&*w, &late).await, Err(Denied::NotLive));
    let report = w.report(&running).await;
    settle(&*w, &running, report).await.expect("a live lease");
    dispatch(&*w).await.expect("the ledger");
    assert_eq!(w.ledger().list(StatusIndex::Queued, None, 9).await, Ok(vec![]));
    assert_eq!(started(&w), 3);
    // Added again, the pin serves its old builds; other packages are built on request.
    w.change(add("old", '7')).await;
    assert_eq!((hit(&w, "a?pin=old").await, w.key("c?pin=old").await), (rev('7'), waiting));
    assert!(matches!(ask(&w, "c?pin=old").await, RequestOutcome::Pending(_)));
}

#[tokio::test]
async fn a_pin_that_moves_during_its_build_never_makes_it_the_new_ones() {
    let w = World::new();
    assert!(matches!(ask(&w, "tree").await, RequestOutcome::Pending(_)));
    dispatch(&*w).await.expect("the ledger");
    let bearer = w.bearer("tree").await;
    let report = w.report(&bearer).await;
    w.move_pin('6').await;
    settle(&*w, &bearer, report).await.expect("a live lease");
    assert!(matches!(ask(&w, "tree").await, RequestOutcome::Pending(_)), "of 6 there is nothing yet");
    dispatch(&*w).await.expect("the ledger");
    w.finish("tree").await;
    assert_eq!((hit(&w, "tree").await, started(&w)), (rev('6'), 2));
}

#[tokio::test]
async fn the_first_pins_are_written_down_by_the_first_sweep_and_mean_nothing_afterwards() {
    let w = World::new();
    let row = async || w.ledger().load(&RowKey::Pins, Read::Consistent).await.expect("the ledger");
    assert!(matches!(ask(&w, "tree").await, RequestOutcome::Pending(_)), "this request does not wait");
    assert_eq!(row().await, None);
    let other = Arc::clone(&w);
    w.before_next_commit(async move { other.move_pin('6').await });
    // Another writer was first.
    sweep(&*w).await.expect("the ledger");
    sweep(&*w).await.expect("the ledger");
    assert_eq!((w.key("tree").await.rev, row().await.map(|(_, version)| version.0)), (rev('6'), Some(1)));
}

#[tokio::test]
async fn a_change_whose_rows_were_never_marked_is_completed_by_the_first_sweep_however_late() {
    let moved = Change::Move(name(PIN), rev('6'), source(), None);
    for change in [moved, Change::Withhold("tree".parse().expect("a name"), "a letter".to_owned())] {
        for repeats in [false, true] {
            let w = World::new();
            build(&w, "tree").await;
            hit(&w, "tree").await;
            // The operator's process dies right after its commit, and no sweep succeeds for a long time.
            let changed = pins::load(&*w).await.expect("the ledger").changed(&change, w.now());
            let row = Row::Pins(changed.expect("legal").expect("a change"));
            w.ledger().commit(vec![Swap { seen: Version(0), row }]).await.expect("the ledger");
            w.pass(2 * SETTLING);
            assert!(!is_stale(&w, "tree").await);
            match repeats {
                true => drop(pins::change(&*w, &change).await.expect("a change")),
                false => drop(sweep(&*w).await.expect("the ledger")),
            }
            assert!(is_stale(&w, "tree").await, "{change:?}");
        }
    }
}

#[tokio::test]
async fn a_change_that_has_settled_costs_a_sweep_nothing() {
    let w = World::new();
    w.move_pin('6').await;
    w.pass(SETTLING);
    sweep(&*w).await.expect("the ledger");
    w.reads();
    sweep(&*w).await.expect("the ledger");
    // The limits are for what else a sweep does.
    let reads: Vec<_> = w.reads().into_iter().filter(|(key, _)| *key != RowKey::Limits).collect();
    assert_eq!(reads, [(RowKey::Pins, Read::Consistent)]);
}
