//! An operator's orders, with a second actor at work at exactly the wrong moment, and with a death between any two steps.

use std::sync::{Arc, atomic::Ordering::SeqCst};

use binplz_core::{
    answer::problem::Problem,
    build::{
        Illegal, State,
        failure::{Failure, Kind},
    },
    flow::{
        lease::settle::{settle, stopped},
        operator::{
            orders::{Act, Operator, Order, Outcome, Overview},
            stop,
        },
        request::outcome::RequestOutcome,
        schedule::{dispatch::dispatch, sweep::sweep},
    },
    id::key::{LeaseId, System},
    ports::{Deployment, HasLedger, Ledger, Read},
    quota::limits::Why,
    row::{Row, RowKey, Swap},
};
use binplz_tests::world::{World, ask, target};

/// A build under way.
async fn building(path: &str) -> (Arc<World>, LeaseId) {
    let w = World::new();
    ask(&w, path).await;
    dispatch(&*w).await.expect("the ledger");
    let lease = w.bearer(path).await.lease;
    (w, lease)
}

async fn order(w: &Arc<World>, order: Order) -> Result<Outcome, String> {
    w.carry_out(order).await.map_err(|declined| declined.to_string())
}

async fn act(w: &Arc<World>, act: Act) -> Result<Outcome, String> {
    order(w, Order::Build { of: target("tree").into(), act }).await
}

fn stopped_builders(w: &World) -> Vec<LeaseId> {
    w.launcher.stopped.lock().expect("a lock").clone()
}

#[tokio::test]
async fn a_pause_stops_what_is_under_way_and_it_begins_again_when_builds_go_on() {
    let (w, lease) = building("tree").await;
    let Ok(Outcome::Overview(Overview { paused, running, queued, .. })) =
        order(&w, Order::Pause { drain: false }).await
    else {
        panic!("no overview")
    };
    assert_eq!(paused.keys().copied().collect::<Vec<_>>(), System::ALL);
    // Its slot is free when its task is gone.
    assert_eq!((running, queued, stopped_builders(&w)), (1, 1, vec![lease]));
    w.reap().await;
    assert_eq!(w.limits().await.taken(), 0);
    let build = w.build("tree").await;
    assert!(matches!(build.state, State::Queued { attempt: 1, .. }) && build.history.is_empty(), "{build:?}");

    // Nothing begins: neither a waiting build nor a new request.
    dispatch(&*w).await.expect("the ledger");
    sweep(&*w).await.expect("the ledger");
    assert!(w.build("tree").await.lease().is_none());
    let RequestOutcome::Denied(denial) = ask(&w, "dash").await else { panic!("it was queued") };
    let problem = Problem::from(&denial);
    assert_eq!((problem.reason.status(), problem.retry_after), (503, Some(60)));
    assert!(problem.sentence.contains(Why::Operator.sentence()), "{}", problem.sentence);

    order(&w, Order::Resume).await.expect("it is carried out");
    dispatch(&*w).await.expect("the ledger");
    w.finish("tree").await;
    assert!(matches!(ask(&w, "tree").await, RequestOutcome::Hit { .. }));
    // A hit is served also while nothing is built.
    order(&w, Order::Pause { drain: false }).await.expect("it is carried out");
    assert!(matches!(ask(&w, "tree").await, RequestOutcome::Hit { .. }));
}

#[tokio::test]
async fn a_pause_that_drains_lets_end_what_is_under_way() {
    let (w, lease) = building("tree").await;
    order(&w, Order::Pause { drain: true }).await.expect("it is carried out");
    sweep(&*w).await.expect("the ledger");
    assert_eq!(w.bearer("tree").await.lease, lease);
    w.finish("tree").await;
    assert!(matches!(ask(&w, "tree").await, RequestOutcome::Hit { .. }));
    // The operator has no more patience.
    let (w, lease) = building("tree").await;
    for drain in [true, false] {
        order(&w, Order::Pause { drain }).await.expect("it is carried out");
    }
    assert_eq!(stopped_builders(&w), [lease]);
}

#[tokio::test]
async fn a_pause_whose_operator_died_is_carried_out_by_the_sweep() {
    let (w, lease) = building("tree").await;
    // It wrote down that nothing is to be built, and got no further.
    let halted = w.limits().await.stopped(false, w.now());
    let (_, seen) = w.ledger().load(&RowKey::Limits, Read::Consistent).await.expect("the ledger").expect("a row");
    w.ledger().commit(vec![Swap { seen, row: Row::Limits(halted) }]).await.expect("the ledger");
    w.launcher.deaf.store(true, SeqCst);
    sweep(&*w).await.expect("the ledger");
    assert!(!w.limits().await.is_live(&lease) && stopped_builders(&w).is_empty());
    // Its builder could not be told. It is found when it can be.
    w.launcher.deaf.store(false, SeqCst);
    sweep(&*w).await.expect("the ledger");
    assert_eq!(stopped_builders(&w), [lease]);
}

#[tokio::test]
async fn a_claim_that_meets_a_pause_does_not_begin() {
    let w = World::new();
    ask(&w, "tree").await;
    let other = Arc::clone(&w);
    w.before_next_commit(async move { stop::pause(&*other, false).await.expect("the ledger") });
    dispatch(&*w).await.expect("the ledger");
    assert_eq!((w.limits().await.taken(), w.launcher.asked.load(SeqCst)), (0, 0));
}

#[tokio::test]
async fn a_cancelled_build_stops_gives_its_slot_back_and_is_nobodys_failure() {
    let (w, lease) = building("tree").await;
    w.lose_replies(1);
    act(&w, Act::Cancel).await.expect("it is cancelled");
    assert_eq!((w.limits().await.taken(), stopped_builders(&w)), (1, vec![lease.clone()]));
    // The end of its task is what should be, and frees its slot.
    stopped(&*w, &w.key("tree").await, &lease, Failure::new(Kind::Interrupted, ""), None).await.expect("the ledger");
    assert_eq!((w.build("tree").await.state, w.limits().await.taken()), (State::Unasked, 0));
    assert!(matches!(ask(&w, "tree").await, RequestOutcome::Pending(status) if status.attempt == 1));
    act(&w, Act::Cancel).await.expect("what waits can be cancelled too");
}

#[tokio::test]
async fn a_build_that_settles_first_is_not_cancelled_any_more() {
    let (w, _) = building("tree").await;
    let other = Arc::clone(&w);
    w.before_next_commit(async move { other.finish("tree").await });
    let why = act(&w, Act::Cancel).await.expect_err("it is ready");
    assert!(why.contains(&Illegal::NotUnderWay.to_string()), "{why}");
    assert!(matches!(ask(&w, "tree").await, RequestOutcome::Hit { .. }));
}

#[tokio::test]
async fn a_builder_whose_build_was_cancelled_first_settles_nothing() {
    let (w, _) = building("tree").await;
    let bearer = w.bearer("tree").await;
    let report = w.report(&bearer).await;
    let other = Arc::clone(&w);
    w.before_next_commit(async move {
        stop::cancel(&*other, &other.key("tree").await).await.expect("it is under way");
    });
    settle(&*w, &bearer, report).await.expect_err("its lease is over");
    w.reap().await;
    assert_eq!((w.build("tree").await.state, w.limits().await.taken()), (State::Unasked, 0));
}

#[tokio::test]
async fn a_failure_is_retried_or_forgotten_and_nothing_else_is() {
    let (w, lease) = building("tree").await;
    for act_of_failures in [Act::Retry, Act::Forget] {
        let done = act(&w, act_of_failures).await;
        assert_eq!(done.is_ok(), act_of_failures == Act::Retry, "a retry of what is under way is no trouble");
    }
    let failed = Failure::new(Kind::BuildFailed, "tree.c:1: error");
    stopped(&*w, &w.key("tree").await, &lease, failed, None).await.expect("the ledger");
    assert!(matches!(ask(&w, "tree").await, RequestOutcome::Denied(denial) if denial.status() == 422));

    act(&w, Act::Retry).await.expect("it has failed");
    let build = w.build("tree").await;
    assert!(matches!(build.state, State::Queued { attempt: 1, .. }) && build.history.len() == 1, "{build:?}");
    dispatch(&*w).await.expect("the ledger");
    let lease = w.bearer("tree").await.lease;
    let failed = Failure::new(Kind::BuildFailed, "tree.c:2: error");
    stopped(&*w, &w.key("tree").await, &lease, failed, None).await.expect("the ledger");
    act(&w, Act::Forget).await.expect("it has failed");
    let build = w.build("tree").await;
    assert!(build.state == State::Unasked && build.history.is_empty(), "{build:?}");
    assert!(matches!(ask(&w, "tree").await, RequestOutcome::Pending(_)));
}

#[tokio::test]
async fn an_order_for_what_nobody_serves_is_declined_in_words() {
    let w = World::new();
    let order = Order::Build { of: target("tree?pin=absent").into(), act: Act::Retry };
    let why = w.carry_out(order).await.expect_err("no such pin").to_string();
    assert!(why.contains("it serves test"), "{why}");
    assert_eq!(w.commits(), 0);
    let why = act(&w, Act::Retry).await.expect_err("it has not failed");
    assert_eq!(why, format!("tree: {}", Illegal::NotFailed));
    let line = serde_json::to_string(&Order::Build { of: target("tree?sys=aarch64-linux").into(), act: Act::Cancel });
    assert_eq!(line.expect("an order"), r#"{"build":{"of":{"target":"tree?sys=aarch64-linux"},"act":"cancel"}}"#);
    assert!(serde_json::from_str::<Order>(r#"{"build":{"of":{"target":"tree?wait"},"act":"cancel"}}"#).is_err());
}
