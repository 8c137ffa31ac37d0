//! What earlier builds of derivations took, by their names without versions: a compiler of the next Nixpkgs takes about
//! as long as that of the last one. For estimates of builds that need them.
//!
//! A builder measures what it builds. Its figures count at most as much as its attempt and its machine allow, and once for
//! each attempt. Builds are refused by what two attempts agree on. So a builder that lies spoils estimates, and nothing else.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::id::{
    key::{LeaseId, Pname, System},
    time::Timestamp,
};

/// How long a row is kept after the last build of that name.
pub const LIFE: Duration = Duration::from_secs(400 * 24 * 3600);

/// The most derivations in a report: the slowest ones. A toolchain and its libraries are about 250.
pub const MEASURED_MAX: usize = 400;

/// What takes less than this takes little time.
pub const CHEAP: Duration = Duration::from_secs(60);

/// The weight of a new sample is at least that of one of this many: the durations change with versions and machines.
const MEMORY: u32 = 4;

/// The measurement of one derivation that was built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// The derivation's name, with its version: `gcc-13.2.0`.
    pub name: String,
    /// From the start to the end of its build, in milliseconds.
    pub milliseconds: u64,
    /// Its part of that time: of `n` builds that run at once, each has an `n`-th of the time. So the parts of all
    /// derivations of a task add up to the time during which it built.
    pub share: u64,
    /// The peak memory of the task meanwhile, in bytes, if it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
}

/// A row: what builds of derivations of one name took. The figures are decaying means; the memory is a peak that decays
/// towards lower ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learned {
    /// The derivations' name without a version.
    pub pname: Pname,
    /// The system of the packages that needed them.
    pub system: System,
    /// When it was built last.
    pub at: Timestamp,
    /// The attempt that built it last.
    pub by: LeaseId,
    /// The number of measurements.
    pub samples: u32,
    /// As [`Measured::milliseconds`].
    pub milliseconds: u64,
    /// As [`Measured::share`].
    pub share: u64,
    /// The least share of all attempts. One attempt can lower it, and none can raise it.
    #[serde(default)]
    pub least: u64,
    /// As [`Measured::memory`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
}

/// The measurements of an attempt that has lasted for `time` on a machine of that `memory` (bytes, if it is known), by name. Nothing in it is larger
/// than these allow. Derivations of one name count as one of their mean duration.
pub fn bounded(measured: Vec<Measured>, time: Duration, memory: Option<u64>) -> BTreeMap<Pname, Measured> {
    let most = time.as_millis() as u64;
    let mut left = most;
    let mut by_name = BTreeMap::<Pname, Vec<Measured>>::new();
    for one in measured.into_iter().take(MEASURED_MAX) {
        let Ok(pname) = Pname::of(&one.name) else { continue };
        let milliseconds = one.milliseconds.min(most);
        let share = one.share.min(milliseconds).min(left);
        left -= share;
        let memory = one.memory.map(|used| used.min(memory.unwrap_or(u64::MAX)));
        by_name.entry(pname).or_default().push(Measured { milliseconds, share, memory, ..one });
    }
    by_name.into_iter().filter_map(|(pname, all)| Some((pname, mean(all)?))).collect()
}

fn mean(all: Vec<Measured>) -> Option<Measured> {
    let count = all.len() as u64;
    let sum = |of: fn(&Measured) -> u64| all.iter().map(of).sum::<u64>() / count.max(1);
    let (milliseconds, share) = (sum(|one| one.milliseconds), sum(|one| one.share));
    let memory = all.iter().filter_map(|one| one.memory).max();
    Some(Measured { milliseconds, share, memory, ..all.into_iter().next()? })
}

impl Learned {
    /// The row after an attempt has built such a derivation. An attempt counts once.
    #[must_use]
    pub fn after(
        known: Option<&Learned>,
        pname: &Pname,
        system: System,
        measured: &Measured,
        by: &LeaseId,
        at: Timestamp,
    ) -> Learned {
        let new = Learned {
            pname: pname.clone(),
            system,
            at,
            by: by.clone(),
            samples: 1,
            milliseconds: measured.milliseconds,
            share: measured.share,
            least: measured.share,
            memory: measured.memory,
        };
        match known {
            None => new,
            Some(known) if known.by == *by => known.clone(),
            Some(known) => {
                let weight = u64::from(known.samples.min(MEMORY - 1));
                let mean = |old: u64, new: u64| (old.saturating_mul(weight).saturating_add(new)) / (weight + 1);
                let memory = match (known.memory, new.memory) {
                    (Some(old), Some(new)) => Some(new.max(mean(old, new))),
                    (old, new) => new.or(old),
                };
                Learned {
                    samples: known.samples.saturating_add(1),
                    milliseconds: mean(known.milliseconds, new.milliseconds),
                    share: mean(known.share, new.share),
                    least: known.least.min(new.share),
                    memory,
                    ..new
                }
            }
        }
    }

    /// What it takes at least, in milliseconds, by the word of two attempts or more. Builds are refused by nothing else, so that no
    /// attempt, and no thief of its token, can have another package refused.
    pub fn sure(&self) -> u64 {
        if self.samples > 1 { self.least } else { 0 }
    }

    /// Whether it takes little time, so that another task waits for it.
    pub fn is_cheap(&self) -> bool {
        Duration::from_millis(self.milliseconds) < CHEAP
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Timestamp = Timestamp(1_700_000_000_000);

    fn measured(name: &str, seconds: u64, share: u64, memory: Option<u64>) -> Measured {
        Measured { name: name.to_owned(), milliseconds: seconds * 1000, share: share * 1000, memory }
    }

    fn pname(name: &str) -> Pname {
        name.parse().expect("a name")
    }

    fn lease(n: u32) -> LeaseId {
        format!("{n:032x}").parse().expect("hex digits")
    }

    /// What is known after measurements of several attempts.
    fn after(all: &[Measured]) -> Learned {
        let next = |known: Option<Learned>, (n, one): (usize, &Measured)| {
            let by = lease(n as u32);
            Some(Learned::after(known.as_ref(), &pname("gcc"), System::X86_64Linux, one, &by, AT))
        };
        all.iter().enumerate().fold(None, next).expect("one at least")
    }

    #[test]
    fn a_version_begins_where_nix_says() {
        for (name, without) in [
            ("gcc-13.2.0", "gcc"),
            ("gcc-wrapper-13.2.0", "gcc-wrapper"),
            ("x86_64-unknown-linux-musl-gcc-13.2.0", "x86_64-unknown-linux-musl-gcc"),
            ("tree-static-x86_64-unknown-linux-musl-2.1.1", "tree-static-x86_64-unknown-linux-musl"),
            ("source", "source"),
            ("libfoo-unstable-2024-01-01", "libfoo-unstable"),
            ("a-", "a-"),
            ("a--1", "a"),
        ] {
            assert_eq!(Pname::of(name), Ok(pname(without)), "{name}");
        }
        for name in ["", "-1", "a b-1", "a/b-1", "ä-1"] {
            assert!(Pname::of(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_sudden_change_is_learned_within_a_few_builds_and_a_larger_peak_at_once() {
        let first = measured("gcc-12", 100, 100, Some(4 << 30));
        let known = after(&[first.clone(), measured("gcc-13", 200, 100, Some(2 << 30))]);
        assert_eq!(
            (known.milliseconds, known.share, known.samples, known.memory),
            (150_000, 100_000, 2, Some(3 << 30))
        );
        let many: Vec<_> =
            (0..20).map(|_| first.clone()).chain((0..8).map(|_| measured("gcc-13", 200, 200, None))).collect();
        let known = after(&many);
        assert!((185_000..200_000).contains(&known.milliseconds), "{known:?}");
        assert_eq!(known.memory, Some(4 << 30));
        assert_eq!(after(&[first, measured("gcc-13", 1, 1, Some(9 << 30))]).memory, Some(9 << 30));
    }

    #[test]
    fn what_an_attempt_says_twice_counts_once() {
        let system = System::X86_64Linux;
        let one = measured("gcc-13", 100, 100, None);
        let known = Learned::after(None, &pname("gcc"), system, &one, &lease(1), AT);
        assert_eq!(
            Learned::after(Some(&known), &pname("gcc"), system, &measured("gcc-13", 9, 9, None), &lease(1), AT),
            known
        );
    }

    #[test]
    fn no_figure_is_larger_than_the_attempt_and_its_machine_allow() {
        let hour = Duration::from_secs(3600);
        let lies = vec![
            measured("gcc-13", u64::MAX / 2000, u64::MAX / 2000, Some(u64::MAX)),
            measured("llvm-18", 3600, 3600, None),
            measured("not a name", 1, 1, None),
        ];
        let told = bounded(lies, hour, Some(8 << 30));
        let of = |name| told.get(&pname(name)).cloned().expect("it is known");
        assert_eq!((of("gcc").milliseconds, of("gcc").share, of("gcc").memory), (3_600_000, 3_600_000, Some(8 << 30)));
        // Both together cannot have had more than the attempt's time.
        assert_eq!((of("llvm").milliseconds, of("llvm").share, told.len()), (3_600_000, 0, 2));
    }

    #[test]
    fn derivations_of_one_name_count_as_one_of_their_mean() {
        let two = vec![measured("hook-1", 10, 4, Some(5)), measured("hook-2", 20, 6, Some(3))];
        let told = bounded(two, Duration::from_secs(60), None);
        assert_eq!(told.values().cloned().collect::<Vec<_>>(), [measured("hook-1", 15, 5, Some(5))]);
    }

    #[test]
    fn cheap_is_what_takes_less_than_a_minute() {
        assert!(
            after(&[measured("a-1", 59, 59, None)]).is_cheap() && !after(&[measured("a-1", 60, 10, None)]).is_cheap()
        );
    }
}
