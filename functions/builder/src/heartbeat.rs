//! The pulse: keeps the lease alive, and tells how far the build is.

use std::time::{Duration, Instant};

use crate::{lease::Lease, progress_channel::ProgressChannel, stop::Stop};

/// The least time between two pulses, however fast progress is.
const LEAST: Duration = Duration::from_millis(500);
/// The first pause after a pulse that was not answered.
const FIRST_DELAY: Duration = Duration::from_millis(200);
/// The longest.
const LAST_DELAY: Duration = Duration::from_secs(5);

/// Pulses until the board is closed or the lease is lost: within a second of every change, and often enough that two
/// lost pulses in a row do not lose the lease.
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
        // An interruption does not end the pulse: the last words need the lease.
        progress_channel.rest(sent + rest);
    }
}

fn interval_of(lease: Duration) -> Duration {
    (lease / 3).min(Duration::from_secs(5 * 60))
}
