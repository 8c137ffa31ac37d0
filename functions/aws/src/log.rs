//! A function's log: one line of JSON per signal, with its metric in CloudWatch's embedded metric format. CloudWatch
//! extracts the metrics itself, so no request waits for them.

use std::{
    fmt,
    io::{Write, stderr, stdout},
    process::ExitCode,
};

use binplz_core::{
    VERSION,
    id::{text::without_secrets, time::Timestamp},
    telemetry::{About, End, Moved, Signal},
};
use serde_json::{Map, Value, json};

use crate::{
    config::Settings,
    metrics::{self, DIMENSION},
};

tokio::task_local! {
    static REQUEST: String;
}

/// Runs the work of a request, whose id is in every line written meanwhile: the HTTP API's id, which the
/// answer's `X-Request-Id` and the optional access log have too, or Lambda's.
pub fn within<T>(request: String, work: impl Future<Output = T>) -> impl Future<Output = T> {
    // Boxed, since the compiler's recursion limit is too low for the type of a sweep's future.
    REQUEST.scope(request, Box::pin(work))
}

/// Runs a function until its sandbox ends. An error that ends it before, or a panic, becomes a log line too.
pub async fn function<E: fmt::Display>(run: impl Future<Output = Result<(), E>>) -> ExitCode {
    std::panic::set_hook(Box::new(|panic| write(&failure("it panicked", panic))));
    match run.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            write(&failure("the function cannot continue", &error));
            ExitCode::FAILURE
        }
    }
}

fn failure(what: &str, error: &dyn fmt::Display) -> String {
    json!(entry("ERROR", what, Some(error))).to_string()
}

/// The members that every line has.
fn entry(level: &str, message: &str, error: Option<&dyn fmt::Display>) -> Map<String, Value> {
    let mut line = Map::from_iter([("level".to_owned(), json!(level)), ("message".to_owned(), json!(message))]);
    line.extend(error.map(|error| ("error".to_owned(), json!(without_secrets(&error.to_string())))));
    line.extend(REQUEST.try_with(|request| ("request_id".to_owned(), json!(request))));
    line
}

/// The destination of signals.
#[derive(Clone, Debug)]
pub enum Log {
    /// The log of a function of that stack.
    Function {
        /// The stack's name.
        stack: String,
    },
    /// An operator's terminal, which shows warnings only: the result of an order is printed elsewhere.
    Terminal,
}

impl Log {
    /// The log of a function of the stack that the settings name.
    pub fn open(settings: &Settings) -> Log {
        Log::Function { stack: settings.stack().to_owned() }
    }

    /// Writes a signal.
    pub fn emit(&self, about: About<'_>, telemetry: &Signal<'_>, now: Timestamp) {
        match (self, telemetry) {
            (Log::Function { stack }, _) => write(&line(stack, about, telemetry, now)),
            (Log::Terminal, Signal::Trouble { what, error }) => {
                let _ = writeln!(stderr(), "binplz: {what}: {error}");
            }
            (Log::Terminal, _) => {}
        }
    }
}

/// `{"level": …, "message": …}` and, if present: `build` (REV/SYSTEM/ATTR), `lease`, `request_id`, `failure` (its
/// kind), `QueueSeconds` (of a claim), `BuildSeconds` (of a build that became ready or failed permanently), `viewer` (the
/// client of a miss), `package` (of a hit), `error`, and the metric; beside one that is not of a hit, also `version`.
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
        Signal::Moved(moved) => {
            line.extend(moved.kind().map(|kind| ("failure".to_owned(), json!(kind))));
            let seconds = match moved {
                Moved::Claimed { waited } => Some(("QueueSeconds", waited)),
                Moved::Ended { end: End::Ready | End::Failed(_), took } => Some(("BuildSeconds", took)),
                _ => None,
            };
            line.extend(seconds.map(|(name, time)| (name.to_owned(), json!(time.as_secs_f64()))));
        }
        // The most requested packages are counted from here (`download_stats.rs`).
        Signal::Answered { hit: Some(served), .. } => {
            line.insert("package".to_owned(), json!(served.product()));
        }
        // The address of a hit's viewer is not logged; that of a client whose request may start a build is.
        Signal::Answered { to: Some(viewer), .. } => {
            line.insert("viewer".to_owned(), json!(viewer));
        }
        _ => {}
    }
    if let Some((metric, value)) = metrics::of(telemetry) {
        line.insert("_aws".to_owned(), metrics::directive(metric, now));
        line.insert(DIMENSION.to_owned(), json!(stack));
        line.insert(metric.name(), value);
        // A million hits would pay for it.
        if !metric.is_usual() {
            line.insert("version".to_owned(), json!(VERSION));
        }
    }
    json!(line).to_string()
}

/// Lambda logs a function's standard output line by line.
fn write(line: &str) {
    // Nothing is left to do about a log that cannot be written.
    let _ = writeln!(stdout(), "{line}");
}
