//! Measures the processor time of one attribute in a process that evaluates many.

use std::{
    fs,
    time::{Duration, Instant},
};

use rustix::{param::clock_ticks_per_second, process::Pid};

/// An attribute may take this many times its processor time while it idles.
const PATIENCE: u32 = 10;

/// Counts processor time, so that a busy machine is not blamed on the attribute. An idle attribute is over after
/// [`PATIENCE`] times as long.
pub(crate) struct Stopwatch {
    process: Pid,
    time: Duration,
    began: Instant,
    spent: Duration,
    look: Instant,
}

impl Stopwatch {
    /// Starts for an attribute of `process`, which may take `time`.
    pub(crate) fn new(process: Pid, time: Duration) -> Stopwatch {
        let now = Instant::now();
        Stopwatch { process, time, began: now, spent: processor_time(process), look: now + time }
    }

    /// When to look again.
    pub(crate) fn left(&self) -> Duration {
        self.look.saturating_duration_since(Instant::now())
    }

    /// Whether the time is over.
    pub(crate) fn is_over(&mut self) -> bool {
        if !self.left().is_zero() {
            return false;
        }
        let left = self.time.saturating_sub(processor_time(self.process).saturating_sub(self.spent));
        self.look = Instant::now() + left;
        left.is_zero() || self.began.elapsed() >= self.time * PATIENCE
    }
}

/// A process's processor time from `/proc`: two counts of clock ticks, 12 fields behind the name. Zero if the process
/// is gone.
fn processor_time(process: Pid) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace().skip(11).take(2);
    let ticks: u64 = fields.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1000 / clock_ticks_per_second().max(1))
}
