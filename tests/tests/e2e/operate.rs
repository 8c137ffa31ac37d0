//! What an operator orders of a server that works: real builders, which are gone when they are told to be.

use std::{
    fs,
    process::{Command, Output},
};

use binplz_tests::{
    server::{Server, fresh_set, name_of, program},
    site::wait_for,
};
use serde_json::Value;

/// A package that builds for longer than any test runs.
const ENDLESS: &str = r#"
  endless = package "endless" { buildPhase = "echo it has begun; sleep 86400"; };
"#;

fn binplz(server: &Server, arguments: &[&str]) -> Output {
    let mut command = Command::new(program("binplz"));
    command.args(arguments).arg("--data").arg(&server.data).output().expect("binplz")
}

fn said(server: &Server, arguments: &[&str]) -> String {
    let output = binplz(server, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Waits until the build step runs; the process id of the builder.
fn begun(server: &Server) -> u32 {
    wait_for("the build", || {
        server.get("/failing.endless");
        server.get("/-/log/failing.endless").text().contains("it has begun").then_some(())
    });
    let lease = server.status("failing.endless")["lease"].as_str().expect("a lease").to_owned();
    let note = fs::read_to_string(server.data.join("builders").join(format!("{lease}.pid"))).expect("its process id");
    note.trim().parse().expect("a number")
}

fn is_gone(pid: u32) {
    wait_for("the builder to be gone", || name_of(pid).is_empty().then_some(()));
}

#[test]
fn a_cancelled_builds_processes_are_gone_and_the_next_request_starts_it_anew() {
    let (set, data) = (fresh_set(ENDLESS), tempfile::tempdir().expect("a temporary directory"));
    let server = Server::start(set.path(), &data.path().join("data"), &[]);
    let builder = begun(&server);
    assert!(
        said(&server, &["cancel", "failing.endless", "--yes"])
            .ends_with("is cancelled; the next request starts a new build\n")
    );
    is_gone(builder);
    assert_eq!(server.status("failing.endless")["state"], "unasked");
    let again = begun(&server);
    assert_ne!(again, builder);
    said(&server, &["cancel", "/failing.endless", "--yes", "--json"]);
    is_gone(again);

    let refused = binplz(&server, &["cancel", "failing.endless?pin=absent", "--yes"]);
    let why = String::from_utf8(refused.stderr).expect("text");
    assert!(!refused.status.success() && why.contains("does not serve that pin or commit"), "{why}");
}

#[test]
fn a_pause_ends_builders_at_once_holds_new_ones_and_is_told_until_builds_go_on() {
    let (set, data) = (fresh_set(ENDLESS), tempfile::tempdir().expect("a temporary directory"));
    let data = data.path().join("data");
    let mut server = Server::start(set.path(), &data, &[]);
    assert_eq!(server.settled("tree").status, 302);
    let builder = begun(&server);
    let told: Value = serde_json::from_str(&said(&server, &["pause", "--yes", "--json"])).expect("JSON");
    assert_eq!(told["queued"], 1);
    is_gone(builder);
    // It outlives the server, as an operator would expect.
    server.kill();
    server.restart();
    assert!(said(&server, &["status"]).contains("the operator has paused builds"));
    assert_eq!(server.status("failing.endless")["state"], "queued");
    let (hit, miss) = (server.get("/tree"), server.get("/dash"));
    assert_eq!((hit.status, miss.status, miss.header("retry-after")), (302, 503, Some("60")));
    assert!(miss.text().contains("the operator has paused builds"), "{}", miss.text());
    let told = said(&server, &["resume"]);
    assert!(!told.contains("paused") && told.starts_with("builds "), "{told}");
    let again = begun(&server);
    said(&server, &["cancel", "failing.endless", "--yes"]);
    is_gone(again);
}

#[test]
fn a_remembered_failure_is_tried_again_or_forgotten_at_an_operators_word() {
    let (set, data) = (fresh_set(""), tempfile::tempdir().expect("a temporary directory"));
    let server = Server::start(set.path(), &data.path().join("data"), &[]);
    let path = "failing.compileError";
    assert_eq!(server.settled(path).status, 422);
    let attempts = || server.status(path)["derivations_started"].as_u64().expect("a number");
    assert_eq!(attempts(), 1);
    said(&server, &["retry", path]);
    assert_eq!(server.settled(path).status, 422);
    assert_eq!(attempts(), 2);
    said(&server, &["forget", path, "--yes"]);
    assert_eq!((server.status(path)["state"].as_str(), attempts()), (Some("unasked"), 0));
    assert!(!binplz(&server, &["retry", path]).status.success(), "it has not failed");
}

#[test]
fn what_a_build_takes_is_shown_before_it_begins_and_nothing_is_built_for_that() {
    let (set, data) = (fresh_set(""), tempfile::tempdir().expect("a temporary directory"));
    let server = Server::start(set.path(), &data.path().join("data"), &[]);
    let planned = said(&server, &["plan", "bsdiff"]);
    assert!(planned.contains("\nplan      2 to build for the first time"), "{planned}");
    assert_eq!(server.status("bsdiff")["state"], "unasked");
    assert_eq!(server.settled("bzip2").status, 302);
    let planned = said(&server, &["plan", "bsdiff"]);
    assert!(planned.contains("\nplan      1 to build for the first time"), "{planned}");
    let mut without_nix = Command::new(program("binplz"));
    without_nix.args(["plan", "bsdiff"]).arg("--data").arg(&server.data).env("PATH", "/var/empty");
    let output = without_nix.output().expect("binplz");
    assert!(String::from_utf8_lossy(&output.stderr).contains("Nix is not installed"), "{output:?}");

    let asked = binplz(&server, &["warm", "--popular"]);
    let told = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert!(!asked.status.success() && told.contains("confirm with --yes"), "{told}");
    assert!(
        told.contains(" packages: 1 built, 0 not in this nixpkgs.") && told.contains(" were never built: "),
        "{told}"
    );
}
