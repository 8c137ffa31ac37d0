//! Why a build failed: the kind, its class, which decides about a retry, and one sentence for people.

use serde::{Deserialize, Serialize};

use crate::id::{key::DrvHash, text::clean_line};

/// What went wrong. These are the failures observed with Nix 2.8 and 2.26. To add a failure class, add a variant here;
/// the compiler lists the matches to extend.
///
/// ```
/// use binplz_core::build::failure::{Class, Kind};
///
/// assert_eq!(Kind::BuildFailed.class(), Class::Permanent);
/// assert_eq!(Kind::SourceUnavailable.class(), Class::Transient);
/// assert_eq!(Kind::OutOfMemory.class(), Class::TransientLarger);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    // Found by evaluating.
    /// The set has no such attribute, or the attribute is not a package.
    NoSuchPackage,
    /// The package does not evaluate.
    EvaluationError,
    /// `meta.broken`.
    Broken,
    /// `meta.unsupported`: not available on this system.
    Unsupported,
    /// `meta.insecure`.
    Insecure,
    /// `meta.unfree`.
    Unfree,
    /// nixpkgs refuses the package for another reason: `meta.problems`, a removed alias.
    RefusedByNixpkgs,
    /// nixpkgs refuses a package that it depends on.
    RefusedDependency,
    // Found by building.
    /// A build step failed.
    BuildFailed,
    /// The build's own tests failed.
    TestFailed,
    /// A download's hash differs from the package's.
    HashMismatch,
    /// The builder succeeded without making the output.
    NoOutput,
    /// The deployment's time limit for a build passed.
    TimedOut,
    /// By the durations of earlier builds, the build cannot finish within the deployment's time limit.
    TooLong,
    /// The build printed nothing for longer than the deployment waits.
    Silent,
    /// The build printed more than the deployment keeps.
    LogTooLong,
    /// No machine of this deployment builds for that system, or has a feature that the build needs.
    NoMachine,
    // Found by inspecting what was built.
    /// The package has no program, or lacks the main program that it declares.
    NoProgram,
    /// The package has programs, but none that is static and for the requested system.
    NotStatic,
    /// The program is static, but larger than the deployment stores.
    TooLarge,
    // Temporary.
    /// A source could not be fetched.
    SourceUnavailable,
    /// The binary cache gave errors.
    CacheUnavailable,
    /// Memory ran out.
    OutOfMemory,
    /// By the memory of earlier builds, its machine is too small.
    MachineTooSmall,
    /// The disk was full.
    DiskFull,
    /// The task was told to stop (Spot, a shutdown).
    Interrupted,
    /// The task was killed.
    Killed,
    /// The task never started.
    NotStarted,
    /// No heartbeat arrived for a whole lease.
    LostHeartbeat,
    /// The builder itself failed: a bug, or a problem of its machine.
    BuilderError,
    // For the operator.
    /// A path of the cache has no trusted signature.
    Signature,
    /// The build sandbox or the build users are not set up.
    Sandbox,
    /// The builder's image does not exist, or may not be read.
    NoImage,
    /// The builder's Nix is older than this nixpkgs, or binplz, requires. Builds of other nixpkgs may still succeed.
    OldNix,
}

/// The class of a failure, which decides about a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// A retry would fail again: remembered for the life of the pin, until an operator retries.
    Permanent,
    /// A retry may succeed: retried automatically with growing delays (backoff), then cooled down.
    Transient,
    /// A retry may succeed with more memory or disk.
    TransientLarger,
    /// The launcher could not start the task, which says nothing about the package: a quota, no capacity, no permission. The
    /// build waits and uses no attempt, and the system backs off.
    Launcher,
    /// A retry succeeds once the deployment has what the build needs. It cools down at once, and the next request tries it again.
    Deployment,
    /// Only an operator can fix it, and until then every build would fail. The build waits; if several packages fail so,
    /// nothing more is started for that system.
    Operator,
}

impl Kind {
    /// All kinds, for tests and tables.
    pub const ALL: [Kind; 34] = [
        Kind::NoSuchPackage,
        Kind::EvaluationError,
        Kind::Broken,
        Kind::Unsupported,
        Kind::Insecure,
        Kind::Unfree,
        Kind::RefusedByNixpkgs,
        Kind::RefusedDependency,
        Kind::BuildFailed,
        Kind::TestFailed,
        Kind::HashMismatch,
        Kind::NoOutput,
        Kind::TimedOut,
        Kind::TooLong,
        Kind::Silent,
        Kind::LogTooLong,
        Kind::NoMachine,
        Kind::NoProgram,
        Kind::NotStatic,
        Kind::TooLarge,
        Kind::SourceUnavailable,
        Kind::CacheUnavailable,
        Kind::OutOfMemory,
        Kind::MachineTooSmall,
        Kind::DiskFull,
        Kind::Interrupted,
        Kind::Killed,
        Kind::NotStarted,
        Kind::LostHeartbeat,
        Kind::BuilderError,
        Kind::Signature,
        Kind::Sandbox,
        Kind::NoImage,
        Kind::OldNix,
    ];

    /// Whether nixpkgs' ordinary package may still work: only the static build has failed.
    pub fn leaves_ordinary(self) -> bool {
        match self {
            Kind::EvaluationError
            | Kind::Broken
            | Kind::Unsupported
            | Kind::RefusedByNixpkgs
            | Kind::RefusedDependency
            | Kind::BuildFailed
            | Kind::TestFailed
            | Kind::HashMismatch
            | Kind::NoOutput
            | Kind::TimedOut
            | Kind::TooLong
            | Kind::Silent
            | Kind::LogTooLong
            | Kind::NotStatic => true,
            Kind::NoSuchPackage
            | Kind::Insecure
            | Kind::Unfree
            | Kind::NoMachine
            | Kind::NoProgram
            | Kind::TooLarge
            | Kind::SourceUnavailable
            | Kind::CacheUnavailable
            | Kind::OutOfMemory
            | Kind::MachineTooSmall
            | Kind::DiskFull
            | Kind::Interrupted
            | Kind::Killed
            | Kind::NotStarted
            | Kind::LostHeartbeat
            | Kind::BuilderError
            | Kind::Signature
            | Kind::Sandbox
            | Kind::NoImage
            | Kind::OldNix => false,
        }
    }

    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Kind::NoSuchPackage => "no-such-package",
            Kind::EvaluationError => "evaluation-error",
            Kind::Broken => "broken",
            Kind::Unsupported => "unsupported",
            Kind::Insecure => "insecure",
            Kind::Unfree => "unfree",
            Kind::RefusedByNixpkgs => "refused-by-nixpkgs",
            Kind::RefusedDependency => "refused-dependency",
            Kind::BuildFailed => "build-failed",
            Kind::TestFailed => "test-failed",
            Kind::HashMismatch => "hash-mismatch",
            Kind::NoOutput => "no-output",
            Kind::TimedOut => "timed-out",
            Kind::TooLong => "too-long",
            Kind::Silent => "silent",
            Kind::LogTooLong => "log-too-long",
            Kind::NoMachine => "no-machine",
            Kind::NoProgram => "no-program",
            Kind::NotStatic => "not-static",
            Kind::TooLarge => "too-large",
            Kind::SourceUnavailable => "source-unavailable",
            Kind::CacheUnavailable => "cache-unavailable",
            Kind::OutOfMemory => "out-of-memory",
            Kind::MachineTooSmall => "machine-too-small",
            Kind::DiskFull => "disk-full",
            Kind::Interrupted => "interrupted",
            Kind::Killed => "killed",
            Kind::NotStarted => "not-started",
            Kind::LostHeartbeat => "lost-heartbeat",
            Kind::BuilderError => "builder-error",
            Kind::Signature => "signature",
            Kind::Sandbox => "sandbox",
            Kind::NoImage => "no-image",
            Kind::OldNix => "old-nix",
        }
    }

    /// The class, which decides about a retry.
    pub fn class(self) -> Class {
        use Kind::*;
        match self {
            NoSuchPackage | EvaluationError | Broken | Unsupported | Insecure | Unfree | RefusedByNixpkgs
            | RefusedDependency | BuildFailed | TestFailed | HashMismatch | NoOutput | TimedOut | TooLong | Silent
            | LogTooLong | NoProgram | NotStatic | TooLarge => Class::Permanent,
            NoMachine => Class::Deployment,
            NotStarted => Class::Launcher,
            SourceUnavailable | CacheUnavailable | Interrupted | Killed | LostHeartbeat | BuilderError => {
                Class::Transient
            }
            OutOfMemory | MachineTooSmall | DiskFull => Class::TransientLarger,
            Signature | Sandbox | NoImage | OldNix => Class::Operator,
        }
    }

    /// Whether nixpkgs refuses the package, so that nothing was built.
    pub fn is_refusal(self) -> bool {
        use Kind::*;
        matches!(
            self,
            EvaluationError | Broken | Unsupported | Insecure | Unfree | RefusedByNixpkgs | RefusedDependency
        )
    }

    /// Whether the build succeeded, but its product cannot be served.
    pub fn is_of_product(self) -> bool {
        matches!(self, Kind::NoProgram | Kind::NotStatic | Kind::TooLarge)
    }

    /// Whether only the service itself can report such a failure, and no builder.
    pub fn is_of_no_builder(self) -> bool {
        matches!(self, Kind::NotStarted | Kind::LostHeartbeat | Kind::NoImage) || self.is_foreseen()
    }

    /// Whether the service foresaw it from the plan, so that nothing was built.
    pub fn is_foreseen(self) -> bool {
        matches!(self, Kind::TooLong | Kind::MachineTooSmall)
    }

    /// One sentence for people, without a full stop; the failure's detail may follow it.
    pub fn sentence(self) -> &'static str {
        match self {
            Kind::NoSuchPackage => "there is no such package",
            Kind::EvaluationError => "its Nix expression does not evaluate",
            Kind::Broken => "it is marked broken in this nixpkgs",
            Kind::Unsupported => "it is not available on this system",
            Kind::Insecure => "it is marked insecure in this nixpkgs",
            Kind::Unfree => "its licence is unfree",
            Kind::RefusedByNixpkgs => "nixpkgs refuses to evaluate it",
            Kind::RefusedDependency => "nixpkgs refuses a package that it depends on",
            Kind::BuildFailed => "the build failed",
            Kind::TestFailed => "the package's own tests failed",
            Kind::HashMismatch => "the hash of a downloaded source differs from the package's",
            Kind::NoOutput => "the build ended without making its output",
            Kind::TimedOut => "the build exceeded its time limit",
            Kind::TooLong => "the build cannot finish within its time limit",
            Kind::Silent => "the build printed nothing for too long",
            Kind::LogTooLong => "the build's log exceeded its size limit",
            Kind::NoProgram => "it was built, but the program is missing",
            Kind::NotStatic => "it was built, but has no static program for this system",
            Kind::TooLarge => "it was built, but is larger than this service stores",
            Kind::SourceUnavailable => "a source could not be downloaded",
            Kind::CacheUnavailable => "the binary cache could not be read",
            Kind::OutOfMemory => "the build ran out of memory",
            Kind::MachineTooSmall => "the build needs a machine with more memory",
            Kind::DiskFull => "the build ran out of disk",
            Kind::Interrupted => "the build was interrupted",
            Kind::Killed => "the build was killed",
            Kind::NotStarted => "the build could not be started",
            Kind::LostHeartbeat => "the builder stopped responding",
            Kind::BuilderError => "the builder itself failed",
            Kind::Signature => "the binary cache's signature is not trusted here",
            Kind::Sandbox => "the build sandbox is not set up",
            Kind::NoMachine => "no builder of this service can build it",
            Kind::NoImage => "the builder's image could not be pulled",
            Kind::OldNix => "the installed Nix is too old",
        }
    }
}

/// One failure, as it is stored and shown.
///
/// ```
/// use binplz_core::build::failure::{Failure, Kind};
///
/// let failure = Failure::new(Kind::BuildFailed, "\u{1b}[31mmake: *** [all] Error 2\n");
/// assert_eq!(failure.detail.as_deref(), Some("make: *** [all] Error 2"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What went wrong.
    pub kind: Kind,
    /// The decisive line of evidence: plain text on one line, sanitised by [`clean_line`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The derivation that failed, if it is not the package's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub derivation: Option<String>,
    /// The hash of that derivation: other packages that need it will fail too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drv: Option<DrvHash>,
    /// The last lines of the failed derivation's output, or of Nix's if there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
}

/// The longest detail, in characters.
const DETAIL_MAX: usize = 300;
/// The most last lines, and the longest of them in characters: a row holds several failures, and is read whole.
pub const LINES_MAX: usize = 8;
const LINE_MAX: usize = 160;

impl Failure {
    /// A failure with its evidence, which is sanitised first.
    pub fn new(kind: Kind, detail: impl AsRef<str>) -> Failure {
        let detail = clean_line(detail.as_ref(), DETAIL_MAX);
        Failure { kind, detail: (!detail.is_empty()).then_some(detail), derivation: None, drv: None, lines: Vec::new() }
    }

    /// Adds the last non-empty lines of `lines`, sanitised.
    #[must_use]
    pub fn with_lines<S: AsRef<str>>(self, lines: impl DoubleEndedIterator<Item = S>) -> Failure {
        let cleaned = lines.rev().map(|line| clean_line(line.as_ref(), LINE_MAX)).filter(|line| !line.is_empty());
        let mut lines: Vec<String> = cleaned.take(LINES_MAX).collect();
        lines.reverse();
        Failure { lines, ..self }
    }

    /// The failure with all foreign text sanitised.
    pub fn cleaned(self) -> Failure {
        let derivation = self.derivation.map(|name| clean_line(&name, DETAIL_MAX));
        let failure = Failure { derivation, drv: self.drv, ..Failure::new(self.kind, self.detail.unwrap_or_default()) };
        failure.with_lines(self.lines.iter())
    }

    /// The sentence with its detail: "the build failed: hello.c:3: error: …". A dependency's failure names the
    /// dependency.
    pub fn sentence(&self) -> String {
        let mut sentence = self.kind.sentence().to_owned();
        if let Some(derivation) = &self.derivation {
            sentence.push_str(&format!(", in its dependency {}", package_name(derivation)));
        }
        if let Some(detail) = &self.detail {
            sentence.push_str(&format!(": {detail}"));
        }
        sentence
    }
}

/// `hello-2.10` of `/nix/store/HASH-hello-2.10.drv`; a bare name, which some builders report, stays.
fn package_name(derivation: &str) -> &str {
    let name = match derivation.rsplit_once('/') {
        Some((_store, file)) => file.split_once('-').map_or(file, |(_hash, name)| name),
        None => derivation,
    };
    name.strip_suffix(".drv").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_class_and_a_sentence_that_fits_a_line() {
        for kind in Kind::ALL {
            assert!(!kind.sentence().ends_with('.') && kind.sentence().len() < 80, "{kind:?}");
            let name = serde_json::to_string(&kind).expect("a unit variant");
            assert_eq!((serde_json::from_str::<Kind>(&name).ok(), name), (Some(kind), format!("{:?}", kind.name())));
        }
    }

    #[test]
    fn a_dependencys_failure_is_told_as_the_dependencys() {
        let own = Failure::new(Kind::BuildFailed, "x.c:1: error");
        assert_eq!(own.sentence(), "the build failed: x.c:1: error");
        for told in ["/nix/store/0c8avx37rwvyk1s2x2v7x2hqkxbs3qd4-hello-2.10.drv", "hello-2.10"] {
            let other = Failure { derivation: Some(told.to_owned()), ..own.clone() };
            assert_eq!(other.sentence(), "the build failed, in its dependency hello-2.10: x.c:1: error");
        }
    }
}
