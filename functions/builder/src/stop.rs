//! Why the builder must stop before its work is done, as an event that every thread can wait for.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The cause of an early end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// A signal asked this task to end (Spot, a shutdown): make the final calls, then exit.
    Interrupted,
    /// The lease is lost and another attempt may hold the build: make no more calls.
    LeaseLost(String),
}

/// The announcement of the end. A lost lease overrides an interruption, never the reverse.
#[derive(Default)]
pub(crate) struct Stop {
    state: Mutex<State>,
    announced: Condvar,
}

#[derive(Default)]
struct State {
    why: Option<(Why, Instant)>,
    listeners: Vec<Box<dyn Fn() + Send>>,
}

impl Stop {
    /// Announces the end.
    pub(crate) fn announce(&self, why: Why) {
        let mut state = lock(&self.state);
        match (&state.why, &why) {
            (None, _) | (Some((Why::Interrupted, _)), Why::LeaseLost(_)) => {}
            _ => return,
        }
        state.why = Some((why, Instant::now()));
        self.announced.notify_all();
        state.listeners.iter().for_each(|listener| listener());
    }

    /// The cause, and when it was announced, if it was.
    pub(crate) fn why(&self) -> Option<(Why, Instant)> {
        lock(&self.state).why.clone()
    }

    /// Whether the lease is lost.
    pub(crate) fn lease_lost(&self) -> bool {
        matches!(self.why(), Some((Why::LeaseLost(_), _)))
    }

    /// Calls `listener`, which must not block, at an announcement; at once if there was one already.
    pub(crate) fn listen(&self, listener: impl Fn() + Send + 'static) {
        let mut state = lock(&self.state);
        if state.why.is_some() {
            listener();
        }
        state.listeners.push(Box::new(listener));
    }

    /// Waits for `time`, or until an announcement for which `enough` is true.
    pub(crate) fn pause(&self, time: Duration, enough: impl Fn(&Why) -> bool) {
        let waiting = |state: &mut State| !state.why.as_ref().is_some_and(|(why, _)| enough(why));
        drop(self.announced.wait_timeout_while(lock(&self.state), time, waiting));
    }
}

/// Locks even after another thread panicked: every guarded value is valid after every statement.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_lease_overrides_an_interruption_and_not_the_reverse() {
        let stop = Stop::default();
        stop.announce(Why::Interrupted);
        assert!(!stop.lease_lost());
        stop.announce(Why::LeaseLost("gone".into()));
        stop.announce(Why::Interrupted);
        assert!(stop.lease_lost());
    }

    #[test]
    fn a_listener_that_comes_late_is_called_all_the_same() {
        let stop = Stop::default();
        stop.announce(Why::Interrupted);
        let (tx, rx) = std::sync::mpsc::channel();
        stop.listen(move || tx.send(()).expect("the test listens"));
        assert_eq!(rx.try_recv(), Ok(()));
    }
}
