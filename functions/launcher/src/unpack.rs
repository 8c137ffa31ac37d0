//! Writes the files of a bundle below a directory, and checks those that were written earlier.

use std::{
    collections::HashMap,
    fs::{self, File, FileTimes, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, symlink},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rustix::{fs::Mode, process::umask};
use sha2::{Digest, Sha256};

use crate::{
    error::{At, StartError},
    manifest::{Entry, Kind},
    read::{Bundle, Frames},
};

/// The store's place, and the bytes of it that are in every file that mentions a store path.
pub(crate) const STORE: &str = "/nix/store";

/// The time of all files in a Nix store. Python's compiled files, for example, hold those of their sources.
fn times() -> FileTimes {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    FileTimes::new().set_accessed(time).set_modified(time)
}

/// Runs what creates files with exactly the modes that it names. There is no other thread, which would do so too.
pub(crate) fn with_exact_modes<T>(create: impl FnOnce() -> T) -> T {
    let before = umask(Mode::empty());
    let created = create();
    umask(before);
    created
}

/// Unpacks to `to`, an empty directory that nothing else writes to. With `moved_to`, a path of the length of [`STORE`], files
/// mention that in its place.
///
/// # Errors
/// A damaged bundle, or what writing says.
pub(crate) fn unpack(bundle: &Bundle, to: &Path, moved_to: Option<&str>) -> Result<(), StartError> {
    let entries = &bundle.manifest.entries;
    let mut frames = bundle.frames();
    for entry in entries {
        let path = to.join(entry.path());
        match &entry.kind {
            Kind::Directory => fs::create_dir(&path).at(&path)?,
            Kind::File { executable, size, .. } => {
                let mode = if *executable { 0o555 } else { 0o444 };
                // The directories above are new, and no link is followed to a new file.
                let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path).at(&path)?;
                write(&mut file, &mut frames, *size, moved_to).map_err(|error| match error {
                    StartError::File { error, .. } => StartError::File { path: path.clone(), error },
                    error => error,
                })?;
                file.set_times(times()).at(&path)?;
            }
            Kind::Link(target) => {
                let target = moved(target.clone(), moved_to);
                symlink(Entry { path: target, kind: Kind::Directory }.path(), &path).at(&path)?;
            }
            Kind::Same(first) => fs::hard_link(to.join(entries[*first].path()), &path).at(&path)?,
        }
    }
    // Their times change with each file in them.
    for entry in entries.iter().rev().filter(|entry| entry.kind == Kind::Directory) {
        let path = to.join(entry.path());
        File::open(&path).and_then(|dir| dir.set_times(times())).at(&path)?;
    }
    Ok(())
}

fn write(file: &mut File, frames: &mut Frames, size: u64, moved_to: Option<&str>) -> Result<(), StartError> {
    // The end of what was read, which may be the beginning of a mention.
    let (mut left, mut held) = (size, Vec::new());
    while left > 0 {
        let bytes = frames.take(left)?;
        left -= bytes.len() as u64;
        if moved_to.is_none() {
            file.write_all(bytes).at(Path::new(""))?;
            continue;
        }
        held.extend_from_slice(bytes);
        held = moved(held, moved_to);
        let ready = if left == 0 { held.len() } else { held.len().saturating_sub(STORE.len() - 1) };
        file.write_all(&held[..ready]).at(Path::new(""))?;
        held.drain(..ready);
    }
    Ok(())
}

/// The bytes with another place for the store, of the same length.
fn moved(mut bytes: Vec<u8>, moved_to: Option<&str>) -> Vec<u8> {
    let Some(moved_to) = moved_to else { return bytes };
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(STORE.len()).position(|window| window == STORE.as_bytes()) {
        at += found;
        bytes[at..at + STORE.len()].copy_from_slice(moved_to.as_bytes());
        at += STORE.len();
    }
    bytes
}

/// Whether the directory `at` holds what [`unpack`] wrote there, `others` files beside the store paths, and nothing else. Reads
/// all files.
pub(crate) fn is_whole(bundle: &Bundle, at: &Path, others: usize) -> bool {
    let entries = &bundle.manifest.entries;
    let mut children: HashMap<&Path, usize> = HashMap::new();
    for parent in entries.iter().filter_map(|entry| entry.path().parent()) {
        *children.entry(parent).or_default() += 1;
    }
    let top = children.get(Path::new("")).copied().unwrap_or(0) + others;
    fs::read_dir(at).is_ok_and(|found| found.count() == top)
        && entries.iter().all(|entry| is_entry(entries, entry, at, &children).unwrap_or(false))
}

fn is_entry(entries: &[Entry], entry: &Entry, at: &Path, children: &HashMap<&Path, usize>) -> io::Result<bool> {
    let path = at.join(entry.path());
    let facts = fs::symlink_metadata(&path)?;
    Ok(match &entry.kind {
        Kind::Directory => {
            facts.is_dir() && fs::read_dir(&path)?.count() == children.get(entry.path()).copied().unwrap_or(0)
        }
        Kind::File { executable, size, sha256 } => {
            let mode = if *executable { 0o555 } else { 0o444 };
            facts.is_file()
                && facts.mode() & 0o7777 == mode
                && facts.len() == *size
                && facts.mtime() == 1
                && hash(&path)? == *sha256
        }
        Kind::Link(target) => {
            facts.is_symlink() && fs::read_link(&path)?.as_os_str().as_encoded_bytes() == target.as_slice()
        }
        Kind::Same(first) => fs::symlink_metadata(at.join(entries[*first].path()))?.ino() == facts.ino(),
    })
}

fn hash(path: &PathBuf) -> io::Result<[u8; 32]> {
    let (mut file, mut hash, mut buffer) = (File::open(path)?, Sha256::new(), vec![0; 256 << 10]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().into()),
            length => hash.update(&buffer[..length]),
        }
    }
}
