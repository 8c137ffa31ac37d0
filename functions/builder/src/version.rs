//! The installed version of Nix, compared with the required one. Nix is asked only where a nixpkgs requires more than binplz
//! does, and after a failure, for which a missing or old Nix is then the likelier reason: an evaluation reports the version
//! by itself.

use std::{ffi::OsStr, fs, io::Read, path::Path};

use binplz_core::{
    build::failure::{Failure, Kind},
    nixpkgs::nix_version::{RequiredNix, TooOld},
};

use crate::{context::Ending, nix::Nix};

/// The most bytes that are read of a nixpkgs' file.
const FILE_MAX: u64 = 64 << 10;

impl From<TooOld> for Ending {
    fn from(error: TooOld) -> Ending {
        Ending::Failed(Failure::new(Kind::OldNix, error.to_string()))
    }
}

/// Asks Nix for its version, and fails if Nix is missing or too old for binplz. Returns what Nix says.
pub(crate) fn ask(nix: &Nix) -> Result<String, Ending> {
    ask_for(nix, RequiredNix::BY_BINPLZ)
}

/// The same for the nixpkgs in a directory, before it is evaluated.
pub(crate) fn ask_for_nixpkgs(nix: &Nix, set: &Path) -> Result<(), Ending> {
    match RequiredNix::by_nixpkgs(RequiredNix::FILES.iter().filter_map(|file| text_of(&set.join(file)))) {
        RequiredNix::BY_BINPLZ => Ok(()),
        required => ask_for(nix, required).map(drop),
    }
}

fn ask_for(nix: &Nix, required: RequiredNix) -> Result<String, Ending> {
    let asked = nix.ask("nix-store", &[OsStr::new("--version")]);
    let said = asked.map_err(|error| Ending::ours(format!("Nix is not installed (`nix-store`): {error}")))?;
    let said = said.map_err(|error| Ending::ours(format!("Nix does not run: {error}")))?;
    required.check(&said)?;
    Ok(said)
}

/// The beginning of a file of a nixpkgs, which may be anything else: a link, a pipe, no text.
fn text_of(file: &Path) -> Option<String> {
    fs::symlink_metadata(file).ok().filter(fs::Metadata::is_file)?;
    let mut text = Vec::new();
    fs::File::open(file).ok()?.take(FILE_MAX).read_to_end(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}
