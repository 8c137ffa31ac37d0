//! How much memory the builder and all that it started have had at most, by looking every second.
//!
//! Builds that a daemon runs are not among these; a task's are. A spike between two looks is missed, so this tells how large a
//! machine is needed and not how small a one would do.

use std::{
    collections::HashMap,
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread,
    time::Duration,
};

const EVERY: Duration = Duration::from_secs(1);

/// Looks for as long as it is there.
pub(crate) struct Gauge {
    peak: Arc<AtomicU64>,
    _until: Sender<()>,
}

impl Gauge {
    /// Begins to look.
    pub(crate) fn start() -> Gauge {
        let peak = Arc::new(AtomicU64::new(0));
        let (until, dropped) = channel();
        let seen = Arc::clone(&peak);
        thread::spawn(move || {
            loop {
                if let Some(now) = resident() {
                    seen.fetch_max(now, Ordering::Relaxed);
                }
                if dropped.recv_timeout(EVERY) == Err(RecvTimeoutError::Disconnected) {
                    return;
                }
            }
        });
        Gauge { peak, _until: until }
    }

    /// The most so far, in bytes; `None`: nothing could be seen.
    pub(crate) fn peak(&self) -> Option<u64> {
        Some(self.peak.load(Ordering::Relaxed)).filter(|peak| *peak > 0)
    }
}

/// The memory in bytes that this process and all below it have now.
fn resident() -> Option<u64> {
    let processes = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // One that ends meanwhile is passed over.
    let all: HashMap<u32, Process> = processes.filter_map(|pid| Some((pid, Process::read(pid)?))).collect();
    let us = std::process::id();
    let below_us = |pid: u32| {
        let mut above = std::iter::successors(Some(pid), |pid| all.get(pid).map(|process| process.parent));
        // A process's number may be taken again between two readings, and make a circle.
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

    /// Of a line of `/proc/PID/stat`: its second field, in parentheses, may hold anything; fields 4 and 24 (proc_pid_stat(5)).
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
