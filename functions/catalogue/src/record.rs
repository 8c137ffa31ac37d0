//! The input of the catalogue: the evaluation of one attribute on one system.

use std::fmt;

use binplz_core::{
    build::failure::{Failure, Kind},
    id::{
        key::{Attr, System},
        text::clean_line,
    },
    nixpkgs::catalogue::About,
};
use serde::{Deserialize, Serialize};

/// The longest reason, in characters.
const TEXT_MAX: usize = 300;

/// One attribute on one system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The attribute.
    pub attr: Attr,
    /// The system.
    pub system: System,
    /// Its description; empty if not even that could be evaluated.
    #[serde(flatten)]
    pub about: About,
    /// Whether it can be built.
    pub standing: Standing,
}

/// Whether a package can be built on a system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Standing {
    /// It can be built.
    Buildable {
        /// Its derivation, if it was evaluated.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        drv_path: Option<String>,
    },
    /// It cannot be built.
    Refused {
        /// The obstacle.
        why: Obstacle,
        /// The error of Nix or the package's own text.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
}

/// Why a package cannot be built on a system: nixpkgs refuses it, or the attribute is *lost*, because it could not be
/// evaluated. Of several marks in the set, the first one here counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Obstacle {
    /// Not available on this system.
    Unsupported,
    /// Marked broken.
    Broken,
    /// Has known vulnerabilities.
    Insecure,
    /// Its licence is unfree.
    Unfree,
    /// A `throw` without a form that is known, or an assertion.
    Throws,
    /// Any other error: infinite recursion, a missing attribute.
    Fails,
    /// The evaluation did not end.
    Endless,
    /// The evaluation reached its memory limit.
    OutOfMemory,
    /// It has `meta.problems` that nixpkgs treats as errors (RFC 127).
    Problem,
    /// nixpkgs throws in its place: a removed alias, or a package that a set does not offer.
    Removed,
    /// nixpkgs refuses a package that it depends on.
    Dependency,
}

/// As in JSON: `out-of-memory`.
impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Obstacle::Unsupported => "unsupported",
            Obstacle::Broken => "broken",
            Obstacle::Insecure => "insecure",
            Obstacle::Unfree => "unfree",
            Obstacle::Throws => "throws",
            Obstacle::Fails => "fails",
            Obstacle::Endless => "endless",
            Obstacle::OutOfMemory => "out-of-memory",
            Obstacle::Problem => "problem",
            Obstacle::Removed => "removed",
            Obstacle::Dependency => "dependency",
        };
        f.write_str(name)
    }
}

impl Obstacle {
    /// All of them, in the order of their numbers in the file.
    pub const ALL: [Obstacle; 11] = [
        Obstacle::Unsupported,
        Obstacle::Broken,
        Obstacle::Insecure,
        Obstacle::Unfree,
        Obstacle::Throws,
        Obstacle::Fails,
        Obstacle::Endless,
        Obstacle::OutOfMemory,
        Obstacle::Problem,
        Obstacle::Removed,
        Obstacle::Dependency,
    ];

    /// Whether the attribute is lost: it is unknown whether it could be built.
    pub fn is_loss(self) -> bool {
        matches!(self, Obstacle::Throws | Obstacle::Fails | Obstacle::Endless | Obstacle::OutOfMemory)
    }

    /// Whether there is no package behind the name, as far as is known. Searches and suggestions leave it out.
    pub fn is_no_package(self) -> bool {
        self.is_loss() || self == Obstacle::Removed
    }

    /// The failure that clients see.
    pub fn failure(self, detail: Option<&str>) -> Failure {
        let (kind, otherwise) = match self {
            Obstacle::Unsupported => (Kind::Unsupported, ""),
            Obstacle::Broken => (Kind::Broken, ""),
            Obstacle::Insecure => (Kind::Insecure, ""),
            Obstacle::Unfree => (Kind::Unfree, ""),
            Obstacle::Problem | Obstacle::Removed => (Kind::RefusedByNixpkgs, ""),
            Obstacle::Dependency => (Kind::RefusedDependency, ""),
            Obstacle::Throws | Obstacle::Fails => (Kind::EvaluationError, ""),
            Obstacle::Endless => (Kind::EvaluationError, "its evaluation does not end"),
            Obstacle::OutOfMemory => (Kind::EvaluationError, "its evaluation exceeds the memory limit"),
        };
        Failure::new(kind, detail.unwrap_or(otherwise))
    }
}

impl Record {
    /// The record with all foreign text sanitised and cut.
    pub(crate) fn cleaned(self) -> Record {
        let standing = match self.standing {
            Standing::Buildable { drv_path } => {
                Standing::Buildable { drv_path: drv_path.map(|path| clean_line(&path, TEXT_MAX)) }
            }
            Standing::Refused { why, detail } => {
                Standing::Refused { why, detail: detail.map(|text| clean_line(&text, TEXT_MAX)) }
            }
        };
        Record { about: self.about.cleaned(), standing, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_obstacle_is_told_and_only_what_was_not_evaluated_is_lost() {
        for obstacle in Obstacle::ALL {
            let failure = obstacle.failure(None);
            assert_eq!(serde_json::json!(obstacle), obstacle.to_string());
            assert_eq!(obstacle.is_loss(), failure.kind == Kind::EvaluationError, "{obstacle:?}");
        }
        assert_eq!(
            Obstacle::Insecure.failure(Some("CVE-1970-0001")).sentence(),
            "it is marked insecure in this nixpkgs: CVE-1970-0001"
        );
    }
}
