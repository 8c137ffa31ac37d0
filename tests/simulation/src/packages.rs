//! A nixpkgs that needs no Nix: each fact about a package follows from its number and the revision.

use std::time::Duration;

use binplz_catalogue::{About, Files, Obstacle, Record, Standing, Writer};
use binplz_core::{
    build::failure::Kind,
    id::key::{Attr, BASE32, DrvHash, Rev, Sha256, System},
    objects::content::Content,
};

use crate::random::Random;

/// How builds of a package end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nature {
    /// Well.
    Good,
    /// Always with this failure.
    Fails(Kind),
    /// Nixpkgs refuses it, which its catalogue says.
    Refused,
    /// Every third attempt fails with this, and the others end well.
    Flaky(Kind),
    /// With this failure, by a dependency that always fails.
    Doomed,
}

/// The packages of all revisions.
#[derive(Clone, Copy, Debug)]
pub struct Packages {
    /// How many there are in each.
    pub count: usize,
    /// How many derivations are dependencies of several packages.
    pub dependencies: usize,
    /// How long each build takes, if all are alike: they build well, and have no dependencies.
    pub alike: Option<Duration>,
}

/// A number that follows from these.
pub(crate) fn number(parts: &[u64]) -> usize {
    let mix = |hash: u64, part: &u64| (hash ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    Random(parts.iter().fold(0x5851_f42d_4c95_7f2d, mix)).below(1 << 30)
}

fn hash(parts: &[u64]) -> DrvHash {
    let mut random = Random(number(parts) as u64);
    let text = String::from_iter((0..32).map(|_| char::from(BASE32[random.below(32)])));
    text.parse().expect("32 digits of base 32")
}

/// The revision of that number.
pub(crate) fn rev(number: u64) -> Rev {
    format!("{number:040x}").parse().expect("hex")
}

fn number_of(rev: &Rev) -> u64 {
    u64::from_str_radix(&rev.as_str()[24..], 16).expect("hex")
}

impl Packages {
    /// The name of a package.
    pub(crate) fn attr(self, package: usize) -> Attr {
        format!("p{package}").parse().expect("a name")
    }

    /// The number of a package; `None`: there is no such package.
    pub(crate) fn of(self, attr: &Attr) -> Option<usize> {
        attr.as_str().strip_prefix('p')?.parse().ok().filter(|package| *package < self.count)
    }

    /// The package that has the derivation: every eighth is another name of the one before.
    fn original(self, package: usize) -> usize {
        if package % 8 == 7 { package - 1 } else { package }
    }

    /// A package's derivation. A third of them change with a revision.
    pub(crate) fn drv(self, package: usize, rev: &Rev) -> DrvHash {
        let package = self.original(package) as u64;
        let changes = (1..=number_of(rev)).filter(|rev| number(&[1, package, *rev]).is_multiple_of(3)).count();
        hash(&[2, package, changes as u64])
    }

    /// How its builds end.
    pub(crate) fn nature(self, package: usize) -> Nature {
        if self.alike.is_some() {
            return Nature::Good;
        }
        match number(&[3, self.original(package) as u64]) % 100 {
            0..3 => Nature::Refused,
            3..7 => Nature::Fails(Kind::BuildFailed),
            7..9 => Nature::Fails(Kind::NotStatic),
            9..12 => Nature::Flaky(Kind::SourceUnavailable),
            12..15 => Nature::Flaky(Kind::OutOfMemory),
            15..17 => Nature::Flaky(Kind::CacheUnavailable),
            17..20 => Nature::Doomed,
            _ => Nature::Good,
        }
    }

    /// How long its own build takes: half a minute as a rule, and an hour at most.
    pub(crate) fn seconds(self, package: usize) -> Duration {
        if let Some(alike) = self.alike {
            return alike;
        }
        let dice = number(&[4, self.original(package) as u64]);
        let most = [20, 60, 60, 120, 600, 3600][dice % 6];
        Duration::from_secs(5 + (dice as u64 / 6) % most)
    }

    /// The dependencies that are built for it. The last one of all always fails.
    pub(crate) fn dependencies(self, package: usize) -> Vec<(DrvHash, Duration)> {
        let original = self.original(package) as u64;
        if self.alike.is_some() {
            return Vec::new();
        }
        let mut needs = Vec::new();
        if self.nature(package) == Nature::Doomed {
            needs.push(self.dependencies - 1);
        }
        for n in 0..number(&[5, original]) % 3 {
            needs.push(number(&[6, original, n as u64]) % (self.dependencies - 1));
        }
        needs.sort_unstable();
        needs.dedup();
        needs
            .into_iter()
            .map(|n| (hash(&[7, n as u64]), Duration::from_secs(20 + number(&[8, n as u64]) as u64 % 200)))
            .collect()
    }

    /// Whether a dependency always fails.
    pub(crate) fn fails(self, dependency: &DrvHash) -> bool {
        *dependency == hash(&[7, self.dependencies as u64 - 1])
    }

    /// The program of a derivation.
    pub(crate) fn program(self, drv: &DrvHash) -> Content {
        let sha256 = Sha256::of(drv.as_str().as_bytes());
        let size = (1 << 20) + u64::from(sha256.bytes()[0]) * (1 << 17);
        Content { sha256, size }
    }

    /// The catalogue of a revision.
    pub(crate) fn catalogue(self, rev: &Rev, system: System) -> Files {
        let mut writer = Writer::new(rev.clone());
        for package in 0..self.count {
            let (attr, leaf) = (self.attr(package), format!("p{package}"));
            let standing = match self.nature(package) {
                Nature::Refused => Standing::Refused { why: Obstacle::Broken, detail: None },
                _ => Standing::Buildable {
                    drv_path: Some(format!("/nix/store/{}-{leaf}-1.drv", self.drv(package, rev))),
                },
            };
            let about = About { main_program: Some(leaf), ..About::default() };
            writer.evaluated(Record { attr, system, about, standing }).expect("each once");
        }
        writer.finish().expect("small")
    }
}
