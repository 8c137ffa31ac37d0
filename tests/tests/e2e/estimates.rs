//! Estimates: on the second run of a set of packages, in a Nixpkgs in which each derivation is new, almost all are near.
//! How near depends on what else the machine does, so that part belongs to `scripts/bench estimates`.

use std::{process::Command, time::Duration};

use binplz_core::build::plan::{MARGIN, Plan};
use binplz_tests::{
    server::{Server, fresh_set, program},
    site::wait_for,
};
use serde_json::Value;

/// Packages of different durations, some of which need another one.
const PACKAGES: [&str; 10] = ["tree", "mawk", "pv", "nq", "dos2unix", "bzip2", "bsdiff", "byacc", "lz4", "dash"];

fn binplz(server: &Server, arguments: &[&str]) -> Value {
    let mut command = Command::new(program("binplz"));
    let output = command.args(arguments).arg("--json").arg("--data").arg(&server.data).output().expect("binplz");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Builds these packages of a pin, and returns the plan of each with the milliseconds that it took.
fn run(server: &Server, packages: &[&'static str], pin: &str) -> Vec<(&'static str, Plan, u64)> {
    let target = |package: &&str| format!("{package}?pin={pin}");
    for package in packages {
        server.get(&format!("/{}", target(package)));
    }
    packages
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

/// The plans of these packages, and the milliseconds that they took, when all their derivations are built for the second time.
fn second_runs(packages: &[&'static str]) -> Vec<(&'static str, Plan, u64)> {
    let (first, second) = (fresh_set(""), fresh_set(""));
    let data = tempfile::tempdir().expect("a temporary directory");
    // One at a time: what else the machine does is then about the same in both runs.
    let server = Server::start(first.path(), data.path(), &["--jobs", "1"]);
    let mut add = Command::new(program("binplz"));
    add.args(["pin", "add", "second", "--path"]).arg(second.path()).arg("--data").arg(&server.data);
    assert!(add.status().expect("binplz").success());
    let learning = run(&server, packages, "local");
    assert!(learning.iter().all(|(_, plan, _)| plan.to_build > 0), "{learning:?}");
    let told = run(&server, packages, "second");
    // How wrong what clients were told was, by the builds that have ended.
    for error in ["estimate_error_percent", "status_error_percent", "retry_after_error_percent"] {
        wait_for(error, || binplz(&server, &["status"])[error].as_u64());
    }
    told
}

#[test]
fn a_second_run_knows_every_duration_and_no_build_would_have_been_refused_that_finished() {
    for (package, plan, took) in second_runs(&["tree", "nq", "bsdiff"]) {
        assert_eq!(plan.unknown, 0, "{package}");
        assert!(plan.expected >= Some(plan.longest) && plan.longest > 0, "{package}: {plan:?}");
        // A limit of exactly the time that it took would not have refused it.
        assert_eq!(plan.exceeds(Duration::from_millis(took), 1, MARGIN), None, "{package}");
    }
}

#[test]
#[ignore = "it measures time: scripts/bench estimates"]
fn nine_of_ten_estimates_of_second_runs_are_within_a_factor_of_two() {
    let told = second_runs(&PACKAGES);
    let expected = |plan: &Plan| plan.expected.expect("an estimate");
    for (package, plan, took) in &told {
        println!("{package:10} estimate {:6} ms   took {took:6} ms", expected(plan));
    }
    let far = told.iter().filter(|(_, plan, took)| expected(plan) > took * 2 || *took > expected(plan) * 2);
    assert!(far.count() * 10 <= told.len(), "more than one in ten are off by more than a factor of two");
}
