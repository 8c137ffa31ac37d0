//! A package's archive: its static programs, and the files of `share/` that are of use without a Nix store (manual pages,
//! completions, licences and others) and licences beside it, as a `.tar.gz` with one directory. Links stay links. Equal outputs make equal bytes.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::{self, ErrorKind, Read},
    os::unix::fs::PermissionsExt,
    path::{Component, Path, PathBuf},
};

use binplz_core::{
    id::key::{OutputName, Sha256},
    objects::{artifact::Verdict, content::Content},
};
use binplz_nar::Packer;
use memchr::memmem;
use tar::{Builder, EntryType, Header};

use crate::{
    closure::{Closure, Way},
    programs::Found,
    realise::Realised,
};

/// The time of every entry. Programs that unpack warn of times before 1980.
const TIME: u64 = 315_532_800;
/// The most files below `share/`.
const FILES_MAX: usize = 20_000;
/// Files below these directories are texts for people: of use even if they mention the store.
const TEXTS: [&str; 3] = ["share/man", "share/info", "share/licenses"];

/// The beginnings of names of licences and notices, in capitals.
const LICENCES: [&str; 5] = ["COPYING", "COPYRIGHT", "LICENCE", "LICENSE", "NOTICE"];

/// An entry of the archive, by its path below the top directory.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    /// A copy of this file.
    File(PathBuf),
    /// A link to the entry of that path; also the file that it leads to.
    Link(PathBuf, PathBuf),
}

type Entries = BTreeMap<PathBuf, Entry>;

/// Writes the archive of the `installed` outputs to the file `to`; `None` if it would have more than `most` bytes, or too
/// many files.
pub(crate) fn pack(
    top: &str,
    realised: &Realised,
    installed: &[OutputName],
    found: &[Found],
    most: u64,
    to: &Path,
) -> io::Result<Option<Content>> {
    let outputs = realised.outputs.iter().filter(|(name, _)| installed.contains(name));
    let outputs: Vec<&Path> = outputs.map(|(_, path)| path.as_path()).collect();
    let found = found.iter().filter(|found| found.program.output.as_ref().is_some_and(|name| installed.contains(name)));
    let entries = entries(&outputs, &realised.closure, programs(found));
    let packed = entries.and_then(|entries| write(top, &entries, most, to));
    match packed {
        Err(error) if error.kind() == ErrorKind::FileTooLarge => Ok(None),
        packed => packed.map(Some),
    }
}

/// The top directory's name: the package's with its version.
pub(crate) fn top(pname: &str, version: &str) -> String {
    let name = if version.is_empty() { pname.to_owned() } else { format!("{pname}-{version}") };
    let plain = |c: char| if c.is_ascii_alphanumeric() || "_.+-".contains(c) { c } else { '_' };
    let name: String = name.chars().map(plain).collect();
    if name.is_empty() || name.starts_with(['.', '-']) { format!("_{name}") } else { name }
}

/// The programs, and what is below `share/`. Of two entries of one path, that of the first output counts.
fn entries(outputs: &[&Path], closure: &Closure, programs: Entries) -> io::Result<Entries> {
    let mut share = Share { outputs, closure, entries: Entries::new() };
    for output in outputs {
        share.walk(&output.join("share"), Path::new("share"), &mut Vec::new())?;
        share.licences(output)?;
    }
    let mut entries = share.entries;
    entries.extend(programs);
    // A link whose entry is missing becomes a copy.
    let missing: Vec<_> = entries
        .iter()
        .filter_map(|(path, entry)| match entry {
            Entry::Link(to, file) if !entries.contains_key(to) => Some((path.clone(), file.clone())),
            _ => None,
        })
        .collect();
    entries.extend(missing.into_iter().map(|(path, file)| (path, Entry::File(file))));
    Ok(entries)
}

/// Names of one content are one file, the one that is no link in the output, and links to it.
fn programs<'a>(found: impl Iterator<Item = &'a Found>) -> Entries {
    let stored: Vec<(&str, &Sha256, &PathBuf)> = found
        .filter_map(|found| match (&found.program.verdict, &found.file) {
            (Verdict::Static { sha256, .. }, Some(file)) => Some((found.program.bin.as_str(), sha256, file)),
            _ => None,
        })
        .collect();
    let mut files: HashMap<&Sha256, &str> = HashMap::new();
    for (bin, sha256, file) in &stored {
        let is_file = file.file_name().is_some_and(|name| name == *bin);
        let first = files.entry(*sha256).or_insert(bin);
        if is_file {
            *first = bin;
        }
    }
    let path = |bin: &str| Path::new("bin").join(bin);
    let entry = |(bin, sha256, file): (&str, &Sha256, &PathBuf)| {
        let entry = match files[sha256] {
            first if first == bin => Entry::File(file.clone()),
            first => Entry::Link(path(first), file.clone()),
        };
        (path(bin), entry)
    };
    stored.into_iter().map(entry).collect()
}

/// What is found below the outputs' `share/`.
struct Share<'a> {
    outputs: &'a [&'a Path],
    closure: &'a Closure,
    entries: Entries,
}

impl Share<'_> {
    /// Adds the files of a directory as `path/…`. `above`: the directories that it was reached through; a link to one of
    /// them would lead on without end.
    fn walk(&mut self, dir: &Path, path: &Path, above: &mut Vec<PathBuf>) -> io::Result<()> {
        let Way::To(dir) = self.closure.resolve(dir) else { return Ok(()) };
        if !dir.is_dir() || above.contains(&dir) {
            return Ok(());
        }
        above.push(dir.clone());
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let (found, path) = (entry.path(), path.join(entry.file_name()));
            // A name that is not UTF-8 means nothing elsewhere.
            let Way::To(file) = self.closure.resolve(&found) else { continue };
            if path.to_str().is_none() || self.entries.contains_key(&path) {
                continue;
            }
            if file.is_dir() {
                self.walk(&found, &path, above)?;
            } else if file.is_file() && self.is_of_use(&file, &path)? {
                if self.entries.len() >= FILES_MAX {
                    return Err(ErrorKind::FileTooLarge.into());
                }
                let target =
                    if entry.file_type()?.is_symlink() { self.target(&fs::read_link(&found)?, &path) } else { None };
                let entry = target.map_or_else(|| Entry::File(file.clone()), |to| Entry::Link(to, file.clone()));
                self.entries.insert(path, entry);
            }
        }
        above.pop();
        Ok(())
    }

    /// Adds the licences at the top of an output.
    fn licences(&mut self, output: &Path) -> io::Result<()> {
        let Way::To(dir) = self.closure.resolve(output) else { return Ok(()) };
        if !dir.is_dir() {
            return Ok(());
        }
        for entry in fs::read_dir(dir)? {
            let found = entry?.path();
            let path = PathBuf::from(found.file_name().unwrap_or_default());
            let Way::To(file) = self.closure.resolve(&found) else { continue };
            if path.to_str().is_some() && is_licence(&path) && file.is_file() {
                self.entries.entry(path).or_insert(Entry::File(file));
            }
        }
        Ok(())
    }

    /// The entry that a link leads to; `None` if it leads out of the outputs.
    fn target(&self, link: &Path, path: &Path) -> Option<PathBuf> {
        if link.is_absolute() {
            return self.outputs.iter().find_map(|output| link.strip_prefix(output).ok()).map(Path::to_owned);
        }
        let mut to = path.parent()?.to_owned();
        for part in link.components() {
            match part {
                Component::Normal(name) => to.push(name),
                Component::CurDir => {}
                Component::ParentDir if to.pop() => {}
                _ => return None,
            }
        }
        Some(to)
    }

    /// Whether a file is of use without a store: a text for people, or one that does not mention the store.
    fn is_of_use(&self, file: &Path, path: &Path) -> io::Result<bool> {
        if is_licence(path) || TEXTS.iter().any(|dir| path.starts_with(dir)) {
            return Ok(true);
        }
        let store = format!("{}/", self.closure.store().display()).into_bytes();
        let (mut file, mut buffer, mut kept) = (File::open(file)?, vec![0; 256 << 10], 0);
        loop {
            let read = file.read(&mut buffer[kept..])?;
            let length = kept + read;
            if memmem::find(&buffer[..length], &store).is_some() {
                return Ok(false);
            }
            if read == 0 {
                return Ok(true);
            }
            // It may begin at the end of this part.
            kept = length.min(store.len() - 1);
            buffer.copy_within(length - kept..length, 0);
        }
    }
}

/// Whether a file is a licence or a notice, by its name.
fn is_licence(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_ascii_uppercase();
    LICENCES.iter().any(|start| name.starts_with(start))
}

/// Writes entries in the order of their paths.
fn write(top: &str, entries: &Entries, most: u64, to: &Path) -> io::Result<Content> {
    let mut archive = Builder::new(Packer::new(File::create(to)?, most));
    for (path, entry) in entries {
        let mut header = Header::new_gnu();
        header.set_mtime(TIME);
        header.set_uid(0);
        header.set_gid(0);
        let name = Path::new(top).join(path);
        match entry {
            Entry::File(file) => {
                let file = File::open(file)?;
                let about = file.metadata()?;
                header.set_entry_type(EntryType::Regular);
                header.set_mode(if about.permissions().mode() & 0o111 == 0 { 0o644 } else { 0o755 });
                header.set_size(about.len());
                archive.append_data(&mut header, name, file)?;
            }
            Entry::Link(to, _) => {
                header.set_entry_type(EntryType::Symlink);
                header.set_mode(0o777);
                header.set_size(0);
                archive.append_link(&mut header, name, relative(path, to))?;
            }
        }
    }
    let (content, _) = archive.into_inner()?.finish()?;
    Ok(content)
}

/// The text of a link at `path` to `to`.
fn relative(path: &Path, to: &Path) -> PathBuf {
    let from: Vec<_> = path.parent().into_iter().flat_map(Path::components).collect();
    let to: Vec<_> = to.components().collect();
    let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    from[shared..].iter().map(|_| Component::ParentDir).chain(to[shared..].iter().copied()).collect()
}

#[cfg(test)]
mod tests;
