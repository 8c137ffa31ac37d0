//! `binplz reproduce HOST TARGET`: builds with this machine's Nix what a service serves, and compares the two.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use binplz_core::id::{
    key::{Attr, Bin, OutputName, Rev, Sha256, System},
    target::{Target, Wanted},
};
use binplz_signing::Digester;
use clap::Args as ClapArgs;
use serde::Deserialize;

use crate::check::{CheckError, host::Host};

/// `nix-store --check` exits with it if the outputs of two builds differ.
const DIFFERS: i32 = 104;

/// The arguments of `binplz reproduce`.
#[derive(ClapArgs, Debug)]
pub(crate) struct Reproduce {
    /// The URL of the service
    host: String,
    /// The program: tree, procps/ps, 'tree?pin=unstable'
    target: Target,
    /// The Nixpkgs to build from: a directory, or the URL of a tarball [default: from GitHub, the commit that the service names]
    #[arg(long, value_name = "NIXPKGS")]
    nixpkgs: Option<String>,
}

/// A package, as far as its page's JSON matters here.
#[derive(Deserialize)]
struct Package {
    package: Attr,
    system: System,
    nixpkgs: Rev,
    programs: Vec<Program>,
}

#[derive(Deserialize)]
struct Program {
    program: Bin,
    main: bool,
    output: Option<OutputName>,
    sha256: Option<Sha256>,
}

/// Builds, compares and prints the result.
///
/// # Errors
/// [`CheckError`]: the two differ, or one of them is not to be had.
pub(crate) fn reproduce(args: &Reproduce) -> Result<(), CheckError> {
    let host = Host::new(&args.host);
    let page = Target { wanted: Wanted::Package(args.target.wanted.attr().clone()), ..args.target.clone() };
    let package: Package = host.json(&format!("p/{page}"))?;
    let (program, served) = chosen(&package, &args.target)?;
    let built =
        build(&package, program.output.as_ref(), args.nixpkgs.as_deref())?.join("bin").join(program.program.as_str());
    let failed = |cause| CheckError::File { path: built.clone(), cause };
    let open = || File::open(&built).map_err(failed);
    let (ours, _) = Digester::of(open()?).map_err(failed)?;
    let name = format!("{}/{} for {}", package.package, program.program, package.system);
    if ours.sha256 == *served {
        println!("reproduced: {name} has the sha256 {served} here too");
        return Ok(());
    }
    let theirs = BufReader::new(host.download(&args.target.to_string())?);
    let at = difference(BufReader::new(open()?), theirs).map_err(failed)?;
    let at = at.map_or("the download does not have that sha256 either".to_owned(), |at| {
        format!("the first difference is at byte {at}")
    });
    Err(CheckError::Wrong(format!(
        "{name} differs: the service has the sha256 {served}, and {} has {}; {at}",
        built.display(),
        ours.sha256
    )))
}

/// The program that a target leads to, and its sha256.
fn chosen<'p>(package: &'p Package, target: &Target) -> Result<(&'p Program, &'p Sha256), CheckError> {
    let is_it = |program: &&Program| match &target.wanted {
        Wanted::Program(_, bin) => program.program == *bin,
        Wanted::Package(_) => program.main,
        Wanted::Archive(_) | Wanted::Bundle { .. } => false,
    };
    let found = package.programs.iter().find(is_it).and_then(|program| Some((program, program.sha256.as_ref()?)));
    found.ok_or_else(|| {
        CheckError::Wrong(format!("the service has built no program {target}; request it first, by PACKAGE/PROGRAM"))
    })
}

/// Builds the package's output, and returns its directory. What is in the Nix store already is built once more.
fn build(package: &Package, output: Option<&OutputName>, nixpkgs: Option<&str>) -> Result<PathBuf, CheckError> {
    let from = format!("https://github.com/NixOS/nixpkgs/archive/{}.tar.gz", package.nixpkgs);
    let output = output.map_or("out", OutputName::as_str);
    let attr = format!("pkgsStatic.{}.{output}", package.package);
    let system = package.system.to_string();
    let set = ["--argstr", "system", &system, "--arg", "config", "{ }", "--arg", "overlays", "[ ]"];
    let told = nix("nix-instantiate", &[&[nixpkgs.unwrap_or(&from)], &set[..], &["-A", &attr]].concat())?;
    let drv = told.split('!').next().unwrap_or_default().to_owned();
    let path = nix("nix-store", &["--query", "--binding", output, &drv])?;
    let was_there = run("nix-store", &["--check-validity", &path], Stdio::null())?.0 == 0;
    let more: &[&str] = if was_there { &["--check", "--keep-failed"] } else { &[] };
    match run("nix-store", &[&["--realise", &drv], more].concat(), Stdio::inherit())? {
        (0, _) => Ok(path.into()),
        (DIFFERS, _) if Path::new(&format!("{path}.check")).exists() => Ok(format!("{path}.check").into()),
        // Another output differs.
        (DIFFERS, _) => Ok(path.into()),
        (code, _) => Err(CheckError::Wrong(format!("Nix did not build {drv} (nix-store exited with {code})"))),
    }
}

fn nix(program: &str, arguments: &[&str]) -> Result<String, CheckError> {
    match run(program, arguments, Stdio::inherit())? {
        (0, told) => Ok(told),
        (code, _) => Err(CheckError::Wrong(format!("{program} exited with {code}"))),
    }
}

/// Runs a program of Nix: its exit code, and the line that it prints.
fn run(program: &str, arguments: &[&str], errors: Stdio) -> Result<(i32, String), CheckError> {
    let out = Command::new(program).args(arguments).stdin(Stdio::null()).stderr(errors).output();
    let out = out.map_err(|cause| CheckError::File { path: program.into(), cause })?;
    Ok((out.status.code().unwrap_or(-1), String::from_utf8_lossy(&out.stdout).trim().to_owned()))
}

/// The place of the first byte, from 0, by which two files differ; `None`: they do not.
fn difference(ours: impl BufRead, theirs: impl BufRead) -> io::Result<Option<u64>> {
    let (mut ours, mut theirs) = (ours.bytes(), theirs.bytes());
    for at in 0.. {
        match (ours.next().transpose()?, theirs.next().transpose()?) {
            (None, None) => break,
            (a, b) if a == b => {}
            _ => return Ok(Some(at)),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_a_byte_or_the_end_of_the_shorter_one() {
        let at = |a: &[u8], b: &[u8]| difference(a, b).expect("memory");
        assert_eq!(at(b"", b""), None);
        assert_eq!(at(b"abc", b"abc"), None);
        assert_eq!((at(b"abc", b"abd"), at(b"abc", b"ab"), at(b"", b"x")), (Some(2), Some(2), Some(0)));
    }
}
