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
    needs::{Subject, together},
    realise::Realised,
    wrapper::{self, Wrapper},
};

/// The most store paths of a program that are reported.
const LEFTOVERS_MAX: usize = 8;
/// How many wrappers may follow each other.
const WRAPPERS_MAX: u32 = 4;
/// The largest file that can be a wrapper: they are generated C of some lines.
const WRAPPER_BYTES_MAX: u64 = 4 << 20;

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
    let mut names = listed(realised)?;
    names.sort_by_key(|(name, ..)| !main.contains(&name.as_str()));
    names.truncate(PROGRAMS_MAX);

    let outputs: Vec<&Path> = realised.outputs.iter().map(|(_, path)| path.as_path()).collect();
    let inspector = Inspector { closure, outputs, system, limits };
    // Several names may lead to one file, which is read once.
    let mut known: HashMap<(u64, u64), (Verdict, PathBuf)> = HashMap::new();
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
                let (verdict, file) = match known.get(&inode) {
                    Some(known) => known.clone(),
                    None => inspector.look(&bin, file, WRAPPERS_MAX)?,
                };
                known.insert(inode, (verdict.clone(), file.clone()));
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

/// The files in `bin/` of each output whose names can be a program's: by output, and by name.
pub(crate) fn listed(realised: &Realised) -> io::Result<Vec<(Bin, &OutputName, PathBuf)>> {
    let mut names = Vec::new();
    for (output, path) in &realised.outputs {
        let Way::To(bin) = realised.closure.resolve(&path.join("bin")) else { continue };
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
    Ok(names)
}

/// Why no program of these can be served, if that is so.
pub(crate) fn failure_of(found: &[Found]) -> Option<Failure> {
    let refusals: Vec<(&Bin, &Refusal)> = found
        .iter()
        .filter_map(|found| match &found.program.verdict {
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
        refusals if refusals.iter().any(|(_, why)| **why == Refusal::TooLarge) => Kind::TooLarge,
        _ => Kind::NotStatic,
    };
    Some(Failure::new(kind, reasons.join("; ")))
}

fn refused(why: Refusal) -> Verdict {
    Verdict::Refused { why }
}

/// Inspects files that are not links.
struct Inspector<'a> {
    closure: &'a Closure,
    outputs: Vec<&'a Path>,
    system: System,
    limits: &'a JobLimits,
}

impl Inspector<'_> {
    /// The verdict on a program, and the file that it is about: a wrapper that only sets variables gives way to the program
    /// that it runs.
    fn look(&self, bin: &Bin, path: PathBuf, wrappers: u32) -> io::Result<(Verdict, PathBuf)> {
        let metadata = fs::symlink_metadata(&path)?;
        // Opening a pipe or a device could block forever.
        if !metadata.is_file() {
            return Ok((refused(Refusal::NotAProgram), path));
        }
        let mut file = File::open(&path)?;
        let mut start = Vec::new();
        file.by_ref().take(2).read_to_end(&mut start)?;
        if start == b"#!" {
            return Ok((refused(Refusal::Script), path));
        }
        if metadata.permissions().mode() & 0o111 == 0 {
            return Ok((refused(Refusal::NotAProgram), path));
        }
        if let Err(why) = elf::judge(&file, self.system)? {
            return Ok((refused(why), path));
        }
        if metadata.len() > self.limits.program_bytes {
            return Ok((refused(Refusal::TooLarge), path));
        }
        if metadata.len() <= WRAPPER_BYTES_MAX
            && let Some(wrapper) = wrapper::parse(&fs::read(&path)?)
        {
            return self.unwrap(bin, wrapper, path, wrappers);
        }
        Ok((self.read(bin, &path)?, path))
    }

    /// The verdict on a wrapper.
    fn unwrap(&self, bin: &Bin, wrapper: Wrapper, path: PathBuf, wrappers: u32) -> io::Result<(Verdict, PathBuf)> {
        let name = Path::new(&wrapper.runs).file_name().unwrap_or_default().to_string_lossy().into_owned();
        if wrapper.only_variables
            && let (Some(fewer), Way::To(target)) =
                (wrappers.checked_sub(1), self.closure.resolve(Path::new(&wrapper.runs)))
            && let (Verdict::Static { sha256, size, leftovers, needs, .. }, target) = self.look(bin, target, fewer)?
        {
            let subject = Subject { closure: self.closure, outputs: &self.outputs, file: &target };
            let mut needs = needs.unwrap_or_default();
            needs.extend(wrapper.variables.iter().flat_map(|(name, value)| subject.needs_of_variable(name, value)));
            let needs = Some(together(needs));
            return Ok((Verdict::Static { sha256, size, leftovers, needs, unwrapped: true }, target));
        }
        Ok((refused(Refusal::Wrapper(name)), path))
    }

    /// Reads a whole static program: its hash, its size, and the store paths in it.
    fn read(&self, bin: &Bin, path: &Path) -> io::Result<Verdict> {
        let mut file = File::open(path)?;
        let mut hasher = Sha256::new();
        let mut leftovers = Leftovers::new(self.closure);
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
        let found = leftovers.end();
        // The name that nixpkgs gives to a wrapped program. A program that contains it is a wrapper of another make.
        let wrapped = format!("/.{bin}-wrapped");
        let is_other = |wrapped: &String| self.closure.resolve(Path::new(wrapped)) != Way::To(path.to_owned());
        if found.paths.iter().any(|path| path.ends_with(&wrapped) && is_other(path)) {
            return Ok(refused(Refusal::Wrapper(wrapped.trim_start_matches('/').to_owned())));
        }
        let needs = Subject { closure: self.closure, outputs: &self.outputs, file: path }.needs(&found);
        let leftovers = found.paths.into_iter().take(LEFTOVERS_MAX).collect();
        Ok(Verdict::Static {
            sha256: <[u8; 32]>::from(hasher.finalize()).into(),
            size,
            leftovers,
            needs: Some(needs),
            unwrapped: false,
        })
    }
}

#[cfg(test)]
mod tests;
