//! Which events on Nix's stderr are Nix's own, and which ones a build has made Nix repeat.
//!
//! A build may print in Nix's log format. Nix 2.8 to 2.26 repeats three things of that (`handleJSONLogMessage`):
//! messages of any level, the build's own phase, and downloads with any results. It gives downloads its own ids, and
//! finds an id of a build among that build's downloads only. So no build can start or stop an activity of another kind,
//! nor report a result of one. Builds and their counts are therefore Nix's own, and so is a message if
//!
//! - it has a `raw_msg`: Nix's errors have one, repeated messages never do;
//! - or no build runs: Nix reads from none;
//! - or it is the first error after Nix has counted a failed build: Nix reports the failure before it reads on. The
//!   errors that a daemon sends have no `raw_msg`.
//!
//! Everything else is text for the log.

use std::collections::HashSet;

use crate::internal_json::{Activity, Event};

/// Follows the events of one run of Nix.
#[derive(Debug, Default)]
pub(crate) struct Testimony {
    /// The activities of running builds.
    running: HashSet<u64>,
    /// The activity that counts all builds.
    counter: Option<u64>,
    /// The failed builds that Nix has counted.
    failed: u64,
    /// Whether the next error reports a failure that was just counted.
    due: bool,
}

impl Testimony {
    /// Whether an event is Nix's own. Every event must be passed, in order.
    pub(crate) fn is_own(&mut self, event: &Event) -> bool {
        match event {
            Event::Start { id, activity: Activity::Build(_), .. } => {
                self.running.insert(*id);
                true
            }
            Event::Start { id, activity: Activity::Builds, .. } => {
                self.counter = Some(*id);
                true
            }
            Event::Start { activity: Activity::Transfer, .. } => self.running.is_empty(),
            Event::Stop { id } => {
                self.running.remove(id);
                true
            }
            Event::Progress { id, failed, .. } if self.counter == Some(*id) => {
                self.due |= *failed > self.failed;
                self.failed = self.failed.max(*failed);
                true
            }
            Event::Message { level: 0, structured, text } => {
                let error = is_error(text);
                let due = error && std::mem::take(&mut self.due);
                *structured || self.running.is_empty() || due
            }
            Event::Log { .. } => {
                self.due = false;
                false
            }
            Event::Message { .. } | Event::Text(_) => self.running.is_empty(),
            Event::Start { .. } | Event::Phase { .. } | Event::Progress { .. } | Event::Other => true,
        }
    }
}

/// Whether a message without terminal codes is an error. Nix uses their level for hints and warnings too.
fn is_error(text: &str) -> bool {
    crate::log::plain(text).trim_start().starts_with("error:")
}

/// Nix's own part of an error: a daemon appends the build's last lines.
pub(crate) fn without_log_tail(error: &str) -> String {
    let is_tail = |line: &&str| {
        let line = line.trim().to_ascii_lowercase();
        line.starts_with("last ") && line.ends_with(" log lines:")
    };
    error.lines().take_while(|line| !is_tail(line)).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;
