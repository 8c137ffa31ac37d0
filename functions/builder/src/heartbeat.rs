//! The heartbeat: renews the lease, and reports the build's progress.

use std::time::{Duration, Instant};

use crate::{lease::Lease, progress_channel::ProgressChannel, stop::Stop};

/// The least time between two heartbeats, however fast progress is.
const LEAST: Duration = Duration::from_millis(500);
/// The first pause after a heartbeat without an answer; it doubles each time (backoff).
const FIRST_DELAY: Duration = Duration::from_millis(200);
/// The longest such pause.
const LAST_DELAY: Duration = Duration::from_secs(5);

/// Sends heartbeats until the channel is closed or the lease is lost: within a second of every change, and often enough
/// that two lost heartbeats in a row do not lose the lease.
pub(crate) fn run(lease: &Lease, progress_channel: &ProgressChannel, stop: &Stop, lease_seconds: u64) {
    let mut interval = interval_of(Duration::from_secs(lease_seconds));
    let mut delay = FIRST_DELAY;
    let mut seen = None;
    let mut due = Instant::now();
    loop {
        let reading = progress_channel.read(seen, due);
        if reading.closed || stop.lease_lost() {
            return;
        }
        let sent = Instant::now();
        let rest = match lease.heartbeat(&reading.progress) {
            Ok(time) => {
                interval = interval_of(time);
                delay = FIRST_DELAY;
                seen = Some(reading.edition);
                due = sent + interval;
                LEAST.min(interval)
            }
            Err(_) => {
                due = sent;
                let rest = delay;
                delay = (delay * 2).min(interval).min(LAST_DELAY);
                rest
            }
        };
        // An interruption does not end the heartbeat: the last calls need the lease.
        progress_channel.rest(sent + rest);
    }
}

fn interval_of(lease: Duration) -> Duration {
    (lease / 3).min(Duration::from_secs(5 * 60))
}
