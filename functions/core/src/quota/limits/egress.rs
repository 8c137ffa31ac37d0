//! The bytes of programs served in a day, and the operator's ceiling for them.

use serde::{Deserialize, Serialize};

use crate::{
    build::policy::Policy,
    id::time::{Day, Timestamp},
    quota::limits::Limits,
};

/// A count of a day. Of two, the greater one is newer: it is of a later day, or has counted more of the same day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Counted {
    day: Day,
    bytes: u64,
}

/// A day's egress and the operator's ceiling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Egress {
    /// Bytes of programs served today (UTC), as far as counted: the last minutes are missing.
    pub served: u64,
    /// The ceiling, in bytes.
    pub ceiling: u64,
    /// When downloads resume, if they have stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl Limits {
    /// Records a count of the bytes served since a day began. One of a day behind the next was made under a wrong clock.
    #[must_use]
    pub fn counted(&self, day: Day, bytes: u64) -> Limits {
        let served = self.served.filter(|counted| counted.day <= day.next());
        Limits { served: served.max(Some(Counted { day, bytes })), ..self.clone() }
    }

    /// Today's egress; `None` without a ceiling. A new day begins at zero by itself.
    pub fn egress(&self, policy: &Policy, now: Timestamp) -> Option<Egress> {
        let (ceiling, today) = (policy.egress_bytes?, now.day());
        let served = self.served.filter(|counted| counted.day == today).map_or(0, |counted| counted.bytes);
        let until = (served >= ceiling).then(|| today.next().start());
        Some(Egress { served, ceiling, until })
    }

    /// When downloads resume, if today's ceiling is reached.
    pub fn shut(&self, policy: &Policy, now: Timestamp) -> Option<Timestamp> {
        self.egress(policy, now)?.until
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: u64 = 86_400_000;

    fn policy(egress_bytes: Option<u64>) -> Policy {
        Policy { egress_bytes, ..Policy::default() }
    }

    #[test]
    fn a_ceiling_is_reached_with_its_last_byte_until_the_day_is_over_or_it_is_raised() {
        let (today, noon) = (Day(20_000), Timestamp(20_000 * DAY + DAY / 2));
        let shut = |limits: &Limits, ceiling, now| limits.shut(&policy(ceiling), now);
        let limits = Limits::default().counted(today, 999);
        assert_eq!(shut(&limits, Some(1000), noon), None);
        let limits = limits.counted(today, 1000);
        let midnight = today.next().start();
        assert_eq!(shut(&limits, Some(1000), noon), Some(midnight));
        assert_eq!(shut(&limits, Some(1000), Timestamp(midnight.0 - 1)), Some(midnight));
        assert_eq!((shut(&limits, Some(1000), midnight), shut(&limits, Some(1001), noon)), (None, None));
        assert_eq!((shut(&limits, None, noon), limits.egress(&policy(None), noon)), (None, None));
        // Yesterday's count has no meaning for today.
        let egress = limits.egress(&policy(Some(5)), midnight);
        assert_eq!(egress, Some(Egress { served: 0, ceiling: 5, until: None }));
    }

    #[test]
    fn a_clock_that_was_years_ahead_leaves_a_ceiling_that_counts() {
        let today = Day(20_000);
        let limits = Limits::default().counted(Day(23_650), 10).counted(today, 1000);
        assert_eq!(limits.shut(&policy(Some(1000)), today.start()), Some(today.next().start()));
    }

    proptest! {
        #[test]
        fn in_whatever_order_counts_come_in_the_most_of_the_latest_day_stays(
            counts in proptest::collection::vec((0u64..2, any::<u64>()), 1..9),
        ) {
            let (day, bytes) = counts.iter().copied().max().expect("one");
            let limits = counts.into_iter().fold(Limits::default(), |limits, (day, bytes)| limits.counted(Day(day), bytes));
            let egress = limits.egress(&policy(Some(1)), Day(day).start()).expect("a ceiling");
            prop_assert_eq!(egress.served, bytes);
        }
    }
}
