//! A pin is retired, or moves: what it has left goes when its time is over.

use std::time::Duration;

use binplz_core::{
    build::{State, failure::Kind, protocol::Turn},
    id::key::{LeaseId, Sha256},
    nixpkgs::pins::{Change, KEEP, Programs},
    objects::{
        content::Content,
        stored::{KeptNixpkgs, KeptPrograms},
    },
    ports::{Deployment, HasLedger, HasStore, Ledger},
};
use binplz_tests::world::{World, rev};

use super::{
    add, again, building, catalogued, everything, fail, grace, hit, made, prefix, prefixes, retire, rows_of, run,
    run_to_the_end, turn, world,
};

const DAY: Duration = Duration::from_secs(24 * 3600);

async fn has_progress(w: &World, lease: &LeaseId) -> bool {
    w.ledger().progress(lease).await.expect("the ledger").is_some()
}

#[tokio::test]
async fn a_retired_pins_objects_rows_logs_and_catalogue_are_gone_and_another_pins_are_all_there() {
    let w = world();
    w.change(add("old", '6')).await;
    catalogued(&w, rev('5')).await;
    made(&w, "tree", 'a').await;
    building(&w, "bad").await;
    fail(&w, "bad", Kind::BuildFailed).await;
    let stays = everything(&w).await;
    catalogued(&w, rev('6')).await;
    made(&w, "dash?pin=old", 'b').await;
    hit(&w, "dash/dash?pin=old").await;
    building(&w, "worse?pin=old").await;
    fail(&w, "worse?pin=old", Kind::BuildFailed).await;
    let dash = prefix(&w, "dash?pin=old").await;
    assert_eq!(
        (rows_of(&w, '6').await.len(), prefixes(&w).await.len(), has_progress(&w, &dash.lease).await),
        (6, 6, true)
    );

    retire(&w, "old", Duration::ZERO).await;
    w.pass(grace(&w));
    let first = run(&w).await;
    assert_eq!((first.rows.builds, first.rows.served, first.rows.derivations), (3, 2, 1));
    // A redirect may have been given out a moment ago.
    assert_eq!((first.removed.prefixes, first.waiting.prefixes, first.kept.prefixes), (0, 3, 3));
    assert_eq!(first.waiting_until, Some(w.now() + grace(&w)));
    w.pass(grace(&w) - Duration::from_millis(1));
    assert_eq!(run(&w).await.removed.prefixes, 0);
    w.pass(Duration::from_millis(1));
    let last = run(&w).await;
    assert_eq!((last.removed.prefixes, last.waiting.prefixes, last.kept.prefixes), (3, 0, 3));
    assert!(last.removed.objects >= 7 && last.removed.bytes > 0, "{last:?}");

    assert_eq!((rows_of(&w, '6').await, has_progress(&w, &dash.lease).await), (vec![], false));
    let (rows, objects) = everything(&w).await;
    assert_eq!(objects, stays.1);
    for (key, row) in stays.0 {
        // These say what has become of all pins.
        if !["limits", "pins"].contains(&key.to_string().as_str()) {
            assert_eq!(rows.get(&key), Some(&row), "{key}");
        }
    }
    hit(&w, "tree").await;
    assert_eq!(run(&w).await.rows, Default::default(), "nothing is left to do");
}

#[tokio::test]
async fn what_a_pin_has_left_is_kept_for_as_long_as_its_operator_said_and_serves_meanwhile() {
    let w = world();
    made(&w, "tree", 'a').await;
    w.move_pin('6').await;
    let kept = home_of_5(&w).await;
    for _ in 0..29 {
        w.pass(DAY);
        run(&w).await;
        // The last good one, at once, and the new one is not built yet.
        assert_eq!(hit(&w, "tree").await.rev, rev('5'));
    }
    assert!(prefixes(&w).await.contains(&kept));
    w.pass(KEEP - 29 * DAY);
    run_to_the_end(&w).await;
    assert_eq!((rows_of(&w, '5').await, prefixes(&w).await.contains(&kept)), (vec![], false));
    // A request now gets the new one, in time.
    assert!(matches!(w.build("tree").await.state, State::Queued { .. }));
}

async fn home_of_5(w: &World) -> binplz_core::objects::artifact::AttemptPrefix {
    let prefixes = prefixes(w).await;
    prefixes.into_iter().find(|prefix| prefix.key.rev == rev('5')).expect("one of the first")
}

#[tokio::test]
async fn a_pin_that_comes_back_in_time_has_all_that_it_had() {
    let w = world();
    made(&w, "tree", 'a').await;
    w.move_pin('6').await;
    w.pass(KEEP);
    run(&w).await;
    w.move_pin('5').await;
    w.pass(2 * KEEP);
    run_to_the_end(&w).await;
    assert_eq!(hit(&w, "tree").await.rev, rev('5'));
    assert_eq!(w.launcher.started.lock().expect("a lock").len(), 1);
}

#[tokio::test]
async fn what_another_pin_has_borrowed_stays_and_can_be_borrowed_again() {
    let w = world();
    made(&w, "tree", 'a').await;
    let made_once = prefix(&w, "tree").await;
    w.change(add("second", '6')).await;
    made(&w, "tree?pin=second", 'a').await;
    w.move_pin('7').await;
    w.pass(KEEP);
    run_to_the_end(&w).await;
    assert_eq!(hit(&w, "tree?pin=second").await.object.lease, made_once.lease);
    // Its derivation is known still: a third commit of it costs no build.
    building(&w, "tree").await;
    assert_eq!(turn(&w, "tree", 'a').await, Turn::Elsewhere);
    assert_eq!(prefix(&w, "tree").await, made_once);
    // When the last one is gone that has it, all of it goes.
    w.move_pin('8').await;
    retire(&w, "second", Duration::ZERO).await;
    w.pass(KEEP);
    run_to_the_end(&w).await;
    run_to_the_end(&w).await;
    for digit in ['5', '6', '7'] {
        assert_eq!(rows_of(&w, digit).await, [""; 0]);
    }
    assert!(prefixes(&w).await.is_empty());
}

#[tokio::test]
async fn attempts_that_came_to_nothing_leave_nothing() {
    let w = world();
    let first = building(&w, "tree").await.prefix();
    assert_eq!(turn(&w, "tree", 'a').await, Turn::Go);
    fail(&w, "tree", Kind::SourceUnavailable).await;
    again(&w, "tree").await;
    let second = w.bearer("tree").await.prefix();
    let report = run(&w).await;
    assert_eq!((report.kept.prefixes, report.waiting.prefixes), (2, 0), "its derivation is the first one's still");
    assert_eq!(turn(&w, "tree", 'a').await, Turn::Go);
    w.finish("tree").await;
    run_to_the_end(&w).await;
    assert_eq!((prefixes(&w).await, has_progress(&w, &first.lease).await), ([second].into(), false));
    hit(&w, "tree").await;
}

#[tokio::test]
async fn what_was_taken_down_is_gone_and_is_built_anew_where_it_may_be_served_again() {
    let w = world();
    made(&w, "tree", 'a').await;
    made(&w, "dash", 'b').await;
    let tree = prefix(&w, "tree").await;
    w.change(Change::Withhold("tree".parse().expect("a package"), "its authors ask for it".to_owned())).await;
    run_to_the_end(&w).await;
    assert!(!prefixes(&w).await.contains(&tree));
    hit(&w, "dash").await;
    w.change(Change::Restore("tree".parse().expect("a package"))).await;
    made(&w, "tree", 'a').await;
    run_to_the_end(&w).await;
    hit(&w, "tree").await;
}

#[tokio::test]
async fn a_nixpkgs_goes_with_its_pin_but_not_while_an_operator_is_about_to_use_it() {
    let w = world();
    w.change(add("old", '6')).await;
    for digit in ['5', '6', '7'] {
        w.store().keep_nixpkgs(KeptNixpkgs { rev: rev(digit), since: w.now() });
    }
    retire(&w, "old", DAY).await;
    assert_eq!(run(&w).await.nixpkgs, 0);
    // It was put there, and no pin has come to stand for it.
    w.pass(grace(&w));
    assert_eq!(run(&w).await.nixpkgs, 1);
    w.pass(DAY);
    // It is put there again.
    w.store().keep_nixpkgs(KeptNixpkgs { rev: rev('7'), since: w.now() });
    assert_eq!(run(&w).await.nixpkgs, 1);
    assert_eq!(w.store().nixpkgs_kept(), [rev('5'), rev('7')]);
}

#[tokio::test]
async fn a_database_of_programs_goes_with_its_last_pin_but_not_while_an_operator_is_about_to_use_it() {
    let w = world();
    let sha256 = |digit: &str| digit.repeat(64).parse::<Sha256>().expect("hex");
    let put = |digit| w.store().keep_programs(KeptPrograms { sha256: sha256(digit), since: w.now() });
    ["a", "b", "c"].into_iter().for_each(put);
    for (name, digit, programs) in [("old", '6', "a"), ("same", '7', "a"), ("other", '8', "b")] {
        let Change::Add(name, rev, source, _) = add(name, digit) else { panic!("it adds a pin") };
        let programs = Programs::Stored(Content { sha256: sha256(programs), size: 1 });
        w.change(Change::Add(name, rev, source, Some(programs))).await;
    }
    assert_eq!(run(&w).await.databases, 0);
    w.pass(grace(&w));
    // No pin has come to have the third one.
    assert_eq!((run(&w).await.databases, w.store().programs_kept()), (1, vec![sha256("a"), sha256("b")]));
    retire(&w, "old", DAY).await;
    retire(&w, "other", DAY).await;
    assert_eq!((run(&w).await.databases, w.store().programs_kept()), (1, vec![sha256("a")]));
    put("b");
    assert_eq!(run(&w).await.databases, 0);
}
