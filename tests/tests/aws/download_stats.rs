//! What was served, as CloudWatch sums it up from the lines that hits have written.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use binplz_aws::{download_stats::LogDownloadStats, log};
use binplz_core::{
    billing::traffic::{Asked, Traffic},
    id::time::Timestamp,
    nixpkgs::served::{Notes, Served, ServedKey},
    ports::DownloadStats,
    telemetry::{About, Signal},
};
use binplz_tests::{stack::ask, world::target};
use serde_json::{Value, json};

use crate::bed::fresh;

/// The line of a hit.
fn line(stack: &str, package: &str, size: u64, at: Timestamp) -> Value {
    let object = format!("builds/{}/x86_64-linux/{package}/{}/bin/{package}", "0".repeat(40), "1".repeat(32));
    let served = Served {
        asked: ServedKey::of(&target(package), "x86_64-linux".parse().expect("a system")),
        pin: "unstable".parse().expect("a name"),
        rev: "0".repeat(40).parse().expect("hex"),
        attr: package.parse().expect("a name"),
        bin: package.parse().expect("a name"),
        version: "1".to_owned(),
        sha256: "2".repeat(64).parse().expect("hex"),
        size,
        object: object.parse().expect("a path"),
        notes: Notes::default(),
        stale: false,
        lost: false,
    };
    let line = log::line(stack, About::Service, &Signal::Answered { hit: Some(&served), to: None }, at);
    json!({ "timestamp": at.0, "message": line })
}

/// Writes lines into a log of its own, in the order of their time.
fn write(log: &str, lines: &[Value]) {
    let stream = json!({ "logGroupName": log, "logStreamName": "x" });
    let mut events = stream.clone();
    events["logEvents"] = lines.into();
    let asked = [
        ("create_log_group", json!({ "logGroupName": log })),
        ("create_log_stream", stream),
        ("put_log_events", events),
    ];
    for (error, answer) in ask(&asked.map(|(operation, parameters)| (json!({}), "logs", operation, parameters))) {
        assert_eq!(error, None, "{answer}");
    }
}

#[tokio::test]
#[ignore = "needs AWS beside it: tests/bed/up"]
async fn what_was_served_is_the_sum_of_its_lines_for_each_stack_and_since_an_hour() {
    let adapters = fresh().await;
    let stack = adapters.settings.need("BINPLZ_TABLE").expect("a name of its own");
    let another = format!("{stack}-another");
    let settings = adapters.settings.clone().with("BINPLZ_STACK", &stack).with("BINPLZ_HITS_LOG", &stack);
    let download_stats = LogDownloadStats::open(&adapters.account, &settings);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let now = Timestamp(u64::try_from(now.as_millis()).expect("a time"));
    let hour = |before: u64| Timestamp((now.0 / 3_600_000 - before) * 3_600_000);
    assert_eq!(download_stats.served(hour(30)).await, Ok(Traffic::default()));

    // Sums above 2⁵³ bytes would not be exact; no deployment serves that much.
    let big = 5_000_000_000_000;
    let lines = [
        line(&stack, "ed", 7, hour(26)),
        line(&stack, "tree", 1000, hour(2)),
        line(&another, "tree", 9, hour(2)),
        line(&stack, "dash", 1, hour(0)),
        line(&stack, "tree", big, now),
        json!({ "timestamp": now.0, "message": "START of what is no line of ours, \"_aws\" or not" }),
    ];
    write(&stack, &lines[..5]);
    write(&format!("{stack}-noise"), &lines[5..]);
    assert_eq!(download_stats.served(hour(30)).await, Ok(Traffic { hits: 4, bytes: 1008 + big }));
    assert_eq!(download_stats.served(hour(2)).await, Ok(Traffic { hits: 3, bytes: 1001 + big }));
    assert_eq!(download_stats.served(hour(0)).await, Ok(Traffic { hits: 2, bytes: 1 + big }));
    assert_eq!(download_stats.served(now + Duration::from_secs(3600)).await.map(|later| later.hits), Ok(0));
    let top = download_stats.top(hour(2), 1).await;
    let tree = Asked { package: "tree".parse().expect("a name"), hits: 3 };
    assert_eq!(top, Ok(vec![tree]));
    let log = LogDownloadStats::open(&adapters.account, &adapters.settings).top(hour(2), 1).await;
    assert_eq!(log.expect_err("no function reads a log").cause, "no log of hits is named");
}
