//! A function's log: a line of JSON for each piece of news, with the metrics that it counts as embedded in it. CloudWatch
//! makes metrics of such lines by itself, so that nobody here waits for it.

use std::{fmt, process::ExitCode};

use binplz_core::{
    answer::reply::Reply,
    id::{text::without_secrets, time::Timestamp},
    telemetry::{About, Signal},
};
use serde_json::{Map, Value, json};

use crate::{
    config::Settings,
    metrics::{self, DIMENSION},
};

tokio::task_local! {
    static REQUEST: String;
}

/// Does something for a request, whose id stands in each line that is written meanwhile: the HTTP API's, which its access log and
/// the answer's `X-Request-Id` have too, or Lambda's own.
pub fn within<T>(request: String, work: impl Future<Output = T>) -> impl Future<Output = T> {
    // Boxed, or the compiler gives up on how deep a sweep's future is.
    REQUEST.scope(request, Box::pin(work))
}

/// Runs a function until its sandbox ends. What ends it before, or makes it panic, becomes a line too.
pub async fn function<E: fmt::Display>(run: impl Future<Output = Result<(), E>>) -> ExitCode {
    std::panic::set_hook(Box::new(|panic| write(&failure("it panicked", panic))));
    match run.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            write(&failure("it can not go on", &error));
            ExitCode::FAILURE
        }
    }
}

fn failure(what: &str, error: &dyn fmt::Display) -> String {
    json!(entry("ERROR", what, Some(error))).to_string()
}

/// What every line has.
fn entry(level: &str, message: &str, error: Option<&dyn fmt::Display>) -> Map<String, Value> {
    let mut line = Map::from_iter([("level".to_owned(), json!(level)), ("message".to_owned(), json!(message))]);
    line.extend(error.map(|error| ("error".to_owned(), json!(without_secrets(&error.to_string())))));
    line.extend(REQUEST.try_with(|request| ("request_id".to_owned(), json!(request))));
    line
}

/// Where news go.
#[derive(Clone, Debug)]
pub enum Log {
    /// Into the log of a function of that stack.
    Function {
        /// Its name.
        stack: String,
    },
    /// To an operator at a terminal, who hears of what goes wrong: what he orders is answered otherwise.
    Terminal,
}

impl Log {
    /// That of a function of the stack that the settings name.
    pub fn open(settings: &Settings) -> Log {
        Log::Function { stack: settings.stack().to_owned() }
    }

    /// Tells a piece of news.
    pub fn emit(&self, about: About<'_>, telemetry: &Signal<'_>, now: Timestamp) {
        match (self, telemetry) {
            (Log::Function { stack }, _) => write(&line(stack, about, telemetry, now)),
            (Log::Terminal, Signal::Trouble { what, error }) => eprintln!("binplz: {what}: {error}"),
            (Log::Terminal, _) => {}
        }
    }
}

/// `{"level": …, "message": …}`, and as far as there are any: `build` (REV/SYSTEM/ATTR), `lease`, `request_id`, `failure` (its
/// kind), `viewer` (whose request was a miss), `package` (of a hit), `error`, and the metrics.
pub fn line(stack: &str, about: About<'_>, telemetry: &Signal<'_>, now: Timestamp) -> String {
    let (level, error) = match *telemetry {
        Signal::Trouble { error, .. } => ("WARN", Some(error)),
        Signal::Looked(_, Some(_)) | Signal::Stopped(true) | Signal::Exceeded(_) => ("WARN", None),
        Signal::Moved(_)
        | Signal::Held(_)
        | Signal::Looked(_, None)
        | Signal::Stopped(false)
        | Signal::Promoted(_)
        | Signal::Granted(_)
        | Signal::Cleared(_)
        | Signal::Answered { .. } => ("INFO", None),
    };
    let mut line = entry(level, &telemetry.to_string(), error);
    line.extend(about.key().map(|key| ("build".to_owned(), json!(key.to_string()))));
    line.extend(about.lease().map(|lease| ("lease".to_owned(), json!(lease))));
    match telemetry {
        Signal::Moved(moved) => line.extend(moved.kind().map(|kind| ("failure".to_owned(), json!(kind)))),
        // What is asked for most, is counted from here (`download_stats.rs`).
        Signal::Answered { reply: Reply::Hit { served, .. }, .. } => {
            line.insert("package".to_owned(), json!(served.attr));
        }
        // A hit's viewer is nobody's business; who makes us build may be.
        Signal::Answered { to: Some(viewer), .. } => {
            line.insert("viewer".to_owned(), json!(viewer));
        }
        _ => {}
    }
    let metrics = metrics::of(telemetry);
    if !metrics.is_empty() {
        line.insert("_aws".to_owned(), metrics::directive(&metrics, now));
        line.insert(DIMENSION.to_owned(), json!(stack));
        line.extend(metrics.into_iter().map(|(metric, value)| (metric.name(), value)));
    }
    json!(line).to_string()
}

/// Lambda takes what a function prints for its log, line by line.
fn write(line: &str) {
    println!("{line}");
}
