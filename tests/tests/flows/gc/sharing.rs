//! Programs of the same content are one blob. It stays while any attempt references it, and goes after the last one, also when the
//! collector is killed or slow.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use binplz_core::{
    build::{failure::Kind, protocol::Report},
    flow::{
        lease::{job::Bearer, settle::settle},
        operator::gc::gc,
    },
    id::key::Sha256,
    nixpkgs::pins::KEEP,
    objects::artifact::ObjectName,
    ports::{Collect, HasStore, Inspect},
    row::{RowKey, Unreferenced},
};
use binplz_tests::world::World;

use super::{add, building, everything, fail, grace, hit, retire, run, run_to_the_end, turn, world};

const SHARED: &[u8] = b"\x7fELF the same in every package";

async fn report(w: &World, bearer: &Bearer, programs: &[(&str, &[u8])]) -> Report {
    w.report_with(bearer, programs).await
}

/// Builds a package with these programs.
async fn built(w: &World, path: &str, letter: char, programs: &[(&str, &[u8])]) {
    let bearer = building(w, path).await;
    turn(w, path, letter).await;
    let report = report(w, &bearer, programs).await;
    settle(w, &bearer, report).await.expect("a live lease");
    w.reap().await;
}

async fn blobs(w: &World) -> BTreeSet<Sha256> {
    w.store().blobs(None, 999).await.expect("the store").into_iter().map(|blob| blob.sha256).collect()
}

/// The blobs that attempts reference.
async fn referenced(w: &World) -> BTreeSet<Sha256> {
    w.store().prefixes(None, 999).await.expect("the store").into_iter().flat_map(|held| held.blobs).collect()
}

async fn trash(w: &World) -> Vec<RowKey> {
    everything(w).await.0.into_keys().filter(|key| matches!(key, RowKey::Trash(_))).collect()
}

fn content(bytes: &[u8]) -> Sha256 {
    Sha256::of(bytes)
}

/// Two packages under two pins, which share bytes with each other and across the pins; one pin is retired.
async fn two_packages_and_two_pins() -> Arc<World> {
    let w = world();
    w.change(add("old", '6')).await;
    let targets = [("tree?pin=old", 'a'), ("tree", 'b'), ("trees?pin=old", 'c'), ("trees", 'd')];
    for (path, letter) in targets {
        let own = format!("\x7fELF only in {path}");
        let package = path.split('?').next().expect("a package");
        built(&w, path, letter, &[("a", SHARED), ("b", SHARED), (package, own.as_bytes())]).await;
        for program in ["a", "b", package] {
            hit(&w, &path.replacen(package, &format!("{package}/{program}"), 1)).await;
        }
    }
    assert_eq!(blobs(&w).await.len(), 5);
    retire(&w, "old", Duration::ZERO).await;
    w.pass(grace(&w));
    w
}

/// Whatever is served is there.
async fn all_is_served(w: &World) {
    for path in ["tree/a", "tree/b", "tree", "trees/a", "trees/b", "trees"] {
        hit(w, path).await;
    }
}

#[tokio::test]
async fn killed_between_any_two_steps_nothing_served_is_missing_and_nothing_unreferenced_remains() {
    // So many runs, a grace apart, until all is gone that goes: rows, objects of attempts, blobs, and their trash rows.
    const RUNS: usize = 6;
    for at in 0..RUNS {
        for writes in 0.. {
            let w = two_packages_and_two_pins().await;
            let mut killed = false;
            for this in 0..RUNS {
                if this == at {
                    w.die_after(Some(writes));
                    killed = gc(&*w, false).await.is_err();
                    w.die_after(None);
                    all_is_served(&w).await;
                }
                gc(&*w, false).await.expect("this run is not killed");
                all_is_served(&w).await;
                w.pass(grace(&w));
            }
            let why = format!("run {at}, killed after {writes} writes");
            assert_eq!((blobs(&w).await, trash(&w).await), (referenced(&w).await, vec![]), "{why}");
            assert_eq!(blobs(&w).await.len(), 3, "{why}");
            if !killed {
                break;
            }
        }
    }
}

#[tokio::test]
async fn with_its_last_reference_a_blob_goes() {
    let w = two_packages_and_two_pins().await;
    w.move_pin('7').await;
    w.pass(KEEP + grace(&w));
    for _ in 0..5 {
        run(&w).await;
        w.pass(grace(&w));
    }
    assert_eq!((blobs(&w).await, trash(&w).await), (BTreeSet::new(), vec![]));
    assert!(everything(&w).await.1.is_empty());
}

#[tokio::test]
async fn an_attempt_that_failed_keeps_no_blob() {
    let w = world();
    let bearer = building(&w, "bad").await;
    report(&w, &bearer, &[("bad", SHARED)]).await;
    fail(&w, "bad", Kind::BuildFailed).await;
    built(&w, "tree", 'a', &[("tree", b"another")]).await;
    // Its log is kept, and so is what it has stored.
    run_to_the_end(&w).await;
    assert!(blobs(&w).await.contains(&content(SHARED)));
    w.move_pin('7').await;
    w.pass(KEEP + grace(&w));
    for _ in 0..4 {
        run(&w).await;
        w.pass(grace(&w));
    }
    assert_eq!(blobs(&w).await, BTreeSet::new());
}

/// A blob is in the trash, since nothing references it.
async fn condemned() -> Arc<World> {
    let w = world();
    built(&w, "tree", 'a', &[("tree", SHARED)]).await;
    w.move_pin('6').await;
    w.pass(KEEP + grace(&w));
    run_to_the_end(&w).await;
    assert_eq!(trash(&w).await, [RowKey::Trash(Unreferenced::Blob(content(SHARED)))]);
    w
}

/// A build has begun that has the same content.
async fn wanted_again(w: &World) -> Bearer {
    let bearer = building(w, "tree").await;
    turn(w, "tree", 'b').await;
    bearer
}

#[tokio::test]
async fn a_blob_in_the_trash_gets_no_new_reference_and_its_content_is_stored_apart() {
    let w = condemned().await;
    let bearer = wanted_again(&w).await;
    let report = report(&w, &bearer, &[("t", SHARED), ("tree", SHARED)]).await;
    settle(&*w, &bearer, report).await.expect("a live lease");
    w.reap().await;
    for path in ["tree", "tree/t"] {
        assert_eq!(hit(&w, path).await.object.name, ObjectName::Program((&content(SHARED)).into()));
    }
    for _ in 0..2 {
        w.pass(grace(&w));
        run(&w).await;
        hit(&w, "tree").await;
        assert!(blobs(&w).await.is_empty());
    }
    assert_eq!(trash(&w).await, []);
    // From now on others can share it again.
    built(&w, "trees", 'c', &[("trees", SHARED)]).await;
    assert_eq!(hit(&w, "trees").await.object.name, ObjectName::Blob(content(SHARED)));
}

#[tokio::test]
async fn a_slow_deletion_meets_no_new_reference() {
    let w = condemned().await;
    w.pass(grace(&w));
    let bearer = wanted_again(&w).await;
    let builder = Arc::clone(&w);
    w.store().before_next_blob_removal(async move {
        // Another run deletes it, too, and a builder comes right after.
        run(&builder).await;
        let report = report(&builder, &bearer, &[("tree", SHARED)]).await;
        settle(&*builder, &bearer, report).await.expect("a live lease");
    });
    run(&w).await;
    hit(&w, "tree").await;
    w.pass(grace(&w));
    run_to_the_end(&w).await;
    hit(&w, "tree").await;
    assert_eq!((blobs(&w).await, trash(&w).await), (BTreeSet::new(), vec![]));
}

#[tokio::test]
async fn a_reference_that_comes_right_before_the_trash_row_is_found_by_the_next_run() {
    let w = world();
    built(&w, "tree", 'a', &[("tree", SHARED)]).await;
    w.move_pin('6').await;
    w.pass(KEEP + grace(&w));
    run(&w).await;
    w.pass(grace(&w));
    // This run deletes the attempt, and then finds the blob without a reference.
    let builder = Arc::clone(&w);
    let (bearer, blob) = (building(&w, "trees").await, content(SHARED));
    turn(&w, "trees", 'b').await;
    w.store().before_next_blob_listing(async move {
        builder.before_next_commit({
            let builder = Arc::clone(&builder);
            async move {
                let report = report(&builder, &bearer, &[("trees", SHARED)]).await;
                settle(&*builder, &bearer, report).await.expect("a live lease");
            }
        });
    });
    run(&w).await;
    assert_eq!(trash(&w).await, [RowKey::Trash(Unreferenced::Blob(blob.clone()))]);
    assert_eq!(hit(&w, "trees").await.object.name, ObjectName::Blob(blob.clone()));
    for _ in 0..3 {
        w.pass(grace(&w));
        run(&w).await;
        hit(&w, "trees").await;
    }
    assert_eq!((blobs(&w).await, trash(&w).await), ([blob].into(), vec![]));
}

#[tokio::test]
async fn what_a_run_reports_is_what_there_is() {
    let w = two_packages_and_two_pins().await;
    let size = |content: usize| u64::try_from(content).expect("a size");
    for _ in 0..6 {
        let foretold = gc(&*w, true).await.expect("a dry run").blobs;
        let before: u64 = w.store().blobs(None, 99).await.expect("the store").iter().map(|blob| blob.bytes).sum();
        let report = run(&w).await;
        let after: u64 = w.store().blobs(None, 99).await.expect("the store").iter().map(|blob| blob.bytes).sum();
        let blobs = report.blobs;
        assert_eq!((blobs.removed.bytes, blobs.kept.bytes + blobs.waiting.bytes), (before - after, after));
        assert_eq!(foretold.removed, blobs.removed);
        assert_eq!(w.limits().await.stored(), report.there());
        w.pass(grace(&w));
    }
    let own = ["tree", "trees"].map(|package| format!("\x7fELF only in {package}").len());
    let left: u64 = w.store().blobs(None, 99).await.expect("the store").iter().map(|blob| blob.bytes).sum();
    assert_eq!(left, size(SHARED.len() + own[0] + own[1]));
    assert_eq!(w.store().size(&hit(&w, "tree/a").await.object).await, Ok(Some(size(SHARED.len()))));
}
