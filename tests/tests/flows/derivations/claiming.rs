//! Who realises: builders that evaluate at once, and while others settle, rest, come back and are cancelled.

use std::{sync::Arc, time::Duration};

use binplz_core::{
    build::{
        Event, State,
        failure::{Failure, Kind},
        policy::{Policy, Prices},
        protocol::{Evaluated, Outcome, Turn},
    },
    flow::{
        advance,
        lease::{
            claim::claim,
            job::{Bearer, Denied},
            settle::{settle, stopped},
        },
        request::outcome::RequestOutcome,
    },
    id::money::Micros,
    ports::Deployment,
};
use binplz_tests::world::World;

use super::{ask, building, evaluated, exhaust, follows, hit, turn, world};

#[tokio::test]
async fn one_derivation_for_two_systems_is_two_realisations() {
    let w = world();
    let arm = "tree?sys=aarch64-linux";
    building(&w, &["tree", arm]).await;
    assert_eq!((turn(&w, "tree", 'a').await, turn(&w, arm, 'a').await), (Turn::Go, Turn::Go));
}

#[tokio::test]
async fn of_two_who_evaluate_at_once_one_realises_whoever_else_has_held_it_before() {
    // No attempt before; one that rests; one that was cancelled.
    for before in ["none", "resting", "cancelled"] {
        let w = world();
        if before != "none" {
            building(&w, &["first"]).await;
            turn(&w, "first", 'a').await;
        }
        match before {
            "resting" => exhaust(&w, "first", 'a').await,
            "cancelled" => drop(advance(&*w, &w.key("first").await, &Event::Cancel).await.expect("under way")),
            _ => {}
        }
        building(&w, &["tree", "sets.tree"]).await;
        let other = Arc::clone(&w);
        // It has seen that no attempt holds the derivation, and so has the other one, which is quicker.
        w.before_next_commit(async move { assert_eq!(turn(&other, "sets.tree", 'a').await, Turn::Go) });
        assert_eq!(turn(&w, "tree", 'a').await, Turn::Elsewhere, "{before}");
        w.finish("sets.tree").await;
        assert_eq!(hit(&w, "tree").await.object, hit(&w, "sets.tree").await.object);
    }
}

#[tokio::test]
async fn of_one_that_takes_over_and_a_holder_that_comes_back_meanwhile_one_realises() {
    // It rests for less than a lease.
    let w = World::with(Policy { slots: 9, cool_down: Duration::from_secs(1), ..Policy::default() });
    building(&w, &["tree"]).await;
    turn(&w, "tree", 'a').await;
    exhaust(&w, "tree", 'a').await;
    building(&w, &["sets.tree"]).await;
    let other = Arc::clone(&w);
    // The build that takes over has seen it rest; before that is written, the holder is asked for again, evaluates, and goes on.
    w.before_next_commit(async move {
        other.pass(other.policy().cool_down);
        building(&other, &["tree"]).await;
        assert_eq!(turn(&other, "tree", 'a').await, Turn::Go);
    });
    assert_eq!(turn(&w, "sets.tree", 'a').await, Turn::Elsewhere);
}

#[tokio::test]
async fn whoever_joins_while_the_holder_settles_is_ready_at_the_next_look() {
    for joins_first in [true, false] {
        let w = world();
        building(&w, &["tree", "sets.tree"]).await;
        turn(&w, "tree", 'a').await;
        let other = Arc::clone(&w);
        if joins_first {
            // The settle has seen no follower.
            w.before_next_commit(async move { assert_eq!(turn(&other, "sets.tree", 'a').await, Turn::Elsewhere) });
            w.finish("tree").await;
        } else {
            // The join has seen a build under way.
            w.before_next_commit(async move { other.finish("tree").await });
            assert_eq!(turn(&w, "sets.tree", 'a').await, Turn::Elsewhere);
        }
        assert!(follows(&w.build("sets.tree").await), "{joins_first}");
        assert_eq!(hit(&w, "sets.tree").await.object, hit(&w, "tree").await.object, "{joins_first}");
    }
}

#[tokio::test]
async fn a_reply_that_was_lost_changes_no_turn_and_the_same_word_again_gets_the_same_answer() {
    let w = world();
    building(&w, &["tree", "sets.tree"]).await;
    let (tree, other) = (w.bearer("tree").await, w.bearer("sets.tree").await);
    for (bearer, told) in [(&tree, Turn::Go), (&other, Turn::Elsewhere)] {
        w.lose_replies(1);
        assert_eq!(claim(&*w, bearer, evaluated('a')).await, Ok(told));
        let commits = w.commits();
        assert_eq!(claim(&*w, bearer, evaluated('a')).await, Ok(told));
        assert_eq!(w.commits(), commits, "it was heard before");
    }
    w.reap().await;
    assert_eq!(w.limits().await.taken(), 1);
    w.finish("tree").await;
    w.lose_replies(1);
    let object = hit(&w, "sets.tree").await.object;
    assert_eq!(claim(&*w, &other, evaluated('a')).await, Ok(Turn::Elsewhere), "however late");
    assert_eq!(object, hit(&w, "tree").await.object);
    // The take-over, too.
    building(&w, &["x", "sets.x"]).await;
    turn(&w, "x", 'b').await;
    advance(&*w, &w.key("x").await, &Event::Cancel).await.expect("under way");
    w.lose_replies(1);
    assert_eq!(turn(&w, "sets.x", 'b').await, Turn::Go);
    assert_eq!(turn(&w, "sets.x", 'b').await, Turn::Go);
}

#[tokio::test]
async fn a_lease_takes_on_one_derivation_and_settles_no_other() {
    let w = world();
    building(&w, &["tree", "evil"]).await;
    let evil = w.bearer("evil").await;
    assert_eq!(turn(&w, "evil", 'b').await, Turn::Go);
    // A thief of its token cannot claim a derivation that others will need.
    let second = claim(&*w, &evil, evaluated('a')).await;
    assert_eq!(second, Err(Denied::Forbidden("a lease is for one derivation")));
    let mut report = w.report(&evil).await;
    let Outcome::Built(manifest) = &mut report.outcome else { panic!("built") };
    manifest.drv_path = evaluated('a').drv_path;
    assert!(matches!(settle(&*w, &evil, report).await, Err(Denied::Nonsense(_))));
    assert_eq!(turn(&w, "tree", 'a').await, Turn::Go);
    assert_eq!(claim(&*w, &evil, evaluated('a')).await, Err(Denied::Forbidden("a lease is for one derivation")));
    // What is no derivation, and whose token it is not.
    let other = Evaluated { drv_path: "/nix/store/x.drv".to_owned(), ..evaluated('a') };
    assert!(matches!(claim(&*w, &evil, other).await, Err(Denied::Nonsense(_))));
    let stranger = Bearer { token: w.bearer("tree").await.token, ..evil };
    assert_eq!(claim(&*w, &stranger, evaluated('b')).await, Err(Denied::Token));
}

#[tokio::test]
async fn a_lease_that_ends_between_a_look_and_a_claim_claims_nothing() {
    for held in [false, true] {
        let w = world();
        building(&w, &["first", "tree"]).await;
        if held {
            turn(&w, "first", 'a').await;
        }
        let (bearer, other) = (w.bearer("tree").await, Arc::clone(&w));
        w.before_next_commit(async move {
            advance(&*other, &other.key("tree").await, &Event::Cancel).await.expect("under way");
        });
        assert_eq!(claim(&*w, &bearer, evaluated('a')).await, Err(Denied::NotLive), "{held}");
        assert_eq!(w.build("tree").await.state, State::Unasked);
        if !held {
            assert_eq!(turn(&w, "first", 'a').await, Turn::Go);
        }
    }
}

#[tokio::test]
async fn what_was_reserved_is_settled_when_a_build_joins() {
    let prices = Prices { task: Micros(3600), ..Prices::default() };
    let mut policy = Policy { slots: 9, budget: Some(Micros(1000)), prices, ..Policy::default() };
    policy.job.seconds = 100;
    let w = World::with(policy);
    building(&w, &["tree", "sets.tree"]).await;
    assert_eq!(w.limits().await.reserved(), Micros(200));
    w.pass(Duration::from_secs(7));
    turn(&w, "tree", 'a').await;
    w.lose_replies(1);
    turn(&w, "sets.tree", 'a').await;
    assert_eq!((w.limits().await.reserved(), w.limits().await.spent()), (Micros(200), Micros(0)));
    // Its task ends, and is heard of, when it has nothing to do with the build any more.
    let key = w.key("sets.tree").await;
    let id = w.build("sets.tree").await.newest_lease().cloned().expect("an attempt");
    for _ in 0..2 {
        w.lose_replies(1);
        assert_eq!(stopped(&*w, &key, &id, Failure::new(Kind::Killed, ""), None).await, Ok(false));
        w.lose_replies(0);
        assert_eq!((w.limits().await.reserved(), w.limits().await.spent()), (Micros(100), Micros(7)));
    }
    w.pass(Duration::from_secs(3));
    w.finish("tree").await;
    assert_eq!((w.limits().await.reserved(), w.limits().await.spent()), (Micros(0), Micros(17)));
    assert!(matches!(ask(&w, "sets.tree").await, RequestOutcome::Hit { .. }));
    assert_eq!(w.limits().await.spent(), Micros(17));
}
