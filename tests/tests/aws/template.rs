//! What the template says of the code is so: the metrics that its alarms and its dashboard name, the sizes of machines.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use binplz_aws::{
    bell::DELAY_MAX,
    metrics::{self, Metric},
};
use binplz_core::{
    build::{
        failure::{Failure, Kind},
        policy::{Policy, Prices},
        size::Size,
    },
    flow::{
        lease::settle::stopped,
        request::program::request,
        schedule::{dispatch::dispatch, sweep::sweep},
    },
    id::money::Micros,
    objects::stored::Method,
    ports::Deployment,
    quota::client::Asker,
    telemetry::{About, Signal},
};
use binplz_tests::world::{World, target};
use serde_json::Value;

const TEMPLATE: &str = include_str!("../../../template.yaml");

/// The names of metrics that the alarms watch, AWS's and ours.
fn watched() -> BTreeSet<String> {
    let names = TEMPLATE.lines().filter_map(|line| line.trim().strip_prefix("MetricName: "));
    names.map(str::to_owned).collect()
}

/// The metrics of ours that the dashboard shows.
fn shown() -> BTreeSet<String> {
    let body = TEMPLATE.split_once("DashboardBody: !Sub |\n").expect("a dashboard").1;
    let body: String = body.lines().take_while(|line| line.starts_with("        ")).collect();
    let dashboard: Value = serde_json::from_str(&body).expect("JSON, the placeholders in texts");
    let mut names = BTreeSet::new();
    for widget in dashboard["widgets"].as_array().expect("widgets") {
        let mut namespace = String::new();
        // Others are queries of logs.
        for metric in widget["properties"]["metrics"].as_array().into_iter().flatten() {
            // "." is what stands above, and "..." all of it.
            match [&metric[0], &metric[1]].map(|name| name.as_str().unwrap_or("")) {
                ["...", _] => continue,
                [".", _] => {}
                [other, _] => namespace = other.to_owned(),
            }
            if namespace == metrics::NAMESPACE {
                names.insert(metric[1].as_str().expect("a name").to_owned());
            }
        }
    }
    names
}

#[test]
fn the_template_watches_the_metrics_that_there_are_and_shows_each() {
    let all: BTreeSet<_> = Metric::ALL.map(Metric::name).into();
    assert_eq!(shown(), all);
    // Each has an alarm, but those of a service without trouble; and the alarms watch some of AWS's own.
    let theirs =
        ["ApproximateNumberOfMessagesVisible", "ApproximateAgeOfOldestMessage", "Errors", "Throttles", "Count"];
    let ours = Metric::ALL.into_iter().filter(|metric| !metric.is_usual()).map(Metric::name);
    assert_eq!(watched(), ours.chain(theirs.map(str::to_owned)).collect());
}

#[test]
fn a_message_that_was_sent_with_a_delay_is_not_old() {
    let alarm = TEMPLATE.split_once("\n  DeafAlarm:\n").expect("an alarm").1;
    let age = alarm.split_once("Threshold: ").expect("a threshold").1.lines().next().and_then(|age| age.parse().ok());
    // It may have to wait for a run of the dispatcher, whose timeout is a minute.
    assert!(DELAY_MAX + Duration::from_secs(60) < Duration::from_secs(age.expect("seconds")));
}

#[test]
fn the_templates_machines_are_ones_that_fargate_has() {
    let sizes =
        TEMPLATE.split_once("\n  Sizes:\n").expect("sizes").1.lines().take_while(|line| line.starts_with("    "));
    let numbers = |line: &str| line.split('\'').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>().join("/");
    let sizes: Vec<_> = sizes.map(numbers).collect();
    let sizes: Result<Vec<Size>, _> = sizes.iter().map(|size| size.parse()).collect();
    let sizes = sizes.expect("sizes");
    // The second is the usual one, for rows that name none.
    assert_eq!((sizes.len(), sizes[1]), (3, Size::default()));
}

#[test]
fn what_is_built_and_what_is_deployed_is_for_one_architecture() {
    // `sam build` does not see the parameters of `sam deploy`: so it is none, and written once.
    assert_eq!(TEMPLATE.matches("Architecture").count(), TEMPLATE.matches("Architectures: [arm64]\n").count() + 2);
    assert_eq!(TEMPLATE.matches("    Architectures: [arm64]\n").count(), 1);
    assert_eq!(TEMPLATE.matches("CpuArchitecture: ").count(), 2, "those of the builders' tasks");
}

/// The variables that a text names.
fn variables(text: &str) -> BTreeSet<&str> {
    let ends = |c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    let names = text.match_indices("BINPLZ_").map(|(at, _)| text[at..].split(ends).next().unwrap_or(""));
    names.filter(|name| *name != "BINPLZ_").collect()
}

#[test]
fn every_variable_that_the_template_sets_is_read() {
    let read = [
        include_str!("../../../functions/aws/src/config.rs"),
        include_str!("../../../functions/aws/src/bell.rs"),
        include_str!("../../../functions/aws/src/images.rs"),
        include_str!("../../../functions/aws/src/launcher.rs"),
        include_str!("../../../functions/aws/src/ledger.rs"),
        include_str!("../../../functions/aws/src/log.rs"),
        include_str!("../../../functions/aws/src/objects.rs"),
        include_str!("../../../functions/aws/src/shared.rs"),
        include_str!("../../../functions/aws/src/binary_cache.rs"),
        include_str!("../../../functions/lambda/src/bin/api.rs"),
    ];
    let read: BTreeSet<_> = read.iter().flat_map(|source| variables(source)).collect();
    let set = variables(TEMPLATE);
    assert!(set.len() > 10 && set.is_subset(&read), "{:?}", set.difference(&read).collect::<Vec<_>>());
}

async fn ask(w: &World, path: &str) {
    let reply = request(w, &target(path), Method::Get, Some(&Asker::default())).await;
    w.emit(About::Service, Signal::Answered { hit: reply.served(), to: None });
}

#[tokio::test]
async fn every_metric_is_counted_by_some_story() {
    let prices = Prices { task: Micros(3600), ..Prices::default() };
    let mut policy = Policy { slots: 9, attempts: 2, budget: Some(Micros(350)), prices, ..Policy::default() };
    policy.job.seconds = 100;
    let counted = Arc::new(Mutex::new(BTreeSet::new()));
    let w = World::with(policy);
    let heard = Arc::clone(&counted);
    let count = move |_: About<'_>, telemetry: Signal<'_>| {
        heard.lock().expect("a lock").extend(metrics::of(&telemetry).map(|(metric, _)| metric));
    };
    w.hear(count.clone());

    ask(&w, "tree").await;
    dispatch(&*w).await.expect("the ledger");
    w.finish("tree").await;
    ask(&w, "tree").await;

    ask(&w, "broken").await;
    for kind in [Kind::Killed, Kind::Killed] {
        dispatch(&*w).await.expect("the ledger");
        let bearer = w.bearer("broken").await;
        stopped(&*w, &bearer.key, &bearer.lease, Failure::new(kind, ""), None).await.expect("the ledger");
        w.pass(w.policy().first_delay);
    }
    ask(&w, "wrong").await;
    dispatch(&*w).await.expect("the ledger");
    let bearer = w.bearer("wrong").await;
    stopped(&*w, &bearer.key, &bearer.lease, Failure::new(Kind::BuildFailed, ""), None).await.expect("the ledger");

    for path in ["a", "b", "c", "d"] {
        ask(&w, path).await;
        dispatch(&*w).await.expect("the ledger");
    }
    let bearer = w.bearer("a").await;
    stopped(&*w, &bearer.key, &bearer.lease, Failure::new(Kind::NoImage, ""), None).await.expect("the ledger");

    // Another one, whose store is full, and which may serve nothing.
    let w = World::with(Policy { store_bytes: Some(0), egress_bytes: Some(0), ..Policy::default() });
    w.hear(count);
    ask(&w, "tree").await;
    sweep(&*w).await.expect("the ledger");
    w.warn(About::Service, "a request was not answered", &"DynamoDB does not answer");
    assert_eq!(*counted.lock().expect("a lock"), BTreeSet::from(Metric::ALL));
}
