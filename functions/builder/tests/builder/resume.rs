//! The builder of a catalogue that is interrupted, and the one that continues: real processes, killed at chosen requests.

use std::{fs, path::Path};

use binplz_catalogue::{Lookup, details, part};
use binplz_core::{
    build::{
        failure::Kind,
        partial::PARTS_MAX,
        protocol::{Job, Nixpkgs, Outcome},
    },
    id::key::Attr,
};
use rustix::process::Signal;

use crate::support::{
    Bench,
    endpoint::{Endpoint, Kept, Mode, Point},
    verdict::failure,
};

/// A set of three levels with some attributes that throw. All take their version from a file, and one does not end
/// before there is a file `gate`.
const GENERATED: &str = r#"{ system, config, overlays }:
let
  version = builtins.readFile ./version;
  package = pname: derivation { name = "${pname}-${version}"; builder = "/bin/sh"; inherit system; }
    // { inherit pname version; meta.mainProgram = pname; };
  packages = prefix: count: builtins.listToAttrs (builtins.genList (number:
    let name = "${prefix}${toString number}";
    in { inherit name; value = if builtins.match ".*7" name != null then throw "${name} is gone" else package name; }) count);
  endless = let f = builtins.foldl' (_: _: builtins.foldl' (_: _: builtins.foldl' (_: n: n) 0 l) 0 l) 0 l; l = builtins.genList (n: n) 100000; in f;
  set = { recurseForDerivations = true; };
in {
  pkgsStatic = packages "top" 60 // {
    sets = set // packages "mid" 40 // {
      deeper = set // packages "low" 20 // { gate = if builtins.pathExists ./gate then package "gate" else endless; };
    };
  };
}
"#;

/// All its attributes.
const ATTRS: usize = 60 + 40 + 20 + 1;

fn generated(bench: &Bench) -> Job {
    fs::write(bench.set().join("default.nix"), GENERATED).expect("a set");
    fs::write(bench.set().join("version"), "1").expect("a version");
    of(bench, &bench.set())
}

/// A job that stores a checkpoint after each attribute.
fn of(bench: &Bench, set: &Path) -> Job {
    let mut job = Job { nixpkgs: Nixpkgs::Path(set.to_string_lossy().into_owned()), ..bench.job("-catalogue") };
    job.limits.checkpoint_seconds = 0;
    job
}

/// The two files of a catalogue that is made to its end, and how many attributes it took over.
fn finished(bench: &Bench, endpoint: &Endpoint) -> ([Vec<u8>; 2], usize) {
    assert_eq!(bench.start(endpoint).end(), (Some(0), String::new()));
    assert_eq!(endpoint.outcome(), Outcome::Catalogued);
    let files = endpoint.see(|seen| ["lookup", "details"].map(|name| seen.objects[name].clone()));
    (files, taken_over(endpoint))
}

fn taken_over(endpoint: &Endpoint) -> usize {
    let log = endpoint.see(|seen| seen.log());
    let line = log.lines().find_map(|line| line.strip_prefix("binplz: continues with "));
    line.and_then(|line| line.split(' ').next()?.parse().ok()).unwrap_or(0)
}

/// Starts a builder, and kills it at a request of its own; what is kept of it.
fn killed(bench: &Bench, job: &Job, kept: Kept, point: Point) -> Kept {
    let endpoint = Endpoint::continuing(job.clone(), kept);
    endpoint.holds_at(point);
    let builder = bench.start(&endpoint);
    endpoint.wait_for_hold();
    builder.signal(Signal::KILL);
    assert_eq!(builder.end().0, None);
    endpoint.kept()
}

/// The version that a package has in a catalogue.
fn version([lookup, all]: &[Vec<u8>; 2], attr: &str) -> String {
    let attr: Attr = attr.parse().expect("an attribute");
    let range = Lookup::open(lookup).expect("a catalogue").details(&attr).expect("it is there");
    let block = &all[usize::try_from(range.start).expect("small")..usize::try_from(range.end).expect("small")];
    details::read(block, &attr).expect("details").about.version
}

#[test]
fn a_catalogue_that_is_interrupted_at_ten_points_has_the_bytes_of_one_that_is_not() {
    let bench = Bench::new();
    fs::write(bench.set().join("gate"), "").expect("a file");
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/set");
    for job in [generated(&bench), of(&bench, &demo)] {
        let (whole, _) = finished(&bench, &Endpoint::new(job.clone()));
        let mut kept = Kept::default();
        for (request, nth, done) in [
            // A part is not stored; is stored and not reported; is reported and not recorded; is recorded without a reply.
            ("PUT /store/partial/000001", 1, false),
            ("PUT /store/partial/000002", 1, true),
            ("POST /lease/checkpoint", 3, false),
            ("POST /lease/checkpoint", 5, true),
            // The same for the top level.
            ("PUT /store/partial/lookup", 1, false),
            ("PUT /store/partial/lookup", 1, true),
            ("\"top_level\":true", 1, true),
            // In a nested set; with half of the complete catalogue; with all of it, and without its report.
            ("POST /lease/checkpoint", 5, true),
            ("PUT /store/lookup", 1, false),
            ("POST /lease/settle", 1, false),
        ] {
            let before = kept.attrs();
            kept = killed(&bench, &job, kept, Point { request, nth, done });
            assert!(kept.attrs() >= before, "{request}: {before} attributes were kept, and now {}", kept.attrs());
        }
        let all = Lookup::open(&whole[0]).expect("a catalogue").attrs();
        assert_eq!((kept.attrs(), kept.published), (all, true));
        let (resumed, known) = finished(&bench, &Endpoint::continuing(job, kept));
        assert!(resumed == whole, "the files differ");
        assert_eq!(known, all);
    }
}

#[test]
fn an_attribute_that_an_earlier_attempt_has_evaluated_is_not_evaluated_again() {
    let bench = Bench::new();
    let job = generated(&bench);
    fs::write(bench.set().join("gate"), "").expect("a file");
    let kept = killed(&bench, &job, Kept::default(), Point { request: "\"top_level\":true", nth: 1, done: true });
    assert_eq!(kept.attrs(), 60);
    fs::write(bench.set().join("version"), "2").expect("a version");
    let (files, known) = finished(&bench, &Endpoint::continuing(job.clone(), kept.clone()));
    let versions = ["top0", "sets.mid0", "sets.deeper.low0"].map(|attr| version(&files, attr));
    assert_eq!((known, versions), (60, ["1", "2", "2"].map(str::to_owned)));
    // Under other limits, it may have another result.
    let mut other = job;
    other.limits.attribute_seconds += 1;
    let endpoint = Endpoint::continuing(other, kept);
    let (files, known) = finished(&bench, &endpoint);
    assert_eq!((known, version(&files, "top0")), (0, "2".to_owned()));
    let log = endpoint.see(|seen| seen.log());
    assert!(log.contains("part 1 of the checkpoint is not used: it was evaluated from another Nixpkgs"), "{log}");
}

#[test]
fn a_part_that_is_damaged_or_missing_costs_its_own_attributes_only() {
    let bench = Bench::new();
    let job = generated(&bench);
    fs::write(bench.set().join("gate"), "").expect("a file");
    let (whole, _) = finished(&bench, &Endpoint::new(job.clone()));
    // One of the reports is of the top level, and of no further part.
    let point = Point { request: "POST /lease/checkpoint", nth: 81, done: true };
    let mut kept = killed(&bench, &job, Kept::default(), point);
    assert_eq!((kept.parts.len(), kept.attrs()), (80, 80));
    let mut damage = |number: usize, damage: &dyn Fn(&mut Vec<u8>)| {
        damage(kept.parts[number].as_mut().expect("a part"));
    };
    damage(3, &|part| *part.last_mut().expect("a byte") ^= 1);
    damage(20, &|part| part.truncate(part.len() / 2));
    damage(40, &Vec::clear);
    damage(50, &|bytes| {
        let (_, records) = part::read(bytes).expect("a part");
        *bytes = part::pack("another basis", &records, 1 << 20).concat();
    });
    damage(60, &|part| part.resize(2 << 20, 0));
    kept.parts[70] = None;
    let endpoint = Endpoint::continuing(job, kept);
    let (resumed, known) = finished(&bench, &endpoint);
    assert!(resumed == whole, "the files differ");
    assert_eq!(known, 74);
    let log = endpoint.see(|seen| seen.log());
    assert_eq!(log.matches("of the checkpoint is not used: ").count(), 6, "{log}");
}

#[test]
fn an_evaluation_dies_with_a_builder_that_is_killed() {
    let bench = Bench::new();
    let endpoint = Endpoint::new(generated(&bench));
    let builder = bench.start(&endpoint);
    // What is left is an attribute that does not end.
    endpoint.wait("the rest", |seen| seen.checkpoints.last().is_some_and(|stored| stored.parts as usize == ATTRS - 1));
    let evaluators = builder.pid().evaluators();
    builder.signal(Signal::KILL);
    assert_eq!(builder.end().0, None);
    evaluators.iter().for_each(|process| process.wait_gone());
}

#[test]
fn the_top_level_is_published_while_nested_sets_are_evaluated() {
    let bench = Bench::new();
    let endpoint = Endpoint::new(generated(&bench));
    let builder = bench.start(&endpoint);
    endpoint.wait("the top level", |seen| seen.checkpoints.iter().any(|stored| stored.top_level));
    let objects = endpoint.see(|seen| {
        assert!(seen.report.is_none());
        seen.objects.clone()
    });
    let files = ["partial/lookup", "partial/details"].map(|name| objects[name].clone());
    let lookup = Lookup::open(&files[0]).expect("a catalogue");
    assert_eq!((lookup.attrs(), version(&files, "top0")), (60, "1".to_owned()));
    assert!(lookup.details(&"sets.mid0".parse().expect("a name")).is_none());
    fs::write(bench.set().join("gate"), "").expect("the gate");
    assert_eq!(builder.end(), (Some(0), String::new()));
    endpoint.see(|seen| assert_eq!(seen.checkpoints.iter().filter(|stored| stored.top_level).count(), 1));
    assert_eq!(Lookup::open(&endpoint.see(|seen| seen.objects["lookup"].clone())).expect("it").attrs(), ATTRS);
}

#[test]
fn a_builder_that_is_told_to_end_stores_what_it_has_and_one_that_lost_its_lease_stores_nothing() {
    let bench = Bench::new();
    let mut job = generated(&bench);
    // It stores by itself when the top level is complete, and not again.
    job.limits.checkpoint_seconds = 3600;
    let at_the_gate = |endpoint: &Endpoint| {
        endpoint.wait("most of it", |seen| {
            seen.pulses.iter().any(|progress| progress.step.as_deref() == Some("100 packages"))
        });
        endpoint.see(|seen| assert_eq!(seen.checkpoints.len(), 1));
    };
    let endpoint = Endpoint::new(job.clone());
    let builder = bench.start(&endpoint);
    at_the_gate(&endpoint);
    endpoint.set_mode(Mode::Gone);
    assert_eq!(builder.end().0, Some(3));
    assert_eq!(endpoint.kept().attrs(), 60);
    endpoint.see(|seen| assert_eq!(seen.wrong, Vec::<String>::new()));

    let endpoint = Endpoint::continuing(job.clone(), endpoint.kept());
    let builder = bench.start(&endpoint);
    endpoint
        .wait("most of it", |seen| seen.pulses.iter().any(|progress| progress.step.as_deref() == Some("100 packages")));
    builder.signal(Signal::TERM);
    assert_eq!(builder.end(), (Some(0), String::new()));
    assert_eq!(failure(&endpoint).kind, Kind::Interrupted);
    let kept = endpoint.kept();
    assert!(kept.attrs() >= 100, "{} attributes", kept.attrs());

    fs::write(bench.set().join("gate"), "").expect("the gate");
    let (resumed, _) = finished(&bench, &Endpoint::continuing(job.clone(), kept));
    let (whole, _) = finished(&bench, &Endpoint::new(job));
    assert!(resumed == whole, "the files differ");
}

#[test]
fn a_catalogue_is_made_where_checkpoints_are_refused_or_have_no_more_parts() {
    let bench = Bench::new();
    let job = generated(&bench);
    fs::write(bench.set().join("gate"), "").expect("a file");
    let endpoint = Endpoint::new(job.clone());
    endpoint.refuses("partial/");
    let (whole, _) = finished(&bench, &endpoint);
    endpoint.see(|seen| {
        assert!(seen.checkpoints.is_empty() && seen.log().contains("no more checkpoints are stored"), "{}", seen.log());
    });
    // As many parts as there may be, each with a record that is not in the set any more.
    let parts = PARTS_MAX as usize;
    let text = GENERATED.replace("\"top\" 60", &format!("\"top\" {}", parts + 9));
    fs::write(bench.set().join("default.nix"), text).expect("a set");
    let endpoint = Endpoint::new(job);
    let (large, _) = finished(&bench, &endpoint);
    endpoint.see(|seen| {
        assert_eq!(seen.checkpoints.last().map(|stored| stored.parts), Some(PARTS_MAX));
        assert!(seen.log().contains("no more checkpoints are stored: a checkpoint has no more parts"));
    });
    let attrs = |files: &[Vec<u8>; 2]| Lookup::open(&files[0]).expect("a catalogue").attrs();
    assert_eq!((attrs(&whole), attrs(&large)), (ATTRS, ATTRS - 60 + parts + 9));
}
