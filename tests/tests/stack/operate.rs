//! What an operator orders of a deployed stack, with his own credentials: tasks are gone when they are told to be, and are paid for no
//! longer.

use std::process::Command;

use binplz_core::build::State;
use binplz_tests::{server::program, site::wait_for};

use serde_json::{Value, json};

use crate::watched::{Watched, endpoint, watched};

/// A package that builds for longer than any test runs.
const ENDLESS: &str = r#"
  endless = package "endless" { buildPhase = "echo it has begun; sleep 86400"; };
"#;
const TARGET: &str = "failing.endless";

pub(crate) fn order(watched: &Watched, arguments: &[&str]) -> String {
    let mut command = Command::new(program("binplz"));
    command.args(arguments).args(["--stack", &watched.name]).env("AWS_ENDPOINT_URL", endpoint());
    let output = command.output().expect("binplz");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn begins(watched: &Watched) {
    assert_eq!(watched.get(&format!("/{TARGET}")).status, 202);
    watched.is_being_built(TARGET);
    assert_eq!(watched.containers().len(), 1);
}

fn is_gone(watched: &Watched) {
    wait_for("the task to be gone", || watched.containers().is_empty().then_some(()));
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn a_cancel_and_a_pause_end_the_task_at_once_and_a_task_that_nobody_told_is_found_within_a_minute() {
    // A builder would take minutes to hear from its lease that it is over.
    let watched = watched(ENDLESS, &["--env=BINPLZ_LEASE_SECONDS=600", "--parameter=BudgetDollars=7"]);
    begins(&watched);
    order(&watched, &["cancel", TARGET, "--yes"]);
    is_gone(&watched);
    assert_eq!(watched.build(TARGET).expect("a row").state, State::Unasked);

    begins(&watched);
    assert!(order(&watched, &["pause", "--yes"]).contains("the operator has paused builds"));
    is_gone(&watched);
    // What the operator sees of the money is what the functions count with.
    let bill = wait_for("the money of the tasks that were stopped", || {
        let cost: Value = serde_json::from_str(&order(&watched, &["cost", "--json"])).expect("JSON");
        (cost["bill"]["reserved"] == 0).then(|| cost["bill"].clone())
    });
    assert!(bill["budget"] == 7_000_000 && bill["so_far"]["builds"].as_u64() > Some(0), "{bill}");
    let row = watched.build(TARGET).expect("a row");
    assert!(matches!(row.state, State::Queued { attempt: 1, .. }) && row.history.is_empty(), "{row:?}");
    assert_eq!(watched.get("/dash").status, 503);
    assert!(order(&watched, &["status"]).contains("queue     1 waiting"));

    order(&watched, &["resume"]);
    watched.is_being_built(TARGET);
    // A builder that is held hears nothing from its lease.
    let lease = watched.build(TARGET).and_then(|row| Some(row.lease()?.id.to_string())).expect("a lease");
    watched.scenario.task(&json!({ "lease": lease, "signal": "SIGSTOP" }));
    // The operator's machine dies between the row and the task: the sweep of the next minute stops the task. The reaper's role allows it.
    watched.cancel_and_die(TARGET);
    assert_eq!(watched.containers().len(), 1);
    watched.scenario.tick();
    is_gone(&watched);
    let stopped = watched.scenario.requests("ecs", "StopTask");
    assert_eq!(stopped.iter().filter(|request| request.function.as_deref() == Some("Reaper")).count(), 1);
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn a_plan_is_made_on_the_operators_machine_with_what_the_stack_knows_and_starts_nothing() {
    let watched = watched(ENDLESS, &[]);
    let planned = order(&watched, &["plan", TARGET]);
    assert!(planned.contains(&format!("/{TARGET}\nplan      1 to build for the first time\n")), "{planned}");
    assert!(planned.contains("\nmachine   ") && planned.contains("\nlimit     "), "{planned}");
    assert_eq!((watched.build(TARGET).map(|row| row.state), watched.containers().len()), (None, 0));
    // An allowance is asked for by the same name, and the next plan has it.
    order(&watched, &["allow", TARGET, "--hours", "8"]);
    assert!(order(&watched, &["plan", TARGET]).contains("\nlimit     8 hours\n"));
    assert!(watched.scenario.requests("ecs", "RunTask").is_empty());
}
