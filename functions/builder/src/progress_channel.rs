//! The newest progress, for the heartbeat to read. Progress that is replaced before it was read is dropped.

use std::{
    sync::{Condvar, Mutex},
    time::Instant,
};

use binplz_core::build::protocol::Progress;

use crate::stop::lock;

/// The channel.
#[derive(Default)]
pub(crate) struct ProgressChannel {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    progress: Progress,
    edition: u64,
    closed: bool,
}

/// One reading.
pub(crate) struct Reading {
    /// The progress.
    pub(crate) progress: Progress,
    /// Incremented by every change.
    pub(crate) edition: u64,
    /// The work has ended: nothing more will come.
    pub(crate) closed: bool,
}

impl ProgressChannel {
    /// Updates the progress; wakes the reader if something changed.
    pub(crate) fn update(&self, write: impl FnOnce(&mut Progress)) {
        let mut state = lock(&self.state);
        let before = state.progress.clone();
        write(&mut state.progress);
        if state.progress != before {
            state.edition += 1;
            self.changed.notify_all();
        }
    }

    /// The newest progress.
    pub(crate) fn now(&self) -> Progress {
        lock(&self.state).progress.clone()
    }

    /// Closes the channel, which ends the heartbeat.
    pub(crate) fn close(&self) {
        lock(&self.state).closed = true;
        self.changed.notify_all();
    }

    /// Waits for an edition newer than `seen`, for the channel's end, or until `due`.
    pub(crate) fn read(&self, seen: Option<u64>, due: Instant) -> Reading {
        let time = due.saturating_duration_since(Instant::now());
        let waiting = |state: &mut State| !state.closed && Some(state.edition) <= seen;
        let state = match self.changed.wait_timeout_while(lock(&self.state), time, waiting) {
            Ok((state, _)) => state,
            Err(poisoned) => poisoned.into_inner().0,
        };
        Reading { progress: state.progress.clone(), edition: state.edition, closed: state.closed }
    }

    /// Waits until `due`, or until the channel is closed.
    pub(crate) fn rest(&self, due: Instant) {
        self.read(Some(u64::MAX), due);
    }
}
