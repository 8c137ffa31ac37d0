//! The version of Nix that an evaluation needs: ours, or the one that a nixpkgs requires.

use std::fmt;

use thiserror::Error;

/// The first two numbers of a version of Nix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NixVersion {
    major: u32,
    minor: u32,
}

impl NixVersion {
    /// Reads "2.8.0", "nix-store (Nix) 2.26.3", "nix-store (Lix, like Nix) 2.91.1" or "… 2.34pre20240101".
    pub fn read(said: &str) -> Option<NixVersion> {
        let number = |text: &str| text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok();
        let mut numbers = last_word(said).split('.');
        Some(NixVersion { major: number(numbers.next()?)?, minor: number(numbers.next()?)? })
    }
}

impl fmt::Display for NixVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The last word of the first line.
fn last_word(said: &str) -> &str {
    said.lines().next().and_then(|line| line.split_whitespace().next_back()).unwrap_or_default()
}

/// The installed Nix is too old.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "{} needs Nix {} or newer, and Nix {installed} is installed; scripts/setup --nix installs a newer one (on AWS: scripts/image push)",
    .required.by, .required.least
)]
pub struct TooOld {
    required: RequiredNix,
    installed: String,
}

/// The oldest Nix that evaluates something.
///
/// ```
/// use binplz_core::nixpkgs::nix_version::RequiredNix;
///
/// let required = RequiredNix::by_nixpkgs(["# Expose the minimum required version\n\"2.18\"\n"]);
/// assert!(required.check("nix-store (Nix) 2.26.3").is_ok());
/// let old = required.check("nix-store (Nix) 2.8.0").expect_err("2.8 is older than 2.18");
/// assert!(old.to_string().starts_with("this nixpkgs needs Nix 2.18 or newer, and Nix 2.8.0 is installed"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequiredNix {
    by: &'static str,
    least: NixVersion,
}

impl RequiredNix {
    /// The oldest Nix that binplz is tested with.
    pub const BY_BINPLZ: RequiredNix = RequiredNix { by: "binplz", least: NixVersion { major: 2, minor: 8 } };

    /// The files of a nixpkgs, if it has them, that require a version: the first is a string, the second a list of
    /// features whose conditions compare versions.
    pub const FILES: [&str; 2] = ["lib/minver.nix", "lib/minfeatures.nix"];

    /// The requirement of a nixpkgs, by the texts of its [`RequiredNix::FILES`]: the highest version among their string
    /// literals, if it is higher than [`RequiredNix::BY_BINPLZ`]. Nothing is evaluated.
    pub fn by_nixpkgs<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> RequiredNix {
        let highest = texts.into_iter().filter_map(|text| versions(text.as_ref()).max()).max();
        highest
            .filter(|least| *least > RequiredNix::BY_BINPLZ.least)
            .map_or(RequiredNix::BY_BINPLZ, |least| RequiredNix { by: "this nixpkgs", least })
    }

    /// Compares with the version that Nix reports.
    ///
    /// # Errors
    /// [`TooOld`], also if the version cannot be read.
    pub fn check(self, said: &str) -> Result<(), TooOld> {
        match NixVersion::read(said) {
            Some(installed) if installed >= self.least => Ok(()),
            _ => Err(TooOld { required: self, installed: last_word(said).to_owned() }),
        }
    }
}

/// The string literals that are versions, outside comments.
fn versions(text: &str) -> impl Iterator<Item = NixVersion> {
    let code = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let literals = code.flat_map(|line| line.split('"').skip(1).step_by(2));
    let is_version = |literal: &&str| literal.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    literals.filter(is_version).filter_map(NixVersion::read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        for (said, version) in [
            ("2.8.0", Some((2, 8))),
            ("nix-store (Nix) 2.8.0", Some((2, 8))),
            ("nix-store (Nix) 2.26.3", Some((2, 26))),
            ("nix-store (Lix, like Nix) 2.91.1", Some((2, 91))),
            ("nix-store (Nix) 2.34pre20260101_abc", Some((2, 34))),
            ("nix-store (Nix) 3", None),
            ("", None),
        ] {
            let read = NixVersion::read(said);
            assert_eq!(read.map(|version| (version.major, version.minor)), version, "{said}");
        }
        assert!(NixVersion::read("2.10.0") > NixVersion::read("2.8.0"));
        let ours = RequiredNix::BY_BINPLZ;
        assert!(ours.check("nix-store (Nix) 2.10.0").is_ok());
        assert!(ours.check("nix-store (Nix) 2.3.16").is_err() && ours.check("").is_err());
    }

    /// `lib/minver.nix` and `lib/minfeatures.nix`, as nixpkgs of 2020 and of 2026 have them.
    #[test]
    fn a_nixpkgs_requires_the_highest_version_of_its_files() {
        let features = "let\n  features = [\n    {\n      description = \"`builtins.nixVersion` reports at least 2.18\";\n      \
                        condition = builtins ? nixVersion && builtins.compareVersions \"2.18\" builtins.nixVersion != 1;";
        let required = |texts: &[&str]| RequiredNix::by_nixpkgs(texts).least.to_string();
        for (texts, least) in [
            (&[][..], "2.8"),
            (&["# Expose the minimum required version for evaluating Nixpkgs\n\"2.2\"\n"], "2.8"),
            (&["\"2.18\"\n"], "2.18"),
            (&["\"2.3\"\n", features], "2.18"),
            (&["# not \"9.9\"\n\"2.24.1\" # nor \"8.8\"\n"], "2.24"),
            (&["builtins.readFile \"/etc/2.99\"", "\"\"", "\"99999999999.1\"", "not a version"], "2.8"),
        ] {
            assert_eq!(required(texts), least, "{texts:?}");
        }
    }
}
