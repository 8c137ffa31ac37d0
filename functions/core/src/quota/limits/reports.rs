//! Builders' reports of failures that only an operator can fix, and how many of them pause a system.
//!
//! A report is one package's word: its builder has read it from Nix's messages about that package, and a thief of the
//! builder's token could send it too. So a report alone only delays its own package. A system is paused when
//! [`WITNESSES`] different packages with different derivations, by the service's own rows, have failed the same way and
//! nothing was built in between.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    id::{
        key::{Attr, BuildKey, DrvHash, System},
        time::Timestamp,
    },
    quota::limits::{Limits, Why},
};

/// How many packages must fail the same way before their system is paused.
pub const WITNESSES: usize = 3;
/// How long a report counts.
const LIFE: Duration = Duration::from_secs(3600);
/// The most reports that are kept for a system, the latest ones.
const MOST: usize = 16;

/// A package's latest report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OperatorReport {
    package: Attr,
    derivation: DrvHash,
    why: Why,
    at: Timestamp,
    /// Whether it counts no more: something was built since, or the operator has resumed builds.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) past: bool,
}

impl Limits {
    /// Records that a package's builder reports such a failure, while it held the derivation. Pauses the system if
    /// enough other packages have failed the same way.
    #[must_use]
    pub fn reported(&self, system: System, package: &Attr, derivation: &DrvHash, why: Why, now: Timestamp) -> Limits {
        let mut next = self.clone();
        let reports = next.reports.entry(system).or_default();
        reports.retain(|report| report.package != *package && now < report.at + LIFE);
        reports.drain(..(reports.len() + 1).saturating_sub(MOST));
        let (package, derivation) = (package.clone(), derivation.clone());
        reports.push(OperatorReport { package, derivation, why, at: now, past: false });

        let mut derivations: Vec<_> = reports
            .iter()
            .filter(|report| report.why == why && !report.past)
            .map(|report| &report.derivation)
            .collect();
        derivations.sort();
        derivations.dedup();
        if derivations.len() >= WITNESSES { next.broken(system, why, now) } else { next }
    }

    /// Records that a package was built: reports of its system count no more.
    #[must_use]
    pub fn disproved(&self, system: System, package: &Attr) -> Limits {
        let mut next = self.clone();
        if let Some(reports) = next.reports.get_mut(&system) {
            reports.retain(|report| report.package != *package);
            reports.iter_mut().for_each(|report| report.past = true);
        }
        next.reports.retain(|_, reports| !reports.is_empty());
        next
    }

    /// Whether a package has reported such a failure lately: then it runs after all others.
    pub fn has_reported(&self, key: &BuildKey, now: Timestamp) -> bool {
        let Some(package) = key.product.attr() else { return false };
        let lately = |report: &OperatorReport| report.package == *package && now < report.at + LIFE;
        self.reports.get(&key.system).is_some_and(|reports| reports.iter().any(lately))
    }

    /// Whether there is any report.
    pub fn has_reports(&self) -> bool {
        !self.reports.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);
    const SYSTEM: System = System::X86_64Linux;

    fn package(name: &str) -> Attr {
        name.parse().expect("a name")
    }

    fn drv(n: u32) -> DrvHash {
        format!("{n:032}").parse().expect("base 32")
    }

    fn after(reports: &[(&str, u32, Why, u64)]) -> Limits {
        reports.iter().fold(Limits::default(), |limits, (name, n, why, seconds)| {
            limits.reported(SYSTEM, &package(name), &drv(*n), *why, NOW + Duration::from_secs(*seconds))
        })
    }

    #[test]
    fn a_system_is_paused_by_unrelated_packages_that_fail_the_same_way_within_an_hour() {
        use Why::{Sandbox, Signature};
        for (reports, pauses) in [
            (&[("a", 1, Sandbox, 0), ("b", 2, Sandbox, 1), ("c", 3, Sandbox, 2)][..], true),
            // One package, one derivation under several names, another reason, and too long ago.
            (&[("a", 1, Sandbox, 0), ("a", 2, Sandbox, 1), ("a", 3, Sandbox, 2)], false),
            (&[("a", 1, Sandbox, 0), ("b", 1, Sandbox, 1), ("c", 1, Sandbox, 2)], false),
            (&[("a", 1, Sandbox, 0), ("b", 2, Signature, 1), ("c", 3, Sandbox, 2)], false),
            (&[("a", 1, Sandbox, 0), ("b", 2, Sandbox, 1), ("c", 3, Sandbox, 3600)], false),
        ] {
            assert_eq!(after(reports).paused(SYSTEM).is_some(), pauses, "{reports:?}");
        }
    }

    #[test]
    fn reports_before_a_success_or_a_resumption_pause_nothing_later() {
        let two = after(&[("a", 1, Why::Sandbox, 0), ("b", 2, Why::Sandbox, 1)]);
        let third = |limits: Limits| limits.reported(SYSTEM, &package("c"), &drv(3), Why::Sandbox, NOW);
        assert!(third(two.clone()).paused(SYSTEM).is_some());
        assert!(third(two.disproved(SYSTEM, &package("tree"))).paused(SYSTEM).is_none());
        let resumed = third(two).resumed();
        assert!(resumed.paused(SYSTEM).is_none() && third(resumed).paused(SYSTEM).is_none());
    }

    #[test]
    fn no_number_of_packages_makes_the_row_large() {
        let many = (0..1000).fold(Limits::default(), |limits, n| {
            limits.reported(SYSTEM, &package(&format!("p{n}")), &drv(n), Why::Sandbox, NOW)
        });
        assert_eq!(many.reports[&SYSTEM].len(), MOST);
    }
}
