//! The plan of a build: what it will build and fetch, and how long that takes, as far as the durations of earlier builds
//! are known.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    build::{
        learned::Learned,
        profile::{BuildProfile, DurationEstimate},
    },
    id::{
        key::Pname,
        text::{bytes, span},
    },
};

/// How many times as long as its limit a build must take, by [`Learned::sure`], before it is refused. The refusal is the operator's
/// to lift.
pub const MARGIN: u32 = 2;

/// What Nix would do for a package, by a dry run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DryRun {
    /// The names of the derivations that would be built, downloads excepted: `gcc-13.2.0`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub build: Vec<String>,
    /// Store paths and sources that would be downloaded.
    #[serde(default)]
    pub fetch: u32,
    /// Their bytes, as far as caches say.
    #[serde(default)]
    pub bytes: u64,
}

impl DryRun {
    /// The names of what would be built, without versions.
    pub fn pnames(&self) -> BTreeSet<Pname> {
        self.build.iter().filter_map(|name| Pname::of(name).ok()).collect()
    }
}

/// A build's plan: a dry run, and what is known of its derivations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Derivations to build.
    pub to_build: u32,
    /// Those of them whose duration is unknown.
    #[serde(default, skip_serializing_if = "is_none_of_them")]
    pub unknown: u32,
    /// Milliseconds that the others take together.
    pub milliseconds: u64,
    /// Milliseconds that the longest of them takes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub longest: u64,
    /// Milliseconds that they take together at least ([`Learned::sure`]).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub sure: u64,
    /// Milliseconds that the longest of them takes at least.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub sure_longest: u64,
    /// The peak memory of the heaviest one, in bytes, if any is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Store paths and sources to download.
    #[serde(default, skip_serializing_if = "is_none_of_them")]
    pub to_fetch: u32,
    /// Their bytes, as far as caches say.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bytes: u64,
    /// The estimate of the whole attempt, from its claim to its end, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<u64>,
}

fn is_none_of_them(count: &u32) -> bool {
    *count == 0
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Plan {
    /// The plan of a dry run. Derivations that may run at once take as long as the longest of them, and as the sum of
    /// their shares of earlier tasks.
    pub fn of(run: &DryRun, learned: &BTreeMap<Pname, Learned>) -> Plan {
        let known = run.build.iter().map(|name| learned.get(&Pname::of(name).ok()?));
        let known: Vec<Option<&Learned>> = known.collect();
        let longest = known.iter().flatten().map(|one| one.milliseconds).max().unwrap_or(0);
        let sum = known.iter().flatten().fold(0u64, |sum, one| sum.saturating_add(one.share));
        Plan {
            to_build: run.build.len() as u32,
            unknown: known.iter().filter(|one| one.is_none()).count() as u32,
            milliseconds: sum.max(longest),
            longest,
            sure: known.iter().flatten().fold(0u64, |sum, one| sum.saturating_add(one.sure())),
            sure_longest: known.iter().flatten().map(|one| one.sure()).max().unwrap_or(0),
            memory: known.iter().flatten().filter_map(|one| one.memory).max(),
            to_fetch: run.fetch,
            bytes: run.bytes,
            expected: None,
        }
    }

    /// The plan with an estimate of the whole attempt. If a part is unknown, that is at least as long as the package's last build,
    /// or builds of as many derivations.
    #[must_use]
    pub fn with_estimate(self, past: Option<&BuildProfile>, pace: &DurationEstimate) -> Plan {
        let overhead = past.and_then(|past| past.overhead);
        let known = self.milliseconds.saturating_add(overhead.unwrap_or(0));
        let similar = || past.map(BuildProfile::expected).or_else(|| pace.of(self.to_build));
        let expected = match similar {
            _ if self.unknown == 0 && overhead.is_some() => Some(known),
            similar => similar().map(|took| took.as_millis() as u64).max(Some(known)).filter(|all| *all > 0),
        };
        Plan { expected, ..self }
    }

    /// The time that its known derivations take.
    pub fn known(&self) -> Duration {
        Duration::from_millis(self.milliseconds)
    }

    /// The time limit that it needs, if what it takes at least is `margin` times as long as `parts` attempts of the limit `limit`
    /// have, or one derivation as long as one attempt has.
    pub fn exceeds(&self, limit: Duration, parts: u32, margin: u32) -> Option<Duration> {
        let [longest, all] = [self.sure_longest, self.sure].map(Duration::from_millis);
        if longest > limit.saturating_mul(margin) {
            return Some(longest);
        }
        let per_part = all / parts.max(1);
        (per_part > limit.saturating_mul(margin)).then_some(per_part)
    }

    /// The estimate of the whole attempt.
    pub fn expected(&self) -> Option<Duration> {
        self.expected.map(Duration::from_millis)
    }

    /// Whether it is more than one step, so that it says more than the step.
    pub fn is_notable(&self) -> bool {
        self.to_build + self.to_fetch > 1
    }
}

/// A duration, to the nearest second, minute, hour or day: "90 minutes".
pub fn about(time: Duration) -> String {
    let (name, unit) = unit(time);
    match rounded(time).as_secs() / unit {
        1 => format!("1 {name}"),
        count => format!("{count} {name}s"),
    }
}

/// The duration that [`about`] shows.
pub(crate) fn rounded(time: Duration) -> Duration {
    let (_, unit) = unit(time);
    Duration::from_secs((time.as_secs() + unit / 2) / unit * unit)
}

/// The unit that [`about`] counts in, and its seconds.
fn unit(time: Duration) -> (&'static str, u64) {
    match time.as_secs() {
        0..60 => ("second", 1),
        60..10_800 => ("minute", 60),
        10_800..172_800 => ("hour", 3600),
        _ => ("day", 86_400),
    }
}

/// "41 to build, about 50 minutes; 12 to fetch, 80.0 MB".
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { to_build, unknown, to_fetch, .. } = self;
        match (to_build, to_fetch) {
            (0, 0) => return f.write_str("nothing to build"),
            (0, _) => {}
            (_, _) => {
                write!(f, "{to_build} to build")?;
                match unknown {
                    0 => write!(f, ", about {}", about(self.known()))?,
                    unknown if unknown == to_build => f.write_str(" for the first time")?,
                    unknown => write!(f, ", at least {} and {unknown} of unknown duration", span(self.known()))?,
                }
            }
        }
        if *to_fetch > 0 {
            let after = if *to_build > 0 { "; " } else { "" };
            write!(f, "{after}{to_fetch} to fetch")?;
            if self.bytes > 0 {
                write!(f, ", {}", bytes(self.bytes))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        build::learned::Measured,
        id::{key::System, time::Timestamp},
    };

    fn learned(all: &[(&str, u64, u64, Option<u64>)]) -> BTreeMap<Pname, Learned> {
        let one = |(name, seconds, share, memory): &(&str, u64, u64, Option<u64>)| {
            let pname: Pname = name.parse().expect("a name");
            let (milliseconds, share) = (seconds * 1000, share * 1000);
            let measured = Measured { name: format!("{name}-1"), milliseconds, share, memory: *memory };
            let by = "0".repeat(32).parse().expect("hex digits");
            (pname.clone(), Learned::after(None, &pname, System::X86_64Linux, &measured, &by, Timestamp(1)))
        };
        all.iter().map(one).collect()
    }

    fn run(build: &[&str], fetch: u32, bytes: u64) -> DryRun {
        DryRun { build: build.iter().map(ToString::to_string).collect(), fetch, bytes }
    }

    #[test]
    fn a_plan_is_told_with_what_is_known_of_it() {
        let known =
            learned(&[("gcc", 3000, 2500, Some(3 << 30)), ("musl", 100, 60, Some(1 << 30)), ("tree", 4, 4, None)]);
        let all = ["musl-1.2.5", "gcc-14.2.0", "tree-2.2.1"];
        for (run, told) in [
            (run(&all, 12, 80_000_000), "3 to build, about 50 minutes; 12 to fetch, 80.0 MB"),
            (run(&all[..1], 0, 0), "1 to build, about 2 minutes"),
            (run(&["musl-1.2.5", "ed-1"], 1, 0), "2 to build, at least 1 minute and 1 of unknown duration; 1 to fetch"),
            (run(&["ed-1", "jq-1"], 0, 0), "2 to build for the first time"),
            (run(&[], 3, 1_000), "3 to fetch, 1.0 kB"),
            (run(&[], 0, 0), "nothing to build"),
        ] {
            assert_eq!(Plan::of(&run, &known).to_string(), told);
        }
        assert_eq!(Plan::of(&run(&all, 0, 0), &known).memory, Some(3 << 30));
    }

    #[test]
    fn what_may_run_at_once_takes_as_long_as_the_shares_and_at_least_as_the_longest() {
        let known = learned(&[("a", 100, 50, None), ("b", 90, 40, None)]);
        assert_eq!(Plan::of(&run(&["a-1", "b-1"], 0, 0), &known).known(), Duration::from_secs(100));
        assert_eq!(Plan::of(&run(&["a-1", "b-1", "b-2"], 0, 0), &known).known(), Duration::from_secs(130));
    }

    #[test]
    fn the_estimate_of_a_known_plan_has_the_overhead_of_the_last_build_and_that_of_an_unknown_one_is_not_below_it() {
        let known = learned(&[("a", 100, 100, None)]);
        let mut pace = DurationEstimate::default();
        pace.learn(1, Duration::from_secs(300));
        let past = |overhead| BuildProfile {
            product: "a".parse().expect("a package"),
            system: System::X86_64Linux,
            at: Timestamp(1),
            seconds: 200,
            derivations: 1,
            size: Default::default(),
            memory: None,
            overhead,
        };
        let expected = |build: &[&str], past: Option<&BuildProfile>, pace: &DurationEstimate| {
            Plan::of(&run(build, 0, 0), &known).with_estimate(past, pace).expected().map(|time| time.as_secs())
        };
        let none = DurationEstimate::default();
        assert_eq!(expected(&["a-1"], Some(&past(Some(7_000))), &pace), Some(107));
        assert_eq!(expected(&["a-1", "x-1"], Some(&past(Some(7_000))), &pace), Some(200));
        assert_eq!(expected(&["a-1", "x-1"], None, &pace), Some(300));
        assert_eq!((expected(&["a-1", "x-1"], None, &none), expected(&["x-1"], None, &none)), (Some(100), None));
    }

    #[test]
    fn only_a_known_part_that_clearly_exceeds_all_attempts_is_refused() {
        let mut known = learned(&[("gcc", 7200, 7200, None), ("llvm", 7000, 7000, None)]);
        let (hour, dry_run) = (Duration::from_secs(3600), run(&["gcc-1", "llvm-1", "x-1"], 0, 0));
        assert_eq!(Plan::of(&dry_run, &known).exceeds(hour, 1, 2), None, "one attempt proves nothing");
        known.values_mut().for_each(|learned| learned.samples = 2);
        let plan = Plan::of(&dry_run, &known);
        assert_eq!(plan.exceeds(hour, 1, 2), Some(Duration::from_secs(14_200)));
        assert_eq!(plan.exceeds(hour, 2, 2), None);
        // No number of attempts finishes one derivation.
        assert_eq!(plan.exceeds(hour / 2, 100, 2), Some(Duration::from_secs(7200)));
    }
}
