//! A function's log: a line of JSON for each piece of news, with the metrics that it counts as embedded in it. CloudWatch
//! makes metrics of such lines by itself, so that nobody here waits for it.

use std::io::Write;

use binplz_core::{
    news::{About, Moved, News},
    time::Timestamp,
};
use serde_json::{Map, json};

use crate::{
    config::Settings,
    metrics::{self, DIMENSION},
};

/// The log of one function.
#[derive(Clone, Debug)]
pub struct Log {
    stack: String,
}

impl Log {
    /// The log of the stack that the settings name.
    pub fn open(settings: &Settings) -> Log {
        Log { stack: settings.find("BINPLZ_STACK").unwrap_or("binplz").to_owned() }
    }

    /// Writes the line of a piece of news.
    pub fn tell(&self, about: About<'_>, news: &News<'_>, now: Timestamp) {
        write(&self.line(about, news, now));
    }

    /// `{"level": …, "message": …}`, and as far as there are any: `build` (REV/SYSTEM/ATTR), `lease`, `failure` (its kind), `error`,
    /// and the metrics.
    pub fn line(&self, about: About<'_>, news: &News<'_>, now: Timestamp) -> String {
        let mut line = Map::new();
        line.insert("message".to_owned(), json!(news.to_string()));
        line.extend(about.key().map(|key| ("build".to_owned(), json!(key.to_string()))));
        line.extend(about.lease().map(|lease| ("lease".to_owned(), json!(lease))));
        let level = match news {
            News::Trouble { error, .. } => {
                line.insert("error".to_owned(), json!(error.to_string()));
                "WARN"
            }
            News::Moved(moved) => {
                line.extend(Moved::kind(moved).map(|kind| ("failure".to_owned(), json!(kind))));
                "INFO"
            }
            News::Held(_) | News::Answered(_) => "INFO",
        };
        line.insert("level".to_owned(), json!(level));
        let metrics = metrics::of(news);
        if !metrics.is_empty() {
            line.insert("_aws".to_owned(), metrics::directive(&metrics, now));
            line.insert(DIMENSION.to_owned(), json!(self.stack));
            line.extend(metrics.into_iter().map(|(metric, value)| (metric.name(), value)));
        }
        json!(line).to_string()
    }
}

/// One line, in one write, so that no two of them mix.
fn write(line: &str) {
    // Where nobody reads it, there is nobody to tell.
    let _ = std::io::stdout().lock().write_all(format!("{line}\n").as_bytes());
}
