//! Builds without a task, which wait for what others build.

use std::time::Duration;

use binplz_core::{
    build::{
        State,
        dependency::{OFFERED, PROMISED},
        failure::{Failure, Kind},
        protocol::{Outcome, Report, Stats},
    },
    flow::{
        lease::{
            job::{Denied, heartbeat},
            settle::settle,
        },
        operator::stop,
        request::outcome::RequestOutcome,
        schedule::sweep::sweep,
    },
    ports::Deployment,
};
use binplz_tests::world::ask;

use super::{after_dispatch, building, built, drv, evaluated, makes, said, turn, waits, world};

#[tokio::test]
async fn a_build_that_can_only_wait_frees_its_slot_uses_no_attempt_and_goes_on_when_it_is_made() {
    let w = world(2);
    let (a, b) = (building(&w, 1, &[1]).await, building(&w, 2, &[1]).await);
    turn(&w, &a, &[1]).await;
    let claimed = w.build("p2").await.lease().expect("a lease").claimed;
    // It was requested after p2.
    w.pass(Duration::from_secs(1));
    ask(&w, "p3").await;
    assert_eq!(after_dispatch(&w, &[1, 2, 3]).await, "builds builds queued");
    waits(&w, &b, &[(1, &[]), (102, &[0])]).await;
    // The slot is free at once. A second report changes nothing.
    assert_eq!(after_dispatch(&w, &[1, 2, 3]).await, "builds waits builds");
    let RequestOutcome::Pending(status) = ask(&w, "p2").await else { panic!("it is under way") };
    assert_eq!((status.state, status.attempt), ("building", 1));
    let sentence = status.waits_for.map(|waits_for| waits_for.sentence());
    assert_eq!(sentence.as_deref(), Some("waits for d1-1.0, which p1 builds"));
    assert_eq!(turn_of_the_past(&w, &b).await, Denied::NotLive);
    makes(&w, &a, 1).await;
    assert_eq!(after_dispatch(&w, &[1, 2, 3]).await, "builds queued builds");
    let State::Queued { due, attempt, .. } = w.build("p2").await.state else { panic!("it is queued") };
    assert_eq!((due, attempt), (claimed, 1), "its old place in the queue");
    w.finish("p1").await;
    assert_eq!(after_dispatch(&w, &[2, 3]).await, "builds builds");
    assert_eq!(w.build("p2").await.lease().expect("a lease").attempt, 1);
    let b = evaluated(&w, 2, &[]).await;
    assert_eq!(said(&turn(&w, &b, &[102]).await), "builds 102, fetches , held ");
    w.finish("p2").await;
    assert_eq!(after_dispatch(&w, &[2]).await, "ready");
}

async fn turn_of_the_past(
    w: &std::sync::Arc<binplz_tests::world::World>,
    bearer: &binplz_core::flow::lease::job::Bearer,
) -> Denied {
    heartbeat(&**w, bearer, &Default::default()).await.expect_err("its lease is over")
}

#[tokio::test]
async fn of_many_that_wait_for_one_derivation_one_goes_on_when_it_has_to_be_built() {
    let w = world(9);
    let a = building(&w, 1, &[1, 2]).await;
    turn(&w, &a, &[1]).await;
    let plan: &[(usize, &[usize])] = &[(1, &[]), (2, &[0])];
    for package in 2..6 {
        let bearer = building(&w, package, &[1, 2]).await;
        w.pass(Duration::from_secs(1));
        waits(&w, &bearer, plan).await;
    }
    assert_eq!(after_dispatch(&w, &[2, 3, 4, 5]).await, "waits waits waits waits");
    // The holder goes on with the next one: there is nothing to do for others.
    makes(&w, &a, 1).await;
    turn(&w, &a, &[2]).await;
    assert_eq!(after_dispatch(&w, &[2, 3, 4, 5]).await, "waits waits waits waits");
    // The holder is gone: the one that has waited longest builds it.
    stop::cancel(&*w, &a.key).await.expect("it is under way");
    for _ in 0..3 {
        assert_eq!(after_dispatch(&w, &[2, 3, 4, 5]).await, "builds waits waits waits");
    }
    let b = evaluated(&w, 2, &[2]).await;
    assert_eq!(said(&turn(&w, &b, &[2]).await), "builds 2, fetches , held ");
    assert_eq!(after_dispatch(&w, &[3, 4, 5]).await, "waits waits waits");
    makes(&w, &b, 2).await;
    // All that they know of is made.
    assert_eq!(after_dispatch(&w, &[3, 4, 5]).await, "builds builds builds");
}

#[tokio::test]
async fn tasks_that_each_hold_what_the_next_one_waits_for_end_and_all_of_their_builds_go_on() {
    for tasks in [2, 3, 5] {
        let w = world(tasks);
        let all: Vec<usize> = (1..=tasks).collect();
        let next = |one: usize| one % tasks + 1;
        let mut bearers = Vec::new();
        for one in &all {
            bearers.push(building(&w, *one, &all).await);
        }
        for (one, bearer) in all.iter().zip(&bearers) {
            assert_eq!(said(&turn(&w, bearer, &[*one]).await), format!("builds {one}, fetches , held "));
        }
        // Each waits for what the next one holds. A task that waits for the next one's answer still holds its own.
        for (one, bearer) in all.iter().zip(&bearers) {
            let next = next(*one);
            assert_eq!(said(&turn(&w, bearer, &[next]).await), format!("builds , fetches , held {next} soon"));
        }
        // A build that waits holds nothing: the last one to ask finds the first one's.
        for (one, bearer) in all.iter().zip(&bearers).take(tasks - 1) {
            waits(&w, bearer, &[(next(*one), &[])]).await;
        }
        let last = &bearers[tasks - 1];
        assert_eq!(said(&turn(&w, last, &[1]).await), "builds 1, fetches , held ");
        // Also if it does not ask again.
        waits(&w, last, &[(1, &[])]).await;
        let builds = vec!["builds"; tasks].join(" ");
        assert_eq!(after_dispatch(&w, &all).await, builds);
        for one in &all {
            let bearer = evaluated(&w, *one, &all).await;
            assert_eq!(
                said(&turn(&w, &bearer, &[next(*one)]).await),
                format!("builds {}, fetches , held ", next(*one))
            );
        }
    }
}

#[tokio::test]
async fn a_promise_holds_until_its_build_has_begun_is_gone_or_has_not_begun_for_long() {
    // There is one slot, which p9 has.
    for how in ["taken", "cancelled", "old"] {
        let w = world(3);
        let a = building(&w, 1, &[1]).await;
        turn(&w, &a, &[1]).await;
        for package in [2, 3] {
            let bearer = building(&w, package, &[1]).await;
            w.pass(Duration::from_secs(1));
            waits(&w, &bearer, &[(1, &[])]).await;
        }
        let (c, _) = (building(&w, 8, &[1]).await, building(&w, 9, &[]).await);
        stop::pause(&*w, true).await.expect("the ledger");
        stop::cancel(&*w, &a.key).await.expect("it is under way");
        assert_eq!(after_dispatch(&w, &[2, 3]).await, "queued waits");
        match how {
            // A running task need not wait for one that has not started.
            "taken" => {
                assert_eq!(said(&turn(&w, &c, &[1]).await), "builds 1, fetches , held ");
                assert_eq!(after_dispatch(&w, &[2, 3]).await, "queued waits");
            }
            "cancelled" => {
                stop::cancel(&*w, &w.key("p2").await).await.expect("it is under way");
                assert_eq!(after_dispatch(&w, &[3]).await, "queued");
            }
            _ => {
                w.pass(PROMISED);
                assert_eq!(after_dispatch(&w, &[3]).await, "queued");
            }
        }
    }
}

#[tokio::test]
async fn a_task_leaves_to_a_build_that_has_started_what_was_promised_to_it() {
    let w = world(9);
    let (a, b) = (building(&w, 1, &[1]).await, building(&w, 2, &[1]).await);
    turn(&w, &a, &[1]).await;
    waits(&w, &b, &[(1, &[])]).await;
    stop::cancel(&*w, &a.key).await.expect("it is under way");
    assert_eq!(after_dispatch(&w, &[2]).await, "builds");
    let c = building(&w, 3, &[1]).await;
    assert_eq!(said(&turn(&w, &c, &[1]).await), "builds , fetches , held 1");
    let b = evaluated(&w, 2, &[1]).await;
    assert_eq!(said(&turn(&w, &b, &[1]).await), "builds 1, fetches , held ");
}

#[tokio::test]
async fn a_holder_that_dies_lies_or_fails_wakes_one_that_waits() {
    for how in ["dies", "lies", "fails"] {
        let w = world(9);
        let (a, b) = (building(&w, 1, &[1]).await, building(&w, 2, &[1]).await);
        turn(&w, &a, &[1]).await;
        waits(&w, &b, &[(1, &[]), (102, &[0])]).await;
        match how {
            "dies" => w.pass(w.policy().lease),
            "lies" => {
                built(&w, &a, 1, true).await;
                w.finish("p1").await;
                w.pass(OFFERED - Duration::from_millis(1));
                assert_eq!(after_dispatch(&w, &[2]).await, "waits");
                w.pass(Duration::from_millis(1));
            }
            _ => {
                let failure = Failure { drv: Some(drv(1)), ..Failure::new(Kind::BuildFailed, "why") };
                let report = Report { outcome: Outcome::Failed(failure), stats: Stats::default(), materials: None };
                settle(&*w, &a, report).await.expect("a live lease");
            }
        }
        sweep(&*w).await.expect("the ledger");
        assert_eq!(after_dispatch(&w, &[2]).await, "builds", "{how}");
        let b = evaluated(&w, 2, &[1]).await;
        assert_eq!(said(&turn(&w, &b, &[1]).await), "builds 1, fetches , held ", "{how}");
    }
}

#[tokio::test]
async fn a_waiting_build_is_cancelled_like_a_queued_one_and_a_pause_leaves_it_alone() {
    let w = world(9);
    let (a, b) = (building(&w, 1, &[1]).await, building(&w, 2, &[1]).await);
    turn(&w, &a, &[1]).await;
    waits(&w, &b, &[(1, &[])]).await;
    stop::pause(&*w, false).await.expect("the ledger");
    // p1 has returned to the queue, and holds nothing.
    assert_eq!(after_dispatch(&w, &[1, 2]).await, "queued queued");
    stop::resume(&*w).await.expect("the ledger");
    assert_eq!(after_dispatch(&w, &[1, 2]).await, "builds builds");
    let b = evaluated(&w, 2, &[1]).await;
    turn(&w, &b, &[1]).await;
    let a = evaluated(&w, 1, &[1]).await;
    waits(&w, &a, &[(1, &[])]).await;
    stop::cancel(&*w, &a.key).await.expect("it is under way");
    makes(&w, &b, 1).await;
    assert_eq!(after_dispatch(&w, &[1]).await, "else");
}

#[tokio::test]
async fn what_is_no_plan_is_refused() {
    let w = world(9);
    let a = building(&w, 1, &[1]).await;
    let planned = |needs: Vec<usize>| binplz_core::build::waiting::Planned { drv: drv(1), name: String::new(), needs };
    for (plan, first) in [(vec![], 0), (vec![planned(vec![0])], 0), (vec![planned(vec![])], 1)] {
        let report = Report { outcome: Outcome::Waits { plan, first }, stats: Stats::default(), materials: None };
        assert_eq!(settle(&*w, &a, report).await, Err(Denied::Nonsense("the plan is malformed")));
    }
}
