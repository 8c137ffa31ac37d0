//! Where a catalogue knows the derivation of what is asked for, and that is made, nothing is to be done.

use std::sync::{Arc, atomic::Ordering::SeqCst};

use binplz_catalogue::{About, Record, Standing, Writer};
use binplz_core::{
    build::{
        Event, State,
        failure::Kind,
        policy::{Names, Policy},
        protocol::{Evaluated, Outcome, Report, Stats, Turn},
    },
    flow::{
        advance,
        lease::{claim::claim, job::Bearer, settle::settle},
        request::{outcome::RequestOutcome, program::request},
        schedule::{dispatch::dispatch, sweep::sweep},
    },
    id::key::{BuildKey, Product, System},
    objects::{artifact::ObjectName, stored::Method},
    ports::{HasStore, Intake},
    quota::client::Asker,
};
use binplz_tests::world::{World, rev, target};

use super::{ask, building, declares, evaluated, exhaust, fail, hit, started, turn};

/// Its packages, their derivations, and their main programs.
const PACKAGES: [(&str, char, &str); 3] = [("tree", 'a', "tree"), ("sets.tree", 'a', "other"), ("hello", 'b', "hello")];

/// Makes the catalogue of a nixpkgs that was requested.
async fn catalogue(w: &World, digit: char) {
    dispatch(w).await.expect("the ledger");
    let key = BuildKey { rev: rev(digit), system: System::X86_64Linux, product: Product::Catalogue };
    let lease = w.build_of(&key).await.lease().cloned().expect("a live lease");
    let bearer = Bearer { key, lease: lease.id, token: lease.token };
    let mut writer = Writer::new(rev(digit));
    for (attr, letter, main) in PACKAGES {
        let about = About { main_program: Some(main.to_owned()), ..About::default() };
        let standing = Standing::Buildable { drv_path: Some(evaluated(letter).drv_path) };
        let attr = attr.parse().expect("an attribute");
        writer.evaluated(Record { attr, system: System::X86_64Linux, about, standing }).expect("told once");
    }
    let files = writer.finish().expect("small");
    for (name, bytes) in [(ObjectName::Details, files.details), (ObjectName::Lookup, files.lookup)] {
        w.store().write(&bearer.prefix().object(name), bytes).await.expect("the store");
    }
    settle(w, &bearer, Report { outcome: Outcome::Catalogued, stats: Stats::default(), materials: None })
        .await
        .expect("a live lease");
    w.reap().await;
}

/// A world with the catalogue of its pin, in which `tree` is made, with two programs, and served.
async fn made() -> Arc<World> {
    let w = World::naming(Names::Known, Policy { slots: 9, ..Policy::default() });
    sweep(&*w).await.expect("the ledger");
    catalogue(&w, '5').await;
    building(&w, &["tree"]).await;
    assert_eq!(turn(&w, "tree", 'a').await, Turn::Go);
    let bearer = w.bearer("tree").await;
    let report = w.report_of(&bearer, &["other", "tree"]).await;
    settle(&*w, &bearer, report).await.expect("a live lease");
    hit(&w, "tree").await;
    w
}

#[tokio::test]
async fn a_moved_pin_whose_derivation_is_unchanged_needs_no_task() {
    let w = made().await;
    let before = hit(&w, "tree").await;
    w.move_pin('6').await;
    catalogue(&w, '6').await;
    let (tasks, rings) = (started(&w), w.bell.0.load(SeqCst));
    let after = hit(&w, "tree").await;
    assert_eq!((&after.rev, &after.object, &after.sha256), (&rev('6'), &before.object, &before.sha256));
    dispatch(&*w).await.expect("the ledger");
    assert_eq!((started(&w), w.bell.0.load(SeqCst)), (tasks, rings));
    // It is a hit like any other.
    let commits = w.commits();
    w.reads();
    hit(&w, "tree").await;
    assert_eq!((w.reads().len(), w.commits()), (1, commits));
}

#[tokio::test]
async fn another_attribute_needs_no_task_either_and_has_its_own_main_program() {
    let w = made().await;
    let tasks = started(&w);
    let (tree, other) = (hit(&w, "tree").await, hit(&w, "sets.tree").await);
    assert_eq!((tree.bin.as_str(), other.bin.as_str()), ("tree", "other"));
    assert_eq!((other.attr.as_str(), started(&w)), ("sets.tree", tasks));
    assert!(matches!(ask(&w, "hello").await, RequestOutcome::Pending(_)), "and what is not made is built");
}

#[tokio::test]
async fn who_only_looks_finds_what_is_made_too_and_a_pause_of_builds_hides_nothing() {
    for paused in [false, true] {
        let w = made().await;
        if paused {
            w.launcher.imageless.lock().expect("a lock").push(System::X86_64Linux);
            sweep(&*w).await.expect("the ledger");
        }
        let looks = request(&*w, &target("sets.tree"), Method::Head, paused.then_some(&Asker::default())).await;
        assert!(matches!(looks, RequestOutcome::Hit { .. }), "{looks:?}");
    }
}

#[tokio::test]
async fn a_build_that_waits_or_rests_is_ready_once_another_has_made_it_and_one_under_way_goes_its_own_way() {
    let w = World::naming(Names::Known, Policy { slots: 9, ..Policy::default() });
    sweep(&*w).await.expect("the ledger");
    catalogue(&w, '5').await;
    building(&w, &["tree"]).await;
    turn(&w, "tree", 'a').await;
    exhaust(&w, "tree", 'a').await;
    building(&w, &["sets.tree"]).await;
    turn(&w, "sets.tree", 'a').await;
    assert!(matches!(ask(&w, "tree").await, RequestOutcome::Denied(denial) if denial.status() == 503), "it rests");
    w.finish("sets.tree").await;
    assert!(matches!(ask(&w, "tree/tree").await, RequestOutcome::Hit { .. }));

    // A lease that is live ends by its builder's word.
    let w = made().await;
    w.move_pin('6').await;
    assert_eq!(hit(&w, "tree").await.rev, rev('5'));
    catalogue(&w, '6').await;
    let bearer = w.bearer("tree").await;
    assert_eq!(hit(&w, "tree").await.rev, rev('5'), "the last good one");
    let found = Evaluated { declared: declares("tree", None), ..evaluated('a') };
    assert_eq!(claim(&*w, &bearer, found).await, Ok(Turn::Elsewhere));
    assert_eq!(hit(&w, "tree").await.rev, rev('6'));
}

#[tokio::test]
async fn what_has_failed_for_good_stays_so_until_an_operator_tries_again() {
    let w = made().await;
    w.move_pin('6').await;
    ask(&w, "tree").await;
    dispatch(&*w).await.expect("the ledger");
    fail(&w, "tree", Kind::EvaluationError).await;
    catalogue(&w, '6').await;
    assert_eq!(hit(&w, "tree").await.rev, rev('5'), "the last good one");
    assert!(matches!(w.build("tree").await.state, State::Failed { until: None, .. }));
    advance(&*w, &w.key("tree").await, &Event::Retry).await.expect("failed");
    assert_eq!(hit(&w, "tree").await.rev, rev('6'), "it waits, and is made");
}

#[tokio::test]
async fn two_who_adopt_at_once_are_both_served_and_a_lost_reply_changes_nothing() {
    let w = made().await;
    let other = Arc::clone(&w);
    w.before_next_commit(async move {
        hit(&other, "sets.tree").await;
    });
    hit(&w, "sets.tree").await;
    let w = made().await;
    w.lose_replies(1);
    hit(&w, "sets.tree").await;
    assert!(matches!(w.build("sets.tree").await.state, State::Ready(_)));
}

#[tokio::test]
async fn programs_that_were_cancelled_on_the_way_are_adopted_by_nobody() {
    let w = World::naming(Names::Known, Policy { slots: 9, ..Policy::default() });
    sweep(&*w).await.expect("the ledger");
    catalogue(&w, '5').await;
    for end in ["under way", "cancelled"] {
        if end == "cancelled" {
            advance(&*w, &w.key("tree").await, &Event::Cancel).await.expect("under way");
        } else {
            building(&w, &["tree"]).await;
            turn(&w, "tree", 'a').await;
        }
        assert!(matches!(ask(&w, "sets.tree").await, RequestOutcome::Pending(_)), "{end}");
        assert!(matches!(w.build("sets.tree").await.state, State::Queued { .. }), "{end}");
    }
}
