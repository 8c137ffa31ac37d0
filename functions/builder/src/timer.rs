//! Times the builds of one run of Nix.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// The time of a build that has ended, well or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Timed {
    /// Its derivation's path.
    pub(crate) drv: String,
    pub(crate) from: Instant,
    pub(crate) to: Instant,
    /// Its part of the time: of `n` builds that run at once, each gets an `n`-th.
    pub(crate) share: Duration,
}

/// Times the builds of one run of Nix.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    running: HashMap<u64, (String, Instant, Duration)>,
    timed: Vec<Timed>,
    /// Until when the shares are counted.
    counted: Option<Instant>,
}

impl Timer {
    /// A build starts, as the activity `id`.
    pub(crate) fn start(&mut self, id: u64, drv: &str, now: Instant) {
        self.count(now);
        self.running.insert(id, (drv.to_owned(), now, Duration::ZERO));
    }

    /// An activity ends; it may be of another kind.
    pub(crate) fn stop(&mut self, id: u64, now: Instant) {
        if !self.running.contains_key(&id) {
            return;
        }
        self.count(now);
        let ended = self.running.remove(&id);
        self.timed.extend(ended.map(|(drv, from, share)| Timed { drv, from, to: now, share }));
    }

    /// The builds that have ended.
    pub(crate) fn into_timed(self) -> Vec<Timed> {
        self.timed
    }

    fn count(&mut self, now: Instant) {
        let passed = self.counted.map_or(Duration::ZERO, |counted| now - counted);
        let part = passed / self.running.len().max(1) as u32;
        self.running.values_mut().for_each(|(_, _, share)| *share += part);
        self.counted = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_of_builds_that_run_at_once_add_up_to_the_time_in_which_something_was_built() {
        let (mut timer, start) = (Timer::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        timer.start(1, "a", at(0));
        timer.start(2, "b", at(10));
        timer.stop(9, at(15));
        timer.stop(1, at(20));
        timer.stop(2, at(50));
        // Nothing was built for a while.
        timer.start(3, "c", at(100));
        timer.stop(3, at(101));
        timer.start(4, "d", at(101));
        let told: Vec<_> = timer
            .into_timed()
            .into_iter()
            .map(|timed| (timed.drv, (timed.to - timed.from).as_secs(), timed.share.as_secs()))
            .collect();
        assert_eq!(told, [("a".to_owned(), 20, 15), ("b".to_owned(), 40, 35), ("c".to_owned(), 1, 1)]);
    }
}
