//! The ceiling for what is downloaded in a day, as a stack holds it: summed up from the log of its hits, each minute.

use std::process::Command;

use binplz_tests::{scenario::Request, server::program, site::wait_for, stack::ask};
use serde_json::{Value, json};

use crate::watched::{Watched, endpoint, policy, watched};

const GIGABYTE: u64 = 1_000_000_000;

/// What its operator sees.
fn egress(w: &Watched) -> Value {
    let mut command = Command::new(program("binplz"));
    command.args(["status", "--json", "--stack", &w.name]).env("AWS_ENDPOINT_URL", endpoint());
    let output = command.output().expect("binplz");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice::<Value>(&output.stdout).expect("JSON")["egress"].clone()
}

/// Waits until it is as `is` says, while minutes pass.
fn counted(w: &Watched, is: impl Fn(&Value) -> bool) {
    wait_for("the count", || {
        // A line that came late is in the bed's log when its function is asked for the next time.
        w.get("/-/health");
        w.invoke("reaper");
        is(&egress(w)).then_some(())
    });
}

/// Hits whose programs have so many bytes, as the lines of many would come to be a metric's.
fn many_hits(w: &Watched, bytes: u64) {
    put_metric(w, "ServedBytes", bytes);
}

fn put_metric(w: &Watched, name: &str, value: u64) {
    let datum = json!({ "MetricName": name, "Dimensions": [{ "Name": "Stack", "Value": w.name }], "Value": value });
    let told = json!({ "Namespace": "binplz", "MetricData": [datum] });
    let [(None, _)] = &ask(&[(json!({}), "cloudwatch", "put_metric_data", told)])[..] else {
        panic!("it is not taken")
    };
}

/// The alarm's state; `None`: there is none.
fn alarm(w: &Watched) -> Option<String> {
    alarm_of(w, "EgressExceeded")
}

/// The state of the stack's alarm for that metric of ours.
fn alarm_of(w: &Watched, metric: &str) -> Option<String> {
    let (_, told) = ask(&[(json!({}), "cloudwatch", "describe_alarms", json!({}))]).remove(0);
    let alarms = told["MetricAlarms"].as_array().expect("a list").clone();
    let ours = |alarm: &Value| alarm["MetricName"] == metric && alarm["Dimensions"][0]["Value"] == *w.name;
    alarms.iter().find(|alarm| ours(alarm)).and_then(|alarm| alarm["StateValue"].as_str().map(str::to_owned))
}

/// What is read for a hit.
fn reads(w: &Watched, path: &str) -> Vec<String> {
    let from = w.scenario.log().len();
    assert_eq!(w.get(path).status, 302);
    let key = |read: &Request| read.parameters["Key"]["pk"]["S"].as_str().expect("a key").to_owned();
    wait_for("the process to be done", || {
        let log = w.scenario.log().into_iter().skip(from);
        let its: Vec<_> = log.filter(|request| request.function.as_deref() == Some("Api")).collect();
        // Without those of a process that begins.
        let answered = its.iter().rposition(|request| request.operation == "Next")?;
        let invoked =
            its[..answered].iter().rposition(|request| matches!(request.operation.as_str(), "Invoke" | "Next"))?;
        let reads = &its[invoked + 1..answered];
        let keys: Vec<_> = reads.iter().filter(|read| read.operation == "GetItem").map(key).collect();
        // A process that begins reads something else first, and asks for its work then.
        keys.iter().any(|key| key.starts_with("served/")).then_some(keys)
    })
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn what_a_stack_has_redirected_to_is_counted_each_minute_and_beyond_its_ceiling_it_is_refused() {
    let mut w = watched("", &["--parameter=EgressGigabytesPerDay=1"]);
    let hit = w.settled("tree");
    let size: u64 = hit.header("x-binplz-size").and_then(|size| size.parse().ok()).expect("a size");
    assert_eq!(
        reads(&w, "/tree").iter().map(|key| key.split('/').next().expect("a kind")).collect::<Vec<_>>(),
        ["served", "limits"]
    );
    // The log's lines are all that is counted, and the reaper's role lets it.
    counted(&w, |egress| egress["served"] == 2 * size && egress["ceiling"] == GIGABYTE);
    assert_eq!((w.get("/tree").status, alarm(&w).as_deref() == Some("ALARM")), (302, false));

    many_hits(&w, GIGABYTE);
    counted(&w, |egress| egress["until"].is_u64());
    let refused = w.get("/tree");
    assert_eq!((refused.status, refused.header("cache-control")), (503, Some("no-store")), "{}", refused.text());
    assert!(refused.text().contains("the daily download limit is reached"), "{}", refused.text());
    let after: u64 = refused.header("retry-after").and_then(|after| after.parse().ok()).expect("a time");
    assert!((1..=86_400).contains(&after));
    assert_eq!((w.get("/dash").status, w.status("dash")["state"].as_str()), (503, Some("unasked")));
    assert!(w.status("tree")["artifact"].is_null());
    wait_for("the alarm", || {
        // The bed evaluates its alarms when a metric is put.
        put_metric(&w, "Unused", 0);
        (alarm(&w).as_deref() == Some("ALARM")).then_some(())
    });

    // Raised, it serves again, before anybody counts anew.
    let set = w.set.path().to_owned();
    w.stack.update(&set, &policy(), &["--parameter=EgressGigabytesPerDay=2"]);
    assert_eq!(w.get("/tree").status, 302);
    // Without one, there is no alarm either, and a hit is one read.
    w.stack.update(&set, &policy(), &["--parameter=EgressGigabytesPerDay=0"]);
    assert_eq!((reads(&w, "/tree").len(), egress(&w), alarm(&w)), (1, Value::Null, None));
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn requests_that_fail_because_the_table_refuses_raise_an_alarm() {
    let w = watched("", &[]);
    assert_eq!(w.get("/tree").status, 202);
    let refusal = json!([400, { "__type": "com.amazonaws.dynamodb.v20120810#AccessDeniedException", "message": "no" }]);
    let at = json!({ "function": "Api", "service": "dynamodb", "operation": "GetItem" });
    w.scenario.fault(&json!({ "at": at, "times": 100, "do": "answer", "answer": refusal }));
    for _ in 0..6 {
        assert_eq!(w.get("/tree").status, 503);
    }
    wait_for("the alarm", || {
        put_metric(&w, "Unused", 0);
        (alarm_of(&w, "Warnings").as_deref() == Some("ALARM")).then_some(())
    });
}
