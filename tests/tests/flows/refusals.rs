//! What the account or the machine refuses is charged to no build: rows wait, use no attempt and say why, and the system backs
//! off.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use binplz_core::{
    build::{
        State,
        failure::{Failure, Kind},
        policy::{Policy, REFUSED_MAX},
    },
    flow::{
        lease::{job::job, settle::stopped},
        operator::orders::{Act, Operator, Order},
        request::{outcome::RequestOutcome, program::request, service::service, status::status},
        schedule::{dispatch::dispatch, sweep::sweep},
    },
    id::money::Micros,
    objects::stored::Method,
    ports::{Deployment, NotLaunched},
    quota::{client::Asker, limits::Why},
    telemetry::Signal,
};
use binplz_tests::world::{World, target};
use proptest::prelude::*;

const QUOTA: &str = "ThrottlingException: You've reached the limit on the number of vCPUs you can run concurrently";

async fn ask(w: &Arc<World>, path: &str) -> RequestOutcome {
    request(&**w, &target(path), Method::Get, Some(&Asker::default())).await
}

fn refuses(w: &World, why: Option<&str>) {
    *w.launcher.refuses.lock().expect("a lock") = why.map(|why| NotLaunched::Refused(why.to_owned()));
}

/// A world that knows one refusal.
async fn refused(why: &str) -> Arc<World> {
    let w = World::new();
    ask(&w, "tree").await;
    refuses(&w, Some(why));
    dispatch(&*w).await.expect("the ledger");
    w
}

/// The build waits as if it had never been tried, and nothing is held or spent for it.
async fn is_untouched(w: &World, path: &str) {
    let (build, limits) = (w.build(path).await, w.limits().await);
    assert!(matches!(build.state, State::Queued { attempt: 1, .. }) && build.history.is_empty(), "{build:?}");
    assert_eq!((limits.taken(), limits.spent(), limits.stored()), (0, Micros(0), 0));
}

/// A builder has started, and asks for its job.
async fn starts(w: &World, path: &str) {
    job(w, &w.bearer(path).await).await.expect("a live lease");
}

#[tokio::test]
async fn no_number_of_refusals_fails_a_build_and_the_tries_become_rarer() {
    let w = refused(QUOTA).await;
    let (began, mut delays) = (w.now(), Vec::new());
    while w.now() - began < Duration::from_secs(24 * 3600) {
        is_untouched(&w, "tree").await;
        let asked = w.launcher.asked.load(SeqCst);
        let next = dispatch(&*w).await.expect("the ledger").expect("it says when to come back");
        assert_eq!(w.launcher.asked.load(SeqCst), asked, "it was tried too early");
        delays.push(next - w.now());
        w.pass(next - w.now());
        dispatch(&*w).await.expect("the ledger");
        // Spot is tried too, from time to time.
        assert!((1..=2).contains(&(w.launcher.asked.load(SeqCst) - asked)));
    }
    assert!(delays.is_sorted() && delays[0] == w.policy().first_delay && delays[delays.len() - 1] == REFUSED_MAX);

    refuses(&w, None);
    w.pass(REFUSED_MAX);
    dispatch(&*w).await.expect("the ledger");
    assert_eq!(w.build("tree").await.lease().map(|lease| lease.attempt), Some(1));
    starts(&w, "tree").await;
    assert_eq!(w.limits().await.refusal(w.system(), w.now()), None);
    w.finish("tree").await;
    assert!(matches!(ask(&w, "tree").await, RequestOutcome::Hit { .. }));
}

#[tokio::test]
async fn where_spot_is_refused_a_task_on_demand_is_started_at_once() {
    let w = World::new();
    w.launcher.spotless.store(true, SeqCst);
    ask(&w, "tree").await;
    ask(&w, "dash").await;
    dispatch(&*w).await.expect("the ledger");
    // One try on Spot was enough for both.
    assert_eq!(w.launcher.asked.load(SeqCst), 3);
    for path in ["tree", "dash"] {
        let build = w.build(path).await;
        let lease = build.lease().expect("it is being built");
        assert!((lease.attempt, lease.is_on_demand()) == (1, true) && build.history.is_empty(), "{build:?}");
        w.finish(path).await;
    }
    // Spot is tried again later.
    w.launcher.spotless.store(false, SeqCst);
    w.pass(Duration::from_secs(15 * 60));
    ask(&w, "less").await;
    dispatch(&*w).await.expect("the ledger");
    assert!(!w.build("less").await.lease().expect("it is being built").is_on_demand());
}

#[tokio::test]
async fn many_starts_at_the_same_time_that_are_refused_are_one_refusal() {
    let w = World::with(Policy { slots: 60, ..Policy::default() });
    *w.launcher.quota.lock().expect("a lock") = Some(4);
    for n in 0..50 {
        ask(&w, &format!("p{n}")).await;
    }
    let next = dispatch(&*w).await.expect("the ledger");
    assert_eq!(w.launcher.started.lock().expect("a lock").len(), 4);
    // Up to eight had no room at that time, neither on Spot nor on demand. The others were not tried.
    assert!((4 + 2 * 2..=4 + 2 * 8).contains(&w.launcher.asked.load(SeqCst)));
    assert_eq!((w.limits().await.taken(), next), (4, Some(w.now() + w.policy().first_delay)));
}

#[tokio::test]
async fn a_spot_task_that_ecs_could_not_start_is_followed_by_one_on_demand_at_once() {
    let w = World::new();
    ask(&w, "tree").await;
    dispatch(&*w).await.expect("the ledger");
    let bearer = w.bearer("tree").await;
    w.ends(&bearer.lease);
    let failure = Failure::new(Kind::NotStarted, "Capacity is unavailable at this time");
    for _ in 0..2 {
        let zero = Some(Duration::ZERO);
        stopped(&*w, &bearer.key, &bearer.lease, failure.clone(), zero).await.expect("the ledger");
    }
    is_untouched(&w, "tree").await;
    dispatch(&*w).await.expect("the ledger");
    let bearer = w.bearer("tree").await;
    assert!(w.build("tree").await.lease().is_some_and(|lease| lease.is_on_demand() && lease.attempt == 1));
    // On demand it is the account's: now it waits.
    w.ends(&bearer.lease);
    stopped(&*w, &bearer.key, &bearer.lease, failure, Some(Duration::ZERO)).await.expect("the ledger");
    assert_eq!(dispatch(&*w).await, Ok(Some(w.now() + w.policy().first_delay)));
    is_untouched(&w, "tree").await;
}

#[tokio::test]
async fn the_refusals_words_are_shown_without_the_accounts_names() {
    let denied = "AccessDeniedException: User: arn:aws:sts::123456789012:assumed-role/x/y is not authorized to perform: \
                  ecs:RunTask";
    let shown = "AccessDeniedException: User: … is not authorized to perform: ecs:RunTask";
    let w = refused(denied).await;
    let told = status(&*w, &target("tree")).await.expect("a build");
    assert_eq!(told.headline(), format!("waits: no builder could be started yet: {shown}"));
    assert_eq!(told.retry_after, w.policy().first_delay.as_secs());
    let service = service(&*w).await.expect("the ledger");
    assert_eq!(service.paused[0].reason, format!("no builder could be started yet: {shown}"));
    let overview = w.carry_out(Order::Overview).await.expect("carried out").overview().expect("an overview");
    assert_eq!(overview.paused[&w.system()].detail.as_deref(), Some(shown));
    // For the operator, the warning has them all.
    // Others may still ask: they wait too.
    assert!(matches!(ask(&w, "dash").await, RequestOutcome::Pending(status) if status.paused.is_some()));
}

#[tokio::test]
async fn refusals_that_last_ring_the_alarm_and_turn_new_requests_away() {
    let w = refused(QUOTA).await;
    let alarms = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let heard = Arc::clone(&alarms);
    w.hear(move |_, signal| {
        if matches!(signal, Signal::Looked(_, Some(Why::Refused))) {
            heard.fetch_add(1, SeqCst);
        }
    });
    let began = w.now();
    while w.now() - began < w.policy().cool_down {
        sweep(&*w).await.expect("the ledger");
        assert_eq!(alarms.load(SeqCst), 0);
        w.pass(Duration::from_secs(60));
        dispatch(&*w).await.expect("the ledger");
    }
    sweep(&*w).await.expect("the ledger");
    assert_eq!(alarms.load(SeqCst), 1);
    let RequestOutcome::Denied(denial) = ask(&w, "dash").await else { panic!("it was queued") };
    assert!(denial.status() == 503 && denial.to_string().contains(QUOTA), "{denial}");
    // If nothing waits, nothing is tried, and the next request finds out.
    w.carry_out(Order::Build { of: target("tree").into(), act: Act::Cancel }).await.expect("carried out");
    refuses(&w, None);
    w.pass(Duration::from_secs(20 * 60));
    ask(&w, "dash").await;
    dispatch(&*w).await.expect("the ledger");
    assert!(w.build("dash").await.lease().is_some());
}

#[tokio::test]
async fn with_a_quota_of_one_task_four_builds_are_built_one_after_the_other() {
    let w = World::with(Policy { slots: 4, ..Policy::default() });
    *w.launcher.quota.lock().expect("a lock") = Some(1);
    let paths = ["a", "b", "c", "d"];
    for path in paths {
        ask(&w, path).await;
        w.pass(Duration::from_millis(1));
    }
    let mut built = Vec::new();
    for n in 1..=paths.len() {
        // A task that has stopped makes room: the next one starts at once.
        dispatch(&*w).await.expect("the ledger");
        let mut running = None;
        for path in paths {
            let build = w.build(path).await;
            assert!(build.history.iter().all(|attempt| attempt.failure.is_none()), "{build:?}");
            running = running.or(build.lease().is_some().then_some(path));
        }
        let running = running.expect("one is being built");
        starts(&w, running).await;
        dispatch(&*w).await.expect("the ledger");
        assert_eq!(w.tasks().len(), 1);
        w.finish(running).await;
        built.push(running);
        assert_eq!(built.len(), n);
    }
    built.sort_unstable();
    assert_eq!(built, paths);
}

#[tokio::test]
async fn a_machine_that_is_larger_than_usual_waits_alone() {
    let w = World::new();
    ask(&w, "tree").await;
    dispatch(&*w).await.expect("the ledger");
    let failure = Failure::new(Kind::OutOfMemory, "");
    let bearer = w.bearer("tree").await;
    stopped(&*w, &bearer.key, &bearer.lease, failure, None).await.expect("the ledger");
    w.ends(&bearer.lease);
    w.pass(w.policy().first_delay);
    refuses(&w, Some(QUOTA));
    dispatch(&*w).await.expect("the ledger");
    let build = w.build("tree").await;
    let State::Queued { due, attempt: 2, .. } = build.state else { panic!("{build:?}") };
    assert_eq!(due, w.now() + REFUSED_MAX);
    let told = status(&*w, &target("tree")).await.expect("a build");
    assert!(told.headline().contains(QUOTA) && told.retry_after == REFUSED_MAX.as_secs(), "{told:?}");
    // The usual size is started.
    refuses(&w, None);
    ask(&w, "dash").await;
    dispatch(&*w).await.expect("the ledger");
    assert!(w.build("dash").await.lease().is_some());
}

#[tokio::test]
async fn a_refusal_between_another_dispatchers_look_and_its_claim_is_kept() {
    let w = World::with(Policy { slots: 4, ..Policy::default() });
    for path in ["tree", "dash"] {
        ask(&w, path).await;
    }
    refuses(&w, Some(QUOTA));
    let other = Arc::clone(&w);
    w.before_next_commit(async move { assert!(dispatch(&*other).await.is_ok()) });
    dispatch(&*w).await.expect("the ledger");
    // The other one tried Spot and then a task on demand; this one's claim met the refusal.
    assert_eq!(w.launcher.asked.load(SeqCst), 2);
    for path in ["tree", "dash"] {
        is_untouched(&w, path).await;
    }
}

#[tokio::test]
async fn a_dispatcher_that_dies_anywhere_in_a_refusal_loses_no_attempt_and_no_slot() {
    for writes in 0.. {
        let w = World::new();
        ask(&w, "tree").await;
        refuses(&w, Some(QUOTA));
        w.die_after(Some(writes));
        let lived = dispatch(&*w).await.is_ok();
        w.die_after(None);
        // The claim's lease may have to end first: the sweep tries to start it, and is refused, or lets it lapse.
        sweep(&*w).await.expect("the ledger");
        w.pass(w.policy().lease);
        sweep(&*w).await.expect("the ledger");
        sweep(&*w).await.expect("the ledger");
        is_untouched(&w, "tree").await;
        refuses(&w, None);
        w.pass(REFUSED_MAX);
        dispatch(&*w).await.expect("the ledger");
        assert!(w.build("tree").await.lease().is_some(), "after {writes} writes");
        if lived {
            break;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// No refusal uses an attempt, however long it lasts: of Spot, of all capacity, by a quota, or of tasks that ECS accepts and
    /// cannot start.
    #[test]
    fn no_sequence_of_refusals_uses_an_attempt(steps in prop::collection::vec((0u8..6, 0u64..400), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let w = World::with(Policy { slots: 2, ..Policy::default() });
            let paths = ["a", "b", "c"];
            for path in paths {
                ask(&w, path).await;
            }
            for (step, seconds) in steps {
                match step {
                    0 => refuses(&w, Some(QUOTA)),
                    1 => refuses(&w, None),
                    2 => w.launcher.spotless.store(seconds % 2 == 0, SeqCst),
                    3 => *w.launcher.quota.lock().expect("a lock") = (seconds % 2 == 0).then_some(1),
                    4 => {
                        for (lease, key) in w.tasks() {
                            w.ends(&lease);
                            let failure = Failure::new(Kind::NotStarted, QUOTA);
                            stopped(&*w, &key, &lease, failure, Some(Duration::ZERO)).await.expect("the ledger");
                        }
                    }
                    _ => assert!(sweep(&*w).await.is_ok()),
                }
                // A lease whose task runs is kept: its builder is alive.
                w.pass(Duration::from_secs(seconds).min(w.policy().lease / 2));
                for (lease, key) in w.tasks() {
                    let build = w.build_of(&key).await;
                    if let Some(held) = build.lease().filter(|held| held.id == lease) {
                        let beat = binplz_core::build::Event::Heartbeat { id: held.id.clone() };
                        binplz_core::flow::advance(&*w, &key, &beat).await.expect("a live lease");
                    }
                }
                dispatch(&*w).await.expect("the ledger");
                for path in paths {
                    let build = w.build(path).await;
                    let first = match &build.state {
                        State::Queued { attempt, .. } => *attempt == 1,
                        State::Building(lease) => lease.attempt == 1,
                        _ => false,
                    };
                    assert!(first && build.history.is_empty(), "{build:?}");
                }
                assert_eq!(w.limits().await.taken(), w.tasks().len());
            }
        });
    }
}
