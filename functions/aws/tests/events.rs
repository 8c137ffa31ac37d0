//! Foreign events, as their services document them, in files.

use std::time::Duration;

use binplz_aws::event::{DoorbellBatch, TaskStopped, Wake};
use binplz_core::{
    build::{
        Build,
        dependency::{Dependency, Stage},
        failure::Kind,
    },
    id::{key::BuildKey, time::Timestamp},
    row::Row,
};
use serde_json::{Value, json};

fn event(name: &str) -> Value {
    let path = format!("{}/tests/events/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON")
}

/// A task's stop event with some of its fields replaced.
fn ended(changes: Value) -> TaskStopped {
    let mut event = event("task-stopped");
    for (name, value) in changes.as_object().expect("fields") {
        event["detail"][name] = value.clone();
    }
    match Wake::read(event) {
        Ok(Wake::TaskStopped(ended)) => *ended,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_task_that_could_not_start_tells_ecss_reason_without_the_accounts_names() {
    let told = |reason: &str| ended(json!({ "stopCode": "TaskFailedToStart", "stoppedReason": reason })).failure;
    let capacity = "Capacity is unavailable at this time. Please try again later or in a different availability zone";
    assert_eq!(told(capacity).detail.as_deref(), Some(capacity));
    let role = told("ResourceInitializationError: unable to assume arn:aws:iam::123456789012:role/x");
    assert_eq!(role.detail.as_deref(), Some("ResourceInitializationError: unable to assume …"));
}

/// The kind of failure that it means.
fn kind(changes: Value) -> Kind {
    ended(changes).failure.kind
}

#[test]
fn a_task_that_ended_names_its_build_and_its_lease() {
    let Ok(Wake::TaskStopped(ended)) = Wake::read(event("task-stopped")) else { panic!("no end") };
    assert_eq!(ended.key.to_string(), "89abcdef0123456789abcdef0123456789abcdef/x86_64-linux/libsigc++");
    assert_eq!(ended.lease.as_str(), "b".repeat(32));
    assert_eq!(ended.reason, "EssentialContainerExited: Essential container in task exited [137]");
    // ECS's reason is for the operator; clients read the kind's own sentence.
    assert_eq!((ended.failure.kind, ended.failure.detail), (Kind::OutOfMemory, None));
}

/// From the start of the image pull to the stop, as Fargate charges; not from the request.
#[test]
fn a_task_is_paid_for_by_its_own_timestamps() {
    let ran = |changes: Value| ended(changes).ran;
    assert_eq!(ran(json!({})), Some(Duration::from_millis(19 * 60_000 + 42_500)));
    assert_eq!(ran(json!({ "stoppedAt": "2026-11-22T12:10:22.407+00:30" })), Some(Duration::from_secs(1)));
    // The task never began.
    assert_eq!(ran(json!({ "pullStartedAt": null, "stopCode": "TaskFailedToStart" })), Some(Duration::ZERO));
    // The time is missing or cannot be read.
    assert_eq!(ran(json!({ "stoppedAt": null })), None);
    assert_eq!(ran(json!({ "pullStartedAt": "yesterday" })), None);
}

#[test]
fn rows_that_were_written_are_read_as_they_are_now() {
    let holder: BuildKey = format!("{}/x86_64-linux/libsigc++", "8".repeat(40)).parse().expect("a key");
    let offered = |lease: &str| {
        let (drv, lease) = ("1".repeat(32).parse().expect("base 32"), lease.repeat(32).parse().expect("hex"));
        let stage = Stage::Offered { lease };
        Row::from(Dependency { drv, holder: holder.clone(), stage, since: Timestamp(1), wanted: false })
    };
    let rows = [offered("a"), Row::from(Build::unasked(holder.clone())), offered("b")];
    let written = |row: &Row| {
        let (pk, body) = (row.key().to_string(), row.to_json().expect("JSON"));
        let image = json!({ "pk": { "S": pk }, "v": { "N": "1" }, "body": { "S": body } });
        json!({ "eventName": "MODIFY", "dynamodb": { "Keys": { "pk": { "S": pk } }, "NewImage": image } })
    };
    let mut records: Vec<_> = rows.iter().map(written).collect();
    records.insert(1, json!({ "eventName": "REMOVE", "dynamodb": { "Keys": { "pk": { "S": "x" } } } }));
    assert_eq!(Wake::read(json!({ "Records": records })).expect("rows"), Wake::Written(rows.to_vec()));

    let mut unknown = written(&rows[0]);
    unknown["dynamodb"]["NewImage"]["pk"]["S"] = json!("unheard-of/1");
    assert!(Wake::read(json!({ "Records": [unknown] })).is_err());
}

#[test]
fn every_way_to_end_has_its_kind() {
    let code = |code: i64| json!([{ "name": "builder", "exitCode": code, "new": 1 }]);
    for (changes, expected) in [
        (json!({ "stopCode": "TaskFailedToStart", "containers": [{ "name": "builder" }] }), Kind::NotStarted),
        (json!({ "stopCode": "SpotInterruption" }), Kind::Interrupted),
        (json!({ "stopCode": "UserInitiated" }), Kind::Interrupted),
        (json!({ "containers": code(137) }), Kind::Killed),
        (json!({ "containers": code(143) }), Kind::Interrupted),
        (json!({ "containers": code(1) }), Kind::BuilderError),
        (json!({ "containers": [{ "name": "builder" }] }), Kind::Killed),
        (json!({ "containers": [], "stopCode": "SomethingNew" }), Kind::Killed),
    ] {
        assert_eq!(kind(changes.clone()), expected, "{changes}");
    }
}

#[test]
fn other_tasks_and_other_steps_are_passed_over() {
    let mut running = event("task-stopped");
    running["detail"]["lastStatus"] = json!("RUNNING");
    let mut stranger = event("task-stopped");
    stranger["detail"]["overrides"] = json!({});
    for event in [running, stranger] {
        assert_eq!(Wake::read(event).expect("a task"), Wake::OtherTask);
    }
    let mut unknown = event("task-stopped");
    unknown["detail"] = json!({ "lastStatus": 7 });
    assert!(Wake::read(unknown).is_err());
}

#[test]
fn all_else_is_the_schedule() {
    for tick in [event("schedule"), json!({}), json!(null), json!("now"), json!([])] {
        assert_eq!(Wake::read(tick).expect("a tick"), Wake::Tick);
    }
}

#[test]
fn a_message_of_the_dispatcher_after_a_failed_pass_is_told_from_others() {
    let mut batch = event("queue");
    let rings: DoorbellBatch = serde_json::from_value(batch.clone()).expect("a batch");
    assert!(!rings.has_retry());
    batch["Records"][0]["messageAttributes"] = json!({ "retry": { "stringValue": "yes", "stringListValues": [],
        "binaryListValues": [], "dataType": "String" } });
    let rings: DoorbellBatch = serde_json::from_value(batch).expect("a batch");
    assert!(rings.has_retry());
}

#[test]
fn a_message_that_is_no_ring_stays_in_the_queue() {
    let rings: DoorbellBatch = serde_json::from_value(event("queue")).expect("a batch");
    let kept = serde_json::to_value(rings.unrecognized()).expect("JSON");
    let unrecognized = "2e1424d4-f796-459a-8184-9c92662be6da";
    assert_eq!(kept, json!({ "batchItemFailures": [{ "itemIdentifier": unrecognized }] }));
    let none: DoorbellBatch = serde_json::from_value(json!({ "Records": [] })).expect("a batch");
    assert_eq!(serde_json::to_value(none.unrecognized()).expect("JSON"), json!({ "batchItemFailures": [] }));
}
