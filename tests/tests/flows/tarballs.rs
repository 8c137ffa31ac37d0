//! A pin whose nixpkgs is not uploaded: its builds wait, start no task and say so, and begin when it is uploaded.

use std::sync::{Arc, atomic::Ordering::SeqCst};

use binplz_core::{
    build::State,
    flow::{
        operator::orders::{Operator, Order},
        request::{outcome::RequestOutcome, program::request, service::service, status::status},
        schedule::{dispatch::dispatch, sweep::sweep},
    },
    nixpkgs::pins::{Change, Source},
    objects::stored::Method,
    ports::Deployment,
    quota::client::Asker,
};
use binplz_tests::world::{PIN, World, rev, target};

async fn ask(w: &Arc<World>, path: &str) -> RequestOutcome {
    request(&**w, &target(path), Method::Get, Some(&Asker::default())).await
}

/// The pin stands for a tarball that the bucket must have.
async fn stored(w: &World, digit: char) {
    let source = Source::Stored { nar_hash: "sha256-x".to_owned() };
    w.change(Change::Move(PIN.parse().expect("a name"), rev(digit), source, None)).await;
}

fn uploaded(w: &World, is: bool) {
    *w.launcher.untarred.lock().expect("a lock") = if is { vec![] } else { vec![rev('b'), rev('c')] };
}

#[tokio::test]
async fn builds_of_a_pin_without_its_tarball_wait_and_say_so_and_an_upload_starts_them() {
    let w = World::new();
    uploaded(&w, false);
    stored(&w, 'b').await;
    for path in ["tree", "dash"] {
        assert!(matches!(ask(&w, path).await, RequestOutcome::Pending(_)));
    }
    let commits = w.commits();
    for _ in 0..3 {
        assert_eq!(dispatch(&*w).await, Ok(None));
    }
    assert_eq!((w.launcher.asked.load(SeqCst), w.limits().await.taken()), (0, 0));
    assert_eq!(w.commits(), commits + 1, "it is written once");
    let told = status(&*w, &target("tree")).await.expect("a build");
    assert_eq!(told.headline(), "waits: the tarball of the Nixpkgs commit is not uploaded yet");
    assert!(told.retry_after > 0);
    assert!(service(&*w).await.expect("the ledger").pins[0].no_nixpkgs);
    let overview = w.carry_out(Order::Overview).await.expect("carried out").overview().expect("an overview");
    assert_eq!(overview.no_nixpkgs[&PIN.parse().expect("a name")], (rev('b'), w.now()));

    // It is uploaded, and the sweep rings.
    uploaded(&w, true);
    let rings = w.bell.0.load(SeqCst);
    sweep(&*w).await.expect("the ledger");
    assert!(w.bell.0.load(SeqCst) > rings);
    dispatch(&*w).await.expect("the ledger");
    for path in ["tree", "dash"] {
        assert!(matches!(w.build(path).await.state, State::Building(_)), "{path}");
    }
    assert!(!service(&*w).await.expect("the ledger").pins[0].no_nixpkgs);
}

#[tokio::test]
async fn moving_a_pin_to_the_commit_that_it_stands_for_rings_for_what_waits() {
    let w = World::new();
    uploaded(&w, false);
    stored(&w, 'b').await;
    ask(&w, "tree").await;
    dispatch(&*w).await.expect("the ledger");
    uploaded(&w, true);
    let rings = w.bell.0.load(SeqCst);
    stored(&w, 'b').await;
    assert!(w.bell.0.load(SeqCst) > rings);
}

#[tokio::test]
async fn what_is_known_of_tarballs_is_forgotten_with_their_pins() {
    let w = World::new();
    uploaded(&w, false);
    for digit in ['b', 'c'] {
        stored(&w, digit).await;
        ask(&w, "tree").await;
        dispatch(&*w).await.expect("the ledger");
    }
    assert_eq!(w.limits().await.no_nixpkgs().keys().collect::<Vec<_>>(), [&rev('c')]);
}

#[tokio::test]
async fn builds_of_other_pins_go_on_meanwhile() {
    let w = World::new();
    uploaded(&w, false);
    let source = Source::Stored { nar_hash: "sha256-x".to_owned() };
    w.change(Change::Add("other".parse().expect("a name"), rev('b'), source, None)).await;
    ask(&w, "tree?pin=other").await;
    ask(&w, "tree").await;
    dispatch(&*w).await.expect("the ledger");
    assert!(w.build("tree").await.lease().is_some() && w.build("tree?pin=other").await.lease().is_none());
}
