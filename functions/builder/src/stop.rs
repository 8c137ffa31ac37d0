//! Why the builder must stop before its work is done, as an event that every thread can wait for.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// What ends the work early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// A signal told this task to end (Spot, a shutdown): say what there is to say, then go.
    Interrupted,
    /// The lease is over, somebody else may hold the build by now: not another word.
    LeaseLost(String),
}

/// The one place where the end is announced. A lost lease overrides an interruption, never the reverse.
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

    /// Why to stop, and since when, if at all.
    pub(crate) fn why(&self) -> Option<(Why, Instant)> {
        lock(&self.state).why.clone()
    }

    /// Whether the lease is gone.
    pub(crate) fn lease_lost(&self) -> bool {
        matches!(self.why(), Some((Why::LeaseLost(_), _)))
    }

    /// Calls `listener`, which must not block, once something is announced, at once if that has happened already.
    pub(crate) fn listen(&self, listener: impl Fn() + Send + 'static) {
        let mut state = lock(&self.state);
        if state.why.is_some() {
            listener();
        }
        state.listeners.push(Box::new(listener));
    }

    /// Waits for `time`, or until an announcement for which `enough` holds.
    pub(crate) fn pause(&self, time: Duration, enough: impl Fn(&Why) -> bool) {
        let waiting = |state: &mut State| !state.why.as_ref().is_some_and(|(why, _)| enough(why));
        drop(self.announced.wait_timeout_while(lock(&self.state), time, waiting));
    }
}

/// Locks even after another thread panicked: everything that is guarded here is valid after every statement.
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
        stop.listen(move || tx.send(()).expect("somebody listens"));
        assert_eq!(rx.try_recv(), Ok(()));
    }
}
