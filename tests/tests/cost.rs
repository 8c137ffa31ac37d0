//! What the operator's guide says that things cost is what the price file says; and what the model counts is what there is.

use std::collections::BTreeSet;

use binplz_aws::{log, metrics::Metric};
use binplz_core::{
    answer::{
        asked::{Asked, Format},
        reply::Body,
    },
    billing::{
        cost::{self, Assumed},
        prices::{FILE, PriceList},
    },
    build::protocol::JobLimits,
    flow::request::outcome::RequestOutcome,
    id::{target::Target, time::Timestamp},
    nixpkgs::served::{Notes, Served, ServedKey},
    objects::stored::Location,
    telemetry::{About, Signal},
};
use binplz_tests::{guide, world::target};
use serde_json::Value;

const GUIDE: &str = include_str!("../../infra/README.md");
const TEMPLATE: &str = include_str!("../../template.yaml");

#[test]
fn the_guides_tables_are_those_of_the_price_file() {
    let prices = PriceList::known().expect("the price file");
    assert!(guide::is_of(GUIDE, &prices), "infra/README.md is not of infra/prices.json: run scripts/cost --write");
}

#[test]
fn any_price_that_changes_makes_the_guides_tables_wrong() {
    let file: Value = serde_json::from_str(FILE).expect("JSON");
    let names: Vec<_> = file["prices"].as_object().expect("prices").keys().collect();
    for name in names {
        let mut changed = file.clone();
        // Ten times the price, so that the difference survives rounding.
        let price = changed["prices"][name]["dollars"].as_str().expect("an amount");
        let (whole, decimals) = price.split_once('.').expect("a point");
        changed["prices"][name]["dollars"] = format!("{whole}{}.{}", &decimals[..1], &decimals[1..]).into();
        let prices: PriceList = changed.to_string().parse().expect("prices");
        assert!(!guide::is_of(GUIDE, &prices), "{name} is in no table");
        let mended = guide::with_tables(GUIDE, &guide::tables(&prices)).expect("a place for the tables");
        assert!(guide::is_of(&mended, &prices) && !guide::is_of(&mended, &PriceList::known().expect("prices")));
    }
}

#[test]
fn a_guide_that_was_changed_by_hand_or_has_lost_its_tables_is_found_out() {
    let prices = PriceList::known().expect("the price file");
    let one = GUIDE.replacen("| HTTP API | ", "| HTTP API | 9", 1);
    assert!(one != GUIDE && !guide::is_of(&one, &prices));
    assert!(!guide::is_of("", &prices));
}

/// The type of each resource of the template, without `AWS::`, and its position there.
fn resources() -> Vec<(&'static str, usize)> {
    let types = TEMPLATE.match_indices("Type: AWS::");
    types.map(|(at, _)| (TEMPLATE[at + "Type: AWS::".len()..].split([',', '\n']).next().expect("a type"), at)).collect()
}

#[test]
fn each_resource_of_the_template_has_a_line_in_the_tables_or_a_reason_why_it_is_free() {
    let of_template: BTreeSet<_> = resources().into_iter().map(|(name, _)| name).collect();
    let of_tables: Vec<_> = guide::RESOURCES.iter().flat_map(|(_, types)| *types).copied().collect();
    assert_eq!(of_tables.len(), of_tables.iter().collect::<BTreeSet<_>>().len(), "a type in two lines");
    assert_eq!(of_template, of_tables.into_iter().collect(), "change RESOURCES in tests/src/guide.rs");
}

#[test]
fn a_stack_at_rest_costs_less_than_two_dollars_and_a_million_hits_little_more_than_their_requests() {
    let prices = PriceList::known().expect("the price file");
    assert!(cost::sum(&cost::standing(&prices)) < "2".parse().expect("an amount"));
    // 1.67 dollars are one request to each service. The rest is the log line and the redirect, whose URL alone costs 0.15: the guide has
    // the sum.
    let hits = cost::hits(&prices, cost::Way::Store, 1_000_000);
    let redirects = cost::egress(&prices, cost::Way::Store, 1_000_000, 0);
    assert!(cost::sum(&hits) + redirects <= "2.17".parse().expect("an amount"));
}

#[test]
fn what_is_counted_by_the_piece_is_what_the_template_and_the_code_have() {
    let says = |assumed: Assumed, there: usize| {
        assert_eq!(
            assumed.number, there as u64,
            "{}: change it in core/src/billing/cost.rs; scripts/cost --write",
            assumed.what
        );
    };
    says(cost::METRICS, Metric::ALL.into_iter().filter(|metric| metric.is_usual()).count());
    let of_type = |name: &str| resources().iter().filter(|resource| resource.0 == name).count();
    // One of them is there with a ceiling for downloads only. None is of an expression, which would cost as one for each metric.
    says(cost::ALARMS, of_type("CloudWatch::Alarm") - 1);
    assert!(TEMPLATE.contains("  EgressAlarm:\n    Type: AWS::CloudWatch::Alarm\n    Condition: HasEgressCeiling\n"));
    assert!(!TEMPLATE.contains("Expression:"));
    // Half a million polls for each queue that a function reads.
    says(cost::POLLS, 648_000 * TEMPLATE.matches("Type: SQS\n").count());
    assert_eq!((of_type("SecretsManager::Secret"), of_type("CloudWatch::Dashboard")), (2, 1));
    for dear in ["CacheSecret:", "OriginSecret:", "Dashboard:"] {
        let (_, resource) = TEMPLATE.split_once(&format!("\n  {dear}\n")).expect("a resource");
        assert!(resource.lines().nth(1).expect("a line").starts_with("    Condition: "), "{dear}");
    }
    let default = |parameter: &str| {
        let rest = TEMPLATE.split_once(&format!("\n  {parameter}: {{")).expect("a parameter").1;
        let default = rest.split_once("Default: ").expect("a default").1;
        default.split(',').next().expect("a value").parse::<usize>().expect("a number")
    };
    says(cost::BUDGET_DOLLARS, default("BudgetDollars"));
    for memory in [cost::FUNCTION_MEGABYTES, cost::COLLECTOR_MEGABYTES, cost::PROMOTER_MEGABYTES] {
        assert!(TEMPLATE.contains(&format!("MemorySize: {}\n", memory.number)), "{}", memory.what);
    }
    for (name, size) in guide::SIZES {
        let [cpu, memory, disk] = size.split('/').collect::<Vec<_>>()[..] else { panic!("{size}") };
        let line = format!("    {name}: {{Cpu: '{cpu}', Memory: '{memory}', Disk: '{disk}'}}\n");
        assert!(TEMPLATE.contains(&line), "{line}");
    }
}

#[test]
fn a_catalogue_costs_what_the_trial_of_the_benchmark_page_took() {
    let page = include_str!("../bench/README.md");
    let (_, trial) = page.split_once("| the catalogue of nixpkgs |").expect("the trial of nixpkgs 20.09");
    for (row, assumed) in [("processor time", cost::CATALOGUE_SECONDS), ("attributes", cost::CATALOGUE_ATTRIBUTES)] {
        let (_, cell) = trial.split_once(&format!("\n| {row} | ")).expect("a row");
        let figure: String = cell.chars().take_while(|char| *char != '|').filter(char::is_ascii_digit).collect();
        assert_eq!(
            figure,
            assumed.number.to_string(),
            "{row}: change it in core/src/billing/cost.rs; scripts/cost --write"
        );
    }
    assert_eq!(JobLimits::default().attribute_bytes >> 20, cost::CATALOGUE_MEGABYTES.number);
}

fn hit() -> (Target, RequestOutcome) {
    let target = target("tree");
    let object = format!("builds/{}/x86_64-linux/tree/{}/bin/tree", "0".repeat(40), "1".repeat(32));
    // A function's credentials come with a token that is this long, or a little more.
    let [key, token, signature] = [20, 1200, 64].map(|length| "a".repeat(length));
    let url = format!(
        "https://binplz-bucket-0123456789ab.s3.us-east-1.amazonaws.com/blobs/{}\
         ?response-content-disposition=attachment%3B%20filename%3D%22tree%22&X-Amz-Algorithm=AWS4-HMAC-SHA256\
         &X-Amz-Credential={key}%2F20261130%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20261130T000000Z\
         &X-Amz-Expires=900&X-Amz-SignedHeaders=host&X-Amz-Security-Token={token}&X-Amz-Signature={signature}",
        "2".repeat(64)
    );
    let served = Served {
        asked: ServedKey::of(&target, "x86_64-linux".parse().expect("a system")),
        pin: "unstable".parse().expect("a name"),
        rev: "0".repeat(40).parse().expect("hex"),
        attr: "tree".parse().expect("a name"),
        bin: "tree".parse().expect("a name"),
        version: "2.1.0".to_owned(),
        sha256: "2".repeat(64).parse().expect("hex"),
        size: 5_000_000,
        object: object.parse().expect("a path"),
        notes: Notes::default(),
        stale: false,
        lost: false,
    };
    (target, RequestOutcome::Hit { served, at: Location::Store(url) })
}

/// As many as are assumed, and not much less.
fn is_about(assumed: Assumed, bytes: usize) {
    assert!((assumed.number / 2..=assumed.number).contains(&(bytes as u64)), "{}: {bytes}", assumed.what);
}

#[test]
fn a_hits_redirect_and_its_line_have_the_bytes_that_are_counted() {
    let (target, hit) = hit();
    let line = log::line(
        "binplz",
        About::Service,
        &Signal::Answered { hit: hit.served(), to: None },
        Timestamp(1_800_000_000_000),
    );
    is_about(cost::HIT_LINE_BYTES, line.len());
    let asked = Asked { origin: "https://binplz.example", target: Some(&target), format: Format::Shell, retry: false };
    let answer = hit.answer(&asked);
    let Body::Text(body) = answer.body else { panic!("no stub") };
    let own: usize = answer.headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    // Of the web layer and of API Gateway.
    let others = "HTTP/1.1 302 Found\r\ndate: Mon, 30 Nov 2026 00:00:00 GMT\r\ncontent-type: text/plain; charset=utf-8\r\n\
                  content-length: 1379\r\nconnection: keep-alive\r\nx-request-id: AbCdEfGhIjKlMnO=\r\n\
                  x-content-type-options: nosniff\r\napigw-requestid: AbCdEfGhIjKlMnO=\r\n\r\n";
    is_about(cost::REDIRECT_BYTES, body.len() + own + others.len());
}
