//! Writes a bundle. Equal inputs give equal bytes, for any number of threads.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read, Seek, Write},
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
    sync::mpsc::sync_channel,
    thread,
};

use sha2::{Digest, Sha256};

use crate::{
    elf,
    manifest::{About, Entry, FRAME, Frame, Hash, Kind, Manifest, Program},
    read::{FOOTER, MAGIC, MANIFEST_MAX, loaded, sha256},
    trim::{Trim, left_out},
};

/// The level of zstd for bundles that are kept: minutes of a processor for 100 MB, and as small as one frame to a sixtieth.
pub const LEVEL: i32 = 19;
/// Each compresses one frame, which takes 130 MB of memory at [`LEVEL`].
const THREADS_MAX: usize = 4;

/// What a bundle is made from.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The launcher's program, for the system of the closure.
    pub launcher: &'a Path,
    /// The store paths on disk, each once: `/nix/store/HASH-NAME`, or the same below another root.
    pub closure: &'a [PathBuf],
    /// The programs: the name, and the file or link, which lies in a path of `closure`.
    pub programs: &'a [(String, PathBuf)],
    /// The name of the program that runs by default.
    pub main: &'a str,
    /// What `--binplz-info` prints.
    pub about: &'a About,
    /// What is left out.
    pub trim: Trim,
}

/// A bundle that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// The size of the file.
    pub bytes: u64,
    /// The size of what it unpacks.
    pub unpacked: u64,
    /// The number of files that it unpacks, with directories and links.
    pub files: usize,
    /// The file's hash.
    pub sha256: Hash,
}

/// Writes the bundle to `output`, an empty file that can also be read, and makes it executable. `level` is zstd's: [`LEVEL`], or less for
/// tests. `go_on` is called before each file and frame.
///
/// # Errors
/// `TimedOut` within the time of a frame after `go_on` has said no; `FileTooLarge` as soon as the file would have more than `most` bytes;
/// `InvalidInput` if the source makes no valid bundle (a program that is not in the closure, a launcher that is no ELF file of 64 bits);
/// else what reading and writing says.
pub fn pack(source: &Source, level: i32, most: u64, go_on: &dyn Fn() -> bool, output: &mut File) -> io::Result<Packed> {
    let go_on = || if go_on() { Ok(()) } else { Err(io::Error::from(io::ErrorKind::TimedOut)) };
    let mut launcher = File::open(source.launcher)?;
    let offset = io::copy(&mut launcher, output)?.next_multiple_of(16);
    output.seek(io::SeekFrom::Start(offset))?;
    let mut found = Found::in_closure(source, &go_on)?;
    let frames = compress(&mut found, level, most.saturating_sub(offset), &go_on, output)?;
    let manifest = manifest(source, found.entries, frames, loaded(&launcher).map_err(io::Error::other)?)?;
    let bytes = manifest.encode();
    if bytes.len() > MANIFEST_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    seal(&bytes, level, offset, output)?;
    output.set_permissions(fs::Permissions::from_mode(0o755))?;
    output.rewind()?;
    let mut hash = Hasher::default();
    let bytes = io::copy(output, &mut hash)?;
    if bytes > most {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let (unpacked, files) = (manifest.unpacked(), manifest.entries.len());
    Ok(Packed { bytes, unpacked, files, sha256: hash.0.finalize().into() })
}

/// Ends a bundle whose frames have been written to `output`, from `offset` on: adds the encoded manifest, unchecked, and makes all of it a
/// section of the launcher before it.
///
/// # Errors
/// What writing says; a launcher that is no ELF file.
pub fn seal(manifest: &[u8], level: i32, offset: u64, output: &mut File) -> io::Result<()> {
    let packed = compressed(manifest, level)?;
    output.write_all(&packed)?;
    let mut footer = Vec::with_capacity(FOOTER);
    footer.extend(MAGIC);
    footer.extend((packed.len() as u32).to_le_bytes());
    footer.extend((manifest.len() as u32).to_le_bytes());
    footer.extend(sha256(&packed));
    output.write_all(&footer)?;
    let end = output.stream_position()?;
    elf::add_section(output, offset, end - offset).map_err(io::Error::other)
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// Checks all that readers check.
fn manifest(source: &Source, entries: Vec<Entry>, frames: Vec<Frame>, launcher: Hash) -> io::Result<Manifest> {
    let mut programs = Vec::new();
    for (name, file) in source.programs {
        let below = source.closure.iter().find_map(|path| Some((path.file_name()?, file.strip_prefix(path).ok()?)));
        let (top, rest) = below.ok_or_else(|| invalid(format!("{} is not in the closure", file.display())))?;
        let path = Path::new(top).join(rest).as_os_str().as_bytes().to_vec();
        programs.push(Program { name: name.clone(), path });
    }
    programs.sort_by(|a, b| a.name.cmp(&b.name));
    let main = programs.iter().position(|program| program.name == source.main);
    let main = main.ok_or_else(|| invalid(format!("{} is no program of the bundle", source.main)))?;
    let manifest = Manifest { about: source.about.clone(), programs, main, launcher, frames, entries };
    match Manifest::decode(&manifest.encode()) {
        Ok(decoded) if decoded == manifest => Ok(manifest),
        Ok(_) => Err(invalid("a text is too long".to_owned())),
        Err(error) => Err(invalid(error.to_string())),
    }
}

/// What was found in the closure.
struct Found {
    entries: Vec<Entry>,
    /// Where the files are, in the order of the entries.
    files: Vec<PathBuf>,
}

impl Found {
    fn in_closure(source: &Source, go_on: &impl Fn() -> io::Result<()>) -> io::Result<Self> {
        let has_linker = source.closure.iter().any(|path| path.join("bin/ld").exists());
        let left_out = |path: &str| source.trim == Trim::Usual && left_out(path, has_linker);
        let mut all: Vec<(Vec<u8>, PathBuf)> = Vec::new();
        for path in source.closure {
            let name = path.file_name().ok_or_else(|| invalid(format!("{} has no name", path.display())))?;
            walk(name.as_bytes().to_vec(), path.clone(), None, &left_out, &mut all)?;
        }
        all.sort();
        all.dedup();
        let mut found = Self { entries: Vec::new(), files: Vec::new() };
        let mut contents: HashMap<(Hash, bool), usize> = HashMap::new();
        for (path, file) in all {
            go_on()?;
            let facts = fs::symlink_metadata(&file)?;
            let kind = if facts.is_dir() {
                Kind::Directory
            } else if facts.is_symlink() {
                Kind::Link(fs::read_link(&file)?.as_os_str().as_bytes().to_vec())
            } else if facts.is_file() {
                let mut hash = Hasher::default();
                let size = io::copy(&mut File::open(&file)?, &mut hash)?;
                let (executable, sha256) = (facts.permissions().mode() & 0o111 != 0, hash.0.finalize().into());
                match contents.get(&(sha256, executable)) {
                    // Empty files save nothing, and file systems limit the links of a file.
                    Some(first) if size > 0 => Kind::Same(*first),
                    _ => {
                        contents.insert((sha256, executable), found.entries.len());
                        found.files.push(file);
                        Kind::File { executable, size, sha256 }
                    }
                }
            } else {
                return Err(invalid(format!("{} is no file, directory or link", file.display())));
            };
            found.entries.push(Entry { path, kind });
        }
        Ok(found)
    }
}

/// Lists a store path: `below` is the path below it, `None` at its top.
fn walk(
    path: Vec<u8>,
    file: PathBuf,
    below: Option<&str>,
    left_out: &dyn Fn(&str) -> bool,
    to: &mut Vec<(Vec<u8>, PathBuf)>,
) -> io::Result<()> {
    if fs::symlink_metadata(&file)?.is_dir() {
        for entry in fs::read_dir(&file)? {
            let name = entry?.file_name();
            let text = name.to_string_lossy();
            let below = below.map_or_else(|| text.to_string(), |below| format!("{below}/{text}"));
            if !left_out(&below) {
                walk([&path, &b"/"[..], name.as_bytes()].concat(), file.join(&name), Some(&below), left_out, to)?;
            }
        }
    }
    to.push((path, file));
    Ok(())
}

/// The files' contents, as one stream. A file that has changed since it was hashed is an error.
struct Contents<'a> {
    files: std::slice::Iter<'a, PathBuf>,
    entries: std::slice::Iter<'a, Entry>,
    open: Option<(File, u64, Hasher, Hash)>,
}

impl Contents<'_> {
    /// The next frame's bytes; empty after the last.
    fn frame(&mut self) -> io::Result<Vec<u8>> {
        let mut frame = Vec::new();
        while frame.len() < FRAME {
            if self.open.is_none() {
                let next = self.entries.find_map(|entry| match entry.kind {
                    Kind::File { size, sha256, .. } => Some((size, sha256)),
                    _ => None,
                });
                let (Some((size, sha256)), Some(file)) = (next, self.files.next()) else { break };
                self.open = Some((File::open(file)?, size, Hasher::default(), sha256));
            }
            let Some((file, left, hash, expected)) = &mut self.open else { break };
            let (from, most) = (frame.len(), (*left).min((FRAME - frame.len()) as u64));
            let read = file.take(most).read_to_end(&mut frame)?;
            hash.write_all(&frame[from..])?;
            *left -= read as u64;
            if read as u64 != most || (*left == 0 && hash.0.clone().finalize()[..] != *expected) {
                return Err(io::Error::other("a file of the closure changes"));
            }
            if *left == 0 {
                self.open = None;
            }
        }
        Ok(frame)
    }
}

/// Writes the frames in their order, each compressed by one of a few threads.
fn compress(
    found: &mut Found,
    level: i32,
    most: u64,
    go_on: &impl Fn() -> io::Result<()>,
    output: &mut File,
) -> io::Result<Vec<Frame>> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let mut contents = Contents { files: found.files.iter(), entries: found.entries.iter(), open: None };
    let (mut frames, mut written) = (Vec::new(), 0);
    thread::scope(|scope| {
        let mut running = std::collections::VecDeque::new();
        loop {
            go_on()?;
            let bytes = contents.frame()?;
            let last = bytes.is_empty();
            if !last {
                let (to, from) = sync_channel(1);
                scope.spawn(move || to.send(compressed(&bytes, level)));
                running.push_back(from);
            }
            while running.len() >= threads || (last && !running.is_empty()) {
                let done = running.pop_front().and_then(|from| from.recv().ok());
                let packed = done.ok_or_else(|| io::Error::other("a thread ended without a frame"))??;
                written += packed.len() as u64;
                if written > most {
                    return Err(io::ErrorKind::FileTooLarge.into());
                }
                frames.push(Frame { packed: packed.len() as u32, sha256: sha256(&packed) });
                output.write_all(&packed)?;
            }
            if last {
                return Ok(frames);
            }
        }
    })
}

fn compressed(bytes: &[u8], level: i32) -> io::Result<Vec<u8>> {
    let mut packed = Vec::with_capacity(zstd_safe::compress_bound(bytes.len()));
    zstd_safe::compress(&mut packed, bytes, level)
        .map_err(|code| io::Error::other(zstd_safe::get_error_name(code).to_owned()))?;
    Ok(packed)
}

/// A hash as something to copy to.
#[derive(Default)]
struct Hasher(Sha256);

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
