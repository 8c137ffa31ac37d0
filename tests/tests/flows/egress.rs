//! The operator's ceiling for what is downloaded in a day: how late it is, what it stops and what not, and when it ends.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use binplz_core::{
    answer::{
        asked::{Asked, Format},
        problem::Problem,
        reply::status_json,
    },
    build::{State, policy::Policy},
    flow::{
        operator::orders::{Operator, Order},
        request::{outcome::RequestOutcome, program::request, service::service, status::status},
        schedule::{dispatch::dispatch, sweep::sweep},
    },
    objects::stored::Method,
    ports::{Deployment, Read},
    quota::{
        client::Asker,
        limits::{Egress, Limits},
    },
    row::{Row, RowKey},
    telemetry::{About, Signal},
};
use binplz_tests::world::{World, target};
use serde_json::Value;

/// Asks, and the answer is told, as the web layer does it.
async fn ask_by(w: &World, path: &str, method: Method) -> RequestOutcome {
    let reply = request(w, &target(path), method, Some(&Asker::default())).await;
    w.emit(About::Service, Signal::Answered { hit: reply.served(), to: None });
    reply
}

async fn ask(w: &World, path: &str) -> RequestOutcome {
    ask_by(w, path, Method::Get).await
}

async fn is_hit(w: &World, path: &str) -> bool {
    matches!(ask(w, path).await, RequestOutcome::Hit { .. })
}

fn refused(reply: RequestOutcome) -> Problem {
    match reply {
        RequestOutcome::Denied(denial) if denial.status() == 503 => Problem::from(&denial),
        other => panic!("it is not refused: {other:?}"),
    }
}

async fn is_swept(w: &World) {
    sweep(w).await.expect("the ledger");
}

/// Builds a program without asking for it when it is there.
async fn build(w: &World, path: &str) {
    assert!(matches!(ask(w, path).await, RequestOutcome::Pending(_)), "{path}");
    dispatch(w).await.expect("the ledger");
    w.finish(path).await;
}

fn allowing(bytes: u64) -> Policy {
    Policy { slots: 9, egress_bytes: Some(bytes), ..Policy::default() }
}

/// How many bytes `tree` has in every world.
async fn size() -> u64 {
    let w = World::new();
    build(&w, "tree").await;
    assert!(is_hit(&w, "tree").await);
    w.served("tree").await.expect("a served row").size
}

/// A world in which so many downloads of `tree` are allowed in a day, and it is built.
async fn with_room_for(downloads: u64) -> Arc<World> {
    let w = World::with(allowing(downloads * size().await));
    build(&w, "tree").await;
    w
}

/// One in which no more is served today.
async fn shut() -> Arc<World> {
    let w = with_room_for(1).await;
    assert!(is_hit(&w, "tree").await);
    is_swept(&w).await;
    w
}

async fn told(w: &World) -> Option<Egress> {
    let overview = w.carry_out(Order::Overview).await.expect("an answer").overview().expect("that was asked");
    assert_eq!(service(w).await.expect("the ledger").egress, overview.egress);
    overview.egress
}

async fn midnight(w: &World) {
    w.pass(w.now().day().next().start() - w.now());
}

#[tokio::test]
async fn when_as_much_was_downloaded_as_may_be_in_a_day_nobody_gets_a_program_until_the_next() {
    let w = with_room_for(2).await;
    for _ in 0..2 {
        is_swept(&w).await;
        assert!(is_hit(&w, "tree").await);
    }
    // Until the next count, downloads go on: the ceiling is that late.
    assert!(is_hit(&w, "tree").await && told(&w).await.is_some_and(|egress| egress.until.is_none()));
    is_swept(&w).await;
    let tomorrow = w.now().day().next();
    for (path, method) in [("tree", Method::Get), ("tree", Method::Head), ("tree/tree", Method::Get)] {
        let problem = refused(ask_by(&w, path, method).await);
        assert_eq!(problem.retry_after, Some((tomorrow.start() - w.now()).as_secs()), "{path}");
        assert!(problem.sentence.contains(&tomorrow.to_string()), "{}", problem.sentence);
    }
    // Nor what was good before its pin has moved.
    w.move_pin('6').await;
    refused(ask(&w, "tree").await);
    let size = size().await;
    let egress = Egress { served: 3 * size, ceiling: 2 * size, until: Some(tomorrow.start()) };
    assert_eq!(told(&w).await, Some(egress));

    // It opens again by itself.
    midnight(&w).await;
    assert!(is_hit(&w, "tree").await);
    assert_eq!(told(&w).await, Some(Egress { served: 0, until: None, ..egress }));
    is_swept(&w).await;
    assert_eq!(told(&w).await, Some(Egress { served: size, until: None, ..egress }));
}

#[tokio::test]
async fn meanwhile_no_build_begins_that_nobody_could_fetch_and_those_under_way_go_on() {
    let w = with_room_for(1).await;
    assert!(matches!(ask(&w, "hello").await, RequestOutcome::Pending(_)));
    assert!(is_hit(&w, "tree").await);
    is_swept(&w).await;
    refused(ask(&w, "ed").await);
    assert_eq!(w.build("ed").await.state, State::Unasked);
    // This build was requested before, and is charged to another client.
    assert!(matches!(ask(&w, "hello").await, RequestOutcome::Pending(_)));
    dispatch(&*w).await.expect("the ledger");
    w.finish("hello").await;
    refused(ask(&w, "hello").await);
    midnight(&w).await;
    assert!(is_hit(&w, "hello").await && matches!(ask(&w, "ed").await, RequestOutcome::Pending(_)));
}

#[tokio::test]
async fn a_ceiling_that_is_raised_or_taken_away_serves_again_at_once() {
    for ceiling in [Some(1_000_000), None] {
        // A restart keeps the day's count.
        let w = shut().await.restarted();
        refused(ask(&w, "tree").await);
        let policy = Policy { egress_bytes: ceiling, ..w.policy().clone() };
        let w = w.redeployed(policy);
        assert!(is_hit(&w, "tree").await);
        assert_eq!(told(&w).await.map(|egress| egress.served > 0), ceiling.map(|_| true));
    }
}

#[tokio::test]
async fn a_status_gives_no_url_that_is_refused_and_ends_a_stub_with_the_reason() {
    let w = shut().await;
    let tree = target("tree");
    let reply = request(&*w, &tree, Method::Get, None).await;
    let asked = Asked { origin: w.origin(), target: Some(&tree), format: Format::Shell, retry: false };
    let seconds = (w.now().day().next().start() - w.now()).as_secs();
    let line = reply.status_line(&asked);
    // What a stub does at "failed" is to say the rest, and to end.
    assert!(line.starts_with(&format!("failed {seconds} - - - the daily download limit is reached")), "{line}");
    let status = status(&*w, &tree).await.expect("a build");
    let document: Value = serde_json::from_str(&status_json(&status, Some(&reply), &asked)).expect("JSON");
    assert_eq!((&document["state"], &document["retry_after"]), (&"ready".into(), &seconds.into()));
    assert!(document["artifact"].is_null() && document["headline"] == document["reason"], "{document}");
    assert!(document["reason"].as_str().is_some_and(|reason| reason.contains("downloads resume")), "{document}");
}

#[tokio::test]
async fn without_a_ceiling_a_hit_is_one_read_and_with_one_it_is_two() {
    for (policy, limits) in [(Policy::default(), None), (allowing(1_000_000), Some((RowKey::Limits, Read::Eventual)))] {
        let w = World::with(policy);
        build(&w, "tree").await;
        assert!(is_hit(&w, "tree").await);
        let commits = w.commits();
        w.reads();
        assert!(is_hit(&w, "tree").await);
        let served = w.served("tree").await.expect("a served row").asked;
        let mut reads = w.reads();
        // The test's own look at the row.
        reads.retain(|(_, read)| *read == Read::Eventual);
        let expected: Vec<_> = [(RowKey::Served(served), Read::Eventual)].into_iter().chain(limits).collect();
        assert_eq!((reads, w.commits()), (expected, commits));
    }
}

/// How often it was told that the ceiling is reached, and that something is not known.
fn alarms(w: &World) -> [Arc<AtomicUsize>; 2] {
    let counts = [(); 2].map(|()| Arc::<AtomicUsize>::default());
    let [exceeded, unknown] = counts.clone();
    w.hear(move |_, telemetry| match telemetry {
        Signal::Exceeded(_) => drop(exceeded.fetch_add(1, SeqCst)),
        Signal::Trouble { .. } => drop(unknown.fetch_add(1, SeqCst)),
        _ => {}
    });
    counts
}

#[tokio::test]
async fn an_alarm_lasts_as_long_as_nothing_is_served() {
    let w = with_room_for(1).await;
    let [alarm, _] = alarms(&w);
    is_swept(&w).await;
    assert_eq!(alarm.load(SeqCst), 0);
    assert!(is_hit(&w, "tree").await);
    for minutes in 1..=3 {
        is_swept(&w).await;
        assert_eq!(alarm.load(SeqCst), minutes);
        w.pass(Duration::from_secs(60));
    }
    midnight(&w).await;
    is_swept(&w).await;
    assert_eq!(alarm.load(SeqCst), 3);
}

#[tokio::test]
async fn where_nobody_can_count_it_is_as_it_was_and_somebody_hears_of_it() {
    let w = with_room_for(2).await;
    let [_, trouble] = alarms(&w);
    assert!(is_hit(&w, "tree").await);
    is_swept(&w).await;
    w.download_stats.lost.store(true, SeqCst);
    assert!(is_hit(&w, "tree").await);
    is_swept(&w).await;
    assert_eq!(trouble.load(SeqCst), 1);
    assert!(is_hit(&w, "tree").await);
    w.download_stats.lost.store(false, SeqCst);
    is_swept(&w).await;
    refused(ask(&w, "tree").await);
    w.download_stats.lost.store(true, SeqCst);
    is_swept(&w).await;
    refused(ask(&w, "tree").await);
}

#[tokio::test]
async fn of_two_who_count_at_once_the_one_who_saw_less_takes_nothing_back() {
    let w = with_room_for(2).await;
    assert!(is_hit(&w, "tree").await);
    let rows = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&rows);
    w.watch(move |row| {
        if let Row::Limits(limits) = row {
            seen.lock().expect("a lock").push(limits.clone());
        }
    });
    // Between the one's count and its commit a hit comes, and another one counts.
    let other = Arc::clone(&w);
    w.before_next_commit(async move {
        assert!(is_hit(&other, "tree").await);
        is_swept(&other).await;
        refused(ask(&other, "tree").await);
    });
    is_swept(&w).await;
    refused(ask(&w, "tree").await);
    let served = |limits: &Limits| limits.egress(w.policy(), w.now()).expect("a ceiling").served;
    let sums: Vec<_> = rows.lock().expect("a lock").iter().map(served).collect();
    assert!(!sums.is_empty() && sums.is_sorted(), "{sums:?}");
}

#[tokio::test]
async fn where_there_is_no_ceiling_nobody_counts_and_nothing_is_written() {
    let w = World::new();
    build(&w, "tree").await;
    assert!(is_hit(&w, "tree").await);
    is_swept(&w).await;
    w.download_stats.lost.store(true, SeqCst);
    let [alarm, trouble] = alarms(&w);
    let commits = w.commits();
    is_swept(&w).await;
    assert_eq!((w.commits(), alarm.load(SeqCst), trouble.load(SeqCst), told(&w).await), (commits, 0, 0, None));
}
