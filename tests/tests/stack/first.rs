//! From nothing to a program that runs.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use binplz_core::build::policy::Policy;
use binplz_tests::{
    answers::Running,
    server::fresh_set,
    site::wait_for,
    stack::{Stack, ask},
};
use serde_json::{Value, json};

use crate::watched::policy;

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

/// The account has no role of ECS's, and six vCPUs.
#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn in_a_new_account_the_doctor_makes_the_first_deployment_succeed() {
    let (account, set) = ("200000000041", fresh_set(""));
    let mut stack = Stack::in_account(account);
    let as_root = |service, operation, parameters: Value| {
        let key = json!({ "AWS_ACCESS_KEY_ID": account, "AWS_SECRET_ACCESS_KEY": "x" });
        ask(&[(key, service, operation, parameters)]).remove(0)
    };
    // Without it, the deployment fails, and leaves no table and no bucket.
    let failed = stack.try_update(set.path(), &policy(), &[]).expect_err("it was deployed without the role");
    assert!(failed.contains("ROLLBACK_COMPLETE"), "{failed}");
    let tables = as_root("dynamodb", "list_tables", json!({})).1;
    assert_eq!(tables["TableNames"], json!([]), "{tables}");
    let buckets = as_root("s3", "list_buckets", json!({})).1.to_string();
    assert!(!buckets.contains(&stack.name), "{buckets}");

    let doctor = |more: &[&str]| {
        let told = stack.operator(&[&["doctor", "--json"], more].concat()).output().expect("binplz");
        let findings: Vec<Value> = serde_json::from_slice(&told.stdout).expect("findings");
        move |check: &str| findings.iter().find(|finding| finding["check"] == check).expect("a finding").clone()
    };
    let found = doctor(&["--fix"]);
    assert_eq!((&found("ecs-role")["state"], &found("fargate")["state"]), (&json!("ok"), &json!("optional")));
    let delete = format!("aws cloudformation delete-stack --stack-name {}", stack.name);
    assert_eq!(found("stack")["mend"], json!(delete));
    as_root("cloudformation", "delete_stack", json!({ "StackName": stack.name }));
    let gone = || as_root("cloudformation", "describe_stacks", json!({ "StackName": stack.name })).0;
    wait_for("the stack to go", gone);

    stack.update(set.path(), &policy(), &[]);
    assert_eq!(stack.get("/dash").status, 202);
    assert_eq!(stack.settled("dash").status, 302);
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
