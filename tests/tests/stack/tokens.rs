//! A lease's token opens its own build and nothing else.

use binplz_tests::{
    leases::{self, Lease},
    site::wait_for,
};
use serde_json::json;

use crate::watched::{Watched, watched};

/// A deployment whose tasks are never started, without anybody knowing it: the test is the builder.
fn without_tasks(more: &[&str]) -> Watched {
    let watched = watched("", more);
    let arn = format!("{}/none", watched.outputs["Cluster"].replace(":cluster/", ":task/"));
    watched.scenario.fault(&json!({
        "at": { "service": "ecs", "operation": "RunTask" }, "times": 100, "do": "answer",
        "answer": [200, { "tasks": [{ "taskArn": arn }], "failures": [] }],
    }));
    watched
}

/// What the task of a build would have been told.
fn lease(watched: &Watched, attr: &str) -> Lease {
    assert_eq!(watched.get(&format!("/{attr}")).status, 202);
    let lease = wait_for("a lease", || {
        let tasks = watched.scenario.requests("ecs", "RunTask").into_iter();
        let told = tasks.map(|request| request.parameters["overrides"]["containerOverrides"][0]["environment"].clone());
        let of_it = |variables: serde_json::Value| {
            let value =
                |name| variables.as_array()?.iter().find(|v| v["name"] == name)?["value"].as_str().map(str::to_owned);
            Lease::read(watched, &value("BINPLZ_LEASE_URL")?, &value("BINPLZ_LEASE_TOKEN")?)
        };
        told.filter_map(of_it).find(|lease| lease.path.contains(&format!("/{attr}/")))
    });
    wait_for("the claim", || (watched.status(attr)["state"] == "building").then_some(()));
    lease
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn a_token_of_one_build_is_refused_for_another_builds_objects_and_row() {
    for cache in [true, false] {
        let watched = without_tasks(if cache { &[] } else { &["--parameter=Cache=no"] });
        let (a, b) = (lease(&watched, "tree"), lease(&watched, "hello"));
        leases::a_token_opens_its_own_build_and_nothing_else(&watched, &a, &b, cache);
    }
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn a_lease_that_is_over_is_not_heard() {
    let watched = without_tasks(&["--env", "BINPLZ_RETRY_DELAY_SECONDS=3600"]);
    let lease = lease(&watched, "tree");
    watched.lease_is_over("tree");
    watched.scenario.tick();
    wait_for("the lease to lapse", || (watched.status("tree")["state"] == "queued").then_some(()));
    leases::a_lease_that_is_over_is_not_heard(&watched, &lease);
}
