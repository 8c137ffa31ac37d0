//! The flows, with a second actor at work at exactly the wrong moment, and with a death between any two steps.

use std::{
    sync::{Arc, Mutex, atomic::Ordering::SeqCst},
    time::Duration,
};

use binplz_core::{
    answer::problem::Problem,
    answer::{
        asked::{Asked, Format},
        reply::Body,
    },
    build::{
        Event, State,
        failure::{Failure, Kind},
        policy::{Policy, Prices},
        protocol::{Outcome, Progress, Report, Stats},
    },
    flow::{
        advance,
        lease::{
            job::{self, Denied},
            settle::{settle, stopped},
        },
        request::{outcome::RequestOutcome, status::status},
        schedule::{dispatch::dispatch, sweep::sweep},
    },
    id::{key::System, money::Micros},
    ports::{Deployment, NotLaunched, Unavailable},
};
use binplz_tests::world::{World, ask, rev, target};

fn is_hit(reply: &RequestOutcome) -> bool {
    matches!(reply, RequestOutcome::Hit { .. })
}

fn started(w: &World) -> usize {
    w.launcher.started.lock().expect("a lock").len()
}

#[tokio::test]
async fn from_a_miss_to_a_hit() {
    let w = World::new();
    assert!(matches!(ask(&w, "tree").await, RequestOutcome::Pending(status) if status.state == "queued"));
    dispatch(&*w).await.expect("the ledger");
    assert!(matches!(ask(&w, "tree").await, RequestOutcome::Pending(status) if status.state == "building"));
    assert_eq!((started(&w), w.limits().await.taken()), (1, 1));
    w.finish("tree").await;
    assert_eq!(w.limits().await.taken(), 0);
    assert!(is_hit(&ask(&w, "tree").await));
    let commits = w.commits();
    assert!(is_hit(&ask(&w, "tree").await));
    assert_eq!(w.commits(), commits, "a hit writes nothing");
}

#[tokio::test]
async fn a_read_that_is_one_commit_late_hides_no_binary_that_is_there() {
    let w = World::new();
    w.reads_are_late(true);
    assert!(matches!(ask(&w, "tree").await, RequestOutcome::Pending(_)));
    let hit = async || match ask(&w, "tree").await {
        RequestOutcome::Hit { served, .. } => served.rev,
        other => panic!("no hit: {other:?}"),
    };
    let remembered = async |digit| {
        dispatch(&*w).await.expect("the ledger");
        w.finish("tree").await;
        assert_eq!(hit().await, rev(digit));
        // It was remembered just now, and a late read shows what was there before.
        w.reads_are_late(true);
        let commits = w.commits();
        assert_eq!(hit().await, rev(digit));
        assert_eq!(w.commits(), commits, "it is remembered once");
        w.reads_are_late(false);
    };
    remembered('5').await;
    w.move_pin('6').await;
    // The last good one, at once, while the new one is being built.
    assert_eq!(hit().await, rev('5'));
    remembered('6').await;
    assert_eq!(started(&w), 2);
}

#[tokio::test]
async fn two_requests_of_which_each_saw_no_row_make_one_build() {
    let w = World::new();
    let other = Arc::clone(&w);
    w.before_next_commit(async move { assert!(matches!(ask(&other, "tree").await, RequestOutcome::Pending(_))) });
    assert!(matches!(ask(&w, "tree").await, RequestOutcome::Pending(_)));
    dispatch(&*w).await.expect("the ledger");
    dispatch(&*w).await.expect("the ledger");
    assert_eq!((started(&w), w.build("tree").await.lease().map(|l| l.attempt)), (1, Some(1)));
}

#[tokio::test]
async fn two_dispatchers_of_which_each_saw_a_queued_row_start_one_builder() {
    let w = World::new();
    ask(&w, "tree").await;
    let other = Arc::clone(&w);
    w.before_next_commit(async move { assert!(dispatch(&*other).await.is_ok()) });
    dispatch(&*w).await.expect("the ledger");
    assert_eq!((started(&w), w.limits().await.taken()), (1, 1));
}

#[tokio::test]
async fn two_dispatchers_at_the_last_slot_fill_it_once() {
    let w = World::with(Policy { slots: 1, ..Policy::default() });
    ask(&w, "tree").await;
    ask(&w, "hello").await;
    let other = Arc::clone(&w);
    w.before_next_commit(async move { assert!(dispatch(&*other).await.is_ok()) });
    dispatch(&*w).await.expect("the ledger");
    assert_eq!((started(&w), w.limits().await.taken()), (1, 1));
    // The one that ends makes room for the one that waits.
    let first = if w.build("tree").await.lease().is_some() { "tree" } else { "hello" };
    w.finish(first).await;
    dispatch(&*w).await.expect("the ledger");
    assert_eq!((started(&w), w.limits().await.taken()), (2, 1));
}

#[tokio::test]
async fn money_is_reserved_before_a_build_starts_and_its_price_is_spent_when_it_ends() {
    let prices = Prices { task: Micros(3600), ..Prices::default() };
    let mut policy = Policy { slots: 9, budget: Some(Micros(150)), prices, ..Policy::default() };
    policy.job.seconds = 100;
    let w = World::with(policy);
    ask(&w, "tree").await;
    w.pass(Duration::from_secs(1));
    ask(&w, "hello").await;
    dispatch(&*w).await.expect("the ledger");
    assert_eq!((started(&w), w.limits().await.reserved()), (1, Micros(100)));
    w.pass(Duration::from_secs(30));
    w.finish("tree").await;
    assert_eq!((w.limits().await.reserved(), w.limits().await.spent()), (Micros(0), Micros(30)));
    dispatch(&*w).await.expect("the ledger");
    assert_eq!((started(&w), w.limits().await.reserved()), (2, Micros(100)));
}

#[tokio::test]
async fn what_a_task_holds_comes_back_when_it_is_gone_also_where_nobody_tells_so() {
    let prices = Prices { task: Micros(3600), ..Prices::default() };
    let overhead = Duration::from_secs(100);
    let w = World::with(Policy { slots: 1, budget: Some(Micros(9000)), prices, overhead, ..Policy::default() });
    ask(&w, "tree").await;
    dispatch(&*w).await.expect("the ledger");
    w.pass(Duration::from_secs(30));
    let bearer = w.bearer("tree").await;
    let report = w.report(&bearer).await;
    settle(&*w, &bearer, report).await.expect("a live lease");
    ask(&w, "hello").await;
    let held = async |what: &str| {
        sweep(&*w).await.expect("the ledger");
        dispatch(&*w).await.expect("the ledger");
        let limits = w.limits().await;
        assert_eq!((started(&w), limits.taken(), limits.spent()), (1, 1, Micros(0)), "{what}");
    };
    held("its task may run on").await;
    w.pass(overhead);
    held("its task has had its time to stop, and its end is perhaps about to be told").await;
    w.pass(Duration::from_secs(10));
    sweep(&*w).await.expect("the ledger");
    assert_eq!((w.limits().await.taken(), w.limits().await.spent()), (0, Micros(30)));
    dispatch(&*w).await.expect("the ledger");
    assert_eq!(started(&w), 2);
    // A late report changes nothing.
    stopped(&*w, &bearer.key, &bearer.lease, Failure::new(Kind::Killed, ""), Some(overhead)).await.expect("the ledger");
    assert_eq!((w.limits().await.taken(), w.limits().await.spent()), (1, Micros(30)));
}

#[tokio::test]
async fn what_memory_or_disk_was_too_small_for_is_tried_again_on_a_larger_machine_and_its_price_reserved() {
    // A micro-dollar an hour for each vCPU, GiB of memory and GiB of disk; an hour at most.
    let prices = Prices { cpu: Micros(1), memory: Micros(1), disk: Micros(1), ..Prices::default() };
    let mut policy = Policy { attempts: 4, prices, ..Policy::default() };
    policy.job.seconds = 3600;
    let w = World::with(policy);
    ask(&w, "tree").await;
    for (kind, size, worst) in [
        (Kind::OutOfMemory, "4096/8192/50", 4 + 8 + 30),
        (Kind::DiskFull, "4096/16384/50", 4 + 16 + 30),
        (Kind::Killed, "4096/16384/100", 4 + 16 + 80),
        (Kind::BuildFailed, "4096/16384/100", 4 + 16 + 80),
    ] {
        dispatch(&*w).await.expect("the ledger");
        let lease = w.build("tree").await.lease().cloned().expect("a lease");
        assert_eq!((lease.size.to_string().as_str(), w.limits().await.reserved()), (size, Micros(worst)));
        let report =
            Report { outcome: Outcome::Failed(Failure::new(kind, "")), stats: Stats::default(), materials: None };
        settle(&*w, &w.bearer("tree").await, report).await.expect("a live lease");
        w.reap().await;
        w.pass(w.policy().delay_after(lease.attempt));
    }
    let sizes: Vec<_> = w.build("tree").await.history.iter().map(|attempt| attempt.size.memory()).collect();
    assert_eq!(sizes, [8192, 16_384, 16_384, 16_384]);
}

#[tokio::test]
async fn what_took_a_larger_machine_begins_there_of_the_next_nixpkgs_too() {
    let w = World::with(Policy { attempts: 4, ..Policy::default() });
    ask(&w, "tree").await;
    for size in ["4096/8192/50", "4096/16384/50"] {
        dispatch(&*w).await.expect("the ledger");
        let lease = w.build("tree").await.lease().cloned().expect("a lease");
        assert_eq!(lease.size.to_string(), size);
        if lease.attempt == 2 {
            break;
        }
        let report = Report {
            outcome: Outcome::Failed(Failure::new(Kind::OutOfMemory, "")),
            stats: Stats::default(),
            materials: None,
        };
        settle(&*w, &w.bearer("tree").await, report).await.expect("a live lease");
        w.reap().await;
        w.pass(w.policy().delay_after(1));
    }
    w.finish("tree").await;
    w.move_pin('6').await;
    ask(&w, "tree").await;
    ask(&w, "hello").await;
    dispatch(&*w).await.expect("the ledger");
    for (path, size) in [("tree", "4096/16384/50"), ("hello", "4096/8192/50")] {
        let lease = w.build(path).await.lease().cloned().expect("a lease");
        assert_eq!((lease.size.to_string().as_str(), lease.attempt), (size, 1), "{path}");
    }
}

#[tokio::test]
async fn a_larger_machine_that_the_budget_can_not_pay_leaves_the_others_their_turn() {
    let prices = Prices { memory: Micros(1), ..Prices::default() };
    let mut policy = Policy { slots: 9, budget: Some(Micros(15)), prices, ..Policy::default() };
    policy.job.seconds = 3600;
    let w = World::with(policy);
    ask(&w, "tree").await;
    dispatch(&*w).await.expect("the ledger");
    let bearer = w.bearer("tree").await;
    stopped(&*w, &bearer.key, &bearer.lease, Failure::new(Kind::OutOfMemory, ""), None).await.expect("the ledger");
    w.pass(w.policy().delay_after(1));
    ask(&w, "hello").await;
    dispatch(&*w).await.expect("the ledger");
    // 16 GiB would be 16, and 8 GiB are 8.
    assert!(w.build("tree").await.lease().is_none() && w.build("hello").await.lease().is_some());
    assert_eq!(w.limits().await.reserved(), Micros(8));
}

#[tokio::test]
async fn a_write_whose_reply_was_lost_is_not_a_lost_write() {
    let w = World::new();
    w.lose_replies(1);
    assert!(matches!(ask(&w, "tree").await, RequestOutcome::Pending(_)));
    w.lose_replies(1);
    dispatch(&*w).await.expect("the ledger");
    assert_eq!((started(&w), w.limits().await.taken()), (1, 1));
    let bearer = w.bearer("tree").await;
    let report = w.report(&bearer).await;
    w.lose_replies(1);
    settle(&*w, &bearer, report.clone()).await.expect("settled");
    w.reap().await;
    assert_eq!((w.build("tree").await.history.len(), w.limits().await.taken()), (1, 0));
    // The builder did not hear of it either, and says it again.
    settle(&*w, &bearer, report).await.expect("settled before");
    assert_eq!(w.build("tree").await.history.len(), 1);
}

#[tokio::test]
async fn what_becomes_of_a_build_is_told_once_also_where_the_ledgers_reply_was_lost() {
    let w = World::new();
    let told = Arc::new(Mutex::new(Vec::new()));
    let ear = Arc::clone(&told);
    w.hear(move |about, telemetry| {
        let lease = about.lease().map(|lease| lease.as_str()[31..].to_owned());
        ear.lock().expect("a lock").push(format!("{} {telemetry}", lease.unwrap_or_default()));
    });
    w.lose_replies(1);
    ask(&w, "tree").await;
    ask(&w, "tree").await;
    // Of the claim, and of what the launcher said.
    w.lose_replies(2);
    dispatch(&*w).await.expect("the ledger");
    let bearer = w.bearer("tree").await;
    let report = w.report(&bearer).await;
    w.lose_replies(1);
    for _ in 0..2 {
        settle(&*w, &bearer, report.clone()).await.expect("settled");
    }
    assert_eq!(
        told.lock().expect("a lock").as_slice(),
        [
            " queued".to_owned(),
            "0 claimed after 0 s in the queue".to_owned(),
            format!("0 its builder was started: task of {}", bearer.lease),
            "0 ready after 0 s".to_owned(),
        ]
    );
}

#[tokio::test]
async fn the_builder_of_a_lapsed_lease_is_stopped_also_where_the_ledgers_reply_was_lost() {
    let w = World::new();
    ask(&w, "tree").await;
    dispatch(&*w).await.expect("the ledger");
    let lease = w.bearer("tree").await.lease;
    w.pass(w.policy().lease);
    w.lose_replies(1);
    sweep(&*w).await.expect("the ledger");
    assert_eq!(w.launcher.stopped.lock().expect("a lock").as_slice(), [lease]);
}

#[tokio::test]
async fn a_claim_whose_dispatcher_died_is_launched_by_the_sweep_and_once() {
    let w = World::new();
    ask(&w, "tree").await;
    let (id, token) = w.new_lease();
    advance(
        &*w,
        &w.key("tree").await,
        &Event::Claim { id: id.clone(), token, size: w.policy().size, on_demand: false, seconds: None },
    )
    .await
    .expect("claimed");
    assert_eq!(started(&w), 0);
    sweep(&*w).await.expect("the ledger");
    sweep(&*w).await.expect("the ledger");
    let task = w.build("tree").await.lease().and_then(|lease| lease.task.clone());
    assert_eq!((started(&w), task), (1, Some(format!("task of {id}"))));
    assert_eq!(w.launcher.asked.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_builder_that_is_not_heard_of_is_stopped_and_its_build_tried_again_until_it_cools_down() {
    let w = World::new();
    ask(&w, "tree").await;
    for attempt in 1..=w.policy().attempts {
        dispatch(&*w).await.expect("the ledger");
        assert_eq!(w.build("tree").await.lease().map(|lease| lease.attempt), Some(attempt));
        w.pass(w.policy().lease);
        sweep(&*w).await.expect("the ledger");
        w.reap().await;
        assert_eq!((started(&w), w.limits().await.taken()), (attempt as usize, 0));
        w.pass(w.policy().delay_after(attempt));
    }
    assert_eq!(w.launcher.stopped.lock().expect("a lock").len(), 3);
    let build = w.build("tree").await;
    let State::Failed { failure, until: Some(_), .. } = &build.state else { panic!("{build:?}") };
    assert_eq!(failure.kind, Kind::LostHeartbeat);
    assert!(matches!(ask(&w, "tree").await, RequestOutcome::Denied(denial) if denial.status() == 503));
    w.pass(w.policy().cool_down);
    assert!(matches!(ask(&w, "tree").await, RequestOutcome::Pending(_)));
}

#[tokio::test]
async fn a_builder_that_pulses_keeps_its_lease_and_one_that_is_late_has_lost_it() {
    let w = World::new();
    ask(&w, "tree").await;
    dispatch(&*w).await.expect("the ledger");
    let bearer = w.bearer("tree").await;
    for _ in 0..10 {
        w.pass(w.policy().lease / 2);
        job::heartbeat(&*w, &bearer, &Progress::default()).await.expect("a live lease");
        sweep(&*w).await.expect("the ledger");
    }
    let report = w.report(&bearer).await;
    w.pass(w.policy().lease);
    // At that instant it is over, whether or not a sweep has come by.
    let late = job::heartbeat(&*w, &bearer, &Progress::default()).await;
    assert_eq!(late.err(), Some(Denied::NotLive));
    assert_eq!(settle(&*w, &bearer, report).await.err(), Some(Denied::NotLive));
    assert!(w.build("tree").await.lease().is_some(), "an expired lease's settle changes nothing");
}

#[tokio::test]
async fn a_settle_that_races_with_the_sweep_counts_once() {
    for sweep_first in [true, false] {
        let w = World::new();
        ask(&w, "tree").await;
        dispatch(&*w).await.expect("the ledger");
        let bearer = w.bearer("tree").await;
        let report = w.report(&bearer).await;
        let other = Arc::clone(&w);
        if sweep_first {
            // The settle saw a live lease; before it commits, the lease is over and swept.
            w.before_next_commit(async move {
                other.pass(other.policy().lease);
                sweep(&*other).await.expect("the ledger");
            });
            assert_eq!(settle(&*w, &bearer, report).await.err(), Some(Denied::NotLive));
            assert!(matches!(w.build("tree").await.state, State::Queued { attempt: 2, .. }));
        } else {
            // The sweep saw a lease that is over by its clock; before it commits, a settle by a slower clock came.
            w.before_next_commit(async move {
                stopped(&*other, &bearer.key, &bearer.lease, Failure::new(Kind::Killed, ""), None)
                    .await
                    .expect("the ledger");
            });
            w.pass(w.policy().lease);
            sweep(&*w).await.expect("the ledger");
            assert_eq!(w.build("tree").await.history.len(), 1);
        }
        w.reap().await;
        assert_eq!(w.limits().await.taken(), 0);
    }
}

#[tokio::test]
async fn while_there_is_no_image_nothing_is_started_and_what_waits_goes_on_when_there_is_one() {
    let w = World::new();
    let images = |missing: &[System]| *w.launcher.imageless.lock().expect("a lock") = missing.to_vec();
    let arm = "hello?sys=aarch64-linux";
    ask(&w, "tree").await;
    ask(&w, arm).await;
    images(&[System::X86_64Linux]);
    sweep(&*w).await.expect("the ledger");
    dispatch(&*w).await.expect("the ledger");
    // The other system's image is there.
    assert!(matches!(ask(&w, arm).await, RequestOutcome::Pending(status) if status.state == "building"));
    let commits = w.commits();
    // A build that was queued before, and one that was not requested yet.
    for (path, state) in [("tree", "queued"), ("hello", "unasked")] {
        let reply = ask(&w, path).await;
        let asked = Asked { origin: "http://h", target: None, format: Format::Json, retry: false };
        let answer = reply.answer(&asked);
        assert_eq!((answer.status, started(&w)), (503, 1), "{path}");
        assert!(answer.headers.contains(&("retry-after", "60".to_owned())));
        let Body::Json(_, problem) = answer.body else { panic!("no problem") };
        assert!(problem.contains("new builds for x86_64-linux are paused: the builder's image does not exist yet"));
        // Who waits is told to wait on.
        let status = status(&*w, &target(path)).await.expect("a served pin");
        assert_eq!((status.state, status.paused.is_some()), (state, path == "tree"));
    }
    for _ in 0..2 {
        sweep(&*w).await.expect("the ledger");
    }
    assert_eq!(w.commits(), commits, "what is known already is not written again");

    images(&[]);
    let rings = w.bell.0.load(SeqCst);
    sweep(&*w).await.expect("the ledger");
    assert!(w.bell.0.load(SeqCst) > rings);
    dispatch(&*w).await.expect("the ledger");
    assert_eq!(w.build("tree").await.lease().map(|lease| lease.attempt), Some(1));
    assert!(matches!(ask(&w, "hello").await, RequestOutcome::Pending(_)));
}

#[tokio::test]
async fn a_pause_that_comes_between_a_dispatchers_look_and_its_claim_is_kept() {
    let w = World::new();
    ask(&w, "tree").await;
    let other = Arc::clone(&w);
    w.before_next_commit(async move {
        other.launcher.imageless.lock().expect("a lock").push(System::X86_64Linux);
        sweep(&*other).await.expect("the ledger");
    });
    dispatch(&*w).await.expect("the ledger");
    assert!(matches!(w.build("tree").await.state, State::Queued { attempt: 1, .. }));
    assert_eq!((started(&w), w.limits().await.taken()), (0, 0));
}

#[tokio::test]
async fn a_hit_is_served_while_builds_are_paused() {
    let w = World::new();
    ask(&w, "tree").await;
    dispatch(&*w).await.expect("the ledger");
    w.finish("tree").await;
    w.launcher.imageless.lock().expect("a lock").push(System::X86_64Linux);
    sweep(&*w).await.expect("the ledger");
    assert!(is_hit(&ask(&w, "tree").await));
}

#[tokio::test]
async fn a_builder_that_may_have_been_started_keeps_its_lease_until_that_is_over() {
    let w = World::new();
    let unknown = NotLaunched::Unavailable(Unavailable::new("launcher", "the reply was lost"));
    *w.launcher.refuses.lock().expect("a lock") = Some(unknown);
    ask(&w, "tree").await;
    dispatch(&*w).await.expect("the ledger");
    let bearer = w.bearer("tree").await;
    // It was, and its word counts.
    let report = w.report(&bearer).await;
    settle(&*w, &bearer, report).await.expect("a live lease");
    assert!(is_hit(&ask(&w, "tree").await));
}

#[tokio::test]
async fn a_permanent_failure_is_told_from_one_read_and_writes_nothing() {
    let w = World::new();
    ask(&w, "tree").await;
    dispatch(&*w).await.expect("the ledger");
    let failure = Failure::new(Kind::BuildFailed, "x.c:1: error\x1b[0m\nmore");
    let report = Report { outcome: Outcome::Failed(failure), stats: Stats::default(), materials: None };
    settle(&*w, &w.bearer("tree").await, report).await.expect("a live lease");
    let commits = w.commits();
    for _ in 0..1000 {
        let RequestOutcome::Denied(denial) = ask(&w, "tree").await else { panic!("no problem") };
        let problem = Problem::from(&denial);
        assert_eq!((problem.reason.status(), problem.log), (422, true));
        assert_eq!(problem.sentence, "tree: the build failed: x.c:1: error more");
    }
    assert_eq!((w.commits(), started(&w)), (commits, 1));
}
