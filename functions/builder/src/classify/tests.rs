//! Each kind of failure, from recorded output of Nix (`tests/samples`).

use super::*;
use crate::{
    log::{Log, plain},
    progress_channel::ProgressChannel,
    watch::Watch,
};

const APP: &str = "the derivation that was asked for";

/// The evidence of a run that was recorded with a version of Nix, if there is one.
fn recorded_with(version: &str, sample: &str) -> Option<Evidence> {
    let file = format!("{}/tests/samples/{version}/{sample}.stderr", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read(file).ok()?;
    let (progress_channel, log) =
        (ProgressChannel::default(), Log::new(1 << 20, &"0".repeat(64).parse().expect("a token")));
    let mut watch = Watch::new(&progress_channel, &log);
    text.split(|&byte| byte == b'\n').for_each(|line| watch.hear(line));
    let mut evidence = watch.into_evidence();
    // What Nix was to build: all derivations that are named.
    let text = String::from_utf8_lossy(&text);
    let named = text.split('\'').map(|quoted| plain(quoted.trim_start_matches("\\u001b[35;1m")));
    let named = named.filter_map(|quoted| Some(quoted[..quoted.find(".drv")? + ".drv".len()].to_owned()));
    evidence.planned = named.filter(|drv| drv.starts_with('/')).collect();
    Some(evidence)
}

fn recorded(sample: &str) -> Evidence {
    recorded_with("2.8", sample).expect("a sample")
}

fn code(code: i32) -> NixExit {
    NixExit::Exit(Exit::Code(code))
}

#[test]
fn each_recorded_failure_of_a_build_has_its_kind_and_its_decisive_line() {
    use Kind::*;
    for (sample, status, kind, derivation, detail) in [
        ("compile-error", 100, BuildFailed, "app-1.0", "main.c:3:10: error: 'x' undeclared"),
        ("test-failure", 100, TestFailed, "app-1.0", "FAIL: two"),
        ("dependency-fails", 100, BuildFailed, "dep-1.0", "ld: main.o: undefined reference to `f"),
        ("exec-missing", 100, BuildFailed, "app-1.0", "executing '/nonexistent': No such file or directory"),
        ("memory-child", 100, OutOfMemory, "app-1.0", "gcc: fatal error: Killed signal terminated program cc1"),
        ("memory-itself", 100, OutOfMemory, "app-1.0", "builder for 'app-1.0.drv' failed due to signal 9 (Killed)"),
        ("memory-137", 100, OutOfMemory, "app-1.0", "builder for 'app-1.0.drv' failed with exit code 137"),
        ("disk-full", 100, DiskFull, "app-1.0", "cp: error writing big: No space left on device"),
        ("silence", 101, Silent, "app-1.0", "timed out after 1 seconds of silence"),
        ("timeout", 101, TimedOut, "app-1.0", "timed out after 1 seconds"),
        ("endless-log", 1, LogTooLong, "app-1.0", "killed after writing more than 800 bytes of log output"),
        (
            "no-output",
            1,
            NoOutput,
            "app-1.0",
            "builder for 'app-1.0.drv' failed to produce output path for output 'out' at 'app-1.0'",
        ),
        (
            "hash-mismatch",
            102,
            HashMismatch,
            "src.tar.gz",
            "hash mismatch in fixed-output derivation 'src.tar.gz.drv': \
             specified: sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA= \
             got: sha256-mOpuTyFvL7S2n/+bOkSELDhobKaF8/VdxIxdP7EQe+Q=",
        ),
        ("fetcher-fails", 1, SourceUnavailable, "src.tar.gz", "cannot download src.tar.gz from any mirror"),
        ("download-fails", 1, SourceUnavailable, "src.tar.gz", "unable to download 'http://127.0.0.1:9/x.tar.gz': Co"),
        (
            "cache-503",
            1,
            CacheUnavailable,
            "ok-1.0",
            "some substitutes for the outputs of derivation 'ok-1.0.drv' failed (usually happens due to networking \
             issues); try '--fallback' to build derivation from source",
        ),
        (
            "cache-corrupt",
            1,
            CacheUnavailable,
            "ok-1.0",
            "some substitutes for the outputs of derivation 'ok-1.0.drv' failed (usually happens due to networking \
             issues); try '--fallback' to build derivation from source",
        ),
        ("signature", 1, Signature, "", "the substitute for 'ok-1.0' from 'file:///tmp/cache' is not signed by any of"),
        ("sandbox-refused", 1, Sandbox, "", "unable to start build process"),
        ("no-build-users", 1, Sandbox, "", "the group 'nosuchgroup' specified in 'build-users-group' does not exist"),
        ("other-system", 1, NoMachine, "app-1.0", "it needs a machine for aarch64-linux"),
    ] {
        recorded(sample);
        for version in ["2.8", "2.26"] {
            let Some(evidence) = recorded_with(version, sample) else { continue };
            let failure = realisation(code(status), &evidence, APP);
            let found = (failure.kind, failure.derivation.as_deref().unwrap_or_default());
            assert_eq!(found, (kind, derivation), "{sample} of {version}");
            let said = failure.detail.unwrap_or_default();
            assert!(said.starts_with(detail), "{sample} of {version}: {said}");
        }
    }
}

#[test]
fn a_build_that_prints_nixs_messages_convicts_no_other_derivation() {
    for version in ["2.8", "2.26"] {
        for (sample, status, daemon) in [("forged", 100, false), ("forged-daemon", 1, true)] {
            let evidence = recorded_with(version, sample).expect("a sample");
            let victim = |error: &&String| error.contains("victim-1.0");
            assert_eq!(evidence.errors.iter().find(victim), None, "{sample} of {version}");
            let evidence = Evidence { daemon, download: Some(false), ..evidence };
            let failure = realisation(code(status), &evidence, APP);
            assert_eq!(
                (failure.kind, failure.derivation.as_deref(), failure.detail.as_deref()),
                (Kind::BuildFailed, Some("liar-1.0"), Some("main.c:1: error: its own")),
                "{sample} of {version}"
            );
            let liar =
                evidence.builds.iter().find(|build| build.drv.ends_with("-liar-1.0.drv")).expect("it was started");
            assert_eq!(failure.drv, DrvHash::of_path(&liar.drv).ok());
        }
    }
}

#[test]
fn a_derivation_that_nix_was_not_to_build_or_did_not_start_is_not_convicted() {
    let evidence = recorded("dependency-fails");
    let dependency = |evidence: &Evidence| realisation(code(100), evidence, APP).drv;
    assert!(dependency(&evidence).is_some());
    assert_eq!(dependency(&Evidence { planned: vec![], ..evidence.clone() }), None);
    assert_eq!(dependency(&Evidence { builds: vec![], ..evidence }), None);
}

#[test]
fn nixs_daemon_says_1_to_everything_and_the_kinds_are_the_same() {
    use Kind::*;
    for (sample, download, kind) in [
        ("compile-error", false, BuildFailed),
        ("test-failure", false, TestFailed),
        ("dependency-fails", false, BuildFailed),
        ("memory-child", false, OutOfMemory),
        ("memory-itself", false, OutOfMemory),
        ("disk-full", false, DiskFull),
        ("silence", false, Silent),
        ("timeout", false, TimedOut),
        ("hash-mismatch", true, HashMismatch),
        ("fetcher-fails", true, SourceUnavailable),
    ] {
        let evidence = Evidence { download: Some(download), daemon: true, ..recorded(sample) };
        assert_eq!(realisation(code(1), &evidence, APP).kind, kind, "{sample}");
    }
}

#[test]
fn nix_holds_a_build_on_a_full_disk_for_one_that_may_pass_and_says_so_by_its_code_alone() {
    let evidence = Evidence { download: Some(false), ..recorded("compile-error") };
    assert_eq!(realisation(code(1), &evidence, APP).kind, Kind::DiskFull);
    assert_eq!(realisation(code(100), &evidence, APP).kind, Kind::BuildFailed);
}

#[test]
fn the_machine_knows_what_nobody_said() {
    let kind = |change: fn(&mut Evidence)| {
        let mut evidence = recorded("compile-error");
        change(&mut evidence);
        realisation(code(100), &evidence, APP).kind
    };
    assert_eq!(kind(|_| ()), Kind::BuildFailed);
    assert_eq!(kind(|evidence| evidence.oom_killed = true), Kind::OutOfMemory);
    assert_eq!(kind(|evidence| evidence.disk_full = true), Kind::DiskFull);
}

#[test]
fn a_nix_that_was_ended_says_nothing_and_is_judged_all_the_same() {
    let nothing = Evidence::default();
    let starved = Evidence { oom_killed: true, ..Evidence::default() };
    let signal = |signal| NixExit::Exit(Exit::Signal(signal));
    assert_eq!(realisation(signal(9), &nothing, APP).kind, Kind::Killed);
    assert_eq!(realisation(signal(9), &starved, APP).kind, Kind::OutOfMemory);
    assert_eq!(realisation(NixExit::Deadline, &nothing, APP).kind, Kind::TimedOut);
    assert_eq!(realisation(code(1), &nothing, APP).kind, Kind::BuilderError);
    assert_eq!(evaluation(signal(9), &nothing).kind, Kind::Killed);
    assert_eq!(evaluation(signal(9), &starved).kind, Kind::OutOfMemory);
    assert_eq!(evaluation(signal(11), &nothing).kind, Kind::EvaluationError);
    assert_eq!(evaluation(NixExit::Deadline, &nothing).kind, Kind::TimedOut);
}

#[test]
fn failures_of_an_evaluation_are_told_apart_by_the_last_error() {
    use Kind::*;
    for (error, kind, detail) in [
        ("error: this package is gone\n\n       at /x.nix:1:1:", EvaluationError, "this package is gone"),
        ("error: infinite recursion encountered\n\n   at /x", EvaluationError, "infinite recursion encountered"),
        ("error: unable to download 'http://x': HTTP error 404", SourceUnavailable, ""),
        ("error: cannot connect to daemon at '/nix/var/x': Connection refused", BuilderError, ""),
        ("error: getting status of '/nix/var': Permission denied", BuilderError, ""),
        (
            "error: creating symlink from '/nix/var/nix/gcroots/profiles' to '/nix/var/nix/profiles': File exists",
            BuilderError,
            "",
        ),
        ("error: SQLite database '/nix/var/nix/db/db.sqlite' is busy", BuilderError, ""),
        ("error: executing SQLite statement: database or disk is full", DiskFull, ""),
        ("error: out of memory", OutOfMemory, ""),
        ("error: interrupted by the user", Interrupted, ""),
    ] {
        let failure = evaluation(code(1), &Evidence { errors: vec![error.into()], ..Evidence::default() });
        assert_eq!(failure.kind, kind, "{error}");
        if !detail.is_empty() {
            assert_eq!(failure.detail.as_deref(), Some(detail));
        }
    }
    let failure = evaluation(code(1), &recorded_with("2.26", "evaluation-trace").expect("a sample"));
    assert_eq!(failure.detail.as_deref(), Some("attribute 'missing' missing at /nix/store/x/app.nix:3:5:"));
}

#[test]
fn store_paths_are_told_by_their_names() {
    let hash = "0c1hj9wnmkd6z0hz2cnvqazkmazhzkn3";
    for (text, short) in [
        (format!("'/nix/store/{hash}-tree-2.1.0.drv' failed"), "'tree-2.1.0.drv' failed"),
        (format!("/tmp/x/store/{hash}-a: /nix/store/{hash}-b"), "a: b"),
        (format!("in=/nix/store/{hash}-a"), "in=a"),
        ("/nix/store/x /store/ ä/store/é".to_owned(), "/nix/store/x /store/ ä/store/é"),
    ] {
        assert_eq!(without_store(&text), short);
    }
}
