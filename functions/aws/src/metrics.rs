//! The metrics of signals. `template.yaml` has alarms of them, by these names.

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

/// A metric of this service. CloudWatch charges each by the hours in which it has values, so only what an alarm or the
/// egress ceiling needs is one. The log lines have everything else, for queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// The bytes of the program of a hit.
    ServedBytes,
    /// A transient failure whose attempts are used up.
    BuildsExhausted,
    /// The budget or the store's ceiling kept a build from starting, or builds for a system were paused.
    BuildsHeld,
    /// A minute in which the egress ceiling stopped all downloads.
    EgressExceeded,
    /// A function did not finish its work, or answered a request with an error of the service.
    Warnings,
}

impl Metric {
    /// All metrics.
    pub const ALL: [Metric; 5] =
        [Metric::ServedBytes, Metric::BuildsExhausted, Metric::BuildsHeld, Metric::EgressExceeded, Metric::Warnings];

    /// Whether a service without trouble has values of it.
    pub fn is_usual(self) -> bool {
        self == Metric::ServedBytes
    }

    /// The metric's name, as written here.
    pub fn name(self) -> String {
        format!("{self:?}")
    }

    /// CloudWatch's unit.
    pub fn unit(self) -> &'static str {
        match self {
            Metric::ServedBytes => "Bytes",
            _ => "Count",
        }
    }
}

/// The metric of a signal, with its value.
pub fn of(telemetry: &Signal<'_>) -> Option<(Metric, Value)> {
    let metric = match telemetry {
        Signal::Answered { hit: Some(served), .. } => return Some((Metric::ServedBytes, json!(served.size))),
        Signal::Moved(Moved::Ended { end: End::Exhausted(_), .. }) => Metric::BuildsExhausted,
        Signal::Held(LimitExceeded::Budget { .. } | LimitExceeded::Store) | Signal::Looked(_, Some(_)) => {
            Metric::BuildsHeld
        }
        Signal::Exceeded(_) => Metric::EgressExceeded,
        Signal::Trouble { .. } => Metric::Warnings,
        Signal::Answered { hit: None, .. }
        | Signal::Held(_)
        | Signal::Looked(_, None)
        | Signal::Moved(_)
        | Signal::Stopped(_)
        | Signal::Granted(_)
        | Signal::Cleared(_)
        | Signal::Promoted(_) => return None,
    };
    Some((metric, json!(1)))
}

/// The member `_aws` of a line that has the metric as another member, in CloudWatch's embedded metric format.
pub(crate) fn directive(metric: Metric, at: Timestamp) -> Value {
    let metrics = json!([{ "Name": metric.name(), "Unit": metric.unit() }]);
    json!({
        "Timestamp": at.0,
        "CloudWatchMetrics": [{ "Namespace": NAMESPACE, "Dimensions": [[DIMENSION]], "Metrics": metrics }],
    })
}
