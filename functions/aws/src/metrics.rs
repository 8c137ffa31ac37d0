//! The metrics of signals. `template.yaml` has alarms and a dashboard of them, by these names.

use std::time::Duration;

use binplz_core::{
    id::time::Timestamp,
    quota::limits::LimitExceeded,
    telemetry::{End, Moved, Signal},
};
use serde_json::{Value, json};

/// The metrics' namespace in CloudWatch.
pub const NAMESPACE: &str = "binplz";
/// Their only dimension, the stack's name, which separates two stacks of one account.
pub const DIMENSION: &str = "Stack";

/// A metric of this service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// A redirect to a program.
    Hits,
    /// The bytes of that program.
    ServedBytes,
    /// Any other answer to a request for a program.
    Misses,
    /// A build became ready.
    BuildsReady,
    /// A build failed permanently.
    BuildsFailed,
    /// A transient failure that will be retried.
    BuildsDelayed,
    /// A transient failure whose attempts are used up.
    BuildsExhausted,
    /// Seconds from an attempt's claim to its end, if it became ready or failed permanently.
    BuildSeconds,
    /// Seconds from a build's due time to its claim.
    QueueSeconds,
    /// The budget kept a build from starting.
    BudgetRefused,
    /// The store's ceiling kept a build from starting.
    StoreRefused,
    /// Builds for a system were paused for a reason that only the operator can fix.
    BuildsPaused,
    /// A minute in which the egress ceiling stopped all downloads.
    EgressExceeded,
}

impl Metric {
    /// All metrics.
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

    /// The metric's name, as written here.
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

/// The metrics of a signal, with their values.
pub fn of(telemetry: &Signal<'_>) -> Vec<(Metric, Value)> {
    let one = |metric| vec![(metric, json!(1))];
    let seconds = |metric, time: Duration| (metric, json!(time.as_secs_f64()));
    match telemetry {
        Signal::Answered { hit: Some(served), .. } => {
            vec![(Metric::Hits, json!(1)), (Metric::ServedBytes, json!(served.size))]
        }
        Signal::Answered { .. } => one(Metric::Misses),
        Signal::Moved(Moved::Claimed { waited }) => vec![seconds(Metric::QueueSeconds, *waited)],
        Signal::Moved(Moved::Ended { end, took }) => match end {
            End::Ready => vec![(Metric::BuildsReady, json!(1)), seconds(Metric::BuildSeconds, *took)],
            End::Failed(_) => vec![(Metric::BuildsFailed, json!(1)), seconds(Metric::BuildSeconds, *took)],
            End::Delayed(_) => one(Metric::BuildsDelayed),
            End::Exhausted(_) => one(Metric::BuildsExhausted),
            // The other build counts.
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

/// The member `_aws` of a line whose other members are these metrics, in CloudWatch's embedded metric format.
pub(crate) fn directive(metrics: &[(Metric, Value)], at: Timestamp) -> Value {
    let metrics: Vec<_> = metrics.iter().map(|(m, _)| json!({ "Name": m.name(), "Unit": m.unit() })).collect();
    json!({
        "Timestamp": at.0,
        "CloudWatchMetrics": [{ "Namespace": NAMESPACE, "Dimensions": [[DIMENSION]], "Metrics": metrics }],
    })
}
