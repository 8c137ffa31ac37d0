//! Forty packages that need twelve dependencies, on one machine whose builders have a Nix store each and share a cache.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use binplz_core::build::Attempt;
use binplz_tests::{
    forty::{DERIVATIONS, PACKAGES, each_dependency_is_built_once, packages},
    server::{Server, fresh_set, program, write_program},
    site::wait_for,
};
use serde_json::json;

use crate::cache::nix;

/// Each builder sees a store of its own in the place of the server's, in which nothing but the set is.
const BUILDER: &str = r#"#!/bin/sh
set -e
own=$(mktemp -d ROOT/own/XXXXXX)
cp -a ROOT/store ROOT/var "$own"
exec unshare NAMESPACE sh -ec 'mount --bind "$0/store" ROOT/store; mount --bind "$0/var" ROOT/var; exec BUILDER "$@"' "$own" "$@"
"#;

/// The attempts at a package, as the operator sees them.
fn attempts(data: &Path, package: &str) -> Vec<Attempt> {
    let mut show = Command::new(program("binplz"));
    let shown = show.args(["show", package, "--json", "--data"]).arg(data).output();
    let shown = shown.expect("binplz");
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    serde_json::from_value(shown["history"].clone()).expect("attempts")
}

/// A server whose builders have a Nix store each, and share a cache.
fn server(root: &Path, set: &Path, jobs: &str) -> Server {
    for name in ["own", "store", "var"] {
        fs::create_dir(root.join(name)).expect("a directory");
    }
    let namespace = if rustix::process::geteuid().is_root() { "-m" } else { "-rm" };
    let script = BUILDER.replace("ROOT", root.to_str().expect("a path")).replace("NAMESPACE", namespace);
    let script = script.replace("BUILDER", program("binplz-builder").to_str().expect("a path"));
    let builder = root.join("builder");
    write_program(&builder, script);
    let options = ["--cache", "--trust-nixpkgs", "--jobs", jobs, "--lease", "600", "--builder"];
    let options = [&options[..], &[builder.to_str().expect("a path")]].concat();
    Server::start_in(&nix(root), set, &root.join("data"), &options)
}

#[test]
fn each_of_twelve_dependencies_of_forty_packages_is_built_once_and_no_task_waits_for_long() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    // Each build leaves a line.
    let built = dir.path().join("built");
    let set = fresh_set(&packages(&format!("echo $pname >> {}; sleep 3", built.display())));
    let server = server(dir.path(), set.path(), "4");
    assert_eq!(each_dependency_is_built_once(&server), DERIVATIONS);
    let mut counts = BTreeMap::<String, usize>::new();
    for line in fs::read_to_string(&built).expect("what was built").lines() {
        *counts.entry(line.to_owned()).or_default() += 1;
    }
    assert_eq!(counts, (1..=12).map(|n| (format!("shared{n}"), 1)).collect());
    let attempts: Vec<_> = (0..PACKAGES).flat_map(|n| attempts(&server.data, &format!("failing.many{n}"))).collect();
    assert!(attempts.iter().all(|attempt| attempt.failure.is_none()), "{attempts:?}");
    let waits: Vec<_> = attempts.iter().map(|attempt| attempt.stats.waited).collect();
    let tasks = attempts.len();
    println!("{tasks} tasks for {PACKAGES} packages, the longest wait {:?} s", waits.iter().max());
    assert!(waits.iter().all(|waited| *waited <= 60), "{waits:?}");
    // One start that finds nothing to do, one that ends the build, and some in which a part was built.
    assert!(tasks <= 2 * PACKAGES + 12, "{tasks}");
}

#[test]
fn a_build_whose_dependency_takes_long_elsewhere_waits_without_a_task_and_then_fetches_it() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let gate = dir.path().join("gate");
    let gated = format!("while [ ! -e {} ]; do sleep 0.1; done; $CC -o program ${{good}}", gate.display());
    let needy = |name: &str| {
        format!(
            "{name} = package \"{name}\" {{ buildPhase = \": ${{pkgs.failing.gated}}; $CC -o program ${{good}}\"; }};\n"
        )
    };
    let gated = format!("gated = package \"gated\" {{ buildPhase = \"{gated}\"; }};\n");
    let set = fresh_set(&[gated, needy("first"), needy("second")].concat());
    let server = server(dir.path(), set.path(), "2");
    assert_eq!(server.get("/failing.first").status, 202);
    let step = |target: &str| server.status(target)["progress"]["step"].as_str().unwrap_or_default().to_owned();
    wait_for("its dependency's build", || step("failing.first").contains("gated").then_some(()));
    assert_eq!(server.get("/failing.second").status, 202);
    let waits_for = wait_for("a build that waits", || {
        let status = server.status("failing.second");
        status.get("waits_for").cloned()
    });
    assert_eq!(waits_for, json!({ "dependency": "gated-1.0", "package": "failing.first" }));
    let waited = attempts(&server.data, "failing.second");
    assert!(waited.len() == 1 && waited[0].awaited.is_some() && waited[0].stats.waited <= 60, "{waited:?}");
    fs::write(gate, "").expect("a file");
    for target in ["failing.first", "failing.second"] {
        assert_eq!(server.settled(target).status, 302);
    }
    let status = server.status("failing.second");
    assert_eq!((&status["attempt"], &status["derivations_started"]), (&json!(1), &json!(1)));
    assert_eq!(server.status("failing.first")["derivations_started"], 2);
}
