//! The estimates that clients get while a build runs, and their errors, once it has ended.

use std::time::Duration;

use crate::{build::plan::rounded, id::time::seconds_up};

/// The `Retry-After` of a build that has run for `elapsed`, in seconds. `left`: its estimated rest, in seconds. A client asks again after
/// half of the elapsed time, so it learns of the end after at most one and a half times the build's duration.
pub fn retry_after(elapsed: Duration, left: Option<u64>) -> u64 {
    (elapsed.as_secs() / 2).min(left.unwrap_or(u64::MAX)).clamp(2, 30)
}

/// The seconds that are left of an estimate; `None` if none are.
pub fn left(expected: Duration, elapsed: Duration) -> Option<u64> {
    expected.checked_sub(elapsed).map(seconds_up).filter(|left| *left > 0)
}

/// The errors of the estimates, in percent of the build's duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errors {
    /// The error of the estimate.
    pub estimate: u32,
    /// The error of the words "about … left", halfway through the build. Without these words, the estimated rest is zero.
    pub status: u32,
    /// The delay of `Retry-After`: how late a client learns of the end, if it asks at the start and then obeys.
    pub retry_after: u32,
}

impl Errors {
    /// The errors for a build that was expected to take `expected`, and took `took`.
    pub fn of(expected: Duration, took: Duration) -> Errors {
        let percent = |error: Duration| {
            let percent = error.as_millis() * 100 / took.as_millis().max(1);
            u32::try_from(percent).unwrap_or(u32::MAX)
        };
        let half = took / 2;
        let shown = left(expected, half).map_or(Duration::ZERO, |left| rounded(Duration::from_secs(left)));
        let mut asked = Duration::ZERO;
        while asked < took {
            asked += Duration::from_secs(retry_after(asked, left(expected, asked)));
        }
        Errors {
            estimate: percent(expected.abs_diff(took)),
            status: percent(shown.abs_diff(half)),
            retry_after: percent(asked - took),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_those_of_what_clients_were_told() {
        let of = |expected, took| Errors::of(Duration::from_secs(expected), Duration::from_secs(took));
        let errors = |estimate, status, retry_after| Errors { estimate, status, retry_after };
        // It is asked after 2, 4, 6, 9, 13, 19, 28 seconds, and then when the rest should be over.
        assert_eq!(of(40, 40), errors(0, 0, 0));
        // After 30 seconds, when it should be over, and then after 45.
        assert_eq!(of(30, 40), errors(25, 25, 12));
        assert_eq!(of(80, 40), errors(100, 100, 5));
        // "about 2 minutes left", of 100 seconds.
        assert_eq!(of(200, 200), errors(0, 10, 0));
        // Nothing was left to tell.
        assert_eq!(of(10, 100), errors(90, 50, 11));
    }
}
