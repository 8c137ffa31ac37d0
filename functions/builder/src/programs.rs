//! The programs in a package's `bin/`, and whether each can be served.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use binplz_core::{
    build::{
        failure::{Failure, Kind},
        protocol::{JobLimits, PROGRAMS_MAX},
    },
    id::key::{Bin, OutputName, System},
    objects::artifact::{Program, Refusal, Verdict},
};
use sha2::{Digest, Sha256};

use crate::{
    closure::{Closure, Way},
    elf,
    leftovers::Leftovers,
    log::name_of,
    realise::Realised,
};

/// A program, and the file that holds it.
pub(crate) struct Found {
    /// Its entry in the manifest.
    pub(crate) program: Program,
    /// The resolved file: not a link, and in the closure.
    pub(crate) file: Option<PathBuf>,
}

/// Inspects every file in `bin/` of each output whose name can be a program's; others (`.x-wrapped`) cannot be requested.
///
/// The package's size limit goes to its main program first, so that a package that exceeds it serves that one; then to
/// the outputs in their order. So does the limit on their number. The limit is of stored bytes: a content with several
/// names counts once.
pub(crate) fn inspect(
    realised: &Realised,
    system: System,
    limits: &JobLimits,
    main: &[&str],
) -> io::Result<Vec<Found>> {
    let closure = &realised.closure;
    let mut names: Vec<(Bin, &OutputName, PathBuf)> = Vec::new();
    for (output, path) in &realised.outputs {
        let Way::To(bin) = closure.resolve(&path.join("bin")) else { continue };
        if !bin.is_dir() {
            continue;
        }
        let mut here = Vec::new();
        for entry in fs::read_dir(&bin)? {
            here.extend(entry?.file_name().to_str().and_then(|name| name.parse::<Bin>().ok()));
        }
        here.sort();
        names.extend(here.into_iter().map(|name| (name.clone(), output, bin.join(name.as_str()))));
    }
    // Objects are called like programs, so there is one of each name.
    let mut seen = HashSet::new();
    names.retain(|(name, ..)| seen.insert(name.clone()));
    names.sort_by_key(|(name, ..)| !main.contains(&name.as_str()));
    names.truncate(PROGRAMS_MAX);

    // Several names may lead to one file, which is read once.
    let mut known: HashMap<(u64, u64), Verdict> = HashMap::new();
    let mut room = limits.package_bytes;
    let mut contents = HashSet::new();
    let mut found = Vec::new();
    for (bin, output, path) in names {
        let (verdict, file) = match closure.resolve(&path) {
            Way::Out => (refused(Refusal::OutsideLink), None),
            Way::Nowhere => (refused(Refusal::NotAProgram), None),
            Way::To(file) if file.is_dir() => continue,
            Way::To(file) => {
                let metadata = fs::symlink_metadata(&file)?;
                let inode = (metadata.dev(), metadata.ino());
                let verdict = match known.get(&inode) {
                    Some(verdict) => verdict.clone(),
                    None => look(&file, &metadata, closure, system, limits)?,
                };
                known.insert(inode, verdict.clone());
                (verdict, Some(file))
            }
        };
        let verdict = match verdict {
            Verdict::Static { ref sha256, size, .. } if !contents.contains(sha256) => {
                if size > room {
                    refused(Refusal::TooLarge)
                } else {
                    room -= size;
                    contents.insert(sha256.clone());
                    verdict
                }
            }
            verdict => verdict,
        };
        found.push(Found { program: Program { bin, output: Some(output.clone()), verdict }, file });
    }
    found.sort_by_key(|found| (found.program.bin.clone(), found.program.output.clone()));
    Ok(found)
}

/// Why no program of these can be served, if that is so.
pub(crate) fn failure_of(found: &[Found]) -> Option<Failure> {
    let refusals: Vec<(&Bin, Refusal)> = found
        .iter()
        .filter_map(|found| match found.program.verdict {
            Verdict::Refused { why } => Some((&found.program.bin, why)),
            Verdict::Static { .. } => None,
        })
        .collect();
    if refusals.len() < found.len() {
        return None;
    }
    let reasons: Vec<String> = refusals.iter().map(|(bin, why)| format!("`{bin}` {}", why.sentence())).collect();
    let kind = match refusals.as_slice() {
        [] => return Some(Failure::new(Kind::NoProgram, "it has no programs")),
        refusals if refusals.iter().any(|(_, why)| *why == Refusal::TooLarge) => Kind::TooLarge,
        _ => Kind::NotStatic,
    };
    Some(Failure::new(kind, reasons.join("; ")))
}

fn refused(why: Refusal) -> Verdict {
    Verdict::Refused { why }
}

/// Inspects one file that is not a link.
fn look(
    path: &Path,
    metadata: &fs::Metadata,
    closure: &Closure,
    system: System,
    limits: &JobLimits,
) -> io::Result<Verdict> {
    // Opening a pipe or a device could block forever.
    if !metadata.is_file() {
        return Ok(refused(Refusal::NotAProgram));
    }
    let mut file = File::open(path)?;
    let mut start = Vec::new();
    file.by_ref().take(2).read_to_end(&mut start)?;
    if start == b"#!" {
        return Ok(refused(Refusal::Script));
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Ok(refused(Refusal::NotAProgram));
    }
    if let Err(why) = elf::judge(&file, system)? {
        return Ok(refused(why));
    }
    if metadata.len() > limits.program_bytes {
        return Ok(refused(Refusal::TooLarge));
    }
    read(File::open(path)?, closure)
}

/// Reads a whole static program: its hash, its size, and the store paths in it.
fn read(mut file: File, closure: &Closure) -> io::Result<Verdict> {
    let mut hasher = Sha256::new();
    let mut leftovers = Leftovers::new(closure);
    let mut size = 0;
    let mut buffer = vec![0; 256 << 10];
    loop {
        let read = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&buffer[..read]);
        leftovers.scan(&buffer[..read]);
        size += read as u64;
    }
    Ok(Verdict::Static { sha256: name_of(hasher), size, leftovers: leftovers.end() })
}

#[cfg(test)]
mod tests;
