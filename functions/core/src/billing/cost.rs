//! The cost of running binplz: pure arithmetic over the price file. Each number that is assumed rather than known has a
//! name and a reason.
//!
//! Free tiers and taxes are left out; the real bill is lower rather than higher.

use std::time::Duration;

use crate::{
    billing::prices::{Dollars, Machine, PriceList},
    build::{policy::Policy, size::Size},
};

/// A number that has to be assumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assumed {
    /// The number.
    pub number: u64,
    /// Its meaning.
    pub what: &'static str,
    /// The reason for it.
    pub why: &'static str,
}

macro_rules! assumed {
    ($($name:ident: $number:literal, $what:literal, $why:literal;)+) => {
        $(#[doc = $what] pub const $name: Assumed = Assumed { number: $number, what: $what, why: $why };)+
        /// All assumptions.
        pub const ASSUMED: &[Assumed] = &[$($name),+];
    };
}

assumed! {
    PROGRAM_BYTES: 5_000_000, "bytes of a downloaded program",
        "a static program in C has 0.1 to 2 MB, one in Go or Rust 5 to 20";
    REDIRECT_BYTES: 3_700, "bytes of a redirect",
        "a presigned URL with its session's token (1.7 kB), other headers (0.6 kB), and the stub (1.4 kB)";
    HIT_MILLISECONDS: 6, "milliseconds of the function for a hit",
        "0.3 ms of a whole vCPU (`tests/bench/README.md`), of which a function with 128 MB has a fourteenth, and one read";
    FUNCTION_MEGABYTES: 128, "MB of memory of a function", "`template.yaml`";
    HIT_LINE_BYTES: 300, "bytes of the function's line for a hit", "one with its metric, as `functions/aws/src/log.rs` writes it, stored for a month";
    ACCESS_LINE_BYTES: 400, "bytes of a line of the access log", "its format in `template.yaml`, filled in, stored for a month";
    EDGE_MISSES_PERCENT: 10, "percent of the CDN's requests for which it has to fetch the program first",
        "most downloads are of a few programs. Redirects count as never cached, although the CDN may keep them for a minute";
    BUILD_ROWS: 100, "KB of rows written for a build", "its row at each step, and its progress at each heartbeat";
    BUILD_REQUESTS: 60, "requests of a builder to its lease", "heartbeats, and an upload URL for each object";
    BUILD_OBJECTS: 40, "objects that a builder stores", "programs, the manifest, the log in segments";
    BUILD_LINE_BYTES: 100_000, "bytes of the lines that a build's task and functions log", "a line at each step and for each heartbeat that fails";
    PROMOTER_SECONDS: 10, "seconds of the function `promoter` for a build", "most builds offer a few small files, or none";
    PROMOTER_MEGABYTES: 1_769, "MB of memory of the functions `promoter` and `signer`", "`template.yaml`";
    SIGNED_BUILDS: 1_000, "signed builds in a month", "a round number; `SigningKeys` makes builds signed";
    BUILD_SIGNATURES: 4, "signatures of a build", "two of the program, two of its archive, and some of a checkpoint; a package with more programs has more";
    SIGNER_SECONDS: 2, "seconds of the function `signer` for a build", "it reads each program once, at 100 MB a second";
    METRICS: 1, "custom metrics with values in each hour", "`ServedBytes`; the others of `functions/aws/src/metrics.rs` have values in hours with trouble, at 0.0004 dollars an hour";
    ALARMS: 8, "alarms", "`template.yaml`; one more where `EgressGigabytesPerDay` is set";
    POLLS: 648_000, "requests to the queue in a month", "Lambda asks it over 5 connections, every 20 seconds";
    SWEEPS: 43_200, "sweeps in a month", "one a minute. Each sends a message, and so runs the function `dispatcher` too";
    SWEEP_MILLISECONDS: 400, "milliseconds of the two functions for a sweep", "a few reads in sequence, at a fourteenth of a vCPU";
    SWEEP_READS: 24, "reads of a sweep and its dispatch", "each status, the limits, the pins; a consistent read counts as two";
    COLLECTOR_SECONDS: 60, "seconds of the function `collector` in a day", "its lists, and a request for each object, 32 at a time";
    COLLECTOR_MEGABYTES: 1_024, "MB of memory of the function `collector`", "`template.yaml`";
    CATALOGUE_SECONDS: 121, "seconds of a vCPU for the catalogue of nixpkgs 20.09", "the trial in `tests/bench/README.md`; a vCPU of AWS may be slower or faster";
    CATALOGUE_ATTRIBUTES: 37_713, "attributes of nixpkgs 20.09", "the same; today's Nixpkgs has more, at a cost that grows with them";
    CATALOGUE_MEGABYTES: 3072, "MB of memory for each evaluator", "the default of `attribute_bytes`";
    START_SECONDS: 60, "seconds from a task's start to its first evaluation", "the image, and the Nixpkgs tarball, which is unpacked";
    IMAGE_BYTES: 200_000_000, "bytes of the builder's image", "as `scripts/image` builds it, for both architectures";
    ROWS_SHARE: 500, "bytes of stored programs for each byte of rows", "a build of a program of the size above has a row of 4 KB, and others of 6 KB";
    ROWS_SCANS: 3, "reads of all rows in a day", "garbage collection, and the comparison of builds and then of served rows";
    COMPARED_OBJECTS: 6, "requests for a build in its daily comparison", "its manifest, and then its program, archive, log, materials and SBOM; a package with more programs has more";
    KEPT_BYTES: 50_000_000_000, "bytes of stored programs", "10,000 of the size above";
    BUDGET_DOLLARS: 20, "dollars a month for builds, at most", "the default of `BudgetDollars`, which is the most that builds can cost";
    MONTH_DAYS: 30, "days of a month", "as in AWS's examples";
}

/// A line of a bill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its subject.
    pub what: &'static str,
    /// Its amount.
    pub dollars: Dollars,
}

/// The sum of a bill.
pub fn sum(items: &[Item]) -> Dollars {
    items.iter().map(|item| item.dollars).sum()
}

/// The path of a download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the bucket, by a presigned URL.
    Store,
    /// From CloudFront, which is in front of all requests if there is a domain.
    Cdn,
}

/// The cost of so many hits in a month, without egress.
pub fn hits(prices: &PriceList, way: Way, hits: u64) -> Vec<Item> {
    let milliseconds = hits.saturating_mul(FUNCTION_MEGABYTES.number * HIT_MILLISECONDS.number);
    let mut items = vec![
        Item { what: "HTTP API", dollars: prices.http_api.of(hits) },
        Item { what: "the function, by requests", dollars: prices.lambda_requests.of(hits) },
        Item { what: "the function, by time", dollars: prices.lambda_time.of(milliseconds) },
        Item { what: "one read of a row", dollars: prices.dynamodb_reads.of(hits) },
        Item { what: "the function's line", dollars: lines(prices, hits.saturating_mul(HIT_LINE_BYTES.number)) },
    ];
    match way {
        Way::Store => items.push(Item { what: "S3, by requests", dollars: prices.s3_gets.of(hits) }),
        Way::Cdn => items.extend([
            Item { what: "S3, by requests", dollars: prices.s3_gets.of(hits).part(EDGE_MISSES_PERCENT.number, 100) },
            // One request for the redirect, and one for the program.
            Item { what: "CloudFront, by requests", dollars: prices.cloudfront_requests.of(hits.saturating_mul(2)) },
            Item { what: "CloudFront's functions", dollars: prices.cloudfront_functions.of(hits.saturating_mul(2)) },
        ]),
    }
    items
}

/// The cost of so many bytes of log lines, which are stored for a month.
fn lines(prices: &PriceList, bytes: u64) -> Dollars {
    prices.logs.of(bytes) + prices.logs_storage.of(bytes)
}

/// The cost of so many lines of the access log, which is off by default.
pub fn access_log(prices: &PriceList, hits: u64) -> Dollars {
    lines(prices, hits.saturating_mul(ACCESS_LINE_BYTES.number))
}

/// The cost of egress: so many redirects, and so many bytes of programs, in a month.
pub fn egress(prices: &PriceList, way: Way, hits: u64, bytes: u64) -> Dollars {
    let all = bytes.saturating_add(hits.saturating_mul(REDIRECT_BYTES.number));
    match way {
        Way::Store => prices.egress.of(all),
        Way::Cdn => prices.cloudfront_egress.of(all),
    }
}

/// The cost of storing so many bytes of programs for a month: objects and rows, their backup, and their daily comparison.
pub fn storage(prices: &PriceList, bytes: u64) -> Dollars {
    let rows = bytes / ROWS_SHARE.number;
    // A consistent read of 4 KB counts as two.
    let scans = rows / 2048 * ROWS_SCANS.number * MONTH_DAYS.number;
    [
        prices.s3_storage.of(bytes),
        prices.s3_gets.of(bytes / PROGRAM_BYTES.number * COMPARED_OBJECTS.number * MONTH_DAYS.number),
        prices.dynamodb_storage.of(rows),
        prices.dynamodb_recovery.of(rows),
        prices.dynamodb_reads.of(scans),
    ]
    .into_iter()
    .sum()
}

/// The fixed costs of a month without requests.
pub fn standing(prices: &PriceList) -> Vec<Item> {
    let sweeps = [
        prices.lambda_requests.of(2 * SWEEPS.number),
        prices.lambda_time.of(SWEEPS.number * SWEEP_MILLISECONDS.number * FUNCTION_MEGABYTES.number),
        prices.dynamodb_reads.of(SWEEPS.number * SWEEP_READS.number),
        // A message is sent and deleted. Its receipt is one of the polls.
        prices.sqs.of(2 * SWEEPS.number),
    ];
    let collector = MONTH_DAYS.number * COLLECTOR_SECONDS.number * 1000 * COLLECTOR_MEGABYTES.number;
    vec![
        Item { what: "metrics", dollars: prices.metrics.of(METRICS.number) },
        Item { what: "alarms", dollars: prices.alarms.of(ALARMS.number) },
        Item { what: "polling the queue", dollars: prices.sqs.of(POLLS.number) },
        Item { what: "the minute's sweep", dollars: sweeps.into_iter().sum() },
        Item { what: "the day's collection", dollars: prices.lambda_time.of(collector) },
        Item { what: "the signing key of the builders' cache", dollars: prices.secrets.of(1) },
        Item { what: "the image", dollars: prices.ecr.of(IMAGE_BYTES.number) },
    ]
}

/// What parameters add to the fixed costs of a month.
pub fn optional(prices: &PriceList) -> Vec<Item> {
    let counts = prices.metrics_requests.of(SWEEPS.number);
    let signing = SIGNED_BUILDS.number * SIGNER_SECONDS.number * 1000 * PROMOTER_MEGABYTES.number;
    let signatures =
        prices.kms_signatures.of(SIGNED_BUILDS.number * BUILD_SIGNATURES.number) + prices.lambda_time.of(signing);
    vec![
        Item { what: "plus two signing keys in KMS", dollars: prices.kms_keys.of(2) },
        Item { what: "plus the signatures of a thousand builds", dollars: signatures },
        Item { what: "plus a secret, with a domain", dollars: prices.secrets.of(1) },
        Item { what: "plus a dashboard, beyond the account's three free ones", dollars: prices.dashboards.of(1) },
        Item { what: "plus an alarm and counts, with a ceiling for downloads", dollars: prices.alarms.of(1) + counts },
    ]
}

/// The price of a task that runs for `time`, from its image pull to its stop.
pub fn task(prices: &PriceList, machine: Machine, size: Size, time: Duration) -> Dollars {
    Policy { prices: prices.task(machine), ..Policy::default() }.price(size, time).into()
}

/// How long a machine makes the catalogue of so many attributes. An evaluator has a vCPU and its memory for itself, and some
/// memory is the system's: a machine with exactly as much as two evaluators need runs one.
pub fn catalogue_time(size: Size, attributes: u64) -> Duration {
    let fitting = u64::from(size.memory()).saturating_sub(1) / CATALOGUE_MEGABYTES.number;
    let evaluators = fitting.clamp(1, u64::from(size.cpu() / 1024));
    let seconds = CATALOGUE_SECONDS.number.saturating_mul(attributes) / CATALOGUE_ATTRIBUTES.number;
    Duration::from_secs(START_SECONDS.number + seconds.div_ceil(evaluators))
}

/// The cost of a build beside its task: rows, requests, objects, log lines, and the look at what it offers to the cache.
pub fn beside_a_task(prices: &PriceList) -> Dollars {
    let requests = BUILD_REQUESTS.number;
    [
        prices.dynamodb_writes.of(BUILD_ROWS.number),
        prices.http_api.of(requests),
        prices.lambda_requests.of(requests),
        prices.s3_puts.of(BUILD_OBJECTS.number),
        lines(prices, BUILD_LINE_BYTES.number),
        prices.lambda_time.of(PROMOTER_SECONDS.number * 1000 * PROMOTER_MEGABYTES.number),
    ]
    .into_iter()
    .sum()
}

/// The cost of a month with so many downloads a day.
pub fn month(prices: &PriceList, way: Way, downloads: u64) -> Vec<Item> {
    let hits = downloads.saturating_mul(MONTH_DAYS.number);
    let bytes = hits.saturating_mul(PROGRAM_BYTES.number);
    let secret = match way {
        Way::Store => Dollars::default(),
        Way::Cdn => prices.secrets.of(1),
    };
    vec![
        Item { what: "requests", dollars: sum(&self::hits(prices, way, hits)) },
        Item { what: "egress", dollars: egress(prices, way, hits, bytes) },
        Item { what: "builds, at most", dollars: crate::id::money::Micros(BUDGET_DOLLARS.number * 1_000_000).into() },
        Item { what: "storage", dollars: storage(prices, KEPT_BYTES.number) },
        Item { what: "fixed costs", dollars: sum(&standing(prices)) + secret },
    ]
}

/// Extrapolates a count to the month's end from the month's first `gone` of `whole`. Less than a day counts as a day.
pub fn forecast(so_far: u64, gone: Duration, whole: Duration) -> u64 {
    const DAY: Duration = Duration::from_secs(86_400);
    let seconds = |time: Duration| u128::from(time.as_secs().max(1));
    let by_the_end = u128::from(so_far) * seconds(whole) / seconds(gone.max(DAY).min(whole));
    u64::try_from(by_the_end).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_hits_cost_what_each_takes_a_million_times() {
        let prices = PriceList::of_a_dollar();
        let dollars = |text: &str| text.parse::<Dollars>().expect("an amount");
        // The gateway, the function, 750 of its GB-seconds, half a unit of reads, a line of 300 bytes that is also stored, a
        // thousand thousands of GETs.
        assert_eq!(sum(&hits(&prices, Way::Store, 1_000_000)), dollars("1753.1"));
        // A tenth of the GETs, two hundred ten thousands of CloudFront's requests, and two millions of its functions'.
        assert_eq!(sum(&hits(&prices, Way::Cdn, 1_000_000)), dollars("1055.1"));
        // 5 MB and 3.7 kB.
        assert_eq!(egress(&prices, Way::Store, 1_000_000, 5_000_000_000_000), dollars("5003.7"));
    }

    #[test]
    fn a_catalogue_takes_as_many_evaluators_as_have_a_vcpu_and_memory() {
        let seconds = |size: &str, times| {
            let size = size.parse().expect("a machine that Fargate has");
            (catalogue_time(size, CATALOGUE_ATTRIBUTES.number * times).as_secs() - START_SECONDS.number) * 1000
                / CATALOGUE_SECONDS.number
        };
        // One evaluator for want of memory, then two, and five; two for want of vCPUs; and twice as many attributes.
        assert_eq!(seconds("2048/4096/50", 1), 1000);
        assert!((500..510).contains(&seconds("4096/8192/50", 1)), "{}", seconds("4096/8192/50", 1));
        assert!((200..210).contains(&seconds("8192/16384/50", 1)), "{}", seconds("8192/16384/50", 1));
        assert!((500..510).contains(&seconds("2048/16384/50", 1)), "{}", seconds("2048/16384/50", 1));
        assert_eq!(seconds("2048/4096/50", 2), 2000);
    }

    #[test]
    fn a_month_has_all_its_lines() {
        let prices = PriceList::of_a_dollar();
        let at = |items: &[Item], what| items.iter().find(|item| item.what == what).expect("a line").dollars.micros().0;
        let (store, cdn) = (month(&prices, Way::Store, 1), month(&prices, Way::Cdn, 1));
        assert_eq!(at(&store, "egress"), 150_111);
        assert_eq!(at(&store, "builds, at most"), 20_000_000);
        // 50 GB, 1,800 thousands of GETs, a tenth of a GB of rows twice, and 4,394,520 half units of reads.
        assert_eq!(at(&store, "storage"), 50_000_000 + 1_800_000_000 + 200_000 + 2_197_260);
        assert_eq!(at(&cdn, "fixed costs") - at(&store, "fixed costs"), 1_000_000);
        // Requests do not change these.
        let more = month(&prices, Way::Store, 1000);
        assert_eq!(at(&more, "fixed costs"), at(&store, "fixed costs"));
        assert_eq!(at(&more, "egress"), 150_111_000);
    }

    #[test]
    fn a_forecast_goes_on_as_the_month_has_gone_so_far() {
        let (day, month) = (Duration::from_secs(86_400), Duration::from_secs(30 * 86_400));
        for (gone, count) in [(Duration::ZERO, 90), (day, 90), (day * 2, 45), (month, 3), (month * 2, 3)] {
            assert_eq!(forecast(3, gone, month), count, "{gone:?}");
        }
        assert_eq!(forecast(u64::MAX, day, month), u64::MAX);
    }
}
