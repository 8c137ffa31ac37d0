//! Waiting, with what happens at exactly the wrong moment.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use binplz_core::{
    build::{
        failure::{Failure, Kind},
        policy::Policy,
    },
    flow::{
        lease::settle::stopped,
        request::{program::request, wait},
        schedule::dispatch::dispatch,
    },
    id::{target::Query, wait::Patience},
    objects::stored::Method,
    quota::client::Asker,
};
use binplz_tests::world::World;

fn query(url: &str) -> Query {
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    Query::parse(path, Some(query)).expect("a target")
}

fn curl() -> Patience {
    Patience::of(Some("curl/8.0"), None)
}

/// The first answer to a request that would like to wait.
async fn first(w: &Arc<World>, url: &str, patience: Patience) -> Option<String> {
    let query = query(url);
    let reply = request(&**w, &query.target, Method::Get, Some(&Asker::default())).await;
    wait::first(&**w, &reply, &query, patience).await
}

async fn hop(w: &Arc<World>, number: u32, url: &str) -> String {
    wait::hop(&**w, &query(url), number, curl()).await
}

/// Asked for, claimed and launched.
async fn building(w: &Arc<World>) {
    assert_eq!(first(w, "tree?wait", curl()).await, Some("/-/wait/1/tree".to_owned()));
    dispatch(&**w).await.expect("the ledger");
}

#[tokio::test]
async fn a_build_that_ends_while_one_waits_sends_back_to_the_target() {
    let w = World::new();
    building(&w).await;
    let ends = Arc::clone(&w);
    w.while_waiting(async {});
    w.while_waiting(async move { ends.finish("tree").await });
    w.while_waiting(async { panic!("it is over") });
    assert_eq!(hop(&w, 7, "tree").await, "/tree");
    // There it is a hit; no client enters the chain again.
    assert_eq!(first(&w, "tree?wait", curl()).await, None);
}

#[tokio::test]
async fn a_build_that_ended_before_the_hop_began_is_not_waited_for() {
    let w = World::new();
    building(&w).await;
    w.finish("tree").await;
    w.while_waiting(async { panic!("nothing is left to wait for") });
    assert_eq!(hop(&w, 1, "tree").await, "/tree");
}

#[tokio::test]
async fn an_attempt_that_fails_and_is_tried_again_is_waited_for_and_one_that_is_given_up_is_not() {
    let w = World::with(Policy { attempts: 2, first_delay: Duration::ZERO, ..Policy::default() });
    building(&w).await;
    for _ in 0..2 {
        let other = Arc::clone(&w);
        w.while_waiting(async move {
            let bearer = other.bearer("tree").await;
            stopped(&*other, &bearer.key, &bearer.lease, Failure::new(Kind::Killed, ""), None)
                .await
                .expect("the ledger");
            dispatch(&*other).await.expect("the ledger");
        });
    }
    w.while_waiting(async { panic!("it is given up") });
    assert_eq!(hop(&w, 1, "tree").await, "/tree");
}

#[tokio::test]
async fn a_build_that_takes_longer_leads_from_hop_to_hop_and_at_the_end_back() {
    let w = World::new();
    building(&w).await;
    assert_eq!(hop(&w, 1, "tree").await, "/-/wait/2/tree");
    assert_eq!(hop(&w, 46, "tree").await, "/-/wait/47/tree");
    assert_eq!(hop(&w, 47, "tree").await, "/tree");
    // Of these three the first had just come in.
    assert_eq!(w.wait_limiter.kept.load(SeqCst), 2);
    for beyond in [0, 48, u32::MAX] {
        w.while_waiting(async { panic!("there is no such hop") });
        assert_eq!(hop(&w, beyond, "tree").await, "/tree");
    }
}

#[tokio::test]
async fn a_hop_keeps_what_was_asked() {
    let w = World::new();
    let asked = "tree?sys=x86_64-linux&pin=test&wait&retry";
    assert_eq!(first(&w, asked, curl()).await.as_deref(), Some("/-/wait/1/tree?sys=x86_64-linux&pin=test&retry"));
    assert_eq!(hop(&w, 1, "tree?sys=x86_64-linux&retry").await, "/-/wait/2/tree?sys=x86_64-linux&retry");
    assert_eq!(hop(&w, 47, "tree?retry").await, "/tree?retry");
}

#[tokio::test]
async fn a_pin_that_is_not_served_is_not_waited_for() {
    let w = World::new();
    w.while_waiting(async { panic!("there is nothing to wait for") });
    // There the answer says why.
    assert_eq!(hop(&w, 1, "tree?pin=other").await, "/tree?pin=other");
}

#[tokio::test]
async fn a_pin_that_moves_while_one_waits_is_waited_for_as_it_is_now() {
    let w = World::new();
    building(&w).await;
    w.move_pin('6').await;
    // It was not requested yet: the target's answer starts its build.
    assert_eq!(hop(&w, 2, "tree").await, "/tree");
    building(&w).await;
    assert_eq!(hop(&w, 1, "tree").await, "/-/wait/2/tree");
}

#[tokio::test]
async fn one_who_prefers_not_to_wait_is_answered_at_once() {
    let w = World::new();
    assert_eq!(first(&w, "tree", Patience::of(Some("curl/8.0"), Some("wait=0"))).await, None);
}

#[tokio::test]
async fn where_as_many_wait_as_may_one_is_sent_back_at_once() {
    let w = World::new();
    building(&w).await;
    w.wait_limiter.full.store(true, SeqCst);
    w.while_waiting(async { panic!("it has no seat") });
    assert_eq!(first(&w, "tree?wait", curl()).await, None);
    assert_eq!(hop(&w, 1, "tree").await, "/tree");
}

#[tokio::test]
async fn what_nobody_asked_for_is_not_waited_for() {
    let w = World::new();
    w.while_waiting(async { panic!("it is not being built") });
    assert_eq!(hop(&w, 1, "tree").await, "/tree");
    assert_eq!(w.commits(), 0, "a hop starts nothing");
}
