//! The tables of the operator's guide, and what the plot reads of them.

use std::fmt::Write;

use binplz_core::{
    billing::{
        cost::{self, Way},
        prices::{Dollars, Machine, PriceList},
    },
    build::{policy::Policy, size::Size},
    id::text::thousands,
};

use super::{
    Kind, Load, Resource, Result, Upkeep,
    limits::{Grows, resources, tightest},
};
use crate::meter::Usage;

/// Between these two lines the guide has the tables.
pub const BEGIN: &str = "<!-- scripts/scale --write makes these tables: changes by hand are lost. -->\n";
/// See [`BEGIN`].
pub const END: &str = "<!-- The tables of scripts/scale end. -->\n";
const MONTH_HOURS: u64 = 24 * cost::MONTH_DAYS.number;

/// A load's row of the first table: what the plot shows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Row {
    /// Hits a day.
    pub hits: u64,
    /// Misses an hour.
    pub misses: u64,
    /// Dollars a month for requests, rows, log lines, storage and what is fixed.
    pub requests: f64,
    /// Dollars a month for the tasks of builds.
    pub builds: f64,
    /// Dollars a month for the bytes of programs.
    pub downloads: f64,
    /// Median and 99th percentile of a hit, in seconds.
    pub hit: (f64, f64),
    /// The same of a miss until its task starts.
    pub miss: (f64, f64),
}

fn prices() -> PriceList {
    PriceList::known().expect("the price file")
}

fn told(dollars: Dollars) -> f64 {
    dollars.micros().0 as f64 / 1e6
}

/// What the tasks of a month cost: on demand, as the budget counts them.
pub(super) fn builds(result: &Result) -> f64 {
    let policy = Policy { prices: prices().task(Machine::X86), ..Policy::default() };
    let misses = result.load.misses_an_hour * MONTH_HOURS;
    misses as f64 * policy.price(Size::default(), result.misses.task).0 as f64 / 1e6
}

/// What a miss costs beside its task, by its calls. A builder's uploads and log lines are those of the cost page.
fn beside(usage: &Usage, misses: u64, requests: u64) -> f64 {
    let prices = prices();
    let counted = [
        prices.dynamodb_reads.of(usage.half_reads),
        prices.dynamodb_writes.of(usage.writes),
        prices.lambda_requests.of(usage.runs),
        prices.lambda_time.of(usage.milliseconds * cost::FUNCTION_MEGABYTES.number),
        prices.http_api.of(requests),
        // A message is sent, received and deleted.
        prices.sqs.of(3 * usage.rings),
        prices.s3_gets.of(usage.gets),
        prices.s3_puts.of(usage.puts + misses * cost::BUILD_OBJECTS.number),
        prices.logs.of(misses * cost::BUILD_LINE_BYTES.number),
        prices.logs_storage.of(misses * cost::BUILD_LINE_BYTES.number),
    ];
    told(counted.into_iter().sum()) / misses.max(1) as f64
}

impl Row {
    /// The row of a result.
    pub fn of(result: &Result) -> Row {
        let (prices, load) = (prices(), result.load);
        let hits = load.hits_a_day * cost::MONTH_DAYS.number;
        let redirects = cost::egress(&prices, Way::Store, hits, 0);
        let all = cost::egress(&prices, Way::Store, hits, hits * cost::PROGRAM_BYTES.number);
        let fixed = cost::sum(&cost::standing(&prices)) + cost::storage(&prices, cost::KEPT_BYTES.number);
        let usage = result.misses.usage();
        let requests = result.misses.of("api").runs + result.misses.of("lease").runs;
        let misses = (load.misses_an_hour * MONTH_HOURS) as f64 * beside(&usage, result.misses.count, requests);
        let seconds =
            |(one, other): (std::time::Duration, std::time::Duration)| (one.as_secs_f64(), other.as_secs_f64());
        Row {
            hits: load.hits_a_day,
            misses: load.misses_an_hour,
            requests: told(cost::sum(&cost::hits(&prices, Way::Store, hits)) + redirects + fixed) + misses,
            builds: builds(result),
            downloads: told(all) - told(redirects),
            hit: seconds((result.hits.median, result.hits.p99)),
            miss: seconds(result.misses.wait()),
        }
    }
}

/// Three significant digits.
fn number(value: f64) -> String {
    match value {
        100.0.. => thousands(value.round() as u64),
        10.0.. => format!("{value:.1}"),
        0.1.. => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

fn percent(part: f64) -> String {
    let told = format!("{} %", number(part * 100.0));
    if part >= 1.0 { format!("**{told}**") } else { told }
}

fn row(text: &mut String, cells: &[String]) {
    let _ = writeln!(text, "| {} |", cells.join(" | "));
}

fn title(text: &mut String, titles: &[&str]) {
    row(text, &titles.iter().map(ToString::to_string).collect::<Vec<_>>());
    let _ = writeln!(text, "|{}", "---|".repeat(titles.len()));
}

/// All tables, in Markdown.
pub fn document(results: &[Result], upkeep: &Upkeep) -> String {
    let mut text = String::new();
    title(
        &mut text,
        &[
            "hits a day",
            "misses an hour",
            "requests and fixed costs, dollars a month",
            "builds",
            "bytes of programs",
            "hit, median, ms",
            "p99",
            "miss until its task starts, median, s",
            "p99",
            "first limit with the defaults",
            "first limit that no parameter or quota raises",
        ],
    );
    for result in results {
        let (of, all) = (Row::of(result), resources(result, upkeep));
        let first = |may: fn(Kind) -> bool| {
            let first = tightest(&all, may).map(|first| format!("{}, {}", first.what, percent(first.used)));
            first.unwrap_or_default()
        };
        let mut cells = vec![thousands(of.hits), thousands(of.misses)];
        cells.extend(
            [of.requests, of.builds, of.downloads, of.hit.0 * 1e3, of.hit.1 * 1e3, of.miss.0, of.miss.1].map(number),
        );
        cells.extend([first(|_| true), first(|kind| kind == Kind::Fixed)]);
        row(&mut text, &cells);
    }
    text.push('\n');
    if let Some(last) = results.iter().max_by_key(|result| (result.load.misses_an_hour, result.load.hits_a_day)) {
        limits(&mut text, last, upkeep);
        text.push('\n');
    }
    title(
        &mut text,
        &[
            "misses an hour",
            "commits of a miss",
            "of which conflict",
            "reads, units",
            "writes, units",
            "the dispatchers' time of a start, ms",
            "dispatchers that ran out of time",
            "throttled calls",
            "bytes of the row `limits`",
            "slots taken",
            "without a task in the end",
        ],
    );
    let mut seen = 0;
    for result in results {
        let (misses, usage) = (&result.misses, result.misses.usage());
        if result.load.misses_an_hour == seen {
            continue;
        }
        seen = result.load.misses_an_hour;
        let dispatcher = misses.of("dispatcher");
        let each = |count| number(Usage::each(count, misses.count));
        let conflicts = percent(Usage::each(usage.conflicts, usage.commits));
        row(
            &mut text,
            &[
                thousands(seen),
                each(usage.commits),
                conflicts,
                number(Usage::each(usage.half_reads, 2 * misses.count)),
                each(usage.writes),
                number(Usage::each(dispatcher.milliseconds, dispatcher.launches)),
                thousands(dispatcher.timeouts),
                thousands(usage.throttled),
                thousands(misses.limits_bytes),
                number(misses.slots),
                thousands(misses.never),
            ],
        );
    }
    text.push('\n');
    let rows = thousands(upkeep.rows);
    title(
        &mut text,
        &[&format!("with {rows} builds and {rows} served rows"), "seconds", "reads, units", "writes, units"],
    );
    for (what, time, usage) in [
        ("a sweep", upkeep.sweep, upkeep.sweep_uses),
        ("a pin that is moved, by `binplz pin`", upkeep.moved, upkeep.move_uses),
        ("garbage collection", upkeep.collection, upkeep.collection_uses),
    ] {
        row(
            &mut text,
            &[what.to_owned(), number(time.as_secs_f64()), thousands(usage.half_reads / 2), thousands(usage.writes)],
        );
    }
    text
}

fn limits(text: &mut String, result: &Result, upkeep: &Upkeep) {
    let Load { hits_a_day, misses_an_hour } = result.load;
    let used = format!("used at {} hits a day and {} misses an hour", thousands(hits_a_day), thousands(misses_an_hour));
    title(text, &["limit", "is", "source", "raised by", &used, "all used at"]);
    let mut all = resources(result, upkeep);
    all.sort_by(|a, b| (a.kind, b.used).partial_cmp(&(b.kind, a.used)).expect("numbers"));
    for resource in &all {
        let unit = match resource.grows {
            Grows::Hits => "hits a day",
            Grows::Misses | Grows::MissesSquared => "misses an hour",
            Grows::Rows => "builds",
        };
        let by = match resource.kind {
            Kind::Parameter => "a parameter",
            Kind::Quota => "AWS, on request",
            Kind::Fixed => "–",
        };
        let at =
            resource.saturates(result.load, upkeep.rows).map_or("–".to_owned(), |at| format!("{} {unit}", about(at)));
        let Resource { what, limit, source, used, .. } = resource;
        row(text, &[(*what).to_owned(), limit.clone(), (*source).to_owned(), by.to_owned(), percent(*used), at]);
    }
}

/// Two significant digits.
fn about(count: u64) -> String {
    let unit = 10u64.pow(count.max(10).ilog10() - 1);
    thousands((count + unit / 2) / unit * unit)
}

/// The guide with other tables; `None`: it has no place for them.
pub fn with_document(guide: &str, tables: &str) -> Option<String> {
    let (before, rest) = guide.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{tables}\n{END}{after}"))
}

/// The rows of the first table in a guide.
pub fn rows_of(guide: &str) -> Vec<Row> {
    let tables = guide.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).map_or("", |(tables, _)| tables);
    let first = tables.trim_start().lines().skip(2).take_while(|line| line.starts_with('|'));
    let numbers = first.map(|line| {
        let cells = line.split('|').skip(1).take(9).map(|cell| cell.trim().replace(',', ""));
        cells.map(|cell| cell.parse().unwrap_or(0.0)).collect::<Vec<f64>>()
    });
    numbers
        .filter(|cells| cells.len() == 9)
        .map(|cells| Row {
            hits: cells[0] as u64,
            misses: cells[1] as u64,
            requests: cells[2],
            builds: cells[3],
            downloads: cells[4],
            hit: (cells[5] / 1e3, cells[6] / 1e3),
            miss: (cells[7], cells[8]),
        })
        .collect()
}
