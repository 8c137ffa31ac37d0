//! Limits that hold before money is spent: a client's allowance, the month's budget, the store's room. With a second actor at work at exactly
//! the wrong moment, and with a crowd.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use binplz_core::{
    answer::{
        asked::{Asked, Format},
        problem::Problem,
        reply::Body,
    },
    build::{
        State,
        failure::{Failure, Kind},
        policy::{Policy, Prices},
        size::Size,
    },
    flow::{
        lease::settle::{settle, stopped},
        operator::orders::{Act, Named, Operator, Order},
        request::{outcome::RequestOutcome, program::request},
        schedule::{dispatch::dispatch, sweep::sweep},
    },
    id::{key::Sha256, money::Micros},
    objects::{artifact::ObjectName, stored::Method},
    ports::{Deployment, HasStore, Intake},
    quota::client::{Asker, KeyChange},
    row::Row,
};
use binplz_tests::world::{World, target};

/// Asks from an address.
async fn ask_from(w: &World, address: &str, path: &str) -> RequestOutcome {
    let asker = Asker { address: Some(address.parse().expect("an address")), key: None };
    request(w, &target(path), Method::Get, Some(&asker)).await
}

async fn ask(w: &World, path: &str) -> RequestOutcome {
    ask_from(w, "192.0.2.1", path).await
}

async fn ask_with(w: &World, key: &str, path: &str) -> RequestOutcome {
    request(w, &target(path), Method::Get, Some(&Asker { address: None, key: Some(key) })).await
}

fn problem(reply: RequestOutcome) -> Problem {
    match reply {
        RequestOutcome::Denied(denial) => Problem::from(&denial),
        other => panic!("no problem: {other:?}"),
    }
}

fn is_pending(reply: &RequestOutcome) -> bool {
    matches!(reply, RequestOutcome::Pending(_))
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
        assert!(is_pending(&ask(&w, path).await), "{path}: a build that was requested before costs nothing");
    }
    let refused = problem(ask(&w, "ed").await);
    assert_eq!(refused.reason.status(), 429);
    let midnight = w.now().day().next();
    assert_eq!(refused.retry_after, Some((midnight.start() - w.now()).as_secs()));
    assert!(refused.sentence.contains(&midnight.to_string()), "{}", refused.sentence);
    assert_eq!(w.build("ed").await.state, State::Unasked);
    // Others may, and what one of them has asked for is there for all.
    assert!(is_pending(&ask_from(&w, "192.0.2.2", "ed").await));
    assert!(is_pending(&ask(&w, "ed").await));
    dispatch(&*w).await.expect("the ledger");
    w.finish("tree").await;
    assert!(matches!(ask(&w, "tree").await, RequestOutcome::Hit { .. }));
    // The next day is another one.
    w.pass(DAY);
    assert!(is_pending(&ask(&w, "dash").await));
}

#[tokio::test]
async fn neighbours_of_an_ipv6_network_share_one_allowance_and_others_have_their_own() {
    let w = allowing(1);
    assert!(is_pending(&ask_from(&w, "2001:db8:0:7::1", "tree").await));
    for neighbour in ["2001:db8:0:7::2", "2001:db8:0:7:ffff:ffff:ffff:ffff"] {
        assert_eq!(problem(ask_from(&w, neighbour, "hello").await).reason.status(), 429, "{neighbour}");
    }
    assert!(is_pending(&ask_from(&w, "2001:db8:0:8::1", "hello").await));
    // The same IPv4 address, as two kinds of sockets tell it.
    assert!(is_pending(&ask_from(&w, "192.0.2.1", "ed").await));
    assert_eq!(problem(ask_from(&w, "::ffff:192.0.2.1", "dash").await).reason.status(), 429);
}

#[tokio::test]
async fn two_requests_at_the_end_of_an_allowance_start_one_build() {
    let w = allowing(1);
    let other = Arc::clone(&w);
    w.before_next_commit(async move { assert!(is_pending(&ask(&other, "hello").await)) });
    assert_eq!(problem(ask(&w, "tree").await).reason.status(), 429);
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
    assert_eq!(problem(ask(&w, "tree").await).reason.status(), 429);
    assert_eq!(problem(ask_with(&w, "guess", "tree").await).reason.status(), 401);
    assert!(is_pending(&ask_with(&w, "s3cret", "tree").await));
    assert_eq!(problem(ask_with(&w, "s3cret", "hello").await).reason.status(), 429);
    for path in ["hello", "ed", "dash"] {
        assert!(is_pending(&ask_with(&w, "0pen", path).await), "{path}");
    }
    w.carry_out(Order::ChangeKeys(KeyChange::Remove("boss".parse().expect("a name")))).await.expect("it is there");
    assert_eq!(problem(ask_with(&w, "0pen", "bash").await).reason.status(), 401);
    // A stored program is served with any key.
    dispatch(&*w).await.expect("the ledger");
    w.finish("tree").await;
    assert!(matches!(ask_with(&w, "guess", "tree").await, RequestOutcome::Hit { .. }));
}

#[tokio::test]
async fn when_the_budget_is_spent_hits_are_served_and_misses_are_told_the_date_of_the_next_one() {
    let w = World::with(paid(2, 2));
    build(&w, "tree", Duration::from_secs(3600)).await;
    // Half an hour is left, and a build may take one.
    build(&w, "hello", Duration::from_secs(1800)).await;
    assert!(matches!(ask(&w, "tree").await, RequestOutcome::Hit { .. }));
    let refused = problem(ask(&w, "ed").await);
    let (month, next) = (w.now().month(), w.now().month().next());
    assert_eq!((refused.reason.status(), refused.retry_after), (503, Some((next.first().start() - w.now()).as_secs())));
    assert!(refused.sentence.contains(&next.first().to_string()), "{}", refused.sentence);
    assert_eq!(w.build("ed").await.state, State::Unasked);
    // More is granted, for this month.
    w.carry_out(Order::OverrideBudget(Micros(10_000_000))).await.expect("it is carried out");
    build(&w, "ed", Duration::from_secs(3600)).await;
    while w.now().month() == month {
        w.pass(DAY);
    }
    // The next month begins with nothing spent, and with its own budget.
    for path in ["dash", "bash"] {
        build(&w, path, Duration::from_secs(3600)).await;
    }
    assert_eq!(problem(ask(&w, "zsh").await).reason.status(), 503);
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
    // Clients obey the header without a word, so it has fifteen minutes at most. JSON has the exact date.
    assert!((next.start() - w.now()).as_secs() > 900);
    assert!(answer.headers.contains(&("retry-after", "900".to_owned())), "{answer:?}");
    let Body::Json(_, json) = ask(&w, "ed").await.answer(&Asked { format: Format::Json, ..asked.clone() }).body else {
        panic!("no JSON")
    };
    assert!(json.contains(&format!("\"retry_at\":\"{next}T00:00:00Z\"")), "{json}");
    // curl --retry does not wait for it at all.
    let answer = ask(&w, "ed").await.answer(&Asked { retry: true, ..asked });
    let Body::Text(text) = &answer.body else { panic!("no text") };
    assert!(answer.status == 409 && text.contains(&next.to_string()), "{answer:?}");
    assert!(answer.headers.iter().all(|(name, _)| *name != "retry-after"), "{answer:?}");

    let rings = w.bell.0.load(SeqCst);
    w.carry_out(Order::OverrideBudget(Micros(3_000_000))).await.expect("it is carried out");
    assert_eq!(w.bell.0.load(SeqCst), rings + 1, "the dispatcher hears of it at once");
    dispatch(&*w).await.expect("the ledger");
    assert!(w.build("ed").await.lease().is_some());
}

#[tokio::test]
async fn a_full_store_takes_no_build_until_there_is_room_and_serves_what_it_has() {
    let mut policy = Policy { slots: 9, store_bytes: Some(2300), ..Policy::default() };
    (policy.job.package_bytes, policy.job.log_bytes, policy.job.cache_bytes) = (700, 100, 0);
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
    assert!((1..800).contains(&stored), "{stored}");
    // What has been stored leaves room for one or for none.
    dispatch(&*w).await.expect("the ledger");
    w.finish("hello").await;
    dispatch(&*w).await.expect("the ledger");
    w.finish("ed").await;
    while w.limits().await.stored() <= 1500 {
        build(&w, &format!("p{}", w.limits().await.stored()), Duration::ZERO).await;
    }
    let refused = problem(ask(&w, "dash").await);
    assert!(refused.reason.status() == 503 && refused.sentence.contains("full"), "{refused:?}");
    assert!(matches!(ask(&w, "tree").await, RequestOutcome::Hit { .. }));
}

/// It counts as the most that it may store while its task may run, and then as what is there.
#[tokio::test]
async fn a_builder_that_is_killed_counts_as_what_it_has_left_as_soon_as_its_task_is_gone() {
    let mut policy = Policy { slots: 9, store_bytes: Some(2300), ..Policy::default() };
    (policy.job.package_bytes, policy.job.log_bytes, policy.job.cache_bytes) = (700, 100, 0);
    let w = World::with(policy);
    let killed = || Failure::new(Kind::Killed, "");
    // Each of these would fill a third of the store on paper.
    for n in 0..14 {
        let path = format!("p{n}");
        ask(&w, &path).await;
        dispatch(&*w).await.expect("the ledger");
        let bearer = w.bearer(&path).await;
        let store = |name, size| {
            let object = bearer.prefix().object(name);
            let w = &w;
            async move { w.store().write(&object, vec![b'x'; size]).await.expect("the store") }
        };
        // A part of its log, and a program of which its builder could not tell any more.
        let sha256 = Sha256::of(path.as_bytes());
        store(ObjectName::Log(1), 10).await;
        store(ObjectName::Reference(sha256.clone()), 0).await;
        store(ObjectName::Addition(sha256.clone()), 0).await;
        store(ObjectName::Blob(sha256), 20).await;
        let (before, at_most) = (w.limits().await.stored(), w.limits().await.stored_at_most());
        assert_eq!((before, at_most), (30 * n, 30 * n + 800));
        // Its lease is over, and its task may still run.
        w.pass(w.policy().lease);
        w.ends(&bearer.lease);
        stopped(&*w, &bearer.key, &bearer.lease, killed(), None).await.expect("the ledger");
        assert_eq!(w.limits().await.stored_at_most(), 30 * (n + 1));
        w.carry_out(Order::Build { of: Named::Target(target(&path)), act: Act::Cancel }).await.expect("it waits");
    }
}

/// Limits of 5 at a time, 20 a client and a budget worth 50 builds, and a crowd; dispatchers die after any of their writes, and builders anywhere.
/// What holds is looked at in *every* version of the row.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_thousand_misses_at_once_never_pass_a_limit_whoever_is_killed() {
    const SLOTS: usize = 5;
    const CLIENT: u32 = 20;
    const BUDGET: u64 = 50_000_000;
    let w = World::with(Policy { client_builds: Some(CLIENT), ..paid(SLOTS, 50) });
    let versions = Arc::new(AtomicUsize::default());
    let seen = Arc::clone(&versions);
    w.watch(move |row| match row {
        Row::Limits(limits) => {
            seen.fetch_add(1, SeqCst);
            assert!(limits.taken() <= SLOTS, "{limits:?}");
            assert!(limits.spent() + limits.reserved() <= Micros(BUDGET), "{limits:?}");
        }
        Row::Allowance(allowance) => assert!(allowance.started <= CLIENT, "{allowance:?}"),
        _ => {}
    });

    // 80 clients want 25 packages each.
    let requests = (0..2000u32).map(|n| {
        let w = Arc::clone(&w);
        tokio::spawn(async move { ask_from(&w, &format!("192.0.2.{}", n / 25), &format!("p{n}")).await })
    });
    let (mut queued, mut refused) = (0, 0);
    for reply in requests.collect::<Vec<_>>() {
        match reply.await.expect("it does not panic") {
            RequestOutcome::Pending(_) => queued += 1,
            RequestOutcome::Denied(denial) if denial.status() == 429 => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((queued, refused), (1600, 400));

    // What ran for how long: a builder that is killed has cost what it ran, and its build waits for its next attempt.
    let (mut real, mut started) = (Micros(0), 0);
    let mut seed = 1u64;
    let mut below = |most: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % most
    };
    loop {
        // Two dispatchers at once, of which one dies.
        w.die_after(Some(below(12) as usize));
        let _ = tokio::join!(dispatch(&*w), dispatch(&*w));
        w.die_after(None);
        w.pass(Duration::from_millis(1));
        sweep(&*w).await.expect("the ledger");
        dispatch(&*w).await.expect("the ledger");
        let tasks = w.tasks();
        assert!(tasks.len() <= SLOTS, "{tasks:?}");
        if tasks.is_empty() {
            break;
        }
        started += 1;
        // The first of them comes to an end; the others run on.
        let (lease, key) = tasks.into_iter().next().expect("there is one");
        let ran = match below(4) {
            0 => Duration::from_secs(1 + below(3599)),
            _ => Duration::from_secs(3600),
        };
        let path = key.product.to_string();
        if ran == Duration::from_secs(3600) {
            let bearer = w.bearer(&path).await;
            let report = w.report(&bearer).await;
            settle(&*w, &bearer, report).await.expect("a live lease");
        }
        w.ends(&lease);
        // Told twice, as events may be.
        for _ in 0..2 {
            let killed = Failure::new(Kind::Killed, "");
            stopped(&*w, &key, &lease, killed, Some(ran)).await.expect("the ledger");
        }
        real = real + w.policy().price(Size::default(), ran);
    }
    let limits = w.limits().await;
    assert_eq!((limits.taken(), limits.reserved(), limits.spent()), (0, Micros(0), real));
    // There is no money for one more, and there was for each that began.
    assert!(real <= Micros(BUDGET) && real + w.policy().worst_price(Size::default()) > Micros(BUDGET));
    assert!(started >= 50 && versions.load(SeqCst) > 100, "{started}");
    assert!(
        matches!(ask_from(&w, "198.51.100.1", "late").await, RequestOutcome::Denied(denial) if denial.status() == 503)
    );
}
