//! Instants and calendar units. Core never reads a clock: `now` is always an argument or comes from a port.

use std::{
    fmt,
    ops::{Add, Sub},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01T00:00:00Z.
///
/// ```
/// use std::time::Duration;
/// use binplz_core::id::time::Timestamp;
///
/// let now = Timestamp(1_796_083_200_000);
/// assert_eq!(now.month().to_string(), "2026-12");
/// assert_eq!((now + Duration::from_secs(90)) - now, Duration::from_secs(90));
/// assert_eq!(Timestamp(0) - now, Duration::ZERO);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Add<Duration> for Timestamp {
    type Output = Timestamp;
    fn add(self, d: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(u64::try_from(d.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// The time from `rhs` to `self`; zero if `rhs` is later (clocks differ between machines).
impl Sub for Timestamp {
    type Output = Duration;
    fn sub(self, rhs: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(rhs.0))
    }
}

/// The most by which the clocks of two machines differ. A row with a later time than that was written under a wrong clock.
pub const SKEW_MAX: Duration = Duration::from_secs(3600);

impl Timestamp {
    /// Whether it was written under a wrong clock, as after a clock jump: no clock that is right can show it yet.
    pub(crate) fn is_ahead_of(self, now: Timestamp) -> bool {
        self > now + SKEW_MAX
    }
}

/// The later of the time in a row and the present one, for a machine whose clock is behind must not bring back the past;
/// but the present one, if the row's is after `latest`, which no clock can show yet.
pub(crate) fn later_of<T: Ord>(stored: T, now: T, latest: &T) -> T {
    if stored > *latest { now } else { stored.max(now) }
}

/// A duration in whole seconds, rounded up: as in `Retry-After`.
pub fn seconds_up(time: Duration) -> u64 {
    time.as_millis().div_ceil(1000) as u64
}

/// A calendar month in UTC: the window of the budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Month {
    /// For example 2026.
    pub year: u64,
    /// 1 to 12.
    pub month: u64,
}

/// `2026-11`.
impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

/// A day in UTC: the window of a client's allowance. Written `2026-12-31`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Day(
    /// Since 1970-01-01.
    pub u64,
);

const DAY: u64 = 86_400_000;

impl Timestamp {
    /// The day that this instant is in.
    pub fn day(self) -> Day {
        Day(self.0 / DAY)
    }

    /// The month that this instant is in.
    pub fn month(self) -> Month {
        let (year, month, _) = self.day().civil();
        Month { year, month }
    }
}

impl Day {
    /// Its first instant.
    pub fn start(self) -> Timestamp {
        Timestamp(self.0.saturating_mul(DAY))
    }

    /// The day after it.
    #[must_use]
    pub fn next(self) -> Day {
        Day(self.0.saturating_add(1))
    }

    /// Year, month and day of the month, the latter two from 1.
    fn civil(self) -> (u64, u64, u64) {
        // Days are counted from 0000-03-01, so that a leap day ends its year and each month starts at a day that one
        // linear formula gives (30.6 days a month, rounded).
        let days = self.0.saturating_add(MARCH);
        let era_day = days % 146_097;
        let year_of_era = (era_day - era_day / 1_460 + era_day / 36_524 - era_day / 146_096) / 365;
        let year_day = era_day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * year_day + 2) / 153;
        let day = year_day - (153 * march_month + 2) / 5 + 1;
        let (month, next_year) = if march_month < 10 { (march_month + 3, 0) } else { (march_month - 9, 1) };
        (days / 146_097 * 400 + year_of_era + next_year, month, day)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.civil();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

/// Days from 0000-03-01 to 1970-01-01.
const MARCH: u64 = 719_468;

impl Month {
    /// The month after it.
    #[must_use]
    pub fn next(self) -> Month {
        let Month { year, month } = self;
        if month == 12 { Month { year: year + 1, month: 1 } } else { Month { year, month: month + 1 } }
    }

    /// Its first day.
    pub fn first(self) -> Day {
        // The inverse formula; a month before March belongs to the year before.
        let (year, march_month) =
            if self.month > 2 { (self.year, self.month - 3) } else { (self.year.saturating_sub(1), self.month + 9) };
        let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * march_month + 2) / 5;
        Day(days.saturating_sub(MARCH))
    }
}

/// A duration in whole seconds, as rows store it: for serde's `with`.
pub mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Serialises it; fractions of a second are dropped.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        time.as_secs().serialize(serializer)
    }

    /// Deserialises it.
    ///
    /// # Errors
    /// The deserializer's.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_secs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_those_of_the_calendar() {
        for (seconds, year, month) in [
            (0, 1970, 1),
            (951_782_399, 2000, 2),    // 2000-02-28T23:59:59Z
            (951_868_799, 2000, 2),    // 2000-02-29T23:59:59Z
            (951_868_800, 2000, 3),    // 2000-03-01
            (1_798_761_599, 2026, 12), // 2026-12-31T23:59:59Z
            (1_798_761_600, 2027, 1),
            (4_107_542_400, 2100, 3), // 2100-03-01: 2100 is no leap year
            (4_107_542_399, 2100, 2),
        ] {
            assert_eq!(Timestamp(seconds * 1000).month(), Month { year, month }, "{seconds}");
        }
    }

    #[test]
    fn a_day_is_written_as_in_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (1_798_761_599, "2026-12-31"),
            (4_107_542_399, "2100-02-28"),
        ] {
            assert_eq!(Timestamp(seconds * 1000).day().to_string(), text);
        }
    }

    #[test]
    fn a_month_begins_where_the_one_before_it_ends() {
        let mut month = Month { year: 1970, month: 1 };
        for _ in 0..12 * 500 {
            let next = month.next();
            let first = next.first().start();
            assert_eq!((first.month(), Timestamp(first.0 - 1).month()), (next, month));
            month = next;
        }
    }
}
