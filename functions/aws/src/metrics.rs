//! The metrics: what a piece of news counts as. `template.yaml` has alarms and a dashboard of them, by these names.

use std::time::Duration;

use binplz_core::{
    answer::reply::Reply,
    id::time::Timestamp,
    quota::limits::LimitExceeded,
    telemetry::{End, Moved, Signal},
};
use serde_json::{Value, json};

/// Their namespace in CloudWatch.
pub const NAMESPACE: &str = "binplz";
/// Their one dimension: the stack's name, so that two stacks in one account are told apart.
pub const DIMENSION: &str = "Stack";

/// A metric of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// A redirect to a program.
    Hits,
    /// How many bytes that program has.
    ServedBytes,
    /// Any other answer about one.
    Misses,
    /// Programs came out.
    BuildsReady,
    /// The package itself fails.
    BuildsFailed,
    /// A passing failure: tried again later.
    BuildsDelayed,
    /// A passing failure, and the attempts are used up.
    BuildsExhausted,
    /// From an attempt's claim to its end, where it came to one by itself: ready, or failed for good.
    BuildSeconds,
    /// From when a build was due to its claim.
    QueueSeconds,
    /// The budget kept a build from starting.
    BudgetRefused,
    /// The store's ceiling kept a build from starting.
    StoreRefused,
    /// Builds for a system were paused, since something is amiss that only the operator can mend.
    BuildsPaused,
    /// A minute in which no program is served, since as much was today as may be.
    EgressExceeded,
}

impl Metric {
    /// All of them.
    pub const ALL: [Metric; 13] = [
        Metric::Hits,
        Metric::ServedBytes,
        Metric::Misses,
        Metric::BuildsReady,
        Metric::BuildsFailed,
        Metric::BuildsDelayed,
        Metric::BuildsExhausted,
        Metric::BuildSeconds,
        Metric::QueueSeconds,
        Metric::BudgetRefused,
        Metric::StoreRefused,
        Metric::BuildsPaused,
        Metric::EgressExceeded,
    ];

    /// What it is called: as here.
    pub fn name(self) -> String {
        format!("{self:?}")
    }

    /// CloudWatch's unit.
    pub fn unit(self) -> &'static str {
        match self {
            Metric::BuildSeconds | Metric::QueueSeconds => "Seconds",
            Metric::ServedBytes => "Bytes",
            _ => "Count",
        }
    }
}

/// What a piece of news counts as: metrics with their values.
pub fn of(telemetry: &Signal<'_>) -> Vec<(Metric, Value)> {
    let one = |metric| vec![(metric, json!(1))];
    let seconds = |metric, time: Duration| (metric, json!(time.as_secs_f64()));
    match telemetry {
        Signal::Answered { reply: Reply::Hit { served, .. }, .. } => {
            vec![(Metric::Hits, json!(1)), (Metric::ServedBytes, json!(served.size))]
        }
        Signal::Answered { .. } => one(Metric::Misses),
        Signal::Moved(Moved::Claimed { waited }) => vec![seconds(Metric::QueueSeconds, *waited)],
        Signal::Moved(Moved::Ended { end, took }) => match end {
            End::Ready => vec![(Metric::BuildsReady, json!(1)), seconds(Metric::BuildSeconds, *took)],
            End::Failed(_) => vec![(Metric::BuildsFailed, json!(1)), seconds(Metric::BuildSeconds, *took)],
            End::Delayed(_) => one(Metric::BuildsDelayed),
            End::Exhausted(_) => one(Metric::BuildsExhausted),
            // The other one counts.
            End::Joined => vec![],
        },
        Signal::Held(LimitExceeded::Budget { .. }) => one(Metric::BudgetRefused),
        Signal::Held(LimitExceeded::Store) => one(Metric::StoreRefused),
        Signal::Held(
            LimitExceeded::Slots | LimitExceeded::Catalogue | LimitExceeded::Paused(_) | LimitExceeded::Client { .. },
        ) => vec![],
        Signal::Looked(_, Some(_)) => one(Metric::BuildsPaused),
        Signal::Exceeded(_) => one(Metric::EgressExceeded),
        Signal::Looked(_, None)
        | Signal::Stopped(_)
        | Signal::Granted(_)
        | Signal::Cleared(_)
        | Signal::Promoted(_)
        | Signal::Trouble { .. } => vec![],
        Signal::Moved(
            Moved::Queued | Moved::Launched { .. } | Moved::Followed { .. } | Moved::Cancelled | Moved::Suspended,
        ) => vec![],
    }
}

/// The member `_aws` of a line that has these metrics as members: CloudWatch's embedded metric format.
pub(crate) fn directive(metrics: &[(Metric, Value)], at: Timestamp) -> Value {
    let metrics: Vec<_> = metrics.iter().map(|(m, _)| json!({ "Name": m.name(), "Unit": m.unit() })).collect();
    json!({
        "Timestamp": at.0,
        "CloudWatchMetrics": [{ "Namespace": NAMESPACE, "Dimensions": [[DIMENSION]], "Metrics": metrics }],
    })
}
