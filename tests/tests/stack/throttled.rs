//! AWS refuses requests of functions: DynamoDB and S3 throttle, for a moment and for longer, and IAM does not know new policies yet.

use std::process::Command;

use binplz_core::build::State;
use binplz_tests::{gate::Gate, scenario::Request, site::wait_for, stack::ask};
use serde_json::json;

use crate::watched::{ends, watched};

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn while_dynamodb_and_s3_throttle_each_third_request_a_build_takes_one_attempt_and_its_program_is_downloaded() {
    let watched = watched("", &[]);
    watched
        .scenario
        .set(&json!({ "minute": null, "injected": { "dynamodb": ["throttling", 3], "s3": ["throttling", 3] } }));
    // A function may have been refused three times in a row, and its client was told to come back.
    let hit = wait_for("tree", || Some(watched.get("/tree")).filter(|answer| answer.status == 302));
    assert_eq!((watched.tasks(), ends(&watched.build("tree").expect("a row"))), (1, vec![None]));
    let home = tempfile::tempdir().expect("a directory");
    std::fs::write(home.path().join("tree"), &hit.body).expect("a file");
    // Two of three downloads are refused or not, and the stub tries each again.
    for _ in 0..3 {
        let ran = Command::new("sh").args(["tree", "--version"]).current_dir(home.path()).output().expect("sh");
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success() && ran.stdout.starts_with(b"tree v2.1.0"), "{said}");
        std::fs::write(home.path().join("tree"), &hit.body).expect("a file");
    }
    let refused = |service: &str, status| {
        watched.scenario.log().iter().any(|request| request.service == service && request.status == Some(status))
    };
    assert!(refused("dynamodb", 400) && refused("s3", 503));
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn while_dynamodb_throttles_every_request_clients_are_told_and_a_running_build_goes_on_afterwards() {
    let gate = Gate::new("gated");
    let watched = watched(&gate.package(), &[]);
    let target = gate.target();
    assert_eq!(watched.get(&format!("/{target}")).status, 202);
    gate.arrived();
    watched.scenario.set(&json!({ "minute": null, "injected": { "dynamodb": ["throttling", 1] } }));
    let answer = watched.get("/dash");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("10")), "{}", answer.text());
    assert!(answer.text().contains("the service has a problem; try again in a moment"), "{}", answer.text());
    // The alarm Warning counts such answers.
    let counted = json!({ "Namespace": "binplz", "MetricName": "Warnings", "Dimensions": [{ "Name": "Stack", "Value": watched.name }],
        "StartTime": 0, "EndTime": binplz_clock::now().0 / 1000 + 3600, "Period": 86400, "Statistics": ["Sum"] });
    wait_for("a warning", || {
        // A function's line is in the log when it is asked for the next time.
        watched.get("/-/health");
        let (_, told) = ask(&[(json!({}), "cloudwatch", "get_metric_statistics", counted.clone())]).remove(0);
        told["Datapoints"][0]["Sum"].as_f64().filter(|sum| *sum > 0.0)
    });
    // The build ends meanwhile, and its builder cannot say so yet.
    gate.open();
    let refused = || {
        watched
            .scenario
            .log()
            .iter()
            .filter(|request| request.what() == "Lease dynamodb:GetItem" && request.status == Some(400))
            .count()
    };
    wait_for("the builder to be refused", || (refused() >= 3).then_some(()));
    watched.scenario.set(&json!({ "minute": null }));
    let build = watched.ended(&target);
    assert!(matches!(build.state, State::Ready(_)), "{build:?}");
    assert_eq!((ends(&build), watched.tasks()), (vec![None], 1));
    assert_eq!(watched.get("/dash").status, 202);
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn while_iam_does_not_know_the_policies_of_a_new_stack_nothing_fails_for_good() {
    let watched = watched("", &[]);
    watched.scenario.set(&json!({ "minute": 1, "policies_late": 4 }));
    let answer = watched.get("/tree");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("10")), "{}", answer.text());
    wait_for("tree", || (watched.get("/tree").status == 302).then_some(()));
    assert_eq!((watched.tasks(), ends(&watched.build("tree").expect("a row"))), (1, vec![None]));
    for function in ["Api", "Dispatcher", "Lease", "Reaper"] {
        let denied = |request: &Request| request.function.as_deref() == Some(function) && request.status == Some(400);
        assert!(watched.scenario.log().iter().filter(|request| denied(request)).count() >= 4, "{function}");
    }
}
