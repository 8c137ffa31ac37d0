//! What the bed does to functions when it is told to: these fail on a bed without the changes that they are about. What it does
//! without functions is in `../aws/faults.rs`.

use std::path::Path;

use binplz_core::build::State;
use binplz_tests::{http, scenario::Request};
use serde_json::json;

use crate::watched::{Watched, watched};

/// Asks for a program while the function that answers is killed at its write; the write.
fn killed_at_its_write(watched: &Watched, target: &str, does: &str) -> Request {
    let fault = watched.scenario.fault_at("Api", "dynamodb", "PutItem", does);
    // No answer of ours: the gateway's own.
    assert!(http::ask("GET", &format!("{}/{target}", watched.origin()), &[], b"").status >= 500);
    let write = fault.happened();
    let pid = write.pid.expect("a process");
    assert!(!Path::new(&format!("/proc/{pid}/exe")).exists(), "{pid} lives");
    write
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn a_function_that_is_killed_is_dead_and_its_request_was_carried_out_or_not_as_was_told() {
    let watched = watched("", &[]);
    let first = killed_at_its_write(&watched, "tree", "kill-before");
    assert_eq!(watched.build("tree"), None);
    let second = killed_at_its_write(&watched, "tree", "kill-after");
    assert!(matches!(watched.build("tree").expect("a row").state, State::Queued { .. }));
    assert_ne!(first.pid, second.pid);
    assert_eq!(watched.get("/tree").status, 202, "another process answers");
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn a_minute_is_over_when_the_scenario_says_so() {
    let watched = watched("", &[]);
    let ticks = || {
        watched
            .scenario
            .requests("lambda", "Invoke")
            .iter()
            .filter(|invoke| invoke.what() == "Reaper lambda:Invoke" && invoke.parameters["source"] == "aws.events")
            .count()
    };
    watched.scenario.tick();
    binplz_tests::site::wait_for("the schedule", || (ticks() == 1).then_some(()));
    // And without being told, as often as it has minutes.
    watched.scenario.set(&json!({ "minute": 0.5 }));
    binplz_tests::site::wait_for("the schedule, three times more", || (ticks() >= 4).then_some(()));
}
