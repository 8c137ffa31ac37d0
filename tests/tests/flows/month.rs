//! What a month has cost, and what a build: exactly what its attempts were paid.

use std::{sync::Arc, time::Duration};

use binplz_core::{
    billing::{
        bill::{Bill, Taken},
        traffic::Traffic,
    },
    build::{
        failure::{Failure, Kind},
        policy::{Policy, Prices},
        size::Size,
    },
    flow::{
        lease::settle::stopped,
        operator::{
            cost::Cost,
            orders::{Operator, Order},
        },
        request::{outcome::RequestOutcome, program::request, status::status},
        schedule::dispatch::dispatch,
    },
    id::money::Micros,
    objects::stored::Method,
    ports::Deployment,
    quota::client::Asker,
    telemetry::{About, Signal},
};
use binplz_tests::world::{World, target};

/// A world in which a task costs a millionth of a dollar a second, and twice that on a large machine.
fn paying() -> Policy {
    let prices = Prices { memory: Micros(450), ..Prices::default() };
    let mut policy = Policy { slots: 9, budget: Some(Micros(10_000)), prices, ..Policy::default() };
    policy.job.seconds = 1000;
    policy
}

async fn asked(w: &World, path: &str) -> RequestOutcome {
    let reply = request(w, &target(path), Method::Get, Some(&Asker::default())).await;
    w.emit(About::Service, Signal::Answered { hit: reply.served(), to: None });
    reply
}

async fn begun(w: &World, path: &str) {
    asked(w, path).await;
    dispatch(w).await.expect("the ledger");
}

async fn fails(w: &World, path: &str, kind: Kind) {
    let bearer = w.bearer(path).await;
    stopped(w, &bearer.key, &bearer.lease, Failure::new(kind, ""), None).await.expect("the ledger");
}

async fn cost(w: &Arc<World>) -> Cost {
    *w.carry_out(Order::Cost).await.expect("a ledger").cost().expect("that was asked")
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn taken(package: &str, attempts: u32, seconds: u64, micros: u64) -> Taken {
    Taken { package: package.parse().expect("a name"), attempts, seconds, cost: Micros(micros) }
}

#[tokio::test]
async fn a_months_builds_cost_what_was_spent_and_the_dearest_package_is_the_one_that_took_most_of_it() {
    let w = World::with(paying());
    assert_eq!((cost(&w).await.looked_at, cost(&w).await.dearest), (0, vec![]));
    begun(&w, "tree").await;
    w.pass(seconds(10));
    w.finish("tree").await;
    // Out of memory: then on a machine with twice as much.
    begun(&w, "big").await;
    w.pass(seconds(20));
    fails(&w, "big", Kind::OutOfMemory).await;
    w.pass(w.policy().first_delay);
    dispatch(&*w).await.expect("the ledger");
    w.pass(seconds(30));
    fails(&w, "big", Kind::BuildFailed).await;
    begun(&w, "running").await;
    for _ in 0..3 {
        assert!(matches!(asked(&w, "tree").await, RequestOutcome::Hit { .. }));
    }

    let Cost { month, bill, traffic, looked_at, building_seconds, dearest, .. } = cost(&w).await;
    assert_eq!((month.as_str(), looked_at, building_seconds), ("2027-01", 2, 60));
    assert_eq!(dearest, [taken("big", 2, 50, 80), taken("tree", 1, 10, 10)]);
    let size = w.served("tree").await.expect("a served row").size;
    assert_eq!(traffic, Traffic { hits: 3, bytes: 3 * size });
    let Bill { reserved, budget, so_far, forecast, .. } = bill.expect("prices");
    // What was spent and what is reserved, is said by the row that holds it.
    let limits = w.limits().await;
    assert_eq!((so_far.builds, reserved), (limits.spent(), limits.reserved()));
    assert!(so_far.builds > Micros(0) && reserved >= w.policy().worst_price(Size::default()));
    // The world's clock stands on the 15th, at eight in the morning. What is reserved is more than it would come to.
    assert_eq!((forecast.builds, budget), (so_far.builds + reserved, Some(Micros(10_000))));
    assert!(so_far.total > so_far.builds && forecast.total > so_far.total);

    // In the next month, all of that is no more; what runs then, is that month's.
    w.pass(seconds(17 * 86_400));
    fails(&w, "running", Kind::BuildFailed).await;
    let Cost { month, bill, traffic, looked_at, dearest, .. } = cost(&w).await;
    assert_eq!((month.as_str(), looked_at, traffic), ("2027-02", 1, Traffic::default()));
    // It ran for longer than its limit: the excess is not charged.
    assert_eq!(dearest, [taken("running", 1, 17 * 86_400, 1000)]);
    assert_eq!(bill.expect("prices").so_far.builds, w.limits().await.spent());
}

#[tokio::test]
async fn the_ten_dearest_are_told_and_how_many_were_looked_at() {
    let w = World::with(paying());
    for n in 1..=12 {
        let path = format!("p{n}");
        begun(&w, &path).await;
        w.pass(seconds(n));
        w.finish(&path).await;
    }
    let Cost { looked_at, building_seconds, dearest, .. } = cost(&w).await;
    assert_eq!((looked_at, building_seconds, dearest.len()), (12, (1..=12).sum(), 10));
    assert_eq!((&dearest[0], &dearest[9]), (&taken("p12", 1, 12, 12), &taken("p3", 1, 3, 3)));
}

#[tokio::test]
async fn a_build_says_what_its_attempts_have_cost_and_nothing_where_building_costs_nothing() {
    for (policy, micros) in [(paying(), Some(Micros(25))), (Policy::default(), None)] {
        let w = World::with(policy);
        let told = async || {
            let shown = w.carry_out(Order::Show(target("tree").into())).await.expect("a build").show().expect("it");
            let status = status(&*w, &target("tree")).await.expect("a build");
            assert_eq!(status.cost, shown.cost);
            status.cost
        };
        assert_eq!(told().await, None);
        begun(&w, "tree").await;
        w.pass(seconds(10));
        // What runs has not cost anything so far.
        assert_eq!(told().await, None);
        fails(&w, "tree", Kind::Killed).await;
        w.pass(w.policy().first_delay);
        dispatch(&*w).await.expect("the ledger");
        w.pass(seconds(15));
        w.finish("tree").await;
        assert_eq!(told().await, micros);
    }
}

#[tokio::test]
async fn where_building_costs_nothing_there_is_no_bill_and_time_is_told() {
    let w = World::new();
    for (path, time) in [("tree", 10), ("dash", 20)] {
        begun(&w, path).await;
        w.pass(seconds(time));
        w.finish(path).await;
    }
    let Cost { bill, building_seconds, dearest, .. } = cost(&w).await;
    assert_eq!((bill, building_seconds), (None, 30));
    assert_eq!(dearest, [taken("dash", 1, 20, 0), taken("tree", 1, 10, 0)]);
}
