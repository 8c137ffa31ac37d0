//! What a builder and the lease endpoint say to each other, as JSON over HTTP.
//!
//! A builder is started with a URL and a token, and knows nothing else of the deployment. Below that URL:
//!
//! | request | body | answer |
//! |---|---|---|
//! | `GET  URL` | – | [`Job`] |
//! | `POST URL/pulse` | [`Progress`] | [`Heartbeat`]: the lease was renewed |
//! | `POST URL/derivation` | [`Evaluated`] | [`Turn`]: before it realises anything |
//! | `POST URL/built` | [`Looked`] | [`Built`]: for a catalogue |
//! | `POST URL/uploads` | list of [`Upload`] | list of [`PresignedUpload`], in the same order |
//! | `POST URL/settle` | [`Report`] | `{}`: the build is over |
//!
//! Every request carries `Authorization: Bearer TOKEN`. 401: not the lease's token. 409: the lease is no longer live
//! (expired, settled, cancelled): the builder stops at once and says nothing more. 400 and 403: a defect of the
//! builder. 5xx or no answer: try again for as long as the lease lasts.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    build::failure::Failure,
    id::{
        key::{Attr, BuildKey, DrvHash, Sha256, StoreHash},
        text::clean_line,
    },
    objects::artifact::{Manifest, ObjectName},
};

/// What to make, and within which limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// A package below `pkgsStatic`, or the catalogue of all of them.
    #[serde(flatten)]
    pub key: BuildKey,
    /// Where its nixpkgs is.
    pub nixpkgs: Nixpkgs,
    /// What the work may use.
    pub limits: JobLimits,
    /// How long the lease lasts without a [`Heartbeat`].
    pub lease_seconds: u64,
    /// The Nix cache that the deployment's builders share: what is there is not built again. `None`: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<Cache>,
}

/// A Nix cache: to be read by anybody who is sent there, and written by no builder. What a builder may do is to offer: it uploads
/// [`ObjectName::Nar`] and then [`ObjectName::Narinfo`], and when it has settled somebody looks at these and signs them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    /// For Nix's `substituters`.
    pub url: String,
    /// By whom it is signed, for Nix's `trusted-public-keys`. `None`: nothing is in there yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
}

/// Where a nixpkgs is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Nixpkgs {
    /// A directory on the builder's machine, in its Nix store.
    Path(String),
    /// A tarball to fetch with Nix's `fetchTarball`.
    Tarball {
        /// Where from.
        url: String,
        /// The unpacked tree's hash, in any spelling that Nix reads. Without it the URL must name a commit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        nar_hash: Option<String>,
    },
}

/// What one build may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobLimits {
    /// Seconds from start to end.
    pub seconds: u64,
    /// Seconds without a line of output (Nix's `max-silent-time`).
    pub silent_seconds: u64,
    /// Bytes of one derivation's log (Nix's `max-build-log-size`), and of the whole build's log.
    pub log_bytes: u64,
    /// Bytes of one program.
    pub program_bytes: u64,
    /// Bytes of all programs of a package together.
    pub package_bytes: u64,
    /// Bytes of packed files that a build may offer to the shared cache; none, where there is no such.
    pub cache_bytes: u64,
    /// Seconds of a processor for each attribute of a catalogue.
    pub attribute_seconds: u64,
    /// Bytes of memory for each process that evaluates a part of a catalogue.
    pub attribute_bytes: u64,
}

impl Default for JobLimits {
    /// Enough for a compiler, too little to hurt.
    fn default() -> JobLimits {
        JobLimits {
            seconds: Duration::from_secs(2 * 3600).as_secs(),
            silent_seconds: Duration::from_secs(20 * 60).as_secs(),
            log_bytes: 16 << 20,
            program_bytes: 512 << 20,
            package_bytes: 2 << 30,
            cache_bytes: 4 << 30,
            attribute_seconds: 60,
            attribute_bytes: 4 << 30,
        }
    }
}

/// How far a build is. Not state: nothing is decided by it, and a newer one simply replaces an older one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What the builder is doing.
    pub phase: Phase,
    /// The derivation that is being built, by name, and its phase, as Nix tells it: "tree-2.1.0 buildPhase".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Derivations built so far.
    pub done: u64,
    /// Derivations to build in all, as far as Nix knows by now.
    pub expected: u64,
    /// Bytes copied or downloaded so far.
    pub bytes_fetched: u64,
    /// Log segments in the store.
    pub log_segments: u32,
}

/// Longest step, in characters.
const STEP_MAX: usize = 200;

impl Progress {
    /// The progress with all foreign text made harmless, whoever wrote it.
    pub fn cleaned(self) -> Progress {
        Progress { step: self.step.map(|step| clean_line(&step, STEP_MAX)), ..self }
    }
}

/// What a builder is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The task has been claimed; the builder has not spoken yet.
    #[default]
    Starting,
    /// Nix evaluates the package, or all of them.
    Evaluating,
    /// Nix builds or downloads.
    Building,
    /// The programs are looked at.
    Inspecting,
    /// The programs go to the store.
    Uploading,
}

impl Phase {
    /// As in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Evaluating => "evaluating",
            Phase::Building => "building",
            Phase::Inspecting => "inspecting",
            Phase::Uploading => "uploading",
        }
    }

    /// A few words for a progress line.
    pub fn sentence(self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Evaluating => "evaluating",
            Phase::Building => "building",
            Phase::Inspecting => "inspecting the programs",
            Phase::Uploading => "storing the programs",
        }
    }
}

/// The lease was renewed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// How long it lasts from now on.
    pub lease_seconds: u64,
}

/// How many derivations to build are told at most.
pub const TO_BUILD_MAX: usize = 2000;

/// What evaluating a package came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evaluated {
    /// Its derivation.
    pub drv_path: String,
    /// The derivations that would be built for it, itself included, as far as that is known; no more than [`TO_BUILD_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to_build: Vec<DrvHash>,
    /// The store paths that these would make, as far as others may need them: what it may then offer to the shared cache, and nothing
    /// else. It is said before anything of them is run, so that nothing that runs has a say in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to_offer: Vec<StoreHash>,
    /// `meta.mainProgram`, as the package declares it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub main_program: Option<String>,
}

/// Who realises a derivation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Turn {
    /// Whoever asked: no other build will.
    Go,
    /// Another build has, or does; or one has shown that it can not be. The lease is over: the builder ends well, and says nothing
    /// more.
    Elsewhere,
}

/// How much a catalogue's maker has seen of what was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looked {
    /// Packages; from 0.
    pub packages: usize,
}

/// Packages that were built, from whatever nixpkgs, the latest first, each once: which programs they turned out to have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Built {
    /// Some of them.
    pub packages: Vec<(Attr, Manifest)>,
    /// Where the next ones begin; `None`: these were the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Looked>,
}

/// An object that a builder wants to store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// Which: one of this work's own.
    pub name: ObjectName,
    /// In bytes.
    pub size: u64,
    /// Of the content: the store refuses any other.
    pub sha256: Sha256,
}

/// How to store one object: a `PUT` of exactly the announced bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresignedUpload {
    /// Where to.
    pub url: String,
    /// Headers that must be sent.
    pub headers: Vec<(String, String)>,
}

/// How the work ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// With what.
    pub outcome: Outcome,
    /// At what cost.
    pub stats: Stats,
}

/// The work's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// At least one static program came out; all such are in the store.
    Built(Manifest),
    /// The catalogue is in the store.
    Catalogued,
    /// It came to nothing.
    Failed(Failure),
}

/// What a build took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Derivations whose build was started on this machine.
    pub derivations: u32,
    /// Segments of its log that were stored.
    pub log_segments: u32,
    /// The most memory in bytes that the builder and all that it started were seen to have; `None`: it was not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Store paths that were offered to the shared cache.
    #[serde(default, skip_serializing_if = "is_none_of_them")]
    pub offers: u32,
    /// Bytes that are in the store now. What a builder says of it is replaced by what the store does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<u64>,
}

fn is_none_of_them(count: &u32) -> bool {
    *count == 0
}
