//! What becomes of those who left it to another: they end as that one does, and go on by themselves where it does not.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use binplz_core::{
    answer::asked::{Asked, Format},
    answer::problem::Problem,
    build::{
        Event, State,
        failure::Kind,
        policy::Policy,
        protocol::{Evaluated, Outcome, Progress, Turn},
    },
    flow::{
        advance,
        lease::{claim::claim, settle::settle},
        request::{log::log, outcome::RequestOutcome, status::status, wait},
        schedule::{dispatch::dispatch, sweep::sweep},
    },
    id::{key::OutputName, target::Query, wait::Patience},
    objects::artifact::ObjectName,
    ports::{Deployment, HasLedger, HasStore, Intake, Ledger},
};
use binplz_tests::world::{World, rev, target};

use super::{ask, building, declares, drv, evaluated, exhaust, fail, follows, hit, started, turn, world};

/// `tree` has taken a derivation on, and `sets.tree` has left it to that one.
async fn followed() -> Arc<World> {
    let w = world();
    building(&w, &["tree", "sets.tree"]).await;
    turn(&w, "tree", 'a').await;
    turn(&w, "sets.tree", 'a').await;
    w
}

#[tokio::test]
async fn two_attributes_of_one_derivation_are_one_realisation_and_each_is_served_by_its_own_name() {
    let w = world();
    building(&w, &["tree", "sets.tree"]).await;
    assert_eq!(turn(&w, "tree", 'a').await, Turn::Go);
    assert_eq!(turn(&w, "sets.tree", 'a').await, Turn::Elsewhere);
    assert!(follows(&w.build("sets.tree").await));
    w.reap().await;
    assert_eq!(w.limits().await.taken(), 1, "who follows takes no slot");
    w.finish("tree").await;
    dispatch(&*w).await.expect("the ledger");
    assert!(matches!(w.build("sets.tree").await.state, State::Ready(_)));
    let (tree, other) = (hit(&w, "tree").await, hit(&w, "sets.tree").await);
    assert_eq!((tree.attr.as_str(), other.attr.as_str()), ("tree", "sets.tree"));
    assert_eq!((&tree.object, &tree.sha256, &tree.rev), (&other.object, &other.sha256, &other.rev));
    assert_eq!(started(&w), 2);
    // A third one comes when it is made, and its task ends with that.
    building(&w, &["more.tree"]).await;
    assert_eq!(turn(&w, "more.tree", 'a').await, Turn::Elsewhere);
    assert_eq!(hit(&w, "more.tree").await.object, tree.object);
    w.reap().await;
    assert_eq!(w.limits().await.taken(), 0);
}

#[tokio::test]
async fn a_moved_pin_whose_derivation_is_unchanged_realises_nothing_and_is_served_as_the_commit_that_was_asked_for() {
    let w = world();
    building(&w, &["tree"]).await;
    assert_eq!(turn(&w, "tree", 'a').await, Turn::Go);
    w.finish("tree").await;
    let before = hit(&w, "tree").await;
    w.move_pin('6').await;
    assert_eq!(hit(&w, "tree").await.rev, rev('5'), "the last good one, at once");
    dispatch(&*w).await.expect("the ledger");
    assert_eq!(turn(&w, "tree", 'a').await, Turn::Elsewhere);
    let after = hit(&w, "tree").await;
    assert_eq!((&after.rev, &after.object), (&rev('6'), &before.object));
    // Back again, and forth: there is nothing left to do.
    for digit in ['5', '6'] {
        w.move_pin(digit).await;
        assert_eq!(hit(&w, "tree").await.rev, rev(digit));
    }
    assert_eq!(started(&w), 2);
}

#[tokio::test]
async fn the_main_program_is_the_attributes_own_though_the_programs_are_anothers() {
    let w = world();
    building(&w, &["tools", "sets.tools"]).await;
    turn(&w, "tools", 'a').await;
    let other = Evaluated { declared: declares("right\u{1b}", None), ..evaluated('a') };
    assert_eq!(claim(&*w, &w.bearer("sets.tools").await, other).await, Ok(Turn::Elsewhere));
    let bearer = w.bearer("tools").await;
    let mut report = w.report_of(&bearer, &["left", "right"]).await;
    let Outcome::Built(manifest) = &mut report.outcome else { panic!("built") };
    manifest.declared.main_program = Some("left".to_owned());
    settle(&*w, &bearer, report).await.expect("a live lease");
    let (left, right) = (hit(&w, "tools").await, hit(&w, "sets.tools").await);
    assert_eq!((left.bin.as_str(), right.bin.as_str()), ("left", "right"));
    assert_eq!(hit(&w, "sets.tools/left").await.sha256, left.sha256);
}

#[tokio::test]
async fn an_attribute_that_stands_for_one_output_gets_that_outputs_programs_though_another_has_built_them() {
    let w = world();
    building(&w, &["bind", "sets.host"]).await;
    turn(&w, "bind", 'a').await;
    let other = Evaluated { declared: declares("absent", Some("utils")), ..evaluated('a') };
    assert_eq!(claim(&*w, &w.bearer("sets.host").await, other).await, Ok(Turn::Elsewhere));
    let bearer = w.bearer("bind").await;
    let mut report = w.report_of(&bearer, &["dig", "named"]).await;
    let Outcome::Built(manifest) = &mut report.outcome else { panic!("built") };
    let [out, utils]: [OutputName; 2] = ["out", "utils"].map(|name| name.parse().expect("an output's name"));
    manifest.pname = "bind".to_owned();
    (manifest.outputs, manifest.installed) = (vec![out.clone(), utils.clone()], vec![out.clone()]);
    (manifest.programs[0].output, manifest.programs[1].output) = (Some(utils), Some(out));
    settle(&*w, &bearer, report).await.expect("a live lease");
    // Of each attribute, the only program that Nix installs; the other one by its name.
    let (bind, host) = (hit(&w, "bind").await, hit(&w, "sets.host").await);
    assert_eq!((bind.bin.as_str(), host.bin.as_str()), ("named", "dig"));
    assert_eq!(hit(&w, "bind/dig").await.sha256, host.sha256);
    assert_eq!(hit(&w, "sets.host/named").await.sha256, bind.sha256);
}

#[tokio::test]
async fn a_holder_that_dies_is_followed_to_its_next_attempt() {
    let w = followed().await;
    w.pass(w.policy().lease);
    sweep(&*w).await.expect("the ledger");
    dispatch(&*w).await.expect("the ledger");
    assert!(follows(&w.build("sets.tree").await));
    let waits = status(&*w, &target("sets.tree")).await.expect("a build");
    assert_eq!((waits.state, waits.attempt), ("queued", 2));
    w.pass(w.policy().delay_after(1));
    dispatch(&*w).await.expect("the ledger");
    assert_eq!(turn(&w, "tree", 'a').await, Turn::Go);
    w.finish("tree").await;
    assert_eq!(hit(&w, "sets.tree").await.object, hit(&w, "tree").await.object);
}

#[tokio::test]
async fn whoever_follows_one_that_gives_up_or_is_cancelled_goes_on_by_itself_and_is_followed_then() {
    for cancelled in [true, false] {
        // It rests for less than a lease.
        let w = World::with(Policy { slots: 9, cool_down: Duration::from_secs(1), ..Policy::default() });
        building(&w, &["tree", "sets.tree", "more.tree"]).await;
        turn(&w, "tree", 'a').await;
        for path in ["sets.tree", "more.tree"] {
            assert_eq!(turn(&w, path, 'a').await, Turn::Elsewhere);
        }
        if cancelled {
            advance(&*w, &w.key("tree").await, &Event::Cancel).await.expect("under way");
        } else {
            exhaust(&w, "tree", 'a').await;
        }
        // The sweep rings, and the dispatcher finds who follows, asked or not.
        let rings = w.bell.0.load(SeqCst);
        sweep(&*w).await.expect("the ledger");
        assert!(w.bell.0.load(SeqCst) > rings);
        dispatch(&*w).await.expect("the ledger");
        assert_eq!(turn(&w, "more.tree", 'a').await, Turn::Go);
        assert_eq!(turn(&w, "sets.tree", 'a').await, Turn::Elsewhere);
        // The first one too, when it is requested again.
        w.pass(w.policy().cool_down);
        building(&w, &["tree"]).await;
        assert_eq!(turn(&w, "tree", 'a').await, Turn::Elsewhere);
    }
}

#[tokio::test]
async fn a_failure_of_the_derivation_is_told_of_each_with_its_log_and_an_operator_may_try_any_of_them_again() {
    let w = followed().await;
    let bearer = w.bearer("tree").await;
    let segment = bearer.prefix().object(ObjectName::Log(1));
    w.store().write(&segment, b"it does not compile\n".to_vec()).await.expect("the store");
    fail(&w, "tree", Kind::BuildFailed).await;
    for path in ["tree", "sets.tree"] {
        let RequestOutcome::Denied(denial) = ask(&w, path).await else { panic!("no problem") };
        let problem = Problem::from(&denial);
        assert_eq!((problem.reason.status(), problem.log), (422, true));
        assert_eq!(problem.sentence, format!("{path}: the build failed: why"));
        let part = log(&*w, &target(path), 1).await.expect("a build");
        assert_eq!((part.content.as_slice(), part.complete), (&b"it does not compile\n"[..], true));
    }
    // Also of one that comes later.
    building(&w, &["more.tree"]).await;
    assert_eq!(turn(&w, "more.tree", 'a').await, Turn::Elsewhere);
    assert!(matches!(ask(&w, "more.tree").await, RequestOutcome::Denied(denial) if denial.status() == 422));

    advance(&*w, &w.key("sets.tree").await, &Event::Retry).await.expect("failed");
    dispatch(&*w).await.expect("the ledger");
    assert_eq!(turn(&w, "sets.tree", 'a').await, Turn::Go, "in spite of what is known");
    w.finish("sets.tree").await;
    advance(&*w, &w.key("tree").await, &Event::Retry).await.expect("failed");
    dispatch(&*w).await.expect("the ledger");
    assert_eq!(turn(&w, "tree", 'a').await, Turn::Elsewhere);
    assert_eq!(hit(&w, "tree").await.object, hit(&w, "sets.tree").await.object);
}

#[tokio::test]
async fn a_failure_before_the_derivation_was_known_is_the_attributes_own() {
    let w = followed().await;
    fail(&w, "tree", Kind::SourceUnavailable).await;
    w.pass(w.policy().delay_after(1));
    dispatch(&*w).await.expect("the ledger");
    fail(&w, "tree", Kind::EvaluationError).await;
    dispatch(&*w).await.expect("the ledger");
    assert_eq!(turn(&w, "sets.tree", 'a').await, Turn::Go);
}

#[tokio::test]
async fn programs_of_another_derivation_are_borrowed_by_nobody() {
    let w = followed().await;
    // Its next attempt comes to another one, as with another Nix it may.
    fail(&w, "tree", Kind::SourceUnavailable).await;
    w.pass(w.policy().delay_after(1));
    dispatch(&*w).await.expect("the ledger");
    assert_eq!(turn(&w, "tree", 'b').await, Turn::Go);
    w.finish("tree").await;
    assert!(matches!(ask(&w, "sets.tree").await, RequestOutcome::Pending(status) if status.state == "queued"));
    dispatch(&*w).await.expect("the ledger");
    assert_eq!(turn(&w, "sets.tree", 'a').await, Turn::Go);
}

#[tokio::test]
async fn whoever_follows_is_shown_how_far_the_other_is_its_log_and_nothing_of_the_inside() {
    let w = world();
    building(&w, &["tree", "sets.tree"]).await;
    turn(&w, "tree", 'a').await;
    let bearer = w.bearer("tree").await;
    let progress =
        Progress { step: Some("tree-2.1.0 buildPhase".to_owned()), done: 3, expected: 7, ..Progress::default() };
    w.ledger().put_progress(&bearer.lease, &progress).await.expect("the ledger");
    let segment = bearer.prefix().object(ObjectName::Log(1));
    w.store().write(&segment, b"so far\n".to_vec()).await.expect("the store");
    turn(&w, "sets.tree", 'a').await;
    let RequestOutcome::Pending(shown) = ask(&w, "sets.tree").await else { panic!("not under way") };
    assert_eq!((shown.state, shown.package.to_string().as_str()), ("building", "sets.tree"));
    assert_eq!(shown.headline(), "tree-2.1.0 buildPhase, 3 of 7 built");
    assert_eq!(shown.derivations_started, 0);
    let part = log(&*w, &target("sets.tree"), 1).await.expect("a build");
    assert_eq!((part.content.as_slice(), part.complete), (&b"so far\n"[..], false));
    let asked = Asked { origin: "http://h", target: None, format: Format::Json, retry: false };
    let said = format!("{:?}", RequestOutcome::Pending(shown).answer(&asked));
    assert!(!said.contains("joined") && !said.contains(drv('a').as_str()), "{said}");
    // The other one has ended, and this one has not heard of it yet.
    w.finish("tree").await;
    let shown = status(&*w, &target("sets.tree")).await.expect("a build");
    assert_eq!((shown.state, shown.retry_after), ("building", 2));
}

#[tokio::test]
async fn one_who_waits_for_a_build_that_follows_hears_of_its_end() {
    let w = world();
    building(&w, &["tree", "sets.tree"]).await;
    turn(&w, "tree", 'a').await;
    let other = Arc::clone(&w);
    w.while_waiting(async move { assert_eq!(turn(&other, "sets.tree", 'a').await, Turn::Elsewhere) });
    let other = Arc::clone(&w);
    w.while_waiting(async move {
        other.finish("tree").await;
        dispatch(&*other).await.expect("the ledger");
    });
    w.while_waiting(async { panic!("it is over") });
    let query = Query::parse("/sets.tree", Some("wait")).expect("a target");
    let patience = Patience::of(Some("curl/8.0"), None);
    assert_eq!(wait::hop(&*w, &query, 1, patience).await, "/sets.tree");
}
