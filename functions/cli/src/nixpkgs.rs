//! Which nixpkgs `--nixpkgs` means, and whether there is a Nix to build it with.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use binplz_core::{
    key::Rev,
    pins::{Pin, PinName, Source},
    protocol::Nixpkgs,
};
use serde::Deserialize;
use thiserror::Error;

/// The oldest Nix that is known to work.
const OLDEST: (u32, u32) = (2, 8);

/// Why there is nothing to build from or with.
#[derive(Debug, Error)]
pub(crate) enum Fault {
    /// No `nix-store` in PATH.
    #[error(
        "there is no Nix here (nix-store is not in PATH); install it: apt install nix-bin, or https://nixos.org/download"
    )]
    NoNix,
    /// Too old.
    #[error("this Nix is {0}; 2.8 or newer is needed: https://nixos.org/download")]
    OldNix(String),
    /// Cannot be read as a package set.
    #[error("--nixpkgs is neither a directory with a default.nix nor github:NixOS/nixpkgs/COMMIT (40 hex digits): {0}")]
    NoSet(String),
    /// Nix did not do it.
    #[error("{0} failed: {1}")]
    Nix(&'static str, String),
    /// `infra/pins.json` as it was compiled in.
    #[error("infra/pins.json: {0}")]
    Pins(String),
}

/// Checks that Nix is there and new enough.
///
/// # Errors
/// [`Fault`].
pub(crate) fn check_nix() -> Result<(), Fault> {
    let told = run("nix-store", &["--version"])?;
    let version = told.rsplit(' ').next().unwrap_or("").trim().to_owned();
    let mut numbers = version.split(['.', 'p']).map(|number| number.parse::<u32>().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found >= OLDEST { Ok(()) } else { Err(Fault::OldNix(version)) }
}

#[derive(Deserialize)]
struct PinsFile {
    default: PinName,
    pins: BTreeMap<PinName, Known>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Known {
    rev: Rev,
    nar_hash: String,
}

/// The pin that `--nixpkgs` means; without it, the default of `infra/pins.json`.
///
/// # Errors
/// [`Fault`].
pub(crate) fn pin(named: Option<&str>) -> Result<(PinName, Pin), Fault> {
    let file: PinsFile = serde_json::from_str(include_str!("../../../../infra/pins.json"))
        .map_err(|error| Fault::Pins(error.to_string()))?;
    match named {
        None => {
            let known = file.pins.get(&file.default).ok_or_else(|| Fault::Pins("no default".to_owned()))?;
            Ok((file.default.clone(), github(&known.rev, Some(&known.nar_hash))))
        }
        Some(named) => match named.strip_prefix("github:NixOS/nixpkgs/") {
            Some(commit) => {
                let rev: Rev = commit.parse().map_err(|_| Fault::NoSet(named.to_owned()))?;
                match file.pins.iter().find(|(_, known)| known.rev == rev) {
                    Some((name, known)) => Ok((name.clone(), github(&rev, Some(&known.nar_hash)))),
                    None => Ok((name("github")?, github(&rev, None))),
                }
            }
            None => Ok((name("local")?, snapshot(named)?)),
        },
    }
}

fn name(name: &str) -> Result<PinName, Fault> {
    name.parse().map_err(|why| Fault::Pins(format!("{name} {why}")))
}

fn github(rev: &Rev, nar_hash: Option<&str>) -> Pin {
    let url = format!("https://github.com/NixOS/nixpkgs/archive/{rev}.tar.gz");
    Pin { rev: rev.clone(), nixpkgs: Nixpkgs::Tarball { url, nar_hash: nar_hash.map(str::to_owned) }.into() }
}

/// Copies a set into the Nix store. Its revision is the hash of its content, so a changed set is another one.
fn snapshot(path: &str) -> Result<Pin, Fault> {
    let no_set = |error: io::Error| Fault::NoSet(format!("{path} ({error})"));
    let set: PathBuf = Path::new(path).canonicalize().map_err(no_set)?;
    if !set.join("default.nix").is_file() {
        return Err(Fault::NoSet(path.to_owned()));
    }
    let set = set.to_str().ok_or_else(|| Fault::NoSet(path.to_owned()))?;
    let expression = include_str!("snapshot.nix");
    let arguments =
        ["--eval", "--strict", "--json", "--read-write-mode", "--argstr", "path", set, "--expr", expression];
    let copied = run("nix-instantiate", &arguments)?;
    let stored: String =
        serde_json::from_str(&copied).map_err(|error| Fault::Nix("nix-instantiate", error.to_string()))?;
    let hash = run("nix-hash", &["--type", "sha256", &stored])?;
    let rev = hash.get(..40).and_then(|digits| digits.parse().ok());
    let rev = rev.ok_or_else(|| Fault::Nix("nix-hash", hash.clone()))?;
    Ok(Pin { rev, nixpkgs: Nixpkgs::Path(stored).into() })
}

/// Keeps a set that lies in the Nix store from being collected as garbage, for as long as the data directory has `nixpkgs`.
///
/// # Errors
/// [`Fault`].
pub(crate) fn keep(pin: &Pin, data: &Path) -> Result<(), Fault> {
    let Source::Elsewhere(Nixpkgs::Path(stored)) = &pin.nixpkgs else { return Ok(()) };
    let root = std::path::absolute(data.join("nixpkgs")).map_err(|error| Fault::Nix("nix-store", error.to_string()))?;
    let root = root.to_string_lossy();
    run("nix-store", &["--realise", stored, "--add-root", &root, "--indirect"]).map(|_| ())
}

fn run(program: &'static str, arguments: &[&str]) -> Result<String, Fault> {
    let out = Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::piped()).output();
    match out {
        Ok(out) if out.status.success() => Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned()),
        Ok(out) => {
            let said = String::from_utf8_lossy(&out.stderr);
            Err(Fault::Nix(program, said.lines().rev().find(|line| line.contains("error")).unwrap_or(&said).to_owned()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Fault::NoNix),
        Err(error) => Err(Fault::Nix(program, error.to_string())),
    }
}
