//! The peak memory of the builder and its descendants, sampled every second.
//!
//! Builds of a Nix daemon are not included; a task's builds are. A spike between two samples is missed, so the result
//! shows how large a machine is needed, not how small a one would do.

use std::{
    collections::HashMap,
    fs,
    sync::{
        Arc, Mutex,
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use crate::stop::lock;

const EVERY: Duration = Duration::from_secs(1);

/// Samples while it exists.
pub(crate) struct Gauge {
    /// The time and the result of each sample.
    samples: Arc<Mutex<Vec<(Instant, u64)>>>,
    _until: Sender<()>,
}

impl Gauge {
    /// Begins to sample.
    pub(crate) fn start() -> Gauge {
        let samples = Arc::new(Mutex::default());
        let (until, dropped) = channel();
        let seen = Arc::clone(&samples);
        thread::spawn(move || {
            loop {
                if let Some(now) = resident() {
                    lock::<Vec<_>>(&seen).push((Instant::now(), now));
                }
                if dropped.recv_timeout(EVERY) == Err(RecvTimeoutError::Disconnected) {
                    return;
                }
            }
        });
        Gauge { samples, _until: until }
    }

    /// The peak so far, in bytes; `None` if no sample succeeded.
    pub(crate) fn peak(&self) -> Option<u64> {
        lock(&self.samples).iter().map(|(_, memory)| *memory).max()
    }

    /// The peak between two instants; `None` if there was no sample.
    pub(crate) fn peak_between(&self, from: Instant, to: Instant) -> Option<u64> {
        let samples = lock(&self.samples);
        samples.iter().filter(|(at, _)| (from..=to).contains(at)).map(|(_, memory)| *memory).max()
    }
}

/// The current memory of this process and its descendants, in bytes.
fn resident() -> Option<u64> {
    let processes = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // A process that ends meanwhile is skipped.
    let all: HashMap<u32, Process> = processes.filter_map(|pid| Some((pid, Process::read(pid)?))).collect();
    let us = std::process::id();
    let below_us = |pid: u32| {
        let mut above = std::iter::successors(Some(pid), |pid| all.get(pid).map(|process| process.parent));
        // A process id may be reused between two readings, and form a cycle.
        above.by_ref().take(all.len() + 1).any(|pid| pid == us)
    };
    let pages: u64 = all.iter().filter(|(pid, _)| below_us(**pid)).map(|(_, process)| process.pages).sum();
    Some(pages * rustix::param::page_size() as u64)
}

struct Process {
    parent: u32,
    pages: u64,
}

impl Process {
    fn read(pid: u32) -> Option<Process> {
        Process::from_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Parses a line of `/proc/PID/stat`: the second field, in parentheses, may contain anything; fields 4 and 24 count
    /// (proc_pid_stat(5)).
    fn from_stat(stat: &str) -> Option<Process> {
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        Some(Process { parent: fields.nth(1)?.parse().ok()?, pages: fields.nth(19)?.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_of_any_name_is_read() {
        let stat = "77 (a) R (b) S 1 77 77 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 99 1000000 321 18446744073709551615 1";
        let process = Process::from_stat(stat).expect("a process");
        assert_eq!((process.parent, process.pages), (1, 321));
        assert!(Process::from_stat("77 (a) S").is_none());
    }

    #[test]
    fn what_we_hold_is_seen() {
        let held = vec![1_u8; 64 << 20];
        let seen = resident().expect("a /proc");
        assert!(seen > 64 << 20 && held[4096] == 1, "{seen}");
    }
}
