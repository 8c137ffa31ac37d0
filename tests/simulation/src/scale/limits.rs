//! What AWS and the template limit, and how much of it a load uses. Each constant has its source; those that are assumed say so.

use std::time::Duration;

use super::{Load, Result, Upkeep};
use crate::{
    meter::{PARTITION_HALF_READS, PARTITION_WRITES, Place, Usage},
    scale::report,
};

/// `MaxBuilds` in the template: its largest value.
pub(super) const SLOTS_MAX: u64 = 500;
/// `MaximumConcurrency` of the dispatcher in the template.
pub(super) const DISPATCHERS: u64 = 2;
/// `BatchSize` of the dispatcher.
pub(super) const BATCH: u64 = 10;
/// `Timeout` of the dispatcher and of the reaper.
pub(super) const SCHEDULE_TIMEOUT: Duration = Duration::from_secs(60);
/// `Timeout` of the function `api`.
pub(super) const API_TIMEOUT: Duration = Duration::from_secs(28);
/// `Timeout` of the collector.
const COLLECTOR_TIMEOUT: Duration = Duration::from_secs(900);
/// `VisibilityTimeout` of the queue.
pub(super) const VISIBILITY: Duration = Duration::from_secs(360);
/// `DELAY_MAX` in `aws/src/bell.rs`.
pub(super) const DELAY_MAX: Duration = Duration::from_secs(600);
/// `PAUSE` in `lambda/src/bin/dispatcher.rs`.
pub(super) const DISPATCHER_PAUSE: Duration = Duration::from_secs(10);

/// Assumed: what the gateway adds to a request.
pub(super) const GATEWAY: Duration = Duration::from_millis(10);
/// Assumed: how long a warm function takes to begin.
pub(super) const INVOKE: Duration = Duration::from_millis(3);
/// Assumed: the same of a new instance. Its own start takes 6 ms (`tests/bench/README.md`); AWS's part is the rest.
pub(super) const COLD: Duration = Duration::from_millis(200);
/// Assumed: after how long AWS ends an instance that has nothing to do. It documents none.
pub(super) const IDLE: Duration = Duration::from_secs(600);
/// The processor time of a hit, at a fourteenth of a vCPU (`core/src/billing/cost.rs`).
pub(super) const HIT_CPU: Duration = Duration::from_millis(4);
/// Assumed: the busiest hour has twice the average's hits.
pub(super) const PEAK_PERCENT: u64 = 200;
/// Assumed: the part of all hits that the most popular program has; the first of 10,000 by Zipf's law has 10 %.
const HOTTEST_PERCENT: u64 = 10;

/// Who can raise a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The operator, with a parameter.
    Parameter,
    /// AWS, on request.
    Quota,
    /// Only a change of the code or of the template, if anything.
    Fixed,
}

/// A limit, and how much of it a load uses.
#[derive(Clone, Debug)]
pub struct Resource {
    /// Its name.
    pub what: &'static str,
    /// The limit, with its unit.
    pub limit: String,
    /// Its source.
    pub source: &'static str,
    /// Who can raise it.
    pub kind: Kind,
    /// The part that is used; 1 is all.
    pub used: f64,
    /// What the use grows with, and how fast: hits by 1, misses by 1 or 2.
    pub grows: Grows,
}

/// What a use grows with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grows {
    /// Hits.
    Hits,
    /// Misses.
    Misses,
    /// The square of misses: a row that is larger with each, and is written more often.
    MissesSquared,
    /// Stored rows.
    Rows,
}

impl Resource {
    /// The load at which all is used, by the use at a load; `None`: never.
    pub fn saturates(&self, load: Load, rows: u64) -> Option<u64> {
        let of = match self.grows {
            Grows::Hits => load.hits_a_day,
            Grows::Misses | Grows::MissesSquared => load.misses_an_hour,
            Grows::Rows => rows,
        };
        let factor = if self.grows == Grows::MissesSquared { self.used.sqrt() } else { self.used };
        (factor > 0.0).then(|| (of as f64 / factor) as u64)
    }
}

/// All limits, with the use of a load.
pub(super) fn resources(result: &Result, upkeep: &Upkeep) -> Vec<Resource> {
    use Grows::{Hits, Misses, MissesSquared, Rows};
    use Kind::{Fixed, Parameter, Quota};
    let Result { hits, misses, .. } = result;
    let rate = |count| misses.a_second(count);
    let seconds = |time: Duration| time.as_secs_f64();
    let place = |place| misses.places.get(&place).copied().unwrap_or_default();
    let (api, lease, dispatcher) = (misses.of("api"), misses.of("lease"), misses.of("dispatcher"));
    let busy = |usage: &Usage| rate(usage.milliseconds) / 1000.0;
    let index = binplz_core::row::StatusIndex::Building;
    let slots = misses.slots;
    let peak = hits.peak + rate(api.runs);
    let resource = |what, (limit, unit): (f64, &str), source, kind, used: f64, grows| {
        let told = binplz_core::id::text::thousands(limit as u64);
        let limit_told = format!("{told} {unit}").trim_end().to_owned();
        Resource { what, limit: limit_told, source, kind, used: used / limit, grows }
    };
    let budget = binplz_core::billing::cost::BUDGET_DOLLARS.number as f64;
    vec![
        resource(
            "the budget",
            (budget, "dollars a month"),
            "`BudgetDollars`, by default",
            Parameter,
            report::builds(result),
            Misses,
        ),
        resource("slots, by default", (4.0, "builds"), "`MaxBuilds`", Parameter, slots, Misses),
        resource(
            "the API's rate, by default",
            (200.0, "requests a second"),
            "`RequestsPerSecond`",
            Parameter,
            peak,
            Hits,
        ),
        resource("vCPUs of a new account", (6.0, "vCPUs"), "Fargate's service quotas", Quota, 4.0 * slots, Misses),
        resource(
            "the API's rate",
            (10_000.0, "requests a second"),
            "API Gateway's quotas: an account in a region",
            Quota,
            peak,
            Hits,
        ),
        resource(
            "concurrent functions",
            (1000.0, "instances"),
            "Lambda's quotas; a new account has 10",
            Quota,
            hits.instances as f64 + misses.functions.values().map(busy).sum::<f64>(),
            Hits,
        ),
        resource(
            "RunTask",
            (20.0, "calls a second"),
            "Fargate's throttling quotas",
            Quota,
            rate(dispatcher.launches),
            Misses,
        ),
        resource(
            "the most slots",
            (SLOTS_MAX as f64, "builds"),
            "`MaxBuilds`, its largest value",
            Fixed,
            slots,
            Misses,
        ),
        resource(
            "builders' requests",
            (200.0, "requests a second"),
            "the lease route's `ThrottlingRateLimit`",
            Fixed,
            rate(lease.runs),
            Misses,
        ),
        resource(
            "a dispatcher's run",
            (seconds(SCHEDULE_TIMEOUT), "seconds"),
            "`Timeout` of the function `dispatcher`",
            Fixed,
            seconds(misses.dispatch),
            Misses,
        ),
        resource(
            "writes of the row `limits`",
            (PARTITION_WRITES as f64, "units a second"),
            "DynamoDB: a partition",
            Fixed,
            rate(place(Place::Limits).1),
            MissesSquared,
        ),
        resource(
            "reads of the row `limits`",
            (PARTITION_HALF_READS as f64 / 2.0, "units a second"),
            "DynamoDB: a partition",
            Fixed,
            rate(place(Place::Limits).0) / 2.0,
            MissesSquared,
        ),
        resource(
            "the size of the row `limits`",
            (400_000.0, "bytes"),
            "DynamoDB: an item",
            Fixed,
            misses.limits_bytes as f64,
            Misses,
        ),
        resource(
            "reads of the row `pins`",
            (PARTITION_HALF_READS as f64 / 2.0, "units a second"),
            "DynamoDB: a partition",
            Fixed,
            rate(place(Place::Pins).0) / 2.0,
            Misses,
        ),
        resource(
            "writes of the index of running builds",
            (PARTITION_WRITES as f64, "units a second"),
            "DynamoDB: a partition",
            Fixed,
            rate(place(Place::Index(index)).1),
            Misses,
        ),
        resource(
            "reads of the hottest served row",
            (PARTITION_HALF_READS as f64 / 2.0, "units a second"),
            "DynamoDB: a partition",
            Fixed,
            hits.peak * HOTTEST_PERCENT as f64 / 100.0 * hits.half_reads / 2.0,
            Hits,
        ),
        resource(
            "reads of objects",
            (5500.0, "requests a second"),
            "S3: a prefix, before it is split",
            Fixed,
            hits.peak,
            Hits,
        ),
        resource(
            "a sweep",
            (seconds(SCHEDULE_TIMEOUT), "seconds"),
            "`Timeout` of the function `reaper`",
            Fixed,
            seconds(misses.sweep),
            Misses,
        ),
        resource(
            "garbage collection",
            (seconds(COLLECTOR_TIMEOUT), "seconds"),
            "`Timeout` of the function `collector`",
            Fixed,
            seconds(upkeep.collection),
            Rows,
        ),
    ]
}

/// The limit of which most is used, among those of some kinds.
pub(super) fn tightest(resources: &[Resource], may: impl Fn(Kind) -> bool) -> Option<&Resource> {
    resources.iter().filter(|resource| may(resource.kind)).max_by(|a, b| a.used.total_cmp(&b.used))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_limits_are_those_of_the_template() {
        let template = include_str!("../../../../template.yaml");
        for line in [
            format!("  MaxBuilds: {{Type: Number, Default: 4, MinValue: 0, MaxValue: {SLOTS_MAX},"),
            "  RequestsPerSecond: {Type: Number, Default: 200,".to_owned(),
            format!("ScalingConfig: {{MaximumConcurrency: {DISPATCHERS}}}"),
            format!("            BatchSize: {BATCH}\n"),
            format!("      VisibilityTimeout: {}\n", VISIBILITY.as_secs()),
            format!("      Timeout: {}\n", SCHEDULE_TIMEOUT.as_secs()),
            format!("      Timeout: {}\n", API_TIMEOUT.as_secs()),
            format!("      Timeout: {}\n", COLLECTOR_TIMEOUT.as_secs()),
            "ANY /-/lease/{proxy+}: {ThrottlingRateLimit: 200,".to_owned(),
        ] {
            assert!(template.contains(&line), "{line}");
        }
        let says = |source: &str, name: &str, time: Duration| {
            let line = format!("const {name}: Duration = Duration::from_secs({});", time.as_secs());
            assert!(source.contains(&line), "{line}");
        };
        says(include_str!("../../../../functions/aws/src/bell.rs"), "DELAY_MAX", DELAY_MAX);
        says(include_str!("../../../../functions/lambda/src/bin/dispatcher.rs"), "PAUSE", DISPATCHER_PAUSE);
    }
}
