//! What it costs to be asked for what has failed for good, as AWS sees it; and the machines that passing failures are tried on.

use binplz_core::build::{State, failure::Kind};
use binplz_tests::{answers::Running, failures::asked_a_thousand_times, gate::Gate};
use serde_json::{Value, json};

use crate::{
    tasks::{at_the_gate, gated, is_ready},
    watched::{Watched, ends, watched},
};

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn a_thousand_requests_for_what_has_failed_for_good_start_no_task_and_cost_reads_only() {
    let watched = watched("", &[]);
    assert_eq!(watched.settled("failing.compileError").status, 422);
    let (tasks, from) = (watched.builders(), watched.scenario.log().len());
    asked_a_thousand_times(&watched, "failing.compileError");
    let asked = watched.scenario.log().into_iter().skip(from);
    let asked: Vec<String> = asked.filter(|r| r.function.as_deref() == Some("Api")).map(|r| r.what()).collect();
    // The log is in the bucket.
    let reads = ["lambda:Invoke", "lambda:Next", "dynamodb:GetItem", "s3:GetObject", "s3:HeadObject"];
    let other: Vec<_> = asked.iter().filter(|what| !reads.iter().any(|read| what.ends_with(read))).collect();
    assert!(asked.len() > 3000 && other.is_empty(), "{other:?}");
    assert_eq!(watched.builders(), tasks);
}

/// A machine that ECS was asked for: MiB of memory, GiB of disk, by which capacity.
pub(crate) type Machine = (u64, u64, String);

/// Those of all tasks so far.
pub(crate) fn machines(watched: &Watched) -> Vec<Machine> {
    let number =
        |value: &Value| value.as_u64().or(value.as_str().and_then(|text| text.parse().ok())).expect("a number");
    let asked = |parameters: &Value| {
        let overrides = &parameters["overrides"];
        let capacity = parameters["capacityProviderStrategy"][0]["capacityProvider"].as_str().expect("a name");
        (number(&overrides["memory"]), number(&overrides["ephemeralStorage"]["sizeInGiB"]), capacity.to_owned())
    };
    watched.scenario.requests("ecs", "RunTask").iter().map(|run| asked(&run.parameters)).collect()
}

/// The first one by Spot; what failed there is not tried there again.
pub(crate) fn by_size(sizes: &[(u64, u64)]) -> Vec<Machine> {
    let capacity = |n| if n == 0 { "FARGATE_SPOT" } else { "FARGATE" };
    sizes.iter().enumerate().map(|(n, &(memory, disk))| (memory, disk, capacity(n).to_owned())).collect()
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn a_task_that_is_out_of_memory_is_followed_by_one_with_twice_as_much() {
    let eat = "head -c 300000000 /dev/zero | tail -c 299999999 | wc -c";
    let quietly = format!("{{ {eat}; }} 2> /dev/null || {{ echo a step failed; exit 1; }}");
    let gates = ["build", "quiet", "builder"].map(Gate::new);
    let packages: Vec<_> = gates.iter().zip([eat, &quietly, eat]).map(|(gate, eat)| gated(gate, eat)).collect();
    let watched = watched(&packages.concat(), &[]);
    // The kernel ends the build's process, which may say so, or not, and the builder tells it; or it ends the builder, and ECS does.
    for (gate, builder_first) in gates.iter().zip([false, false, true]) {
        let (target, before) = (gate.target(), machines(&watched).len());
        at_the_gate(&watched, gate);
        let mut told = json!({ "memory": 200_000_000 });
        if builder_first {
            told["oom_score_adj"] = 1000.into();
            told["reason"] = "OutOfMemoryError: Container killed due to memory usage".into();
        }
        watched.to_task(&target, &told);
        gate.open();
        is_ready(&watched, &target, &[Some(Kind::OutOfMemory), None]);
        assert_eq!(machines(&watched)[before..], by_size(&[(8192, 50), (16_384, 50)]), "{target}");
    }
    assert_eq!(watched.scenario.requests("events", "Scheduled Event").len(), 0, "the schedule did not run");
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn a_task_whose_disk_is_full_is_followed_by_ones_with_twice_as_much_until_it_rests() {
    // A container's /dev/shm is small.
    let full = "full = package \"full\" { buildPhase = \"cp /dev/zero /dev/shm/much\"; };\n";
    let watched = watched(full, &[]);
    assert_eq!(watched.get("/failing.full").status, 202);
    let build = watched.ended("failing.full");
    assert!(matches!(build.state, State::Failed { until: Some(_), .. }), "{build:?}");
    assert_eq!(ends(&build), [Some(Kind::DiskFull); 3]);
    assert_eq!(machines(&watched), by_size(&[(8192, 50), (8192, 100), (8192, 200)]));
    let answer = watched.get("/failing.full");
    assert_eq!(answer.status, 503);
    let said = "the build ran out of disk: cp: error writing '/dev/shm/much': No space left on device";
    assert!(answer.text().replace("'\\''", "'").contains(said), "{}", answer.text());
}
