//! A package's archive is requested like a program, and stored like one.

use std::sync::Arc;

use binplz_core::{
    build::protocol::{Outcome, Report, Upload},
    flow::{
        lease::{job, settle::settle},
        request::{denial::Denial, outcome::RequestOutcome},
        schedule::dispatch::dispatch,
    },
    id::key::Sha256,
    nixpkgs::served::ServedKey,
    objects::{artifact::ObjectName, content::Content},
    ports::{Deployment, HasStore, Read, Store},
    row::RowKey,
};
use binplz_tests::world::{World, ask, hit, target};

const ARCHIVE: &[u8] = b"\x1f\x8b an archive";

/// Builds `tree`, as a builder that makes archives, or one of an earlier version.
async fn built(w: &World, archives: bool) {
    dispatch(w).await.expect("the ledger");
    let bearer = w.bearer("tree").await;
    let Report { outcome: Outcome::Built(mut manifest), stats, .. } = w.report(&bearer).await else { panic!("built") };
    if archives {
        let (sha256, size) = (Sha256::of(ARCHIVE), ARCHIVE.len() as u64);
        let upload = Upload { name: ObjectName::Archive, size, sha256: sha256.clone() };
        let grants = job::uploads(w, &bearer, &[upload]).await.expect("a live lease");
        manifest.archive = Some(Content { sha256, size });
        let report = Report { outcome: Outcome::Built(manifest.clone()), stats, materials: None };
        assert!(settle(w, &bearer, report).await.is_err(), "it is not stored yet");
        w.store().upload(&grants[0], ARCHIVE).await;
    }
    settle(w, &bearer, Report { outcome: Outcome::Built(manifest), stats, materials: None })
        .await
        .expect("a live lease");
    w.reap().await;
}

#[tokio::test]
async fn a_miss_starts_the_packages_build_and_a_hit_is_one_read() {
    let w: Arc<World> = World::new();
    assert!(matches!(ask(&w, "-/archive/tree").await, RequestOutcome::Pending(_)));
    built(&w, true).await;
    let first = hit(&w, "-/archive/tree").await;
    let size = ARCHIVE.len() as u64;
    assert_eq!((first.bin.as_str(), first.size, &first.sha256), ("tree.tar.gz", size, &Sha256::of(ARCHIVE)));
    assert_eq!(w.store().read(&first.object).await, Ok(Some(ARCHIVE.to_vec())));
    drop(w.reads());
    hit(&w, "-/archive/tree").await;
    let row = RowKey::Served(ServedKey::of(&target("-/archive/tree"), w.system()));
    assert_eq!(w.reads(), [(row, Read::Eventual)]);
    // The program is another file of the same build.
    assert_ne!(hit(&w, "tree").await.sha256, first.sha256);
}

#[tokio::test]
async fn a_package_of_an_earlier_version_says_what_makes_its_archive() {
    let w: Arc<World> = World::new();
    assert!(matches!(ask(&w, "tree").await, RequestOutcome::Pending(_)));
    built(&w, false).await;
    hit(&w, "tree").await;
    let RequestOutcome::Denied(denial @ Denial::NoArchive(_)) = ask(&w, "-/archive/tree").await else {
        panic!("there is no archive");
    };
    assert!(denial.status() == 422 && denial.to_string().contains("binplz rebuild tree"), "{denial}");
}
