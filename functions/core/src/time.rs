//! Instants as the ledger keeps them. Nobody in this crate reads a clock: `now` is always an argument or a port.

use std::{
    fmt,
    ops::{Add, Sub},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Add<Duration> for Timestamp {
    type Output = Timestamp;
    fn add(self, d: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(u64::try_from(d.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// The time from `rhs` to `self`; zero where `rhs` is later (clocks differ between machines).
impl Sub for Timestamp {
    type Output = Duration;
    fn sub(self, rhs: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(rhs.0))
    }
}

/// A calendar month in UTC: the window of the budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Month {
    /// For example 2026.
    pub year: u64,
    /// 1 to 12.
    pub month: u64,
}

impl Timestamp {
    /// The month that this instant is in.
    pub fn month(self) -> Month {
        // Days are counted from 0000-03-01, so that a leap day ends its year and each month starts at a day that one
        // linear formula gives (30.6 days a month, rounded).
        let days = self.0 / 86_400_000 + 719_468;
        let era_day = days % 146_097;
        let year_of_era = (era_day - era_day / 1_460 + era_day / 36_524 - era_day / 146_096) / 365;
        let year_day = era_day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * year_day + 2) / 153;
        let (month, next_year) = if march_month < 10 { (march_month + 3, 0) } else { (march_month - 9, 1) };
        Month { year: days / 146_097 * 400 + year_of_era + next_year, month }
    }
}

impl Month {
    /// The one after it.
    #[must_use]
    pub fn next(self) -> Month {
        match self.month {
            12 => Month { year: self.year + 1, month: 1 },
            month => Month { month: month + 1, ..self },
        }
    }

    /// Its first instant.
    pub fn begins(self) -> Timestamp {
        // The same days, the other way round.
        let (year, march_month) =
            if self.month < 3 { (self.year - 1, self.month + 9) } else { (self.year, self.month - 3) };
        let year_of_era = year % 400;
        let era_day = 365 * year_of_era + year_of_era / 4 - year_of_era / 100 + (153 * march_month + 2) / 5;
        Timestamp((year / 400 * 146_097 + era_day - 719_468) * 86_400_000)
    }
}

/// `2026-11`.
impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:02}", self.year, self.month)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    proptest! {
        #[test]
        fn an_instant_lies_between_its_months_beginning_and_the_next_ones(at in 0u64..8_000_000_000_000) {
            let month = Timestamp(at).month();
            prop_assert!(month.begins().0 <= at && at < month.next().begins().0, "{}", month);
            prop_assert_eq!(month.begins().month(), month);
        }
    }
}
