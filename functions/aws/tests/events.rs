//! Foreign events, as their services document them, in files.

use binplz_aws::event::{Rings, Wake};
use binplz_core::failure::Kind;
use serde_json::{Value, json};

fn event(name: &str) -> Value {
    let path = format!("{}/tests/events/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON")
}

/// What a task's end means, with some of its fields replaced.
fn kind(changes: Value) -> Kind {
    let mut event = event("task-stopped");
    for (name, value) in changes.as_object().expect("fields") {
        event["detail"][name] = value.clone();
    }
    match Wake::read(event) {
        Ok(Wake::Ended(ended)) => ended.failure.kind,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_task_that_ended_names_its_build_and_its_lease() {
    let Ok(Wake::Ended(ended)) = Wake::read(event("task-stopped")) else { panic!("no end") };
    assert_eq!(ended.key.to_string(), "89abcdef0123456789abcdef0123456789abcdef/x86_64-linux/libsigc++");
    assert_eq!(ended.lease.as_str(), "b".repeat(32));
    assert_eq!(ended.reason, "EssentialContainerExited: Essential container in task exited [137]");
    // What ECS says is for the operator: people read the kind's own sentence.
    assert_eq!((ended.failure.kind, ended.failure.detail), (Kind::OutOfMemory, None));
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
fn a_message_that_is_no_ring_stays_in_the_queue() {
    let rings: Rings = serde_json::from_value(event("queue")).expect("a batch");
    let kept = serde_json::to_value(rings.strange()).expect("JSON");
    let strange = "2e1424d4-f796-459a-8184-9c92662be6da";
    assert_eq!(kept, json!({ "batchItemFailures": [{ "itemIdentifier": strange }] }));
    let none: Rings = serde_json::from_value(json!({ "Records": [] })).expect("a batch");
    assert_eq!(serde_json::to_value(none.strange()).expect("JSON"), json!({ "batchItemFailures": [] }));
}
