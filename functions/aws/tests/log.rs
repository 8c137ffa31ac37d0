//! Lines of a function's log: their members, and the metrics that CloudWatch makes of them.

use std::time::Duration;

use binplz_aws::log;
use binplz_core::{
    VERSION,
    build::failure::{Failure, Kind},
    id::{
        key::{BuildKey, LeaseId},
        money::Micros,
        time::Timestamp,
    },
    quota::limits::LimitExceeded,
    telemetry::{About, End, Moved, Signal},
};
use serde_json::{Value, json};

const NOW: Timestamp = Timestamp(1_700_000_000_123);

fn key() -> BuildKey {
    format!("{}/x86_64-linux/tree", "ab".repeat(20)).parse().expect("a key")
}

fn lease() -> LeaseId {
    "c".repeat(32).parse().expect("a lease")
}

fn line(about: About<'_>, telemetry: Signal<'_>) -> Value {
    let line = log::line("mine", about, &telemetry, NOW);
    assert!(!line.contains('\n'), "{line}");
    serde_json::from_str(&line).expect("JSON")
}

fn ended(end: End) -> Moved {
    Moved::Ended { end, took: Duration::from_millis(12_500) }
}

#[test]
fn a_line_names_its_build_its_lease_and_its_metric() {
    let about = (key(), lease());
    let line_of = |moved: &Moved| line(About::Attempt(&about.0, &about.1), Signal::Moved(moved));
    assert_eq!(
        line_of(&ended(End::Ready)),
        json!({
            "level": "INFO", "message": "ready after 12 s",
            "build": key().to_string(), "lease": lease(), "BuildSeconds": 12.5,
        })
    );
    assert_eq!(line_of(&Moved::Claimed { waited: Duration::from_millis(1500) })["QueueSeconds"], 1.5);
    assert_eq!(
        line_of(&ended(End::Exhausted(Failure::new(Kind::OutOfMemory, "")))),
        json!({
            "level": "INFO", "failure": "out-of-memory",
            "message": "cools down; its last attempt ended after 12 s: the build ran out of memory",
            "build": key().to_string(), "lease": lease(),
            "Stack": "mine", "BuildsExhausted": 1, "version": VERSION,
            "_aws": { "Timestamp": 1_700_000_000_123_u64, "CloudWatchMetrics": [{
                "Namespace": "binplz", "Dimensions": [["Stack"]],
                "Metrics": [{ "Name": "BuildsExhausted", "Unit": "Count" }],
            }] },
        })
    );
    let trouble = Signal::Trouble { what: "the bell was not rung", error: &"no answer" };
    let line = line(About::Service, trouble);
    let told = ["level", "message", "error"].map(|member| line[member].as_str());
    assert_eq!(told, [Some("WARN"), Some("the bell was not rung"), Some("no answer")]);
    assert_eq!(line["Warnings"], 1);
}

#[test]
fn no_line_tells_a_token_or_a_signed_url() {
    let token = "5e".repeat(32);
    let error = format!("ValidationException: https://b/builds/x?X-Amz-Signature={token} for {token}");
    let line = line(About::Service, Signal::Trouble { what: "a builder was not started", error: &error });
    let told = "ValidationException: https://b/builds/x?X-Amz-Signatur… for 5e5e5e5e…";
    assert_eq!(line["error"], told);
}

#[test]
fn who_asked_is_told_of_a_miss() {
    let viewer = "192.0.2.1".parse().ok();
    let line = line(About::Service, Signal::Answered { hit: None, to: viewer });
    assert_eq!((&line["message"], &line["viewer"]), (&"a miss".into(), &"192.0.2.1".into()));
}

#[test]
fn a_hit_names_its_package_and_its_bytes_and_not_who_asked() {
    let item: Value = serde_json::from_str(include_str!("golden/served-program.json")).expect("JSON");
    let served = serde_json::from_str(item["body"]["S"].as_str().expect("a row")).expect("a served row");
    let line = line(About::Service, Signal::Answered { hit: Some(&served), to: "192.0.2.1".parse().ok() });
    assert_eq!((&line["message"], &line["viewer"]), (&"a hit".into(), &Value::Null));
    assert_eq!(line["version"], Value::Null, "a million of them would pay for it");
    assert_eq!((&line["package"], &line["ServedBytes"]), (&"perlPackages.ack".into(), &5_000_000_000_u64.into()));
}

/// The first violation of the embedded metric format's specification in a log event.
/// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>
fn violation(event: &Value) -> Option<String> {
    let members = |value: &Value, must: &[&str], may: &[&str]| -> Option<String> {
        let Some(object) = value.as_object() else { return Some(format!("no object: {value}")) };
        let missing = must.iter().find(|name| !object.contains_key(**name));
        let unrecognized = object.keys().find(|name| !must.contains(&name.as_str()) && !may.contains(&name.as_str()));
        missing.map(|name| format!("no {name}")).or(unrecognized.map(|name| format!("{name} is not known")))
    };
    let metadata = &event["_aws"];
    if let Some(wrong) = members(metadata, &["Timestamp", "CloudWatchMetrics"], &["LogGroupName"]) {
        return Some(wrong);
    }
    if !metadata["Timestamp"].is_u64() {
        return Some("a timestamp is milliseconds since 1970".to_owned());
    }
    for directive in metadata["CloudWatchMetrics"].as_array().into_iter().flatten() {
        if let Some(wrong) = members(directive, &["Namespace", "Dimensions", "Metrics"], &[]) {
            return Some(wrong);
        }
        let sets = directive["Dimensions"].as_array().map_or(&[][..], Vec::as_slice);
        let names: Vec<_> = sets.iter().filter_map(Value::as_array).flatten().collect();
        let named = |name: &Value| name.as_str().is_some_and(|name| event[name].is_string());
        if sets.is_empty() || names.len() > 30 || !names.iter().all(|name| named(name)) {
            return Some("a dimension is a text member of the event".to_owned());
        }
        let metrics = directive["Metrics"].as_array().map_or(&[][..], Vec::as_slice);
        if !(1..=100).contains(&metrics.len()) {
            return Some("1 to 100 metrics".to_owned());
        }
        for metric in metrics {
            if let Some(wrong) = members(metric, &["Name"], &["Unit", "StorageResolution"]) {
                return Some(wrong);
            }
            let value = metric["Name"].as_str().map(|name| &event[name]);
            if !value.is_some_and(Value::is_number)
                || !["Count", "Seconds", "Bytes"].map(Value::from).contains(&metric["Unit"])
            {
                return Some(format!("{metric} is no number with a unit"));
            }
        }
    }
    None
}

#[test]
fn every_line_with_metrics_is_what_the_specification_of_the_format_demands() {
    for telemetry in [
        Signal::Held(LimitExceeded::Budget { worst: Micros(1) }),
        Signal::Trouble { what: "the bell was not rung", error: &"no answer" },
        Signal::Moved(&ended(End::Exhausted(Failure::new(Kind::BuildFailed, "x.c:1: error")))),
    ] {
        let line = line(About::Service, telemetry);
        assert_eq!(violation(&line), None, "{line}");
    }
}

#[test]
fn what_is_no_such_line_is_found() {
    let good = line(About::Service, Signal::Held(LimitExceeded::Budget { worst: Micros(1) }));
    for (change, to) in [
        ("/_aws/Timestamp", json!("2026")),
        ("/_aws/CloudWatchMetrics/0/Dimensions", json!([["Unknown"]])),
        ("/_aws/CloudWatchMetrics/0/Metrics", json!([])),
        ("/_aws/CloudWatchMetrics/0/Metrics/0/Name", json!("Other")),
        ("/_aws/CloudWatchMetrics/0/Metrics/0/Unit", json!("Dollars")),
        ("/_aws", json!({})),
        ("/Stack", json!(1)),
        ("/BuildsHeld", json!("1")),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(change).expect("a member") = to;
        assert!(violation(&bad).is_some(), "{change}");
    }
}
