//! A stack's own life: updated, deleted.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::TcpListener,
};

use binplz_core::build::policy::Policy;
use binplz_tests::{
    answers::{Running, quick},
    server::{demo_set, fresh_set},
    site::wait_for,
    stack::{Stack, ask, inventory},
};
use serde_json::json;
use tempfile::TempDir;

/// The ids of all that a stack has made, and of what it leaves when it is deleted.
///
/// A slot that is free wakes the dispatcher, a task that has stopped the promoter, and a builder asks lease until it is stopped. One that
/// ends behind the stack writes its last line, and the bed makes its log group anew for that, where AWS would let no role of ours do so
/// (`roles.rs`).
pub(crate) fn remembered(stack: &Stack) -> (BTreeSet<String>, BTreeSet<String>) {
    let late = ["dispatcher", "lease", "promoter"].map(|function| format!("{}{function}", stack.outputs["Logs"]));
    let made = stack.resources().into_iter().filter(|id| !late.contains(id)).collect();
    (made, [stack.outputs["Bucket"].clone(), stack.outputs["Table"].clone()].into())
}

/// A set with a package `failing.patient`, each of whose builds asks here for a line, and waits for it.
pub(crate) fn patient() -> (TcpListener, TempDir) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let set = fresh_set(&format!(
        "patient = package \"patient\" {{ buildPhase = ''\n\
           exec 3<> /dev/tcp/127.0.0.1/{port}; read -r answer <&3; echo \"$answer\"\n\
           $CC -O1 -o program ${{good}}\n'';\n}};\n"
    ));
    (listener, set)
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn a_task_that_runs_while_its_stack_is_updated_settles() {
    // Its build waits for an answer, which comes when the new functions are there.
    let (asked, set) = patient();
    let mut stack = Stack::deploy(set.path(), &quick());
    assert_eq!(stack.get("/failing.patient").status, 202);
    let (mut build, _) = asked.accept().expect("the build asks");
    let before = stack.functions.clone();
    stack.update(set.path(), &Policy { attempts: 1, ..quick() }, &["--parameter=LogDays=7", "--new-code"]);
    assert_eq!(stack.functions, before, "they are the same functions");
    assert_eq!(stack.status("failing.patient")["state"], "building");
    build.write_all(b"go on\n").expect("it listens");
    assert_eq!(stack.settled("failing.patient").status, 302);
    assert_eq!((stack.status("failing.patient")["attempt"].as_u64(), stack.builders().len()), (Some(1), 1));
    let _ = build.read(&mut [0]);
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn a_deleted_stack_leaves_its_bucket_and_its_table_and_nothing_else() {
    let stack = Stack::deploy(&demo_set(), &quick());
    assert_eq!(stack.settled("tree").status, 302);
    let (made, kept) = remembered(&stack);
    let listed = inventory(&stack.region).intersection(&made).count();
    // Of the others some have no id of their own: a policy, a permission, a route, a stage.
    assert!(listed > 30, "{listed} of {}", made.len());
    // A build that runs goes too.
    assert_eq!(stack.get("/failing.hangs").status, 202);
    wait_for("a task", || (stack.containers().len() == 1).then_some(()));
    let (region, bucket) = (stack.region.clone(), stack.outputs["Bucket"].clone());
    drop(stack);
    assert_eq!(&inventory(&region) & &made, kept);
    // The guide's command empties the bucket first.
    let (error, _) = ask(&[(json!({}), "s3", "delete_bucket", json!({ "Bucket": bucket }))]).remove(0);
    assert_eq!(error.as_deref(), Some("BucketNotEmpty"));
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn a_bucket_that_holds_an_object_and_is_not_retained_keeps_its_stack_from_being_deleted() {
    let name = format!("b{}", std::process::id());
    let account = |service, operation, parameters| (json!({}), service, operation, parameters);
    let status = || {
        let (_, told) = ask(&[account("cloudformation", "describe_stacks", json!({ "StackName": name }))]).remove(0);
        told["Stacks"][0]["StackStatus"].as_str().map(str::to_owned)
    };
    let is = |wanted: &str| wait_for(wanted, || (status().as_deref() == Some(wanted)).then_some(()));
    let template =
        json!({ "Resources": { "Bucket": { "Type": "AWS::S3::Bucket", "Properties": { "BucketName": name } } } });
    let parameters = json!({ "StackName": name, "TemplateBody": template.to_string() });
    ask(&[account("cloudformation", "create_stack", parameters)]);
    is("CREATE_COMPLETE");
    let delete = || account("cloudformation", "delete_stack", json!({ "StackName": name }));
    ask(&[account("s3", "put_object", json!({ "Bucket": name, "Key": "program" })), delete()]);
    is("DELETE_FAILED");
    // Emptied, it goes.
    ask(&[account("s3", "delete_object", json!({ "Bucket": name, "Key": "program" })), delete()]);
    wait_for("the end", || status().is_none().then_some(()));
}
