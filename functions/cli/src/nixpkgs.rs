//! The Nixpkgs that an operator names, fetched and kept by this machine's Nix.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
};

use binplz_core::{
    build::protocol::Nixpkgs,
    id::{
        key::{PinName, Rev},
        text::clean_line,
        time::Timestamp,
    },
    nixpkgs::{
        nix_config::NixConfig,
        nix_version::{RequiredNix, TooOld},
        pins::{KEEP, Pin, Pins, Programs, Source},
    },
    objects::narinfo::StoreDir,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use thiserror::Error;

use crate::programs;

/// The most bytes that are read of a nixpkgs' file that names its Nix.
const REQUIREMENT_MAX: u64 = 64 << 10;
/// The characters that a file's URL contains unescaped.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Why Nix or the package set cannot be used.
#[derive(Debug, Error)]
pub(crate) enum NixpkgsError {
    /// No `nix-store` in PATH.
    #[error(
        "Nix is not installed (nix-store is not in PATH); install it: scripts/setup --nix, or https://nixos.org/download"
    )]
    NoNix,
    /// Too old.
    #[error(transparent)]
    OldNix(#[from] TooOld),
    /// Cannot be read as a package set.
    #[error(
        "no package set at {0}: expected a directory with a default.nix, or github:NixOS/nixpkgs/COMMIT (40 hex digits)"
    )]
    NoSet(String),
    /// Builds run as this user, and see its files.
    #[error(
        "Nix would run builds as this user and without a sandbox, so that they could read its files: set sandbox = true in nix.conf, use Nix's daemon, or pass --trust-nixpkgs if you trust every package of the nixpkgs that you serve"
    )]
    BuildsNotApart,
    /// Nix failed.
    #[error("{0} failed: {1}")]
    Nix(&'static str, String),
    /// The database of programs in it.
    #[error(transparent)]
    Programs(#[from] programs::ProgramsError),
    /// `infra/pins.json` as it was compiled in.
    #[error("infra/pins.json: {0}")]
    Pins(String),
}

/// Checks that Nix is installed and new enough for binplz.
///
/// # Errors
/// [`NixpkgsError`].
pub(crate) fn check_nix() -> Result<(), NixpkgsError> {
    check_nix_against(RequiredNix::BY_BINPLZ)
}

/// Checks that Nix is new enough for the nixpkgs in that directory, which this machine is to evaluate.
///
/// # Errors
/// [`NixpkgsError`].
pub(crate) fn check_nix_for(set: &Path) -> Result<(), NixpkgsError> {
    check_nix_against(RequiredNix::by_nixpkgs(RequiredNix::FILES.iter().filter_map(|file| text_of(&set.join(file)))))
}

fn check_nix_against(required: RequiredNix) -> Result<(), NixpkgsError> {
    Ok(required.check(&run("nix-store", &["--version"])?)?)
}

/// The beginning of a file, if it is one.
fn text_of(file: &Path) -> Option<String> {
    fs::symlink_metadata(file).ok().filter(fs::Metadata::is_file)?;
    let mut text = Vec::new();
    fs::File::open(file).ok()?.take(REQUIREMENT_MAX).read_to_end(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// The settings of this machine's Nix.
///
/// # Errors
/// [`NixpkgsError`].
pub(crate) fn nix_config() -> Result<NixConfig, NixpkgsError> {
    let told = run("nix", &NixConfig::SHOW)?;
    NixConfig::parse(&told).map_err(|error| NixpkgsError::Nix("nix show-config", error.to_string()))
}

/// The location of this machine's Nix store.
pub(crate) fn store_dir() -> Result<StoreDir, NixpkgsError> {
    let told = run("nix-instantiate", &["--eval", "--json", "--expr", "builtins.storeDir"])?;
    let dir = serde_json::from_str::<String>(&told).ok().and_then(|dir| dir.parse().ok());
    dir.ok_or_else(|| NixpkgsError::Nix("--cache", format!("unsupported location of the Nix store: {}", told.trim())))
}

/// The pins of `infra/pins.json`.
#[derive(Deserialize)]
pub(crate) struct PinsFile {
    default: PinName,
    pins: BTreeMap<PinName, Commit>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Commit {
    rev: Rev,
    nar_hash: String,
}

impl PinsFile {
    /// Reads the compiled-in file.
    ///
    /// # Errors
    /// [`NixpkgsError::Pins`].
    pub(crate) fn read() -> Result<PinsFile, NixpkgsError> {
        let file = include_str!("../../../infra/pins.json");
        serde_json::from_str(file).map_err(|error| NixpkgsError::Pins(error.to_string()))
    }

    /// The pins, each fetched when it is first requested.
    ///
    /// # Errors
    /// [`NixpkgsError::Pins`].
    pub(crate) fn pins(self) -> Result<Pins, NixpkgsError> {
        let pin = |commit: &Commit| Pin {
            rev: commit.rev.clone(),
            nixpkgs: on_github(&commit.rev, Some(&commit.nar_hash)),
            programs: None,
            since: Timestamp(0),
            keep: KEEP,
            former: Vec::new(),
        };
        let pins = self.pins.iter().map(|(name, commit)| (name.clone(), pin(commit))).collect();
        Pins::new(self.default, pins).map_err(|error| NixpkgsError::Pins(error.to_string()))
    }

    /// The hash of a commit's tree.
    pub(crate) fn nar_hash(&self, rev: &Rev) -> Option<&str> {
        self.pins.values().find(|commit| commit.rev == *rev).map(|commit| commit.nar_hash.as_str())
    }
}

/// The pin that `binplz serve --nixpkgs` makes.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) name: PinName,
    pub(crate) rev: Rev,
    pub(crate) source: Source,
    /// The database of programs in it, if it has one.
    pub(crate) programs: Option<Programs>,
}

/// Parses the argument of `binplz serve --nixpkgs`. A commit is fetched when it is first requested.
///
/// # Errors
/// [`NixpkgsError`].
pub(crate) fn named(text: &str) -> Result<Named, NixpkgsError> {
    let name = |name: &str| name.parse().map_err(|why| NixpkgsError::Pins(format!("{name} {why}")));
    let Some(commit) = text.strip_prefix("github:NixOS/nixpkgs/") else {
        let set = snapshot(Path::new(text))?;
        check_nix_for(Path::new(&set.path))?;
        let programs = programs::included(Path::new(&set.path))?;
        return Ok(Named { name: name("local")?, source: Nixpkgs::Path(set.path).into(), rev: set.rev, programs });
    };
    let rev: Rev = commit.parse().map_err(|_| NixpkgsError::NoSet(text.to_owned()))?;
    let known = PinsFile::read()?;
    let its_name = known.pins.iter().find(|(_, commit)| commit.rev == rev).map(|(name, _)| name.clone());
    let its_name = its_name.map_or_else(|| name("github"), Ok)?;
    Ok(Named { name: its_name, source: on_github(&rev, known.nar_hash(&rev)), rev, programs: None })
}

/// GitHub's URL of a commit's tarball.
pub(crate) fn github_url(rev: &Rev) -> String {
    format!("https://github.com/NixOS/nixpkgs/archive/{rev}.tar.gz")
}

fn on_github(rev: &Rev, nar_hash: Option<&str>) -> Source {
    Nixpkgs::Tarball { url: github_url(rev), nar_hash: nar_hash.map(str::to_owned) }.into()
}

/// A package set in the Nix store.
#[derive(Clone, Debug)]
pub(crate) struct Fetched {
    /// Its revision: the first 40 digits of the sha256 of its NAR, for a set without a commit.
    pub(crate) rev: Rev,
    /// Its store path.
    pub(crate) path: String,
    /// The sha256 of its NAR, in hex digits.
    #[cfg(feature = "aws")]
    pub(crate) nar_hash: String,
}

/// Copies a directory into the Nix store. Its revision is the hash of its content, so a changed set has another one.
///
/// # Errors
/// [`NixpkgsError`].
pub(crate) fn snapshot(dir: &Path) -> Result<Fetched, NixpkgsError> {
    let no_set = |error: io::Error| NixpkgsError::NoSet(format!("{} ({error})", dir.display()));
    let set: PathBuf = dir.canonicalize().map_err(no_set)?;
    match set.to_str() {
        Some(set_text) if set.join("default.nix").is_file() => fetch(&[("path", set_text)]),
        _ => Err(NixpkgsError::NoSet(dir.display().to_string())),
    }
}

/// Unpacks a tarball into the Nix store. With a hash, Nix accepts no other content.
///
/// # Errors
/// [`NixpkgsError`].
pub(crate) fn unpack(url: &str, nar_hash: Option<&str>) -> Result<Fetched, NixpkgsError> {
    fetch(&[("url", url), ("narHash", nar_hash.unwrap_or_default())])
}

/// Downloads a tarball into the Nix store, without unpacking it.
///
/// # Errors
/// [`NixpkgsError`].
#[cfg(feature = "aws")]
pub(crate) fn download(url: &str) -> Result<PathBuf, NixpkgsError> {
    let told = run_within(&FETCH, "nix-prefetch-url", &["--print-path", "--name", "nixpkgs.tar.gz", url])?;
    told.lines().last().map(PathBuf::from).ok_or(NixpkgsError::Nix("nix-prefetch-url", told))
}

/// A file's URL.
///
/// # Errors
/// [`NixpkgsError::NoSet`]: there is no such file.
pub(crate) fn file_url(file: &Path) -> Result<String, NixpkgsError> {
    let no_file = |why: String| NixpkgsError::NoSet(format!("{} ({why})", file.display()));
    let file = file.canonicalize().map_err(|error| no_file(error.to_string()))?;
    let text = file.to_str().ok_or_else(|| no_file("its name is not valid UTF-8".to_owned()))?;
    Ok(format!("file://{}", utf8_percent_encode(text, PLAIN)))
}

fn fetch(data: &[(&str, &str)]) -> Result<Fetched, NixpkgsError> {
    let expression = include_str!("fetch.nix");
    // A tarball may have changed since it was last fetched.
    let mut arguments = vec!["--eval", "--strict", "--json", "--read-write-mode", "--option", "tarball-ttl", "0"];
    arguments.extend(data.iter().flat_map(|(name, value)| ["--argstr", name, value]));
    arguments.extend(["--expr", expression]);
    let told = run_within(&FETCH, "nix-instantiate", &arguments)?;
    let path: String =
        serde_json::from_str(&told).map_err(|error| NixpkgsError::Nix("nix-instantiate", error.to_string()))?;
    if !Path::new(&path).join("default.nix").is_file() {
        return Err(NixpkgsError::NoSet(path));
    }
    let nar_hash = run("nix-hash", &["--type", "sha256", &path])?;
    let rev = nar_hash.get(..40).and_then(|digits| digits.parse().ok());
    let rev = rev.ok_or_else(|| NixpkgsError::Nix("nix-hash", nar_hash.clone()))?;
    Ok(Fetched {
        rev,
        path,
        #[cfg(feature = "aws")]
        nar_hash,
    })
}

/// Protects a set in the Nix store from Nix's garbage collection, by a root in the data directory.
///
/// # Errors
/// [`NixpkgsError`].
pub(crate) fn keep(rev: &Rev, path: &str, data: &Path) -> Result<(), NixpkgsError> {
    let failed = |error: io::Error| NixpkgsError::Nix("nix-store", error.to_string());
    let roots = std::path::absolute(data.join("roots")).map_err(failed)?;
    fs::create_dir_all(&roots).map_err(failed)?;
    let root = roots.join(rev.as_str());
    run("nix-store", &["--realise", path, "--add-root", &root.to_string_lossy(), "--indirect"]).map(|_| ())
}

/// The limits of a command.
pub(crate) struct Bounds {
    /// Its time, in seconds.
    pub(crate) seconds: u64,
    /// The size of each file that it writes, in bytes.
    pub(crate) file_bytes: u64,
}

/// For fetching a nixpkgs: a tarball has some 50 MB, unpacked some 500 MB, and its archive is one file.
const FETCH: Bounds = Bounds { seconds: 3600, file_bytes: 8 << 30 };

/// Runs a command within limits, by coreutils' `timeout` and util-linux' `prlimit`.
pub(crate) fn run_within(bounds: &Bounds, program: &'static str, arguments: &[&str]) -> Result<String, NixpkgsError> {
    let (seconds, bytes) = (bounds.seconds.to_string(), format!("--fsize={}", bounds.file_bytes));
    let mut command = Command::new("timeout");
    command.args([&seconds, "prlimit", &bytes, program]).args(arguments);
    let too_long = || NixpkgsError::Nix(program, format!("it took longer than {seconds} s"));
    answer(program, &mut command, &|status| (status.code() == Some(124)).then(too_long))
}

fn run(program: &'static str, arguments: &[&str]) -> Result<String, NixpkgsError> {
    answer(program, Command::new(program).args(arguments), &|_| None)
}

/// What a command prints. `known` knows what some exit codes mean.
fn answer(
    program: &'static str,
    command: &mut Command,
    known: &dyn Fn(ExitStatus) -> Option<NixpkgsError>,
) -> Result<String, NixpkgsError> {
    let out = command.stdin(Stdio::null()).stderr(Stdio::piped()).output();
    match out {
        Ok(out) if out.status.success() => Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned()),
        Ok(out) => {
            if let Some(error) = known(out.status) {
                return Err(error);
            }
            let said = String::from_utf8_lossy(&out.stderr);
            // The last error with its continuation lines, joined.
            let said = said.rfind("error:").map_or(&*said, |at| &said[at..]);
            Err(NixpkgsError::Nix(program, clean_line(said, 400)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(NixpkgsError::NoNix),
        Err(error) => Err(NixpkgsError::Nix(program, error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fetch_that_takes_too_long_or_grows_too_large_is_ended() {
        let bounds = Bounds { seconds: 1, file_bytes: 1 << 20 };
        let error = run_within(&bounds, "sleep", &["1000"]).expect_err("it is ended");
        assert_eq!(error.to_string(), "sleep failed: it took longer than 1 s");
        let file = std::env::temp_dir().join(format!("binplz-large-{}", std::process::id()));
        let text = file.display().to_string();
        run_within(&bounds, "dd", &["if=/dev/zero", &format!("of={text}"), "bs=1M", "count=3"])
            .expect_err("it is ended");
        assert_eq!(fs::metadata(&file).expect("its beginning").len(), 1 << 20);
        fs::remove_file(&file).expect("removed");
    }
}
