//! Failures, each remembered as what it is: what only an operator can mend pauses builds, a dependency that fails is not built by all
//! that need it, and a warmed build waits behind requested ones.

use std::{sync::Arc, time::Duration};

use binplz_core::{
    answer::{outcomes::Reason, problem::Problem},
    build::{
        Build, State, failed_dependencies,
        failure::{Class, Failure, Kind},
        policy::Policy,
        protocol::{Evaluated, LOG_SEGMENT_MAX, Outcome, Report, Stats, Turn, Upload},
    },
    flow::{
        lease::{
            claim::claim,
            job::{Denied, uploads},
            settle::settle,
        },
        operator::orders::{Act, Operator, Order, Outcome as Carried},
        request::{outcome::RequestOutcome, status::status},
        schedule::{dispatch::dispatch, sweep::sweep},
    },
    id::key::DrvHash,
    objects::artifact::ObjectName,
    ports::Deployment,
    quota::limits::Why,
};
use binplz_tests::world::{World, ask, building, evaluated, target};

async fn fail(w: &Arc<World>, path: &str, failure: Failure) -> Build {
    let report = Report { outcome: Outcome::Failed(failure), stats: Stats::default(), materials: None };
    settle(&**w, &w.bearer(path).await, report).await.expect("a live lease");
    w.reap().await;
    w.build(path).await
}

async fn act(w: &Arc<World>, path: &str, act: Act) {
    w.carry_out(Order::Build { of: target(path).into(), act }).await.expect("it is carried out");
}

fn with_slots(slots: usize) -> Arc<World> {
    World::with(Policy { slots, ..Policy::default() })
}

/// The failures that only an operator can fix and that a builder can report.
fn of_operator() -> impl Iterator<Item = Kind> {
    Kind::ALL.into_iter().filter(|kind| kind.class() == Class::Operator && !kind.is_of_no_builder())
}

/// These packages, each with a derivation of its own, run into a failure that only an operator can fix.
async fn run_into(w: &Arc<World>, kind: Kind, paths: &[&str]) {
    for (n, path) in (10..).zip(paths) {
        building(w, &[path]).await;
        assert_eq!(turn(w, path, n).await, Turn::Go);
        fail(w, path, Failure::new(kind, "")).await;
    }
}

#[tokio::test]
async fn what_the_deployment_has_no_machine_for_is_no_failure_for_good_and_is_tried_again_later() {
    let w = with_slots(1);
    building(&w, &["tree"]).await;
    assert_eq!(turn(&w, "tree", 1).await, Turn::Go);
    fail(&w, "tree", Failure::new(Kind::NoMachine, "it needs a machine for aarch64-linux")).await;
    let RequestOutcome::Denied(denial) = ask(&w, "tree").await else { panic!("it is there") };
    let problem = Problem::from(&denial);
    assert_eq!((problem.reason, problem.retry_after), (Reason::CoolingDown, Some(900)));
    assert!(problem.sentence.contains("it needs a machine for aarch64-linux; try again in"), "{problem:?}");
    assert!(w.limits().await.paused(w.system()).is_none(), "others are built");
    // There is one by now.
    w.pass(Duration::from_secs(900));
    building(&w, &["tree"]).await;
    w.finish("tree").await;
    assert!(matches!(ask(&w, "tree").await, RequestOutcome::Hit { .. }));
}

#[tokio::test]
async fn what_one_package_runs_into_delays_that_package_alone() {
    for kind in of_operator() {
        let w = with_slots(1);
        for n in 1..=Policy::default().attempts {
            building(&w, &["tree"]).await;
            assert_eq!(turn(&w, "tree", 10 + n).await, Turn::Go);
            let build = fail(&w, "tree", Failure::new(kind, "")).await;
            assert_eq!(w.limits().await.paused(w.system()), None);
            // Others are built meanwhile, and the package is tried again later and later, then on request only.
            building(&w, &["dash"]).await;
            act(&w, "dash", Act::Cancel).await;
            w.reap().await;
            match build.state {
                State::Queued { due, attempt: 1, .. } if n < 3 => assert_eq!(due - w.now(), w.policy().delay_after(n)),
                State::Failed { until: Some(_), .. } if n == 3 => {}
                other => panic!("{n}: {other:?}"),
            }
            w.pass(w.policy().cool_down);
        }
        // The same package of another nixpkgs is no other witness.
        for (n, digit) in (20..).zip(['b', 'c', 'd']) {
            w.move_pin(digit).await;
            building(&w, &["tree"]).await;
            assert_eq!(turn(&w, "tree", n).await, Turn::Go);
            fail(&w, "tree", Failure::new(kind, "")).await;
            assert_eq!(w.limits().await.paused(w.system()), None);
        }
    }
}

#[tokio::test]
async fn what_several_unrelated_packages_run_into_pauses_builds_and_no_package_is_blamed() {
    // An old Nix fails the builds of one nixpkgs, and pauses nothing.
    let pausing = of_operator().filter_map(|kind| Some((kind, Why::after(kind)?)));
    for (kind, why) in pausing {
        let w = with_slots(1);
        run_into(&w, kind, &["tree", "dash", "less"]).await;
        // No request and no look starts anything more, and answers say so.
        w.pass(w.policy().cool_down);
        sweep(&*w).await.expect("the ledger");
        dispatch(&*w).await.expect("the ledger");
        assert_eq!(w.limits().await.taken(), 0);
        let RequestOutcome::Denied(denial) = ask(&w, "ed").await else { panic!("it was queued") };
        let problem = Problem::from(&denial);
        assert!(problem.reason.status() == 503 && problem.sentence.contains(why.sentence()), "{problem:?}");
        let waiting = status(&*w, &target("tree")).await.expect("a build");
        assert_eq!(waiting.headline(), format!("waits: {}", why.sentence()));

        // It is fixed. Those that ran into it come last, whenever others were requested.
        w.carry_out(Order::Resume).await.expect("it is carried out");
        ask(&w, "ed").await;
        act(&w, "sed", Act::Warm).await;
        for path in ["ed", "sed", "dash", "less", "tree"] {
            dispatch(&*w).await.expect("the ledger");
            assert!(w.build(path).await.lease().is_some(), "{path}");
            w.finish(path).await;
            assert!(matches!(ask(&w, path).await, RequestOutcome::Hit { .. }), "{path}");
        }
    }
}

#[tokio::test]
async fn a_package_that_still_fails_after_a_resumption_pauses_nothing_again() {
    let w = with_slots(1);
    run_into(&w, Kind::Sandbox, &["tree", "dash", "less"]).await;
    w.carry_out(Order::Resume).await.expect("it is carried out");
    w.pass(w.policy().first_delay);
    dispatch(&*w).await.expect("the ledger");
    assert_eq!(turn(&w, "dash", 11).await, Turn::Go);
    fail(&w, "dash", Failure::new(Kind::Sandbox, "")).await;
    assert_eq!(w.limits().await.paused(w.system()), None);
}

#[tokio::test]
async fn a_builder_can_not_report_what_only_the_service_can_know() {
    for kind in Kind::ALL.into_iter().filter(|kind| kind.is_of_no_builder()) {
        let w = with_slots(1);
        building(&w, &["tree"]).await;
        let report =
            Report { outcome: Outcome::Failed(Failure::new(kind, "")), stats: Stats::default(), materials: None };
        let denied = settle(&*w, &w.bearer("tree").await, report).await;
        assert!(matches!(denied, Err(Denied::Nonsense(_))), "{denied:?}");
        assert_eq!(w.limits().await.paused(w.system()), None);
    }
}

fn drv(n: u32) -> DrvHash {
    format!("{n:032}").parse().expect("base 32")
}

/// A dependency's failure, as a builder tells it.
fn by_dependency() -> Failure {
    let failure = Failure::new(Kind::BuildFailed, "x.c:1: error").with_lines(["cc x.c", "x.c:1: error"].iter());
    Failure { derivation: Some("zlib-1.3".to_owned()), drv: Some(drv(0)), ..failure }
}

/// The builder of a target has evaluated, and would build a package and the dependency.
async fn turn(w: &Arc<World>, path: &str, n: u32) -> Turn {
    let drv_path = format!("/nix/store/{}-x-1.0.drv", drv(n));
    let found = Evaluated { to_build: vec![drv(0), drv(n)], ..evaluated(drv_path) };
    let turn = claim(&**w, &w.bearer(path).await, found).await.expect("a live lease");
    w.reap().await;
    turn
}

#[tokio::test]
async fn a_hundred_packages_that_need_a_dependency_that_fails_build_it_twice() {
    let w = with_slots(1);
    let mut realised = Vec::new();
    for n in 1..=100 {
        let path = format!("p{n}");
        building(&w, &[&path]).await;
        if turn(&w, &path, n).await == Turn::Go {
            realised.push(n);
            fail(&w, &path, by_dependency()).await;
        }
        let build = w.build(&path).await;
        // Each is told of the dependency's failure, and of a log that shows it.
        assert!(matches!(&build.state, State::Failed { failure, until: None, .. } if *failure == by_dependency()));
        let told = status(&*w, &target(&path)).await.expect("a build");
        let first = w.build("p1").await.history[0].lease.clone();
        let log = if n <= 2 { build.history[0].lease.clone() } else { first };
        assert_eq!(told.lease, Some(log), "{path}");
        assert_eq!(w.limits().await.taken(), 0);
    }
    assert_eq!(realised, [1, 2]);

    // An operator has it tried again: it is, by the next one and by all who come until it has failed twice again.
    act(&w, "p50", Act::Retry).await;
    dispatch(&*w).await.expect("the ledger");
    assert_eq!(turn(&w, "p50", 50).await, Turn::Go);
    w.finish("p50").await;
    act(&w, "p51", Act::Retry).await;
    dispatch(&*w).await.expect("the ledger");
    assert_eq!(turn(&w, "p51", 51).await, Turn::Go);
}

#[tokio::test]
async fn one_package_alone_convicts_no_dependency() {
    let w = with_slots(1);
    building(&w, &["tree"]).await;
    assert_eq!(turn(&w, "tree", 1).await, Turn::Go);
    fail(&w, "tree", by_dependency()).await;
    for n in 2..5 {
        // The same package of another nixpkgs, or tried again, is no other witness.
        w.move_pin(char::from_digit(n, 16).expect("a digit")).await;
        building(&w, &["tree"]).await;
        assert_eq!(turn(&w, "tree", n).await, Turn::Go, "{n}");
        fail(&w, "tree", by_dependency()).await;
    }
}

/// Two packages have hit the dependency; a third one that needs it fails without a try.
async fn convicted(w: &Arc<World>) {
    for (n, path) in [(1, "p1"), (2, "p2")] {
        building(w, &[path]).await;
        assert_eq!(turn(w, path, n).await, Turn::Go);
        fail(w, path, by_dependency()).await;
    }
    building(w, &["p3"]).await;
    assert_eq!(turn(w, "p3", 3).await, Turn::Elsewhere);
}

#[tokio::test]
async fn a_dependency_that_fails_and_the_builds_that_it_ended_are_tried_again_after_a_week() {
    let w = with_slots(1);
    convicted(&w).await;
    w.pass(failed_dependencies::LIFE);
    // The one that was never built begins with the next request; the one that was built and failed does not.
    for path in ["p3", "p1"] {
        ask(&w, path).await;
    }
    dispatch(&*w).await.expect("the ledger");
    assert_eq!(turn(&w, "p3", 3).await, Turn::Go);
    assert!(matches!(w.build("p1").await.state, State::Failed { .. }));
    assert_eq!(w.carry_out(Order::FailedDependencies).await, Ok(Carried::FailedDependencies(vec![])));
}

#[tokio::test]
async fn an_operator_clears_one_dependency_and_no_other() {
    let w = with_slots(1);
    convicted(&w).await;
    let listed = w.carry_out(Order::FailedDependencies).await.expect("listed").failed_dependencies().expect("a list");
    let [one] = listed.as_slice() else { panic!("{listed:?}") };
    assert_eq!((&one.drv, one.counts, one.packages.len(), &one.failure), (&drv(0), true, 2, &by_dependency()));
    let strange = w.carry_out(Order::ClearDependency(drv(9))).await.expect_err("it is not remembered");
    assert!(strange.to_string().contains("is not a failed dependency"), "{strange}");
    assert_eq!(w.carry_out(Order::ClearDependency(drv(0))).await, Ok(Carried::FailedDependencies(vec![])));
    building(&w, &["p4"]).await;
    assert_eq!(turn(&w, "p4", 4).await, Turn::Go);
}

#[tokio::test]
async fn a_passing_failure_of_a_dependency_convicts_nobody() {
    let w = with_slots(1);
    for (n, path) in (1..).zip(["a", "b", "c"]) {
        building(&w, &[path]).await;
        assert_eq!(turn(&w, path, n).await, Turn::Go);
        fail(&w, path, Failure { kind: Kind::SourceUnavailable, ..by_dependency() }).await;
    }
}

#[tokio::test]
async fn what_somebody_waits_for_goes_before_what_is_warmed() {
    let w = with_slots(1);
    for path in ["warm1", "warm2", "warm3"] {
        act(&w, path, Act::Warm).await;
        w.pass(Duration::from_secs(1));
    }
    building(&w, &["asked1"]).await;
    ask(&w, "asked2").await;
    // One of those is requested after all: it has waited for the longest.
    ask(&w, "warm3").await;
    let mut order = vec!["asked1"];
    for _ in 0..4 {
        w.finish(order[order.len() - 1]).await;
        dispatch(&*w).await.expect("the ledger");
        for path in ["asked2", "warm1", "warm2", "warm3"] {
            if w.build(path).await.lease().is_some() {
                order.push(path);
            }
        }
    }
    assert_eq!(order, ["asked1", "warm3", "asked2", "warm1", "warm2"]);
}

#[tokio::test]
async fn how_long_a_build_takes_is_learnt_from_the_same_package_and_from_like_ones() {
    let w = with_slots(1);
    let estimate = async |path: &str| status(&*w, &target(path)).await.expect("a build").estimate_seconds;
    // Of the very first one nothing is known.
    building(&w, &["tree"]).await;
    assert_eq!(estimate("tree").await, None);
    w.pass(Duration::from_secs(50));
    w.finish("tree").await;
    // Another one is expected to take as long; in the queue it waits for the one before it, too.
    building(&w, &["dash"]).await;
    ask(&w, "ed").await;
    assert_eq!((estimate("dash").await, estimate("ed").await), (Some(50), Some(50)));
    w.pass(Duration::from_secs(20));
    assert_eq!(estimate("dash").await, Some(30));
    w.pass(Duration::from_secs(31));
    assert_eq!(estimate("dash").await, None, "the estimate is gone");
    w.finish("dash").await;
    // The same package of a newer nixpkgs takes as long as the last one.
    w.move_pin('b').await;
    act(&w, "ed", Act::Cancel).await;
    building(&w, &["dash"]).await;
    assert_eq!(estimate("dash").await, Some(51));
    // dash was expected to take 50 seconds, and took 51: halfway, 25 of its 25.5 were said to be left. Of tree nothing was expected.
    assert_eq!(w.limits().await.errors().map(|errors| (errors.estimate, errors.status)), Some((1, 0)));
}

#[tokio::test]
async fn a_package_that_is_mended_upstream_is_built_when_its_pin_moves_and_one_that_is_not_is_known_to_fail() {
    let w = with_slots(2);
    for (n, path) in [(1, "mended"), (2, "unchanged")] {
        building(&w, &[path]).await;
        assert_eq!(turn(&w, path, n).await, Turn::Go);
        fail(&w, path, Failure::new(Kind::TestFailed, "FAIL: two")).await;
        assert!(matches!(ask(&w, path).await, RequestOutcome::Denied(denial) if denial.status() == 422), "{path}");
    }
    w.move_pin('b').await;
    for (n, path, expected) in [(3, "mended", Turn::Go), (2, "unchanged", Turn::Elsewhere)] {
        // It was not evaluated yet.
        building(&w, &[path]).await;
        assert_eq!(turn(&w, path, n).await, expected, "{path}");
    }
    w.finish("mended").await;
    assert!(matches!(ask(&w, "mended").await, RequestOutcome::Hit { .. }));
    assert!(matches!(ask(&w, "unchanged").await, RequestOutcome::Denied(denial) if denial.status() == 422));
}

#[tokio::test]
async fn the_segments_of_one_leases_log_have_a_limit_together() {
    let w = with_slots(1);
    building(&w, &["tree"]).await;
    let bearer = w.bearer("tree").await;
    let segment = |number: u64, size| Upload {
        name: ObjectName::Log(number.try_into().expect("a number")),
        size,
        sha256: "0".repeat(64).parse().expect("a sha256"),
    };
    let last = w.policy().job.log_segments();
    let granted = async |upload| uploads(&*w, &bearer, &[upload]).await.is_ok();
    assert!(granted(segment(last, LOG_SEGMENT_MAX)).await);
    assert!(!granted(segment(last + 1, 1)).await && !granted(segment(1, LOG_SEGMENT_MAX + 1)).await);
    // Far below what the attempt reserves for its programs.
    assert!(last * LOG_SEGMENT_MAX < w.policy().job.package_bytes / 2);
}
