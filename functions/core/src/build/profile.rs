//! The duration and memory of earlier builds, for estimates of the next one: of the same package, and of builds of
//! similar size.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    build::{Attempt, size::Size},
    id::{
        key::{Product, System},
        time::Timestamp,
    },
};

/// The row of a package or of its bundle: the figures of its last build, from any nixpkgs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildProfile {
    /// The package, or its bundle. It is serialised as `attr`, since once there were only packages.
    #[serde(rename = "attr")]
    pub product: Product,
    /// The system.
    pub system: System,
    /// When it was built.
    pub at: Timestamp,
    /// From its claim to its end, in seconds.
    pub seconds: u64,
    /// Derivations that were built for it.
    pub derivations: u32,
    /// The size of its task.
    #[serde(default, skip_serializing_if = "Size::is_usual")]
    pub size: Size,
    /// Its peak memory, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Milliseconds during which it built no derivation: the start, the evaluation, downloads, the upload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overhead: Option<u64>,
}

impl BuildProfile {
    /// The profile of a successful attempt.
    pub fn of(product: &Product, system: System, attempt: &Attempt) -> BuildProfile {
        let took = (attempt.ended - attempt.claimed).as_millis() as u64;
        BuildProfile {
            product: product.clone(),
            system,
            at: attempt.ended,
            seconds: (attempt.ended - attempt.claimed).as_secs(),
            derivations: attempt.stats.derivations,
            size: attempt.size,
            memory: attempt.stats.memory,
            overhead: attempt.stats.building.map(|building| took.saturating_sub(building)),
        }
    }
}

/// The part of a machine's memory up to which the next build is tried on the same machine: it may need a little more.
const AMPLE: (u64, u64) = (3, 4);

impl BuildProfile {
    /// How long the next build takes in all.
    pub fn expected(&self) -> Duration {
        Duration::from_secs(self.seconds.max(1))
    }

    /// The machine of its next build's first attempt: the usual one, enlarged to the memory and disk that the last
    /// build needed.
    pub fn machine(&self, usual: Size) -> Size {
        let enough = u64::from(usual.memory()) * (1 << 20) * AMPLE.0 / AMPLE.1;
        let memory = match self.memory {
            Some(taken) if taken <= enough => usual.memory(),
            _ => self.size.memory(),
        };
        usual.with_at_least(memory, self.size.disk())
    }
}

/// The mean duration of builds by the number of derivations that they build: 0, 1, 2 or 3, 4 to 7, and so on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DurationEstimate(BTreeMap<u32, Mean>);

/// A decaying mean: a new value weighs at least as much as one of [`MEMORY`] values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mean {
    of: u32,
    milliseconds: u64,
}

const MEMORY: u32 = 16;

impl DurationEstimate {
    /// Whether no build was recorded yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Records a successful build.
    pub fn learn(&mut self, derivations: u32, took: Duration) {
        let took = took.as_millis().min(u128::from(u32::MAX)) as u64;
        let mean = self.0.entry(magnitude(derivations)).or_insert(Mean { of: 0, milliseconds: took });
        mean.of = (mean.of + 1).min(MEMORY);
        let n = u64::from(mean.of);
        mean.milliseconds = (mean.milliseconds * (n - 1) + took) / n;
    }

    /// The mean duration of builds of similar size, or of the next known size. `None` if nothing is recorded.
    pub fn of(&self, derivations: u32) -> Option<Duration> {
        let wanted = magnitude(derivations);
        let (_, mean) = self.0.iter().min_by_key(|(size, _)| size.abs_diff(wanted))?;
        Some(Duration::from_millis(mean.milliseconds))
    }

    /// The expected duration of a build of unknown size. `None` if nothing is recorded.
    pub fn of_any(&self) -> Option<Duration> {
        let weight: u64 = self.0.values().map(|mean| u64::from(mean.of)).sum();
        let sum: u64 = self.0.values().map(|mean| u64::from(mean.of) * mean.milliseconds).sum();
        Some(Duration::from_millis(sum.checked_div(weight)?))
    }
}

fn magnitude(derivations: u32) -> u32 {
    derivations.checked_ilog2().map_or(0, |log| log + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn size(text: &str) -> Size {
        text.parse().expect("a size")
    }

    #[test]
    fn a_build_begins_on_the_usual_machine_or_on_the_smallest_that_was_enough_the_last_time() {
        let usual = size("4096/8192/50");
        for (was, gigabytes, next) in [
            ("4096/8192/50", None, "4096/8192/50"),
            ("4096/16384/50", None, "4096/16384/50"),
            ("4096/16384/50", Some(12), "4096/16384/50"),
            ("4096/16384/50", Some(7), "4096/16384/50"),
            ("4096/16384/50", Some(6), "4096/8192/50"),
            ("4096/8192/100", Some(1), "4096/8192/100"),
            ("8192/61440/100", Some(50), "8192/61440/100"),
            // An earlier policy tried it on a smaller machine.
            ("2048/4096/30", Some(3), "4096/8192/50"),
        ] {
            let past = BuildProfile {
                product: "tree".parse().expect("an attribute"),
                system: System::X86_64Linux,
                at: Timestamp(1),
                seconds: 1,
                derivations: 1,
                size: size(was),
                memory: gigabytes.map(|gigabytes: u64| gigabytes << 30),
                overhead: None,
            };
            assert_eq!(past.machine(usual), size(next), "{was} {gigabytes:?}");
        }
    }

    #[test]
    fn of_what_nothing_is_known_nothing_is_said() {
        assert_eq!((DurationEstimate::default().of(3), DurationEstimate::default().of_any()), (None, None));
    }

    #[test]
    fn like_sizes_are_learnt_together_and_the_nearest_stands_in_for_an_unknown_one() {
        let mut pace = DurationEstimate::default();
        for (derivations, took) in [(1, 10), (1, 20), (4, 100), (7, 300)] {
            pace.learn(derivations, seconds(took));
        }
        for (derivations, took) in [(0, 15), (1, 15), (5, 200), (100, 200)] {
            assert_eq!(pace.of(derivations), Some(seconds(took)), "{derivations}");
        }
        assert_eq!(pace.of_any(), Some(Duration::from_millis(107_500)));
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let mut pace = DurationEstimate::default();
        pace.learn(1, seconds(10_000));
        (0..200).for_each(|_| pace.learn(1, seconds(10)));
        assert!(pace.of(1).expect("known") < seconds(11), "{pace:?}");
    }
}
