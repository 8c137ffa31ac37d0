//! A bundle is a build like any other, beside that of its package.

use std::{sync::Arc, time::Duration};

use binplz_core::{
    answer::{
        asked::{Asked, Format},
        reply::{Body, status_json},
    },
    build::{
        State,
        failure::{Failure, Kind},
        policy::Policy,
        protocol::{Job, JobLimits, Outcome, Report, Stats, Turn, Upload},
    },
    flow::{
        lease::{claim::claim, job, settle::settle},
        operator::pins,
        request::{outcome::RequestOutcome, status::status},
        schedule::dispatch::dispatch,
    },
    id::key::{DrvHash, Product, Sha256},
    nixpkgs::{pins::Change, served::ServedKey},
    objects::{
        artifact::{Manifest, ObjectName, Refusal, Verdict},
        needs::{Data, Need},
    },
    ports::{Deployment, Read},
    row::RowKey,
};
use binplz_tests::world::{World, ask, building, evaluated, hit, target};
use serde_json::Value;

const BUNDLE: &str = "-/bundle/tree";

fn world() -> Arc<World> {
    World::with(Policy { slots: 9, ..Policy::default() })
}

/// What the builder reports of a bundle, or of a package, with these programs; all programs of a bundle are one file.
async fn built(w: &World, path: &str, programs: &[&str]) -> Manifest {
    let bearer = w.bearer(path).await;
    let content = format!("\x7fELF of {}", bearer.key);
    let programs: Vec<_> = programs.iter().map(|bin| (*bin, content.as_bytes())).collect();
    let Outcome::Built(manifest) = w.report_with(&bearer, &programs).await.outcome else { panic!("it is built") };
    manifest
}

/// Ends a build so.
async fn settled(w: &World, path: &str, outcome: Outcome) {
    let report = Report { outcome, stats: Stats::default(), materials: None };
    settle(w, &w.bearer(path).await, report).await.expect("a live lease");
    w.reap().await;
}

/// What an answer says in a form.
async fn told(w: &Arc<World>, path: &str, format: Format) -> String {
    let target = target(path);
    let asked = Asked { origin: w.origin(), target: Some(&target), format, retry: false };
    match ask(w, path).await.answer(&asked).body {
        Body::Text(text) | Body::Json(_, text) => text,
        Body::Page(page) => format!("{page:?}"),
    }
}

fn started(w: &World) -> usize {
    w.launcher.started.lock().expect("a lock").len()
}

#[tokio::test]
async fn a_miss_starts_one_build_of_its_own_and_a_hit_is_one_read() {
    let w = world();
    for path in [BUNDLE, "tree?bundle", "-/bundle/tree?bundle", BUNDLE] {
        assert!(matches!(ask(&w, path).await, RequestOutcome::Pending(_)), "{path}");
    }
    dispatch(&*w).await.expect("the ledger");
    assert_eq!(started(&w), 1);
    assert_eq!(w.build("tree").await.state, State::Unasked);
    let manifest = built(&w, BUNDLE, &["ls", "tree"]).await;
    settled(&w, BUNDLE, Outcome::Built(manifest)).await;
    let served = hit(&w, BUNDLE).await;
    assert!(matches!(served.object.name, ObjectName::Blob(_)) && served.notes.bundle.is_some(), "{served:?}");
    assert_eq!((served.bin.as_str(), served.attr.as_str()), ("tree", "tree"));
    // One file runs both, by the name that it is called by.
    assert_eq!(hit(&w, "-/bundle/tree/ls").await.sha256, served.sha256);
    assert!(served.notes.sentence(&served.bin).starts_with("keep the name tree"), "{served:?}");
    drop(w.reads());
    hit(&w, BUNDLE).await;
    let row = RowKey::Served(ServedKey::of(&target(BUNDLE), w.system()));
    assert_eq!(w.reads(), [(row, Read::Eventual)]);
    // With all files, it is another build, and so is the program.
    building(&w, &["-/bundle/tree?full", "tree"]).await;
    assert_eq!(started(&w), 3);
}

#[tokio::test]
async fn of_one_derivation_the_bundle_and_the_package_are_both_made_and_each_once() {
    let w = world();
    building(&w, &[BUNDLE, "tree", "-/bundle/dash", "dash"]).await;
    let drv: DrvHash = "a".repeat(32).parse().expect("base 32");
    let turn = async |path: &str| {
        let found = evaluated(format!("/nix/store/{drv}-x-1.0.drv"));
        claim(&*w, &w.bearer(path).await, found).await.expect("a live lease")
    };
    assert_eq!(turn(BUNDLE).await, Turn::Go);
    // Its derivation may be being built, so the package asks before it builds it.
    assert_eq!(turn("tree").await, Turn::Ask);
    assert_eq!((turn("-/bundle/dash").await, turn("dash").await), (Turn::Elsewhere, Turn::Elsewhere));
    let made = async |path: &str| {
        let manifest = Manifest { drv_path: format!("/nix/store/{drv}-x-1.0.drv"), ..built(&w, path, &["x"]).await };
        settled(&w, path, Outcome::Built(manifest)).await;
    };
    made(BUNDLE).await;
    made("tree").await;
    let (bundle, program) = (hit(&w, "-/bundle/dash/x").await, hit(&w, "dash/x").await);
    assert_eq!((&bundle.object.key, &program.object.key), (&w.key(BUNDLE).await, &w.key("tree").await));
    assert!(bundle.sha256 != program.sha256 && bundle.notes.bundle.is_some() && program.notes.bundle.is_none());
    // A pin moves, and the derivation is the same.
    hit(&w, BUNDLE).await;
    w.move_pin('6').await;
    let asked = ask(&w, BUNDLE).await;
    assert!(matches!(asked, RequestOutcome::Hit { .. }), "the last one is served meanwhile: {asked:?}");
    dispatch(&*w).await.expect("the ledger");
    assert_eq!(turn(BUNDLE).await, Turn::Elsewhere);
    assert_eq!(hit(&w, BUNDLE).await.object, hit(&w, "-/bundle/dash/x").await.object);
}

#[tokio::test]
async fn it_is_made_of_the_static_build_if_that_needs_more_than_its_file() {
    let w = world();
    building(&w, &["tree", "dash", "procps"]).await;
    let need = Need::Data { data: Data::Terminfo, path: "/nix/store/x".to_owned(), settable: false };
    for (path, needs) in [("tree", Some(vec![need])), ("dash", Some(Vec::new())), ("procps", None)] {
        let mut manifest = built(&w, path, &[path]).await;
        let Verdict::Static { needs: its, .. } = &mut manifest.programs[0].verdict else { panic!("static") };
        *its = needs;
        settled(&w, path, Outcome::Built(manifest)).await;
    }
    building(&w, &[BUNDLE, "-/bundle/dash", "-/bundle/procps", "-/bundle/hello"]).await;
    for (path, of_static) in
        [(BUNDLE, true), ("-/bundle/dash", false), ("-/bundle/procps", false), ("-/bundle/hello", false)]
    {
        let job: Job = job::job(&*w, &w.bearer(path).await).await.expect("a live lease");
        assert_eq!(job.of_static, of_static, "{path}");
    }
    // The program's answers point to the bundle, where it needs more than its file.
    for format in [Format::Json, Format::Html] {
        assert!(told(&w, "tree", format).await.contains("-/bundle/tree"), "{format:?}");
        assert!(!told(&w, "dash", format).await.contains("-/bundle/"), "{format:?}");
    }
    let target = target("tree");
    let asked = Asked { origin: w.origin(), target: Some(&target), format: Format::Shell, retry: false };
    let outcome = ask(&w, "tree").await;
    let line = outcome.status_line(&asked);
    assert!(line.ends_with(&format!("as one file with all that it needs: {}/-/bundle/tree\n", w.origin())), "{line}");
    let url = format!("{}/-/bundle/tree", w.origin());
    assert!(outcome.answer(&asked).headers.contains(&("x-binplz-bundle", url)));
}

#[tokio::test]
async fn what_is_no_static_program_leads_to_its_bundle_and_what_cannot_be_had_does_not() {
    let w = world();
    let failed = |kind| Outcome::Failed(Failure::new(kind, "why"));
    let mixed = |mut manifest: Manifest| {
        manifest.programs[0].verdict = Verdict::Refused { why: Refusal::Script };
        Outcome::Built(manifest)
    };
    building(&w, &["tree", "dash", "procps", "hello", "grep"]).await;
    let script = built(&w, "tree", &["tree", "tree-helper"]).await;
    for (path, outcome, leads) in [
        ("tree", mixed(script), true),
        ("dash", failed(Kind::NotStatic), true),
        ("procps", failed(Kind::Broken), true),
        ("hello", failed(Kind::Unfree), false),
        ("grep", failed(Kind::TooLarge), false),
    ] {
        settled(&w, path, outcome).await;
        let url = format!("as one file with all that it needs: {}/-/bundle/{path}", w.origin());
        for format in [Format::Shell, Format::Json, Format::Html] {
            let text = told(&w, path, format).await;
            assert_eq!(text.contains(&url), leads, "{path}, {format:?}: {text}");
        }
        let target = target(path);
        let asked = Asked { origin: w.origin(), target: Some(&target), format: Format::Json, retry: false };
        let status = status(&*w, &target).await.expect("a build");
        let document: Value =
            serde_json::from_str(&status_json(&status, Some(&ask(&w, path).await), &asked)).expect("JSON");
        assert_eq!(document["form"], "program");
        assert_eq!(document["bundle"].is_string(), leads, "{document}");
        // Of another one, it says nothing.
        let bundle = told(&w, &format!("-/bundle/{path}"), Format::Shell).await;
        assert!(!bundle.contains("as one file"), "{bundle}");
    }
}

#[tokio::test]
async fn a_builder_stores_no_larger_bundle_and_reports_what_it_was_asked_for() {
    let job = JobLimits { bundle_bytes: 1000, ..JobLimits::default() };
    let w = World::with(Policy { job, slots: 9, ..Policy::default() });
    building(&w, &[BUNDLE, "tree"]).await;
    let allowed = async |path: &str, size| {
        let upload = Upload { name: ObjectName::Program("x".parse().expect("a name")), size, sha256: Sha256::of(b"") };
        job::uploads(&*w, &w.bearer(path).await, &[upload]).await.is_ok()
    };
    assert!(allowed(BUNDLE, 1000).await && !allowed(BUNDLE, 1001).await && allowed("tree", 1001).await);
    for (path, bundle) in [(BUNDLE, false), ("tree", true)] {
        let of_other = if bundle { BUNDLE } else { "tree" };
        let manifest = built(&w, path, &["tree"]).await;
        let bundle = built(&w, of_other, &["tree"]).await.bundle;
        let report = Report {
            outcome: Outcome::Built(Manifest { bundle, ..manifest }),
            stats: Stats::default(),
            materials: None,
        };
        assert!(settle(&*w, &w.bearer(path).await, report).await.is_err(), "{path}");
    }
}

#[tokio::test]
async fn how_long_it_takes_is_learnt_from_the_same_one_and_from_other_bundles_and_from_no_package() {
    let w = world();
    let estimate = async |path: &str| status(&*w, &target(path)).await.expect("a build").estimate_seconds;
    let takes = async |path: &str, seconds| {
        w.pass(Duration::from_secs(seconds));
        let manifest = built(&w, path, &["x"]).await;
        settled(&w, path, Outcome::Built(manifest)).await;
    };
    building(&w, &["dash", BUNDLE]).await;
    takes("dash", 40).await;
    assert_eq!(estimate(BUNDLE).await, None);
    takes(BUNDLE, 10).await;
    building(&w, &["-/bundle/dash", "tree"]).await;
    assert_eq!((estimate("-/bundle/dash").await, estimate("tree").await), (Some(50), Some(40)));
    takes("-/bundle/dash", 20).await;
    // That of a newer nixpkgs takes as long as the last one, and another one as they do on average.
    w.move_pin('b').await;
    building(&w, &["-/bundle/dash", "-/bundle/procps"]).await;
    assert_eq!((estimate("-/bundle/dash").await, estimate("-/bundle/procps").await), (Some(20), Some(35)));
}

#[tokio::test]
async fn a_package_that_is_taken_down_has_no_bundle_either() {
    let w = world();
    building(&w, &[BUNDLE]).await;
    let manifest = built(&w, BUNDLE, &["tree"]).await;
    settled(&w, BUNDLE, Outcome::Built(manifest)).await;
    hit(&w, BUNDLE).await;
    let tree = "tree".parse().expect("a name");
    pins::change(&*w, &Change::Withhold(tree, "its authors ask for it".to_owned())).await.expect("a change");
    for path in [BUNDLE, "-/bundle/tree?full"] {
        assert!(told(&w, path, Format::Shell).await.contains("its authors ask for it"), "{path}");
    }
    assert!(matches!(w.key(BUNDLE).await.product, Product::Bundle { full: false, .. }));
}
