//! A task that ends before its build does, and a task whose end event is lost.

use binplz_core::build::{Build, State, failure::Kind};
use binplz_tests::{gate::Gate, scenario::Request, site::wait_for};
use serde_json::{Value, json};

use crate::{
    failures::{by_size, machines},
    watched::{Watched, ends, policy, watched},
};

/// A package whose build waits at the gate, and then does `step`.
pub(crate) fn gated(gate: &Gate, step: &str) -> String {
    let (target, wait) = (gate.target(), gate.wait());
    let name = target.trim_start_matches("failing.");
    format!("{name} = package \"{name}\" {{ buildPhase = \"{wait}; {step}; $CC -o program ${{good}}\"; }};\n")
}

/// Asks for it, and waits until its task builds it.
pub(crate) fn at_the_gate(watched: &Watched, gate: &Gate) {
    assert_eq!(watched.get(&format!("/{}", gate.target())).status, 202);
    gate.arrived();
}

/// Waits until its first attempt has ended, and lets the second one pass the gate.
fn goes_on(watched: &Watched, gate: &Gate, ended: &[Option<Kind>]) {
    wait_for("the first end", || (!watched.build(&gate.target())?.history.is_empty()).then_some(()));
    gate.open();
    is_ready(watched, &gate.target(), ended);
}

pub(crate) fn is_ready(watched: &Watched, target: &str, ended: &[Option<Kind>]) -> Build {
    let build = watched.ended(target);
    assert!(matches!(build.state, State::Ready { .. }), "{target}: {build:?}");
    assert_eq!(ends(&build), ended, "{target}");
    assert_eq!(watched.get(&format!("/{target}")).status, 302, "{target}");
    build
}

fn minutes(watched: &Watched) -> usize {
    watched.scenario.requests("events", "Scheduled Event").len()
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn a_task_that_ends_too_early_is_followed_by_another_one_at_once() {
    let gates = ["killed9", "spot"].map(Gate::new);
    let watched = watched(&gates.each_ref().map(|gate| gated(gate, ":")).concat(), &[]);
    let told: [(Value, Kind); 2] = [
        (json!({ "signal": "SIGKILL" }), Kind::Killed),
        (json!({ "signal": "SIGTERM", "stop_code": "SpotInterruption" }), Kind::Interrupted),
    ];
    for (gate, (what, kind)) in gates.iter().zip(told) {
        let (target, before) = (gate.target(), machines(&watched).len());
        at_the_gate(&watched, gate);
        watched.to_task(&target, &what);
        goes_on(&watched, gate, &[Some(kind), None]);
        assert_eq!(machines(&watched)[before..], by_size(&[(8192, 50), (8192, 50)]), "{target}");
    }
    assert_eq!(minutes(&watched), 0, "the schedule did not run");
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn an_end_that_nobody_hears_of_is_noticed_when_the_lease_is_over() {
    let gates = ["unheard", "undone", "unrung"].map(Gate::new);
    let watched = watched(&gates.each_ref().map(|gate| gated(gate, ":")).concat(), &[]);
    let [unheard, undone, unrung] = &gates;
    let stopped = json!({ "service": "events", "operation": "ECS Task State Change", "with": "\"STOPPED\"" });
    let write = json!({ "function": "Reaper", "service": "dynamodb", "operation": "TransactWriteItems" });
    let killed = |gate: &Gate, at: &Value, does: &str, times: u32| {
        at_the_gate(&watched, gate);
        let fault = |nth| watched.scenario.fault(&json!({ "at": at, "nth": nth, "do": does }));
        let faults: Vec<_> = (1..=times).map(fault).collect();
        watched.to_task(&gate.target(), &json!({ "signal": "SIGKILL" }));
        for fault in &faults {
            fault.happened();
        }
    };
    // The event is lost, on its way to the reaper and to the promoter; or the reaper is killed each time that Lambda tells it.
    let faults = [(&stopped, "lose", 2), (&write, "kill-before", 3)];
    for (n, (gate, (at, does, times))) in [unheard, undone].into_iter().zip(faults).enumerate() {
        killed(gate, at, does, times);
        watched.lease_is_over(&gate.target());
        watched.scenario.tick();
        goes_on(&watched, gate, &[Some(Kind::LostHeartbeat), None]);
        assert_eq!(minutes(&watched), n + 1);
    }
    // It had written it down, and was killed before it rang.
    killed(unrung, &write, "kill-after", 1);
    watched.scenario.tick();
    goes_on(&watched, unrung, &[Some(Kind::Killed), None]);
    assert_eq!(minutes(&watched), 3);
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn an_end_that_is_heard_of_late_changes_nothing_in_the_next_attempt() {
    let gate = Gate::new("late");
    let watched = watched(&gated(&gate, ":"), &[]);
    at_the_gate(&watched, &gate);
    let stopped = json!({ "service": "events", "operation": "ECS Task State Change", "with": "\"STOPPED\"" });
    // On its way to the reaper and to the promoter.
    let faults = [1, 2].map(|nth| watched.scenario.fault(&json!({ "at": stopped, "nth": nth, "do": "hold-before" })));
    watched.to_task(&gate.target(), &json!({ "signal": "SIGKILL" }));
    for fault in &faults {
        fault.happened();
    }
    watched.lease_is_over(&gate.target());
    watched.scenario.tick();
    wait_for("the second attempt", || (watched.status(&gate.target())["attempt"] == 2).then_some(()));
    for fault in &faults {
        fault.release();
    }
    wait_for("the reaper to have heard of it", || {
        let log = watched.scenario.log();
        let heard =
            |request: &Request| request.what() == "Reaper lambda:Invoke" && request.parameters["source"] == "aws.ecs";
        let after = log.iter().skip_while(|request| !heard(request));
        after.into_iter().any(|request| request.what() == "Reaper lambda:Next").then_some(())
    });
    goes_on(&watched, &gate, &[Some(Kind::LostHeartbeat), None]);
    assert_eq!(watched.tasks(), 2);
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn a_reaper_that_is_killed_in_its_sweep_is_made_up_for_by_the_next_one() {
    let watched = watched("", &[]);
    let lost = watched.scenario.fault_at("Api", "sqs", "SendMessage", "lose");
    assert_eq!(watched.get("/dash").status, 202);
    lost.happened();
    let killed = watched.scenario.fault_at("Reaper", "sqs", "SendMessage", "kill-before");
    watched.scenario.tick();
    killed.happened();
    watched.scenario.tick();
    is_ready(&watched, "dash", &[None]);
    assert_eq!(minutes(&watched), 2);
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn a_ring_for_later_that_is_lost_is_made_up_for_by_the_next_minute() {
    let watched = watched("", &[]);
    let full = json!([200, { "tasks": [], "failures": [{ "arn": "arn", "reason": "RESOURCE:MEMORY" }] }]);
    let run = json!({ "service": "ecs", "operation": "RunTask" });
    // On Spot, and on demand.
    watched.scenario.fault(&json!({ "at": run, "do": "answer", "times": 2, "answer": full }));
    let later = json!({ "function": "Dispatcher", "operation": "SendMessage", "with": "DelaySeconds" });
    let lost = watched.scenario.fault(&json!({ "at": later, "do": "lose", "times": 100 }));
    assert_eq!(watched.get("/dash").status, 202);
    lost.happened();
    let system = watched.build("dash").expect("a row").key.system;
    wait_for("its time", || watched.limits().0.backs_off(system, binplz_clock::now()).is_none().then_some(()));
    watched.scenario.tick();
    is_ready(&watched, "dash", &[None]);
    assert_eq!(minutes(&watched), 1);
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn a_task_whose_image_is_missing_uses_no_attempt_and_is_tried_again_later_and_later() {
    let watched = watched("", &["--no-image"]);
    assert_eq!(watched.get("/tree").status, 202);
    // One on Spot, one on demand at once, and others.
    wait_for("three tasks", || (watched.tasks() >= 3).then_some(()));
    wait_for("the third end", || watched.status("tree")["headline"].as_str()?.starts_with("waits").then_some(()));
    let build = watched.build("tree").expect("a row");
    assert!(matches!(build.state, State::Queued { attempt: 1, .. }) && build.history.is_empty(), "{build:?}");
    assert_eq!((watched.limits().0.taken(), minutes(&watched)), (0, 0));
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn while_there_is_no_image_nothing_is_started_and_what_waits_goes_on_when_there_is_one() {
    let mut watched = watched("", &["--no-image"]);
    let lost = watched.scenario.fault_at("Api", "sqs", "SendMessage", "lose");
    assert_eq!(watched.get("/dash").status, 202);
    lost.happened();
    watched.scenario.tick();
    wait_for("the sweep to say so", || (watched.get("/dash").status == 503).then_some(()));
    // Its ring was heard too, and started nothing.
    wait_for("the dispatcher", || {
        watched.scenario.log().into_iter().find(|request| request.what() == "Dispatcher lambda:Next")
    });
    assert_eq!(watched.scenario.requests("ecs", "RunTask").len(), 0);
    let set = watched.set.path().to_owned();
    watched.stack.update(&set, &policy(), &[]);
    watched.scenario.tick();
    is_ready(&watched, "dash", &[None]);
}
