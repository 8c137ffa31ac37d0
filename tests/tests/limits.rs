//! Limits that hold before money is spent: a client's allowance, the month's budget, the store's room. With somebody else at work at exactly
//! the wrong moment, and with a crowd.

use std::{sync::Arc, time::Duration};

use binplz_core::{
    build::State,
    client::{Asker, KeyChange},
    flow::{
        dispatch::dispatch,
        operate::{Operator, Order},
        request::request,
    },
    key::Sha256,
    limits::Micros,
    policy::{Policy, Prices},
    ports::{Deployment, Method},
    problem::Problem,
    reply::{Asked, Body, Format, Reply},
};
use binplz_tests::world::{World, target};

/// Asks from an address.
async fn ask_from(w: &World, address: &str, path: &str) -> Reply {
    let asker = Asker { address: Some(address.parse().expect("an address")), key: None };
    request(w, &target(path), Method::Get, Some(&asker)).await
}

async fn ask(w: &World, path: &str) -> Reply {
    ask_from(w, "192.0.2.1", path).await
}

async fn ask_with(w: &World, key: &str, path: &str) -> Reply {
    request(w, &target(path), Method::Get, Some(&Asker { address: None, key: Some(key) })).await
}

fn problem(reply: Reply) -> Problem {
    match reply {
        Reply::Problem(problem) => problem,
        other => panic!("no problem: {other:?}"),
    }
}

fn is_pending(reply: &Reply) -> bool {
    matches!(reply, Reply::Pending(_))
}

fn allowing(builds: u32) -> Arc<World> {
    World::with(Policy { slots: 9, client_builds: Some(builds), ..Policy::default() })
}

/// A dollar an hour, for an hour at most.
fn paid(slots: usize, budget: u64) -> Policy {
    let prices = Prices { task: Micros(1_000_000), ..Prices::default() };
    let (budget, lease) = (Some(Micros(budget * 1_000_000)), Duration::from_secs(2 * 3600));
    let mut policy = Policy { slots, budget, prices, lease, ..Policy::default() };
    policy.job.seconds = 3600;
    policy
}

async fn build(w: &World, path: &str, took: Duration) {
    assert!(is_pending(&ask(w, path).await), "{path}");
    dispatch(w).await.expect("the ledger");
    w.pass(took);
    w.finish(path).await;
}

const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::test]
async fn a_client_has_so_many_builds_started_in_a_day_and_is_then_told_when_it_may_go_on() {
    let w = allowing(2);
    for path in ["tree", "hello", "tree", "hello"] {
        assert!(is_pending(&ask(&w, path).await), "{path}: what somebody has asked for costs nothing");
    }
    let refused = problem(ask(&w, "ed").await);
    assert_eq!(refused.status, 429);
    let midnight = w.now().day().next();
    assert_eq!(refused.retry_after, Some((midnight.start() - w.now()).as_secs()));
    assert!(refused.sentence.contains(&midnight.to_string()), "{}", refused.sentence);
    assert_eq!(w.build("ed").await.state, State::Unasked);
    // Others may, and what one of them has asked for is there for all.
    assert!(is_pending(&ask_from(&w, "192.0.2.2", "ed").await));
    assert!(is_pending(&ask(&w, "ed").await));
    dispatch(&*w).await.expect("the ledger");
    w.finish("tree").await;
    assert!(matches!(ask(&w, "tree").await, Reply::Hit { .. }));
    // The next day is another one.
    w.pass(DAY);
    assert!(is_pending(&ask(&w, "dash").await));
}

#[tokio::test]
async fn neighbours_of_an_ipv6_network_share_one_allowance_and_others_have_their_own() {
    let w = allowing(1);
    assert!(is_pending(&ask_from(&w, "2001:db8:0:7::1", "tree").await));
    for neighbour in ["2001:db8:0:7::2", "2001:db8:0:7:ffff:ffff:ffff:ffff"] {
        assert_eq!(problem(ask_from(&w, neighbour, "hello").await).status, 429, "{neighbour}");
    }
    assert!(is_pending(&ask_from(&w, "2001:db8:0:8::1", "hello").await));
    // The same IPv4 address, as two kinds of sockets tell it.
    assert!(is_pending(&ask_from(&w, "192.0.2.1", "ed").await));
    assert_eq!(problem(ask_from(&w, "::ffff:192.0.2.1", "dash").await).status, 429);
}

#[tokio::test]
async fn two_requests_at_the_end_of_an_allowance_start_one_build() {
    let w = allowing(1);
    let other = Arc::clone(&w);
    w.before_next_commit(async move { assert!(is_pending(&ask(&other, "hello").await)) });
    assert_eq!(problem(ask(&w, "tree").await).status, 429);
    assert_eq!(w.build("tree").await.state, State::Unasked);
}

#[tokio::test]
async fn a_request_whose_reply_was_lost_is_charged_once() {
    let w = allowing(1);
    w.lose_replies(1);
    assert!(is_pending(&ask(&w, "tree").await));
    assert!(is_pending(&ask(&w, "tree").await));
}

#[tokio::test]
async fn an_api_key_has_an_allowance_of_its_own_and_one_that_nobody_gave_out_has_none() {
    let w = allowing(0);
    let add = |name: &str, secret: &str, builds| {
        let (name, sha256) = (name.parse().expect("a name"), Sha256::of(secret.as_bytes()));
        w.carry_out(Order::ChangeKeys(KeyChange::Add { name, sha256, builds }))
    };
    add("ci", "s3cret", Some(1)).await.expect("a new key");
    add("boss", "0pen", None).await.expect("a new key");
    assert_eq!(problem(ask(&w, "tree").await).status, 429);
    assert_eq!(problem(ask_with(&w, "guess", "tree").await).status, 401);
    assert!(is_pending(&ask_with(&w, "s3cret", "tree").await));
    assert_eq!(problem(ask_with(&w, "s3cret", "hello").await).status, 429);
    for path in ["hello", "ed", "dash"] {
        assert!(is_pending(&ask_with(&w, "0pen", path).await), "{path}");
    }
    w.carry_out(Order::ChangeKeys(KeyChange::Remove("boss".parse().expect("a name")))).await.expect("it is there");
    assert_eq!(problem(ask_with(&w, "0pen", "bash").await).status, 401);
    // What is there is served whatever key is shown.
    dispatch(&*w).await.expect("the ledger");
    w.finish("tree").await;
    assert!(matches!(ask_with(&w, "guess", "tree").await, Reply::Hit { .. }));
}

#[tokio::test]
async fn when_the_budget_is_spent_hits_are_served_and_misses_are_told_the_date_of_the_next_one() {
    let w = World::with(paid(2, 2));
    build(&w, "tree", Duration::from_secs(3600)).await;
    // Half an hour is left, and a build may take one.
    build(&w, "hello", Duration::from_secs(1800)).await;
    assert!(matches!(ask(&w, "tree").await, Reply::Hit { .. }));
    let refused = problem(ask(&w, "ed").await);
    let (month, next) = (w.now().month(), w.now().month().next());
    assert_eq!((refused.status, refused.retry_after), (503, Some((next.first().start() - w.now()).as_secs())));
    assert!(refused.sentence.contains(&next.first().to_string()), "{}", refused.sentence);
    assert_eq!(w.build("ed").await.state, State::Unasked);
    // More is granted, for this month.
    w.carry_out(Order::Grant(Micros(10_000_000))).await.expect("it is carried out");
    build(&w, "ed", Duration::from_secs(3600)).await;
    while w.now().month() == month {
        w.pass(DAY);
    }
    // The next month begins with nothing spent, and with its own budget.
    for path in ["dash", "bash"] {
        build(&w, path, Duration::from_secs(3600)).await;
    }
    assert_eq!(problem(ask(&w, "zsh").await).status, 503);
}

#[tokio::test]
async fn what_waits_for_money_says_so_and_goes_on_when_there_is_some() {
    let w = World::with(paid(1, 2));
    for path in ["tree", "hello", "ed"] {
        ask(&w, path).await;
        w.pass(Duration::from_secs(1));
    }
    let reply = ask(&w, "ed").await;
    assert!(is_pending(&reply), "there is money for one more: {reply:?}");
    for path in ["tree", "hello"] {
        dispatch(&*w).await.expect("the ledger");
        w.pass(Duration::from_secs(3600));
        w.finish(path).await;
    }
    dispatch(&*w).await.expect("the ledger");
    assert!(matches!(w.build("ed").await.state, State::Queued { .. }));
    let asked = Asked { origin: w.origin(), target: None, format: Format::Shell, retry: false };
    let answer = ask(&w, "ed").await.answer(&asked);
    let Body::Text(text) = &answer.body else { panic!("no text") };
    let next = w.now().month().next().first();
    assert!(answer.status == 503 && text.contains(&next.to_string()), "{answer:?}");
    let until = (next.start() - w.now()).as_secs();
    assert!(answer.headers.contains(&("retry-after", until.to_string())), "{answer:?}");

    let rings = w.bell.0.load(std::sync::atomic::Ordering::SeqCst);
    w.carry_out(Order::Grant(Micros(3_000_000))).await.expect("it is carried out");
    assert_eq!(
        w.bell.0.load(std::sync::atomic::Ordering::SeqCst),
        rings + 1,
        "whoever starts builds hears of it at once"
    );
    dispatch(&*w).await.expect("the ledger");
    assert!(w.build("ed").await.lease().is_some());
}

#[tokio::test]
async fn a_full_store_takes_no_build_until_there_is_room_and_serves_what_it_has() {
    let mut policy = Policy { slots: 9, store_bytes: Some(1000), ..Policy::default() };
    (policy.job.package_bytes, policy.job.log_bytes) = (300, 100);
    let w = World::with(policy);
    // What each may store at most is held for it: two at a time.
    for path in ["tree", "hello", "ed"] {
        ask(&w, path).await;
        w.pass(Duration::from_millis(1));
    }
    dispatch(&*w).await.expect("the ledger");
    assert!(w.build("hello").await.lease().is_some() && w.build("ed").await.lease().is_none());
    w.finish("tree").await;
    let stored = w.build("tree").await.history[0].stats.stored.expect("it was looked at");
    assert_eq!(w.limits().await.stored(), stored);
    assert!((1..400).contains(&stored), "{stored}");
    // What has been stored leaves room for one or for none.
    dispatch(&*w).await.expect("the ledger");
    w.finish("hello").await;
    dispatch(&*w).await.expect("the ledger");
    w.finish("ed").await;
    while w.limits().await.stored() <= 600 {
        build(&w, &format!("p{}", w.limits().await.stored()), Duration::ZERO).await;
    }
    let refused = problem(ask(&w, "dash").await);
    assert!(refused.status == 503 && refused.sentence.contains("full"), "{refused:?}");
    assert!(matches!(ask(&w, "tree").await, Reply::Hit { .. }));
}
