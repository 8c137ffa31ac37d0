//! What a deployed service serves is signed and logged, by keys that KMS keeps.

use std::{path::Path, process::Command};

use binplz_core::build::policy::Policy;
use binplz_tests::{
    answers::Running,
    server::{fresh_set, program},
    site::wait_for,
    stack::{Stack, signing_keys},
};
use serde_json::{Value, json};

fn parameter() -> String {
    format!("--parameter=SigningKeys={}", signing_keys().join(","))
}

fn binplz(stack: &Stack, arguments: &[&str]) -> String {
    let out = stack.operator(arguments).output().expect("binplz");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[track_caller]
fn sh(dir: &Path, stack: &Stack, script: &str) -> String {
    let mut shell = Command::new("sh");
    shell.args(["-euc", script]).current_dir(dir).env("H", stack.origin()).env("B", program("binplz"));
    let out = shell.env("XDG_STATE_HOME", dir).output().expect("a shell");
    let told = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{script}: {told}");
    told
}

const CHECK: &str = "
    curl -fsSL \"$H/tree\" -o tree
    curl -fsS $H/-/sig/tree -o tree.minisig
    curl -fsS $H/-/proof/tree -o tree.proof
    curl -fsS $H/-/keys -o keys
    minisign -Vm tree -P \"$(awk '$1 == \"artifacts\" { key = $2 } END { print key }' keys)\"
    $B verify tree --proof tree.proof --keys keys --as tree
    $B audit $H
";

/// Without keys, programs are served and nothing signs them. With keys, what was built before is signed too.
#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn a_stack_that_gets_keys_signs_and_logs_what_it_has_built_and_all_it_builds() {
    let (set, dir) = (fresh_set(""), tempfile::tempdir().expect("a directory"));
    let mut stack = Stack::deploy(set.path(), &Policy::default());
    assert!(!stack.functions.contains_key("signer"));
    assert_eq!(stack.get("/tree").status, 202);
    assert_eq!(stack.settled("tree").status, 302);
    assert_eq!((stack.get("/-/keys").status, stack.get("/-/sig/tree").status), (404, 404));

    stack.update(set.path(), &Policy::default(), &[&parameter()]);
    stack.invoke("signer");
    let said = sh(dir.path(), &stack, CHECK);
    assert!(said.contains("tree: tree/tree") && said.contains("1 served artifacts compared"), "{said}");

    // The stream wakes the signer. A client that waits gets the program once it is signed, and not before.
    sh(dir.path(), &stack, "curl -fsSL \"$H/dash?wait\" -o dash; curl -fsS $H/-/sig/dash -o dash.minisig");
    let said = sh(dir.path(), &stack, "$B audit $H");
    assert!(said.contains("only grew") && said.contains("2 served artifacts compared"), "{said}");
}

/// First the keys are exchanged, and then they are lost: KMS' keys cannot be used, and others take their place.
#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn keys_are_exchanged_and_replaced_after_a_loss_while_programs_are_served() {
    let (set, dir) = (fresh_set(""), tempfile::tempdir().expect("a directory"));
    let mut stack = Stack::deploy_with(set.path(), &Policy::default(), &[&parameter()]);
    stack.get("/tree");
    assert_eq!(stack.settled("tree").status, 302);
    sh(dir.path(), &stack, CHECK);
    let before = binplz(&stack, &["signing-key", "list"]);
    assert!(!before.contains("not accepted"), "{before}");

    stack.update(set.path(), &Policy::default(), &[&parameter()]);
    // Nothing new is signed, and the service goes on.
    assert_eq!(stack.get("/dash").status, 202);
    assert_eq!(stack.settled("dash").status, 302);
    assert_eq!((stack.get("/-/sig/dash").status, stack.get("/-/sig/tree").status), (404, 200));
    let offered = || binplz(&stack, &["signing-key", "list"]);
    wait_for("the signer's keys", || offered().contains("not accepted: artifacts ").then_some(()));
    binplz(&stack, &["signing-key", "accept", "--yes"]);
    stack.invoke("signer");
    assert_eq!(stack.get("/-/sig/dash").status, 200);
    let keys = stack.get("/-/keys").text();
    assert_eq!(keys.lines().filter(|line| line.starts_with("artifacts ")).count(), 2, "{keys}");
    sh(dir.path(), &stack, "curl -fsS $H/-/keys -o keys; $B audit $H --keys keys");
}

/// An object that was exchanged after its upload: what a builder's token or the bucket's owner could do.
#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn the_signer_takes_a_build_out_of_service_whose_object_was_exchanged() {
    let set = fresh_set("");
    let mut stack = Stack::deploy(set.path(), &Policy::default());
    stack.get("/tree");
    assert_eq!(stack.settled("tree").status, 302);
    let (blob, url) = stack.objects().into_iter().find(|(path, _)| path.starts_with("blobs/")).expect("a blob");
    assert!(url.contains(&blob));
    let put = json!({ "Bucket": stack.outputs["Bucket"], "Key": blob, "Body": "other bytes" });
    let (error, _) = binplz_tests::stack::ask(&[(json!({}), "s3", "put_object", put)]).remove(0);
    assert_eq!(error, None);
    stack.update(set.path(), &Policy::default(), &[&parameter()]);
    stack.invoke("signer");
    assert_eq!(stack.get("/-/sig/tree").status, 404);
    let state = |status: Value| status["state"].as_str().expect("a state").to_owned();
    assert_ne!(state(stack.status("tree")), "ready");
}
