//! Processes that outlived Nix: builds whose Nix was killed, and processes that builds left behind.
//!
//! Without build users Nix cannot end processes that it does not know. The builder becomes the subreaper of its
//! descendants (`adopt`), and ends orphans after each run of Nix. With build users, or with a daemon, Nix does that
//! itself.

use std::{
    collections::HashSet,
    fs, io,
    process::{Child, Command},
    sync::Mutex,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, waitpid};

use crate::stop::lock;

/// Makes orphaned descendants our children from now on. A kernel without this feature does no harm.
pub(crate) fn adopt() {
    let _ = set_child_subreaper(Some(getpid()));
}

/// The children that another thread waits for while orphans are ended.
#[derive(Default)]
pub(crate) struct TrackedChildren(Mutex<HashSet<Pid>>);

/// A child that is not an orphan while this value lives: until it was reaped.
pub(crate) struct Ward<'a> {
    child: Pid,
    wards: &'a TrackedChildren,
}

impl TrackedChildren {
    /// Starts a child that is not an orphan.
    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<(Child, Ward<'_>)> {
        // Locked meanwhile, so that it is not taken for an orphan.
        let mut wards = lock(&self.0);
        let child = command.spawn()?;
        let ward = Ward { child: Pid::from_child(&child), wards: self };
        wards.insert(ward.child);
        Ok((child, ward))
    }
}

impl Drop for Ward<'_> {
    fn drop(&mut self) {
        lock(&self.wards.0).remove(&self.child);
    }
}

/// Ends all remaining children, and their orphans, for at most `time`. Must be called while no run of Nix is under way:
/// except for the tracked ones, every child is then an orphan.
pub(crate) fn end(wards: &TrackedChildren, time: Duration) {
    let until = Instant::now() + time;
    let wards = lock(&wards.0);
    loop {
        let orphans: Vec<_> = children().into_iter().filter(|child| !wards.contains(child)).collect();
        if orphans.is_empty() || Instant::now() >= until {
            return;
        }
        let ended = orphans.into_iter().filter(|&orphan| kill_process(orphan, Signal::KILL).is_ok());
        let reaped = ended.filter(|&orphan| waitpid(Some(orphan), WaitOptions::empty()).is_ok()).count();
        // Another user's process cannot be ended by us.
        if reaped == 0 {
            return;
        }
    }
}

/// Our children, from `/proc`: the parent stands two fields behind the name, which is in parentheses.
fn children() -> Vec<Pid> {
    let me = getpid().as_raw_nonzero().get().to_string();
    let parent_of = |pid: i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1).map(str::to_owned)
    };
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|&pid| parent_of(pid).as_ref() == Some(&me)).filter_map(Pid::from_raw).collect()
}
