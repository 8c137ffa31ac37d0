//! The tables of the operator's guide (`infra/README.md`, "What it costs"): made from the price file, and never by hand.

use std::{fmt::Write, time::Duration};

use binplz_core::{
    billing::{
        cost::{self, Item, Way},
        prices::{Dollars, Machine, PriceList},
    },
    build::size::Size,
    id::{
        money::Micros,
        text::{bytes, thousands},
    },
};

/// Between these two lines the guide has the tables.
const BEGIN: &str =
    "<!-- scripts/cost --write makes these tables from infra/prices.json: changes by hand are lost. -->\n";
const END: &str = "<!-- The tables end. -->\n";

/// The machines that `BuilderSize` names in the template.
pub const SIZES: [(&str, &str); 3] =
    [("small", "2048/4096/50"), ("medium", "4096/8192/50"), ("large", "8192/16384/50")];
/// How long tasks run: a small program whose toolchain is there; a large one; as long as one may, which is what is reserved for each.
const TIMES: [(&str, u64); 3] = [("3 minutes", 180), ("20 minutes", 1200), ("2 hours", 7200)];
/// Where each kind of resource of the template is paid, or why it is free.
pub const RESOURCES: &[(&str, &[&str])] = &[
    ("HTTP API", &["ApiGatewayV2::Api", "ApiGatewayV2::Integration", "ApiGatewayV2::Route", "ApiGatewayV2::Stage"]),
    (
        "the function, by requests and by time; polling the queue; the minute's sweep; the day's collection",
        &["Serverless::Function"],
    ),
    ("one read of a row; storage; a build's rows", &["DynamoDB::Table"]),
    ("S3, by requests; storage", &["S3::Bucket"]),
    ("polling the queue; messages of the dead letter queue are few, and are not polled", &["SQS::Queue"]),
    ("the function's line; the access log; the lines of a build", &["Logs::LogGroup"]),
    ("alarms", &["CloudWatch::Alarm"]),
    ("a dashboard", &["CloudWatch::Dashboard"]),
    ("the signing key of the builders' cache; a secret, with a domain", &["SecretsManager::Secret"]),
    ("the image", &["ECR::Repository"]),
    ("CloudFront, by requests; its egress", &["CloudFront::Distribution"]),
    ("CloudFront's functions", &["CloudFront::Function"]),
    ("builds, by their tasks", &["ECS::Cluster", "ECS::TaskDefinition"]),
    ("free: an alarm's mail costs 0.00002 dollars", &["SNS::Topic", "SNS::Subscription"]),
    ("free: a certificate for CloudFront", &["CertificateManager::Certificate"]),
    ("free: an alias of CloudFront. The zone is the domain's", &["Route53::RecordSet"]),
    (
        "free: settings of something that is paid elsewhere",
        &[
            "CloudFront::CachePolicy",
            "CloudFront::OriginAccessControl",
            "IAM::Role",
            "Lambda::Permission",
            "S3::BucketPolicy",
        ],
    ),
    (
        "free: a network without NAT. Endpoints of the kind Gateway cost nothing, and a builder's public address is part of its task",
        &[
            "EC2::InternetGateway",
            "EC2::Route",
            "EC2::RouteTable",
            "EC2::SecurityGroup",
            "EC2::Subnet",
            "EC2::SubnetRouteTableAssociation",
            "EC2::VPC",
            "EC2::VPCEndpoint",
            "EC2::VPCGatewayAttachment",
        ],
    ),
];
/// The attributes of a catalogue as large as that of today's Nixpkgs, which no trial has measured here: those of
/// `scripts/bench catalogue`.
const TODAYS_ATTRIBUTES: u64 = 120_000;
/// Downloads a day.
const DOWNLOADS: [u64; 3] = [1000, 100_000, 10_000_000];

/// The guide with other tables; `None`: it has no place for them.
pub fn with_tables(guide: &str, tables: &str) -> Option<String> {
    let (before, rest) = guide.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{tables}\n{END}{after}"))
}

/// Whether the guide's tables are those of these prices.
pub fn is_of(guide: &str, prices: &PriceList) -> bool {
    with_tables(guide, &tables(prices)).is_some_and(|made| made == guide)
}

/// All tables, in Markdown.
///
/// # Panics
/// Where [`SIZES`] are none.
pub fn tables(prices: &PriceList) -> String {
    let titles = ["a million hits", "from S3", "with a domain: CloudFront"];
    let mut text = table(&titles, hits(prices));
    text.push('\n');
    let titles = ["a build, by its machine and its time", "x86", "ARM", "x86, Spot"];
    text.push_str(&table(&titles, builds(prices)));
    text.push('\n');
    let titles = ["a catalogue, by its machine and the Nixpkgs", "x86", "ARM", "x86, Spot"];
    text.push_str(&table(&titles, catalogues(prices)));
    text.push('\n');
    text.push_str(&table(&["a month without requests", ""], standing(prices)));
    text.push('\n');
    let counts = DOWNLOADS.map(|count| format!("{} downloads a day", thousands(count)));
    let titles: Vec<&str> = std::iter::once("a month").chain(counts.iter().map(String::as_str)).collect();
    text.push_str(&table(&titles, months(prices)));
    text.push('\n');
    let number =
        |assumed: &cost::Assumed| vec![thousands(assumed.number), assumed.what.to_owned(), assumed.why.to_owned()];
    text.push_str(&table(&["assumption", "unit", "reason"], cost::ASSUMED.iter().map(number).collect()));
    text.push('\n');
    let resources = RESOURCES.iter().map(|(line, types)| vec![(*line).to_owned(), types.join(", ")]).collect();
    text.push_str(&table(&["paid in the line, or free because", "resources"], resources));
    text
}

fn table(titles: &[&str], rows: Vec<Vec<String>>) -> String {
    let line = |cells: &[&str]| format!("| {} |\n", cells.join(" | "));
    let mut text = line(titles);
    let _ = writeln!(text, "|{}", "---|".repeat(titles.len()));
    for row in rows {
        text.push_str(&line(&row.iter().map(String::as_str).collect::<Vec<_>>()));
    }
    text
}

/// An amount of money in dollars, from millionths: two significant digits below a dollar ("0.010"), cents below a
/// hundred, and whole dollars beyond ("12,345").
fn dollars(Micros(micros): Micros) -> String {
    // The value of the last printed digit.
    let last = |micros: u64| match micros {
        0..1_000_000 => 10u64.pow(micros.max(10).ilog10() - 1),
        1_000_000..100_000_000 => 10_000,
        _ => 1_000_000,
    };
    let round = |micros: u64| micros.saturating_add(last(micros) / 2) / last(micros) * last(micros);
    let rounded = round(micros);
    let (whole, decimals) = (rounded / 1_000_000, format!("{:06}", rounded % 1_000_000));
    // A value that rounds up to the next power of ten has a digit less.
    let told = 6 - last(rounded).ilog10() as usize;
    match (micros, told) {
        (0, _) => "0".to_owned(),
        (_, 0) => thousands(whole),
        _ => format!("{whole}.{}", &decimals[..told]),
    }
}

fn row(what: impl Into<String>, amounts: impl IntoIterator<Item = Dollars>) -> Vec<String> {
    let amounts = amounts.into_iter().map(|amount| match amount.micros() {
        micros if micros.0 == 0 => "–".to_owned(),
        micros => dollars(micros),
    });
    std::iter::once(what.into()).chain(amounts).collect()
}

fn of(items: &[Item], what: &str) -> Dollars {
    items.iter().filter(|item| item.what == what).map(|item| item.dollars).sum()
}

fn hits(prices: &PriceList) -> Vec<Vec<String>> {
    const COUNT: u64 = 1_000_000;
    let ways = [Way::Store, Way::Cdn];
    let bills = ways.map(|way| cost::hits(prices, way, COUNT));
    // The CDN's has all that the other one has, and more.
    let mut rows: Vec<_> =
        bills[1].iter().map(|item| row(item.what, bills.each_ref().map(|bill| of(bill, item.what)))).collect();
    let redirects = ways.map(|way| cost::egress(prices, way, COUNT, 0));
    rows.push(row(format!("the redirects' bytes, {} each", bytes(cost::REDIRECT_BYTES.number)), redirects));
    rows.push(row("**total**", [0, 1].map(|way| cost::sum(&bills[way]) + redirects[way])));
    rows.push(row("plus the access log, with `LogRequests`", ways.map(|_| cost::access_log(prices, COUNT))));
    let programs = format!("plus the programs' bytes, {} each", bytes(cost::PROGRAM_BYTES.number));
    rows.push(row(programs, ways.map(|way| cost::egress(prices, way, 0, COUNT * cost::PROGRAM_BYTES.number))));
    rows
}

fn builds(prices: &PriceList) -> Vec<Vec<String>> {
    let machines = [Machine::X86, Machine::Arm, Machine::Spot];
    let mut rows = Vec::new();
    for (name, size) in SIZES {
        let size: Size = size.parse().expect("a machine that Fargate has");
        for (told, seconds) in TIMES {
            let what = format!("{name} ({} vCPU, {} GB), {told}", size.cpu() / 1024, size.memory() / 1024);
            let time = Duration::from_secs(seconds);
            rows.push(row(what, machines.map(|machine| cost::task(prices, machine, size, time))));
        }
    }
    rows.push(row("plus its rows, requests and objects", machines.map(|_| cost::beside_a_task(prices))));
    rows
}

fn catalogues(prices: &PriceList) -> Vec<Vec<String>> {
    let machines = [Machine::X86, Machine::Arm, Machine::Spot];
    let measured = cost::CATALOGUE_ATTRIBUTES.number;
    let mut rows = Vec::new();
    for (name, size) in SIZES {
        let size: Size = size.parse().expect("a machine that Fargate has");
        for attributes in [measured, TODAYS_ATTRIBUTES] {
            let time = cost::catalogue_time(size, attributes);
            let minutes = time.as_secs().div_ceil(60);
            let what = format!("{name}, {} attributes, {minutes} minutes", thousands(attributes));
            rows.push(row(what, machines.map(|machine| cost::task(prices, machine, size, time))));
        }
    }
    rows
}

fn standing(prices: &PriceList) -> Vec<Vec<String>> {
    let items = cost::standing(prices);
    let mut rows: Vec<_> = items.iter().map(|item| row(item.what, [item.dollars])).collect();
    rows.push(row("**total**", [cost::sum(&items)]));
    rows.extend(cost::optional(prices).iter().map(|item| row(item.what, [item.dollars])));
    rows
}

fn months(prices: &PriceList) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for (way, name) in [(Way::Store, "from S3"), (Way::Cdn, "with CloudFront")] {
        let bills = DOWNLOADS.map(|downloads| cost::month(prices, way, downloads));
        rows.extend(
            bills[0]
                .iter()
                .map(|item| row(format!("{name}: {}", item.what), bills.each_ref().map(|bill| of(bill, item.what)))),
        );
        rows.push(row(format!("**{name}**"), bills.each_ref().map(|bill| cost::sum(bill))));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_told_with_as_many_digits_as_mean_something() {
        for (micros, told) in [
            (0, "0"),
            (1, "0.000001"),
            (99, "0.000099"),
            (454, "0.00045"),
            (10_290, "0.010"),
            (99_600, "0.10"),
            (205_810, "0.21"),
            (994_999, "0.99"),
            (999_999, "1.00"),
            (1_234_567, "1.23"),
            (99_994_999, "99.99"),
            (99_999_999, "100"),
            (999_499_999, "999"),
            (12_345_678_901, "12,346"),
            (u64::MAX, "18,446,744,073,709"),
        ] {
            assert_eq!(dollars(Micros(micros)), told, "{micros}");
        }
    }
}
