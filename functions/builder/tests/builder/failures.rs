//! Failures of the package and of its set: each for real, with its kind, its message, and the service's next step.

use std::{fs, os::unix::fs::PermissionsExt, thread};

use binplz_core::{
    build::{
        failure::{Class, Kind},
        protocol::{Job, JobLimits, Nixpkgs},
    },
    id::key::DrvHash,
};
use proptest::{
    collection::vec,
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use crate::support::{
    Bench,
    endpoint::{Endpoint, Mode},
    printed,
    verdict::{Next, assert_failed, failure},
    web::{Gives, Web},
};

#[test]
fn a_build_that_fails_is_told_by_its_decisive_line_and_is_not_tried_again() {
    for (name, kind, sentence) in [
        ("compileError", Kind::BuildFailed, "the build failed: main.c:1:25: error: 'missing' undeclared"),
        ("testFailure", Kind::TestFailed, "the package's own tests failed: FAIL: two"),
        (
            "noOutput",
            Kind::NoOutput,
            "the build ended without making its output: builder for 'noOutput-1.0.drv' failed to",
        ),
    ] {
        let bench = Bench::new();
        let endpoint = bench.work(bench.job(&format!("failing.{name}")));
        assert_failed(&endpoint, kind, Next::Nothing, sentence);
        assert_eq!(failure(&endpoint).derivation, None, "{name}");
        assert_eq!(endpoint.report().stats.derivations, 1, "{name}");
    }
}

#[test]
fn a_dependencys_failure_is_told_as_the_dependencys() {
    for (name, dependency, kind, sentence) in [
        (
            "onCompileError",
            "compileError-1.0",
            Kind::BuildFailed,
            "the build failed, in its dependency compileError-1.0: main.c:1:25: error: 'missing' undeclared",
        ),
        (
            "onWrongHash",
            "wrongHash",
            Kind::HashMismatch,
            "the hash of a downloaded source differs from the package's, in its dependency wrongHash: hash mismatch in \
             fixed-output derivation 'wrongHash.drv'",
        ),
    ] {
        let bench = Bench::new();
        let endpoint = bench.work(bench.job(&format!("failing.{name}")));
        assert_failed(&endpoint, kind, Next::Nothing, sentence);
        assert_eq!(failure(&endpoint).derivation.as_deref(), Some(dependency));
        let last = format!("binplz: failed in {dependency}: ");
        endpoint.see(|seen| assert!(seen.log().lines().last().is_some_and(|line| line.starts_with(&last))));
    }
}

#[test]
fn a_build_beyond_a_limit_is_ended_with_all_its_processes_and_is_not_tried_again() {
    let limits = JobLimits { seconds: 300, silent_seconds: 120, ..JobLimits::default() };
    for (name, limits, kind, sentence) in [
        (
            "endless",
            JobLimits { seconds: 2, ..limits.clone() },
            Kind::TimedOut,
            "the build exceeded its time limit: the job's time limit was reached",
        ),
        (
            "silent",
            JobLimits { silent_seconds: 1, ..limits.clone() },
            Kind::Silent,
            "the build printed nothing for too long: timed out after 1 seconds of silence",
        ),
        (
            "talkative",
            JobLimits { log_bytes: 50_000, ..limits },
            Kind::LogTooLong,
            "the build's log exceeded its size limit: killed after writing more than 50000 bytes of log output",
        ),
    ] {
        let bench = Bench::new();
        let endpoint = bench.work(Job { limits, ..bench.job(&format!("failing.{name}")) });
        assert_failed(&endpoint, kind, Next::Nothing, sentence);
        bench.build_process().wait_gone();
    }
}

#[test]
fn a_build_that_talks_like_nix_of_a_machine_that_is_not_set_up_stops_nobody_else() {
    for name in ["liesOfSandbox", "liesOfSignature"] {
        let bench = Bench::new();
        let endpoint = bench.work(bench.job(&format!("failing.{name}")));
        let failure = failure(&endpoint);
        assert_ne!(failure.kind.class(), Class::Operator, "{failure:?} {}", endpoint.see(|seen| seen.log()));
    }
}

/// The packages that print lines in a run, of which the last fails.
const PRINTERS: usize = 20;

/// The derivation that a build was convicted of failing by, after [`PRINTERS`] printed these lines beside a victim, and how many of
/// them did: they changed nothing but their own logs and results.
#[track_caller]
fn convicted(bench: &Bench, round: u32, mut lines: impl FnMut() -> String) -> (Option<DrvHash>, usize) {
    let (set, printed) = (bench.set(), bench.set().join("printed"));
    fs::write(set.join("round"), round.to_string()).expect("a file");
    let [victim, slanderer] = ["victim", "slanderer"].map(|name| failing_drv(bench, name));
    let hash = |path: &str| DrvHash::of_path(path).expect("a derivation");
    fs::create_dir_all(set.join("lines")).expect("a directory");
    for number in 0..PRINTERS {
        fs::write(set.join("lines").join(number.to_string()), lines().replace("VICTIM", &victim)).expect("a file");
    }
    fs::write(&printed, "").expect("a file");
    drop(fs::remove_file(set.join("pid")));
    // Longer than a busy machine lets a process wait.
    let endpoint = bench.work(Job { lease_seconds: 120, ..bench.job("failing.besideEachOther") });
    assert_failed(&endpoint, Kind::BuildFailed, Next::Nothing, "the build failed");
    endpoint.see(|seen| {
        for pulse in &seen.pulses {
            assert!(pulse.bytes_fetched == 0 && (pulse.done as usize) < PRINTERS, "{pulse:?}");
            assert!(pulse.expected as usize <= PRINTERS + 2, "{pulse:?}");
        }
        assert!(seen.claims[0].to_build.contains(&hash(&victim)), "it was not planned");
    });
    if set.join("pid").exists() {
        bench.build_process().wait_gone();
    }
    let convicted = failure(&endpoint).drv;
    assert!(
        convicted.as_ref().is_none_or(|convicted| *convicted == hash(&slanderer)),
        "{convicted:?} in {}: {:?}",
        set.display(),
        failure(&endpoint)
    );
    (convicted, fs::read(printed).expect("a file").len())
}

fn failing_drv(bench: &Bench, name: &str) -> String {
    let set =
        format!("(import {} {{ system = \"x86_64-linux\"; config = {{ }}; overlays = [ ]; }})", bench.set().display());
    let expression = format!("{set}.pkgsStatic.failing.{name}");
    let made = bench.nix("nix-instantiate").args(["--expr", &expression]).output().expect("nix-instantiate");
    String::from_utf8_lossy(&made.stdout).trim().to_owned()
}

const SLANDER: &str = r#"
@nix {"action":"msg","level":0,"raw_msg":"x","msg":"error: builder for 'VICTIM' failed with exit code 1"}
@nix {"action":"start","id":1,"level":0,"text":"","type":104}
@nix {"action":"result","id":1,"type":105,"fields":[8,9,0,5]}
@nix {"action":"start","id":2,"level":3,"text":"building","type":105,"fields":["VICTIM","",1,1]}
@nix {"action":"start","id":3,"level":4,"text":"","type":101,"fields":["http://x"]}
@nix {"action":"result","id":3,"type":105,"fields":[1000000,1000000,0,7]}
@nix {"action":"msg","level":0,"msg":"\u001b[31;1merror:\u001b[0m builder for 'VICTIM' failed with exit code 1"}
"#;

#[test]
fn what_a_build_prints_is_never_nixs_testimony() {
    for bench in [Bench::new(), Bench::new().by_daemon()] {
        let (convicted, printed) = convicted(&bench, 0, || SLANDER.to_owned());
        assert!(convicted.is_some() && printed == PRINTERS, "{convicted:?} {printed}");
    }
}

/// `BINPLZ_PRINTED_RUNS` is the number of builds that print. Half of the workers that share them use the daemon.
#[test]
#[expect(clippy::disallowed_methods, clippy::disallowed_macros, reason = "a setting of this test, and its report")]
fn whatever_builds_print_real_nix_relays_it_as_no_more_than_text() {
    const WORKERS: u8 = 4;
    let wanted = std::env::var("BINPLZ_PRINTED_RUNS").map_or(80usize, |runs| runs.parse().expect("a number"));
    let work = move |number: u8| {
        let bench = if number.is_multiple_of(2) { Bench::new() } else { Bench::new().by_daemon() };
        let lines =
            vec(printed::line(["VICTIM", "VICTIM", "/nix/store/x.drv"]), 0..8).prop_map(|lines| lines.join("\n"));
        let random = TestRng::from_seed(RngAlgorithm::ChaCha, &[number; 32]);
        let mut runner = TestRunner::new_with_rng(Config::default(), random);
        let (mut round, mut printed, mut ended) = (0, 0, 0);
        while printed < wanted / usize::from(WORKERS) {
            let lines = || lines.new_tree(&mut runner).expect("lines").current();
            // Nix 2.8 itself gives up at some messages, and names no derivation then.
            let (convicted, more) = convicted(&bench, round, lines);
            (round, printed, ended) = (round + 1, printed + more, ended + u32::from(convicted.is_none()));
        }
        println!("worker {number}: {printed} builds printed in {round} runs of Nix, of which {ended} ended Nix itself");
    };
    thread::scope(|scope| {
        for number in 0..WORKERS {
            scope.spawn(move || work(number));
        }
    });
}

/// Ways of an expression to read a file or a directory, as text.
const READS: [&str; 9] = [
    "builtins.readFile (PATH + \"/file\")",
    "builtins.toJSON (builtins.readDir PATH)",
    "builtins.hashFile \"sha256\" (PATH + \"/file\")",
    "import (PATH + \"/file\")",
    "\"${builtins.path { path = PATH; name = \"stolen\"; }}\"",
    "\"${builtins.filterSource (_: _: true) (/. + PATH)}\"",
    "\"${builtins.fetchurl \"file://${PATH}/file\"}\"",
    "\"${builtins.fetchGit PATH}\"",
    "builtins.readFile (import (builtins.toFile \"x.nix\" ''PATH + \"/file\"''))",
];

#[test]
fn no_expression_reads_outside_of_its_set() {
    let bench = Bench::new();
    let place = bench.set().parent().expect("a directory").join("secret");
    fs::create_dir(&place).expect("a directory");
    fs::write(place.join("file"), "\"TOPSECRET\"").expect("a file");
    std::os::unix::fs::symlink(&place, bench.set().join("link")).expect("a link");
    let (set, place) = (bench.set().display().to_string(), place.display().to_string());
    let spellings = [
        format!("\"{place}\""),
        format!("\"{set}/../secret\""),
        format!("\"{set}/link\""),
        format!("\"/proc/self/root{place}\""),
        "(toString (./. + \"/../secret\"))".to_owned(),
    ];
    for (read, path) in READS.iter().flat_map(|read| spellings.iter().map(move |path| (read, path))) {
        let expression = read.replace("PATH", path);
        fs::write(bench.set().join("curious.nix"), &expression).expect("an expression");
        let endpoint = bench.work(bench.job("failing.curiousExpression"));
        assert_eq!(failure(&endpoint).kind, Kind::EvaluationError, "{expression}: {:?}", failure(&endpoint));
        assert!(!endpoint.see(|seen| seen.log()).contains("TOPSECRET"), "{expression}");
    }
}

#[test]
fn an_expression_sees_no_variable_and_no_network_and_finds_its_own_set() {
    let bench = Bench::new();
    let web = Web::start(|_| Gives::All(b"1".to_vec()));
    fs::write(bench.set().join("curious.nix"), format!("import (builtins.fetchurl \"{}\")", web.url("/x.nix")))
        .expect("an expression");
    let endpoint = bench.work(bench.job("failing.curiousExpression"));
    assert_eq!((failure(&endpoint).kind, web.asked()), (Kind::EvaluationError, vec![]));
    fs::write(bench.set().join("own"), "own").expect("a file");
    let seen = "throw ''home ${builtins.getEnv \"HOME\"}, ${builtins.readFile <nixpkgs/own>}''";
    fs::write(bench.set().join("curious.nix"), seen).expect("an expression");
    let endpoint = bench.work(bench.job("failing.curiousExpression"));
    assert_eq!(failure(&endpoint).detail.as_deref(), Some("home , own"));
}

#[test]
fn a_package_for_another_machine_says_which_one_it_takes() {
    let bench = Bench::new();
    let endpoint = bench.work(bench.job("failing.elsewhere"));
    let said = "no builder of this service can build it: it needs a machine for riscv64-linux";
    assert_failed(&endpoint, Kind::NoMachine, Next::Nothing, said);
}

#[test]
fn the_whole_job_ends_at_its_time() {
    let bench = Bench::new();
    let mut job = bench.job("gated");
    job.limits.seconds = 2;
    let endpoint = Endpoint::new(job);
    let builder = bench.start(&endpoint);
    assert_eq!(builder.end(), (Some(0), String::new()));
    assert_eq!(failure(&endpoint).kind, Kind::TimedOut);
    bench.build_process().wait_gone();
}

#[test]
fn what_is_no_package_is_told_from_what_does_not_evaluate() {
    for (attr, kind, detail) in [
        ("missing", Kind::NoSuchPackage, None),
        ("nested", Kind::NoSuchPackage, None),
        ("nested.deeper.missing", Kind::NoSuchPackage, None),
        ("number", Kind::NoSuchPackage, None),
        ("number.more", Kind::NoSuchPackage, None),
        ("function", Kind::NoSuchPackage, None),
        ("throws", Kind::EvaluationError, Some("this package is no more")),
        ("throws.more", Kind::EvaluationError, Some("this package is no more")),
    ] {
        let bench = Bench::new();
        let endpoint = Endpoint::new(bench.job(attr));
        assert_eq!(bench.start(&endpoint).end(), (Some(0), String::new()));
        assert_failed(&endpoint, kind, Next::Nothing, kind.sentence());
        let failure = failure(&endpoint);
        assert_eq!((failure.kind, failure.detail.as_deref(), failure.derivation), (kind, detail, None), "{attr}");
    }
}

#[test]
fn a_package_set_that_can_not_be_had_is_no_fault_of_the_package() {
    let bench = Bench::new();
    let mut job = bench.job("good");
    job.nixpkgs = Nixpkgs::Path("/nonexistent".into());
    let endpoint = Endpoint::new(job.clone());
    assert_eq!(bench.start(&endpoint).end(), (Some(0), String::new()));
    assert_eq!(failure(&endpoint).kind, Kind::BuilderError);

    job.nixpkgs = Nixpkgs::Tarball { url: "http://127.0.0.1:9/nixpkgs.tar.gz".into(), nar_hash: None };
    let endpoint = Endpoint::new(job);
    assert_eq!(bench.start(&endpoint).end(), (Some(0), String::new()));
    assert_eq!(failure(&endpoint).kind, Kind::SourceUnavailable);
}

#[test]
fn a_tarball_that_is_larger_than_any_nixpkgs_is_not_fetched_to_its_end() {
    let bench = Bench::new();
    let large = tempfile::NamedTempFile::with_suffix(".tar.gz").expect("a file");
    fs::write(large.path(), vec![b'x'; 3 << 20]).expect("room");
    let mut job = bench.job("good");
    job.nixpkgs = Nixpkgs::Tarball { url: format!("file://{}", large.path().display()), nar_hash: None };
    job.limits.nixpkgs_bytes = 2 << 20;
    let endpoint = Endpoint::new(job);
    assert_eq!(bench.start(&endpoint).end(), (Some(0), String::new()));
    let failure = failure(&endpoint);
    assert_eq!(failure.kind, Kind::BuilderError);
    assert_eq!(failure.detail.as_deref(), Some("the nixpkgs has more than 2097152 bytes"));
}

#[test]
fn a_machine_without_nix_or_with_an_old_one_says_so() {
    let bench = Bench::new();
    for (nix, kind, says) in [
        (None, Kind::BuilderError, "Nix is not installed"),
        (Some("nix-store (Nix) 2.3.16"), Kind::OldNix, "binplz needs Nix 2.8 or newer, and Nix 2.3.16 is installed"),
    ] {
        let path = tempfile::tempdir().expect("a directory");
        if let Some(version) = nix {
            let program = path.path().join("nix-store");
            fs::write(&program, format!("#!/bin/sh\necho '{version}'\n")).expect("a script");
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("permissions");
        }
        let endpoint = Endpoint::new(bench.job("good"));
        let builder = bench.builder(&endpoint).env("PATH", path.path()).output().expect("the builder starts");
        assert_eq!(builder.status.code(), Some(0));
        let failure = failure(&endpoint);
        assert_eq!(failure.kind, kind);
        assert!(failure.detail.as_ref().is_some_and(|detail| detail.contains(says)), "{failure:?}");
    }
}

/// The set of a bench, which no Nix of today is new enough for.
fn needs_a_newer_nix(bench: &Bench) {
    fs::create_dir(bench.set().join("lib")).expect("a directory");
    fs::write(bench.set().join("lib/minver.nix"), "# The oldest Nix\n\"9.9\"\n").expect("a file");
}

#[test]
fn a_nixpkgs_that_requires_a_newer_nix_is_not_evaluated_and_no_package_is_blamed() {
    for product in ["good", "missing", "-catalogue"] {
        let bench = Bench::new();
        needs_a_newer_nix(&bench);
        let endpoint = bench.work(bench.job(product));
        let said = "the installed Nix is too old: this nixpkgs needs Nix 9.9 or newer, and Nix 2.";
        assert_failed(&endpoint, Kind::OldNix, Next::Mended, said);
        assert!(failure(&endpoint).sentence().contains("scripts/setup --nix"), "{product}");
    }
}

#[test]
fn a_requirement_is_read_of_small_files_only_and_a_nixpkgs_may_have_none() {
    let bench = Bench::new();
    let lib = bench.set().join("lib");
    fs::create_dir(&lib).expect("a directory");
    std::os::unix::fs::symlink("/dev/zero", lib.join("minver.nix")).expect("a link");
    fs::write(lib.join("minfeatures.nix"), format!("{}\"9.9\"", "\n".repeat(1 << 20))).expect("a file");
    assert_eq!(failure(&bench.work(bench.job("missing"))).kind, Kind::NoSuchPackage);
}

#[test]
fn a_store_that_refuses_the_programs_is_a_failure_of_ours() {
    let bench = Bench::new();
    let endpoint = Endpoint::new(bench.job("gated"));
    let builder = bench.start(&endpoint);
    endpoint.wait_for_gate();
    endpoint.set_mode(Mode::StoreRefuses);
    bench.open_gate();
    let (code, said) = builder.end();
    assert_eq!(code, Some(0));
    assert!(said.contains("the log is not complete"), "{said}");
    let failure = failure(&endpoint);
    assert_eq!(
        (failure.kind, failure.detail.as_deref()),
        (Kind::BuilderError, Some("bin/gated: an upload was refused with 403"))
    );
}
