//! Who builds a dependency, of tasks that run at the same time.

use std::{sync::Arc, time::Duration};

use binplz_core::{
    build::{
        dependency::OFFERED,
        failure::{Failure, Kind},
        protocol::{DependencyRequest, Evaluated, Outcome, Ready, Report, Stats, Turn},
    },
    flow::{
        lease::{
            claim::claim,
            dependencies::dependencies,
            job::{Denied, heartbeat},
            settle::{settle, stopped},
        },
        operator::stop,
        schedule::sweep::sweep,
    },
    ports::Deployment,
};

use super::{building, built, drv, makes, said, turn, world};

#[tokio::test]
async fn of_two_tasks_with_one_plan_one_builds_each_dependency_and_the_other_fetches_it() {
    let w = world(9);
    let (a, b) = (building(&w, 1, &[1, 2]).await, building(&w, 2, &[1, 2]).await);
    assert_eq!(said(&turn(&w, &a, &[1, 2]).await), "builds 1, fetches , held ");
    assert_eq!(said(&turn(&w, &b, &[1, 2]).await), "builds 2, fetches , held 1 soon");
    // A reply that was lost.
    assert_eq!(said(&turn(&w, &a, &[1, 2]).await), "builds 1, fetches , held ");
    makes(&w, &a, 1).await;
    assert_eq!(said(&turn(&w, &b, &[1]).await), "builds , fetches 1, held ");
    assert_eq!(said(&turn(&w, &a, &[2]).await), "builds , fetches , held 2 soon");
    makes(&w, &b, 2).await;
    assert_eq!(said(&turn(&w, &a, &[2]).await), "builds , fetches 2, held ");
}

#[tokio::test]
async fn of_two_that_ask_at_once_one_builds_it() {
    let w = world(9);
    let (a, b) = (building(&w, 1, &[1]).await, building(&w, 2, &[1]).await);
    let (other, quicker) = (Arc::clone(&w), b.clone());
    // Both have seen that no task has it.
    w.before_next_commit(async move {
        assert_eq!(said(&turn(&other, &quicker, &[1]).await), "builds 1, fetches , held ");
    });
    assert_eq!(said(&turn(&w, &a, &[1]).await), "builds , fetches , held 1 soon");
    // The reply of a commit is lost.
    let c = building(&w, 3, &[2]).await;
    w.lose_replies(1);
    assert_eq!(said(&turn(&w, &c, &[2]).await), "builds 2, fetches , held ");
}

#[tokio::test]
async fn what_has_taken_long_is_not_worth_a_task_that_waits() {
    let w = world(9);
    let (a, b) = (building(&w, 1, &[1]).await, building(&w, 2, &[1]).await);
    turn(&w, &a, &[1]).await;
    assert_eq!(said(&turn(&w, &b, &[1]).await), "builds , fetches , held 1 soon");
    w.pass(Duration::from_secs(30));
    assert_eq!(said(&turn(&w, &b, &[1]).await), "builds , fetches , held 1");
    // On its way into the cache.
    built(&w, &a, 1, true).await;
    assert_eq!(said(&turn(&w, &b, &[1]).await), "builds , fetches , held 1 soon");
}

#[tokio::test]
async fn a_holder_that_dies_is_cancelled_or_paused_or_fails_holds_nothing_any_more() {
    for how in ["dies", "stops", "cancelled", "paused", "fails"] {
        let w = world(9);
        let (a, b) = (building(&w, 1, &[1]).await, building(&w, 2, &[1]).await);
        turn(&w, &a, &[1]).await;
        match how {
            "dies" => {
                w.pass(w.policy().lease / 2);
                heartbeat(&*w, &b, &Default::default()).await.expect("a live lease");
                w.pass(w.policy().lease / 2);
            }
            "stops" => {
                stopped(&*w, &a.key, &a.lease, Failure::new(Kind::Killed, ""), None)
                    .await
                    .map(drop)
                    .expect("the ledger");
            }
            "cancelled" => stop::cancel(&*w, &a.key).await.expect("it is under way"),
            "paused" => {
                stop::pause(&*w, true).await.expect("the ledger");
                assert_eq!(said(&turn(&w, &b, &[1]).await), "builds , fetches , held 1 soon", "it may finish");
                stop::cancel(&*w, &a.key).await.expect("it is under way");
            }
            _ => {
                let outcome = Outcome::Failed(Failure::new(Kind::BuildFailed, "why"));
                settle(&*w, &a, Report { outcome, stats: Stats::default(), materials: None })
                    .await
                    .expect("a live lease");
            }
        }
        assert_eq!(said(&turn(&w, &b, &[1]).await), "builds 1, fetches , held ", "{how}");
        let late = DependencyRequest { most: 1, ..DependencyRequest::default() };
        assert_eq!(dependencies(&*w, &a, late).await, Err(Denied::NotLive), "{how}");
    }
}

#[tokio::test]
async fn a_holder_that_is_slow_holds_it_as_long_as_it_says_that_it_lives() {
    let w = world(9);
    let (a, b) = (building(&w, 1, &[1]).await, building(&w, 2, &[1]).await);
    turn(&w, &a, &[1]).await;
    for _ in 0..200 {
        w.pass(w.policy().lease / 2);
        heartbeat(&*w, &a, &Default::default()).await.expect("a live lease");
        heartbeat(&*w, &b, &Default::default()).await.expect("a live lease");
        sweep(&*w).await.expect("the ledger");
        assert_eq!(said(&turn(&w, &b, &[1]).await), "builds , fetches , held 1");
    }
}

#[tokio::test]
async fn a_holder_that_lies_delays_others_by_some_minutes() {
    let w = world(9);
    let (a, b) = (building(&w, 1, &[1]).await, building(&w, 2, &[1]).await);
    turn(&w, &a, &[1]).await;
    // It has offered nothing.
    built(&w, &a, 1, true).await;
    w.pass(OFFERED - Duration::from_millis(1));
    for bearer in [&a, &b] {
        // Their leases are not what this is about.
        binplz_core::flow::advance(&*w, &bearer.key, &binplz_core::build::Event::Lapse).await.expect("the ledger");
    }
    w.reap().await;
    let c = building(&w, 3, &[1]).await;
    assert_eq!(said(&turn(&w, &c, &[1]).await), "builds , fetches , held 1 soon");
    w.pass(Duration::from_millis(1));
    assert_eq!(said(&turn(&w, &c, &[1]).await), "builds 1, fetches , held ");
    // It says that it is not to be had, or speaks of what another one has.
    built(&w, &c, 1, false).await;
    let d = building(&w, 4, &[1]).await;
    assert_eq!(said(&turn(&w, &d, &[1]).await), "builds 1, fetches , held ");
    built(&w, &c, 1, true).await;
    assert_eq!(said(&turn(&w, &c, &[1]).await), "builds , fetches , held 1 soon");
}

#[tokio::test]
async fn what_no_cache_has_although_it_was_made_is_built_again_and_once() {
    let w = world(9);
    let (a, b, c) = (building(&w, 1, &[1]).await, building(&w, 2, &[1]).await, building(&w, 3, &[1]).await);
    turn(&w, &a, &[1]).await;
    makes(&w, &a, 1).await;
    let ready = vec![Ready { drv: drv(1), name: "d1-1.0".to_owned(), missing: true }];
    let request = DependencyRequest { ready, most: 1, built: vec![] };
    assert_eq!(said(&dependencies(&*w, &b, request.clone()).await.expect("a lease")), "builds 1, fetches , held ");
    assert_eq!(said(&dependencies(&*w, &c, request).await.expect("a lease")), "builds , fetches , held 1 soon");
}

#[tokio::test]
async fn a_clock_that_is_a_minute_behind_takes_nothing_from_a_holder() {
    let w = world(9);
    let (a, b) = (building(&w, 1, &[1, 2]).await, building(&w, 2, &[1, 2]).await);
    let minute = Duration::from_secs(60);
    w.is_behind(minute);
    turn(&w, &a, &[1]).await;
    assert_eq!(said(&turn(&w, &b, &[1]).await), "builds , fetches , held 1 soon");
    built(&w, &a, 1, true).await;
    w.is_behind(minute);
    assert_eq!(said(&turn(&w, &b, &[1]).await), "builds , fetches , held 1 soon");
    w.pass(2 * minute);
    assert_eq!(said(&turn(&w, &b, &[1]).await), "builds , fetches , held 1 soon");
}

#[tokio::test]
async fn a_package_is_not_built_while_another_task_builds_it_as_a_dependency_and_the_reverse() {
    let w = world(9);
    let a = building(&w, 1, &[1]).await;
    // p2 is a dependency of p1.
    assert_eq!(said(&turn(&w, &a, &[102]).await), "builds 102, fetches , held ");
    binplz_tests::world::ask(&w, "p2").await;
    binplz_core::flow::schedule::dispatch::dispatch(&*w).await.expect("the ledger");
    let b = w.bearer("p2").await;
    let drv_path = || format!("/nix/store/{}-p2.drv", drv(102));
    let found = |asks| Evaluated { asks, ..binplz_tests::world::evaluated(drv_path()) };
    // A builder of an earlier version does not ask.
    assert_eq!(claim(&*w, &b, found(false)).await, Ok(Turn::Go));
    assert_eq!(claim(&*w, &b, found(true)).await, Ok(Turn::Ask));
    assert_eq!(said(&turn(&w, &b, &[102]).await), "builds , fetches , held 102 soon");
    // p3 holds its own derivation from the start, and offers it if another build needs it.
    let c = building(&w, 3, &[]).await;
    let wanted = async || dependencies(&*w, &c, DependencyRequest::default()).await.expect("a live lease").wanted;
    assert!(!wanted().await);
    assert_eq!(said(&turn(&w, &a, &[103]).await), "builds , fetches , held 103 soon");
    assert!(wanted().await);
}

#[tokio::test]
async fn a_token_claims_dependencies_for_its_own_package_only() {
    let w = world(9);
    let (a, b) = (building(&w, 1, &[1]).await, building(&w, 2, &[1]).await);
    let thief = binplz_core::flow::lease::job::Bearer { token: a.token.clone(), ..b.clone() };
    let request = DependencyRequest { most: 1, ..DependencyRequest::default() };
    assert_eq!(dependencies(&*w, &thief, request.clone()).await, Err(Denied::Token));
    binplz_tests::world::ask(&w, "p3").await;
    binplz_core::flow::schedule::dispatch::dispatch(&*w).await.expect("the ledger");
    let early = dependencies(&*w, &w.bearer("p3").await, request).await;
    assert_eq!(early, Err(Denied::Nonsense("dependencies are built for a claimed derivation")));
}
