//! The newest progress, on a board that the pulse reads. What is written over before it was read is not missed.

use std::{
    sync::{Condvar, Mutex},
    time::Instant,
};

use binplz_core::build::protocol::Progress;

use crate::stop::lock;

/// The board.
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

/// A reading of the board.
pub(crate) struct Reading {
    /// What stood there.
    pub(crate) progress: Progress,
    /// Grows with every change.
    pub(crate) edition: u64,
    /// Nothing more will come: the work is over.
    pub(crate) closed: bool,
}

impl ProgressChannel {
    /// Writes on the board; what changes nothing wakes nobody.
    pub(crate) fn update(&self, write: impl FnOnce(&mut Progress)) {
        let mut state = lock(&self.state);
        let before = state.progress.clone();
        write(&mut state.progress);
        if state.progress != before {
            state.edition += 1;
            self.changed.notify_all();
        }
    }

    /// No more pulses.
    pub(crate) fn close(&self) {
        lock(&self.state).closed = true;
        self.changed.notify_all();
    }

    /// Reads as soon as there is a newer edition than `seen` or the board is closed, and at `due` in any case.
    pub(crate) fn read(&self, seen: Option<u64>, due: Instant) -> Reading {
        let time = due.saturating_duration_since(Instant::now());
        let waiting = |state: &mut State| !state.closed && Some(state.edition) <= seen;
        let state = match self.changed.wait_timeout_while(lock(&self.state), time, waiting) {
            Ok((state, _)) => state,
            Err(poisoned) => poisoned.into_inner().0,
        };
        Reading { progress: state.progress.clone(), edition: state.edition, closed: state.closed }
    }

    /// Waits until `due`, or until the board is closed.
    pub(crate) fn rest(&self, due: Instant) {
        self.read(Some(u64::MAX), due);
    }
}
