//! From nothing to a program that runs.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use binplz_core::build::policy::Policy;
use binplz_tests::{answers::Running, server::fresh_set, site::wait_for, stack::Stack};
use serde_json::{Value, json};

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn curl_gets_a_program_that_nobody_had_built_from_a_task_of_its_own() {
    let set = fresh_set("");
    let stack = Stack::deploy(set.path(), &Policy::default());
    assert_eq!(stack.get("/tree").status, 202);
    // And perhaps another, for the catalogue.
    wait_for("a task", || (!stack.containers().is_empty()).then_some(()));
    assert_eq!(stack.settled("tree").status, 302);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("tree");
    let curl = Command::new("curl").args(["-fsSL", "-o"]).arg(&file).arg(format!("{}/tree", stack.origin())).status();
    assert!(curl.expect("curl").success());
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("its owner may");
    let ran = Command::new(&file).arg("--version").output().expect("a program");
    assert!(String::from_utf8_lossy(&ran.stdout).starts_with("tree v2.1.0"));
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn the_live_doctor_has_a_program_built_and_downloads_it() {
    let set = fresh_set("");
    let stack = Stack::deploy(set.path(), &Policy::default());
    let doctor = |canary| {
        let told = stack.operator(&["doctor", "--json", "--live", "--canary", canary]).output().expect("binplz");
        let findings: Vec<Value> = serde_json::from_slice(&told.stdout).expect("findings");
        let of = |check| findings.iter().find(|finding| finding["check"] == check).expect("a finding").clone();
        [of("live health"), of("live program")]
    };
    let [health, program] = doctor("dash");
    assert_eq!((&health["state"], &program["state"]), (&json!("ok"), &json!("ok")), "{health} {program}");
    let told = program["told"].as_str().expect("a sentence");
    assert!(told.starts_with("dash was served in ") && told.contains("its build has cost $"), "{told}");
    let [_, program] = doctor("nothing");
    assert_eq!((&program["state"], &program["mend"]), (&json!("missing"), &json!("binplz why 'nothing'")));
}
