//! The protocol between a builder and the lease endpoint: JSON over HTTP.
//!
//! A builder starts with a URL and a token, and knows nothing else of the deployment. Below that URL:
//!
//! | request | body | answer |
//! |---|---|---|
//! | `GET  URL` | – | [`Job`] |
//! | `POST URL/pulse` | [`Progress`] | [`Heartbeat`]: the lease was renewed |
//! | `POST URL/derivation` | [`Evaluated`] | [`Turn`]: before it realises anything |
//! | `POST URL/dependencies` | [`DependencyRequest`] | [`DependencyTurn`]: before it builds a dependency, and after |
//! | `POST URL/measured` | list of [`Measured`](crate::build::learned::Measured) | `{}`: what was built, and how long it took |
//! | `POST URL/built` | [`Looked`] | [`Built`]: for a catalogue |
//! | `POST URL/checkpoint` | [`Checkpointed`] | `{}`: parts of a catalogue are stored |
//! | `POST URL/uploads` | list of [`Upload`] | list of [`PresignedUpload`], in the same order |
//! | `POST URL/settle` | [`Report`] | `{}`: the attempt has ended |
//!
//! Every request carries `Authorization: Bearer TOKEN`. 401: not the lease's token. 409: the lease is no longer live
//! (expired, settled, cancelled); the builder stops at once and sends nothing more. 400 and 403: a bug in the builder.
//! 5xx or no answer: retry while the lease lasts.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    build::{failure::Failure, plan::DryRun, waiting::Planned},
    id::{
        key::{Attr, BuildKey, DrvHash, Sha256, StoreHash},
        text::clean_line,
    },
    objects::{
        artifact::{Declared, Manifest, ObjectName},
        content::Content,
        materials::Materials,
    },
};

/// A builder's job: the product, and its limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// A package below `pkgsStatic`, a bundle, or the catalogue of all packages.
    #[serde(flatten)]
    pub key: BuildKey,
    /// The location of its nixpkgs.
    pub nixpkgs: Nixpkgs,
    /// The limits of the work.
    pub limits: JobLimits,
    /// How long the lease lasts without a [`Heartbeat`].
    pub lease_seconds: u64,
    /// The builders' shared Nix binary cache: its paths are not built again. `None` if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<Cache>,
    /// For a catalogue: the database of programs that an operator has added, in the place of the one in the nixpkgs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub programs: Option<Database>,
    /// For a catalogue: what earlier attempts have stored of it.
    #[serde(default, skip_serializing_if = "Resume::is_empty")]
    pub resume: Resume,
    /// For a bundle: it is made of the package below `pkgsStatic`, and not of nixpkgs' ordinary one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub of_static: bool,
}

/// A database of programs to download.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    /// The URL.
    pub url: String,
    /// Its content: a builder accepts no other.
    #[serde(flatten)]
    pub content: Content,
}

/// What earlier attempts at a catalogue have stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resume {
    /// The URLs of a checkpoint's parts, in order; readable for some minutes. A part may be missing or damaged: its
    /// attributes are then evaluated again.
    pub parts: Vec<String>,
    /// Whether requests have a catalogue meanwhile, so that the top level need not be published.
    pub published: bool,
}

impl Resume {
    fn is_empty(&self) -> bool {
        *self == Resume::default()
    }
}

/// A Nix binary cache, readable by its URL, and written by no builder. A builder may offer: it uploads
/// [`ObjectName::Nar`] and then [`ObjectName::Narinfo`], and the promoter checks and signs these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    /// The URL, for Nix's `substituters`.
    pub url: String,
    /// The public key, for Nix's `trusted-public-keys`. `None` while the cache is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
}

/// The location of a nixpkgs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Nixpkgs {
    /// A directory on the builder's machine, in its Nix store.
    Path(String),
    /// A tarball to fetch with Nix's `fetchTarball`.
    Tarball {
        /// The tarball's URL.
        url: String,
        /// The unpacked tree's hash, in any form that Nix reads. Without it the URL must contain a commit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        nar_hash: Option<String>,
    },
}

/// The limits of one build.
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
    /// Bytes of all programs of a package together; those with several names count once.
    pub package_bytes: u64,
    /// Bytes of a bundle; not more than those of a package.
    pub bundle_bytes: u64,
    /// Bytes of a nixpkgs' tarball, and of each file in it.
    pub nixpkgs_bytes: u64,
    /// Bytes of packed files that a build may offer to the binary cache; 0 without a cache.
    pub cache_bytes: u64,
    /// Seconds of processor time for each attribute of a catalogue.
    pub attribute_seconds: u64,
    /// Bytes of memory for each process that evaluates a part of a catalogue.
    pub attribute_bytes: u64,
    /// Seconds between the checkpoints of a catalogue: so much work is lost with its builder.
    pub checkpoint_seconds: u64,
}

impl Default for JobLimits {
    /// Enough for a compiler, too little to do harm.
    fn default() -> JobLimits {
        JobLimits {
            seconds: Duration::from_secs(2 * 3600).as_secs(),
            silent_seconds: Duration::from_secs(20 * 60).as_secs(),
            log_bytes: 16 << 20,
            program_bytes: 512 << 20,
            package_bytes: 2 << 30,
            bundle_bytes: 500_000_000,
            nixpkgs_bytes: 8 << 30,
            cache_bytes: 4 << 30,
            attribute_seconds: 60,
            attribute_bytes: 3 << 30,
            checkpoint_seconds: 30,
        }
    }
}

/// The most bytes of a segment of a log.
pub const LOG_SEGMENT_MAX: u64 = 256 << 10;

impl JobLimits {
    /// The most bytes of a bundle.
    pub fn bundle_most(&self) -> u64 {
        self.bundle_bytes.min(self.package_bytes)
    }

    /// The most segments that a log can have: one every two seconds, or one that is nearly full; and some for the end.
    pub fn log_segments(&self) -> u64 {
        (self.seconds / 2).saturating_add(self.log_bytes / (LOG_SEGMENT_MAX / 2)).saturating_add(16)
    }
}

/// The progress of a build. Not state: no decision depends on it, and a newer one replaces an older one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The builder's phase.
    pub phase: Phase,
    /// The derivation being built, by name, and its phase, as reported by Nix: "tree-2.1.0 buildPhase".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Derivations built so far.
    pub done: u64,
    /// Derivations to build in total, as far as Nix knows.
    pub expected: u64,
    /// Bytes copied or downloaded so far.
    pub bytes_fetched: u64,
    /// Log segments in the store.
    pub log_segments: u32,
    /// Store paths fetched so far, by the name of the binary cache: its URL, or [`OWN_CACHE`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fetched: BTreeMap<String, u32>,
}

/// The name of the cache that builders share.
pub const OWN_CACHE: &str = "the builders' cache";
/// The most caches in a progress, and the longest name of one in characters.
pub const CACHES_MAX: usize = 8;
const CACHE_MAX: usize = 100;

/// The longest step, in characters.
const STEP_MAX: usize = 200;

impl Progress {
    /// The progress with all foreign text sanitised.
    pub fn cleaned(self) -> Progress {
        let fetched = self.fetched.into_iter().take(CACHES_MAX);
        Progress {
            step: self.step.map(|step| clean_line(&step, STEP_MAX)),
            fetched: fetched.map(|(cache, paths)| (clean_line(&cache, CACHE_MAX), paths)).collect(),
            ..self
        }
    }

    /// "fetched: 12 store paths from `https://cache.example`, 3 from the builders' cache"; `None` if nothing was fetched.
    pub fn fetched_from(&self) -> Option<String> {
        let parts = self.fetched.iter().enumerate().map(|(n, (cache, paths))| match n {
            0 => format!("{paths} store paths from {cache}"),
            _ => format!("{paths} from {cache}"),
        });
        let parts: Vec<String> = parts.collect();
        (!parts.is_empty()).then(|| format!("fetched: {}", parts.join(", ")))
    }

    /// The progress of a build of which other attempts have built so many derivations before.
    #[must_use]
    pub fn after(self, built: u32) -> Progress {
        let built = u64::from(built);
        Progress { done: self.done.saturating_add(built), expected: self.expected.saturating_add(built), ..self }
    }
}

/// A builder's phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The task was claimed; the builder has not reported yet.
    #[default]
    Starting,
    /// Nix evaluates the package, or all of them.
    Evaluating,
    /// Nix builds or downloads.
    Building,
    /// The programs are being inspected.
    Inspecting,
    /// The programs are being uploaded.
    Uploading,
}

impl Phase {
    /// The name in JSON.
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
    /// How long the lease lasts from now on.
    pub lease_seconds: u64,
}

/// The most programs of a package: more take no part, so that no package holds a slot for long with them.
pub const PROGRAMS_MAX: usize = 1000;

/// The most derivations in a report.
pub const TO_BUILD_MAX: usize = 2000;

/// The result of evaluating a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evaluated {
    /// Its derivation.
    pub drv_path: String,
    /// The derivations that would be built for it, itself included, as far as known; at most [`TO_BUILD_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to_build: Vec<DrvHash>,
    /// Whether the builder knows [`Turn::Ask`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asks: bool,
    /// The store paths among their outputs that other builds may need: only these may be offered to the binary cache
    /// later. They are reported before anything is built, so that no build can influence them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to_offer: Vec<StoreHash>,
    /// What Nix would do for it; `None` if the builder is of an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<DryRun>,
    /// What the attribute says beyond that.
    #[serde(flatten)]
    pub declared: Declared,
}

/// The answer to a claim on a derivation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Turn {
    /// This builder realises it.
    Go,
    /// This builder realises it, and asks before it builds it: another task builds it as a dependency.
    Ask,
    /// Another build has realised it, is realising it, or has shown that it fails. The lease has ended: the builder
    /// exits successfully, and sends nothing more.
    Elsewhere,
}

/// A builder asks what it may build of its plan, and reports what it has built of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DependencyRequest {
    /// The derivations that it can build now, the preferred ones first. Downloads are not among them.
    pub ready: Vec<Ready>,
    /// How many it builds at a time.
    pub most: usize,
    /// The derivations that it has built since.
    pub built: Vec<DependencyBuilt>,
}

/// A derivation that a builder can build: all that it needs is in the builder's store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// The derivation.
    pub drv: DrvHash,
    /// Its name: `gcc-14.2`.
    pub name: String,
    /// The builder was told to fetch it, and no cache had it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub missing: bool,
}

/// A derivation that a builder has built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DependencyBuilt {
    /// The derivation.
    pub drv: DrvHash,
    /// Whether all its outputs were offered to the binary cache.
    pub offered: bool,
}

/// What a builder may do about the derivations that it can build.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DependencyTurn {
    /// It builds these: no other task does.
    pub build: Vec<DrvHash>,
    /// It fetches these: they are built.
    pub fetch: Vec<DrvHash>,
    /// Other tasks build these.
    pub held: Vec<DrvHash>,
    /// Whether one of those may be there soon, so that it is worth while to ask again.
    pub soon: bool,
    /// To a request without `ready`: whether other builds need the package's own derivation, so that it is offered.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub wanted: bool,
    /// The binary cache, as in [`Job`]: it may have had no signature then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<Cache>,
}

/// How far a catalogue's builder has read the list of earlier builds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looked {
    /// The number of packages read, from 0.
    pub packages: usize,
}

/// Earlier builds of packages, from any nixpkgs, the latest first, each package once, with the programs that they have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Built {
    /// A page of them.
    pub packages: Vec<(Attr, Manifest)>,
    /// The start of the next page; `None` if this was the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Looked>,
}

/// A catalogue's builder has stored a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpointed {
    /// The number of stored parts ([`ObjectName::Checkpoint`]), from 1. Together they have all attributes of the
    /// checkpoint that the builder continues.
    pub parts: u32,
    /// Whether the catalogue of the top level is stored ([`ObjectName::PartialLookup`], [`ObjectName::PartialDetails`]).
    #[serde(default)]
    pub top_level: bool,
}

/// An object that a builder wants to store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// Its name: one of this job's own objects.
    pub name: ObjectName,
    /// The size in bytes.
    pub size: u64,
    /// The content's sha256: the store refuses any other content.
    pub sha256: Sha256,
}

/// A presigned upload of one object: a `PUT` of exactly the announced bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresignedUpload {
    /// The URL.
    pub url: String,
    /// Headers that must be sent.
    pub headers: Vec<(String, String)>,
    /// Whether the bytes are stored already: the upload may be left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stored: bool,
}

/// A builder's final report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The outcome.
    pub outcome: Outcome,
    /// The statistics.
    pub stats: Stats,
    /// What it is made of, if it is built; `None` if the builder is of an earlier version, or does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub materials: Option<Materials>,
}

/// The outcome of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The package has at least one static program; all of these are stored.
    Built(Manifest),
    /// The catalogue is stored.
    Catalogued,
    /// Other tasks build all that this one could build now.
    Waits {
        /// What is left to build.
        plan: Vec<Planned>,
        /// The number in `plan` of the one that it waits for.
        first: usize,
    },
    /// The job failed.
    Failed(Failure),
}

/// The statistics of an attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Derivations whose build was started on this machine.
    pub derivations: u32,
    /// Segments of its log that were stored.
    pub log_segments: u32,
    /// The peak memory, in bytes, of the builder and its descendants; `None` if it was not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Seconds in which it did nothing but wait for other tasks' dependencies.
    #[serde(default, skip_serializing_if = "is_none_of_them")]
    pub waited: u32,
    /// Milliseconds during which derivations were built on this machine, if that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub building: Option<u64>,
    /// Store paths that were offered to the binary cache.
    #[serde(default, skip_serializing_if = "is_none_of_them")]
    pub offers: u32,
    /// Derivations of dependencies that are built, so that the next attempt finds their outputs. The service sets it to 0 if
    /// it sees none of them: the builder has offered none to the cache, or there is neither a cache nor a shared Nix store.
    #[serde(default, skip_serializing_if = "is_none_of_them")]
    pub built: u32,
    /// Bytes that it has added to the store. The service replaces a builder's figure by the store's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<u64>,
}

fn is_none_of_them(count: &u32) -> bool {
    *count == 0
}
