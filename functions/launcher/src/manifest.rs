//! The manifest: the names, kinds, sizes and hashes of all files of a bundle, and what to run.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path};

use crate::{
    cursor::{Cursor, plain},
    read::{PACKED_MAX, ReadError},
};

/// Bytes of files in a frame; the last one has fewer. Small enough to hold in memory, large enough to compress as well as one.
pub const FRAME: usize = 16 << 20;
/// The most bytes of all files together.
pub(crate) const FILES_MAX: u64 = 1 << 40;
/// The longest path below the store, and the longest target of a link.
const PATH_MAX: usize = 3_500;

/// A SHA-256.
pub type Hash = [u8; 32];

/// What a bundle is made of, as `--binplz-info` prints it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// The package's attribute.
    pub package: String,
    /// Its version; may be empty.
    pub version: String,
    /// The Nixpkgs commit.
    pub nixpkgs: String,
    /// The system, such as `x86_64-linux`.
    pub system: String,
    /// The licence, as its SPDX identifiers; may be empty.
    pub licence: String,
}

/// All about a bundle but the content of its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// What it is.
    pub about: About,
    /// The programs, by name.
    pub programs: Vec<Program>,
    /// The program that runs if `argv[0]` is the name of none: an index of `programs`.
    pub main: usize,
    /// The hash of the launcher's loaded segments, by [`crate::read::loaded`].
    pub launcher: Hash,
    /// The compressed frames, in the order of the file. Together they hold the files' contents, in the order of the entries.
    pub frames: Vec<Frame>,
    /// Files, directories and links, by path.
    pub entries: Vec<Entry>,
}

/// A program of the package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its name in `bin/`.
    pub name: String,
    /// Its path below the store: that of an entry.
    pub path: Vec<u8>,
}

/// Where a frame ends, and what it has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its compressed size in bytes.
    pub packed: u32,
    /// The hash of the compressed bytes.
    pub sha256: Hash,
}

/// A file, a directory or a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The path below the store, such as `HASH-hello/bin/hello`.
    pub path: Vec<u8>,
    /// What is there.
    pub kind: Kind,
}

/// The kinds of entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A file with a content of its own.
    File {
        /// Whether it may be executed.
        executable: bool,
        /// Its size in bytes.
        size: u64,
        /// Its content's hash.
        sha256: Hash,
    },
    /// A symbolic link to this target.
    Link(Vec<u8>),
    /// One more name of an earlier file: an index of the entries.
    Same(usize),
}

impl Entry {
    /// The path below the store.
    #[must_use]
    pub fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.path))
    }
}

impl Manifest {
    /// The bytes of all files, each content once.
    #[must_use]
    pub fn unpacked(&self) -> u64 {
        self.entries.iter().map(Entry::size).sum()
    }

    /// The bytes that frame number `index` has when it is unpacked.
    #[must_use]
    pub fn frame_size(&self, index: usize) -> usize {
        let left = self.unpacked().saturating_sub(index as u64 * FRAME as u64);
        usize::try_from(left).map_or(FRAME, |left| left.min(FRAME))
    }

    /// The program of that name.
    #[must_use]
    pub fn program(&self, name: &[u8]) -> Option<&Program> {
        self.programs.binary_search_by(|program| program.name.as_bytes().cmp(name)).ok().map(|at| &self.programs[at])
    }

    /// The entry at that path.
    #[must_use]
    pub fn entry(&self, path: &[u8]) -> Option<&Entry> {
        find(&self.entries, path)
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// Every manifest that [`Manifest::encode`] does not write from a valid one is malformed.
    pub fn decode(bytes: &[u8]) -> Result<Self, ReadError> {
        let mut from = Cursor(bytes);
        let mut manifest = Self::head(&mut from)?;
        manifest.entries = entries(&mut from)?;
        if !from.0.is_empty() {
            return Err(ReadError::Malformed("it goes on after its end"));
        }
        manifest.check()?;
        Ok(manifest)
    }

    /// Reads all but the entries, and checks nothing: for a bundle that was checked when it was unpacked. Most of a start's time would go
    /// into its entries.
    pub(crate) fn decode_head(bytes: &[u8]) -> Result<Self, ReadError> {
        Self::head(&mut Cursor(bytes))
    }

    fn head(from: &mut Cursor) -> Result<Self, ReadError> {
        let about = About {
            package: from.text()?,
            version: from.text()?,
            nixpkgs: from.text()?,
            system: from.text()?,
            licence: from.text()?,
        };
        let programs = from.list(4, |from, _| Ok(Program { name: from.text()?, path: from.bytes()?.to_vec() }))?;
        let main = from.u32()? as usize;
        let launcher = from.array()?;
        let frames = from.list(36, |from, _| Ok(Frame { packed: from.u32()?, sha256: from.array()? }))?;
        Ok(Self { about, programs, main, launcher, frames, entries: Vec::new() })
    }

    /// What can only be said of all fields together.
    fn check(&self) -> Result<(), ReadError> {
        let texts =
            [&self.about.package, &self.about.version, &self.about.nixpkgs, &self.about.system, &self.about.licence];
        if !texts.into_iter().chain(self.programs.iter().map(|program| &program.name)).all(|text| plain(text)) {
            return Err(ReadError::Malformed("a text has control characters"));
        }
        let mut total = 0_u64;
        for entry in &self.entries {
            total = total.checked_add(entry.size()).filter(|total| *total <= FILES_MAX).ok_or(TOO_LARGE)?;
        }
        if self.frames.len() as u64 != total.div_ceil(FRAME as u64) {
            return Err(ReadError::Malformed("its frames do not fit its files"));
        }
        if self.frames.iter().any(|frame| frame.packed as usize > PACKED_MAX) {
            return Err(ReadError::Malformed("a frame is too large"));
        }
        let named = |name: &str| !name.is_empty() && !name.contains('/');
        if !self.programs.is_sorted_by(|a, b| a.name < b.name) || !self.programs.iter().all(|one| named(&one.name)) {
            return Err(ReadError::Malformed("programs have no proper names, or are not in order"));
        }
        if self.main >= self.programs.len() {
            return Err(ReadError::Malformed("it has no main program"));
        }
        let runs = |path: &[u8]| match self.entry(path).map(|entry| &entry.kind) {
            Some(Kind::File { executable, .. }) => *executable,
            Some(Kind::Same(at)) => matches!(self.entries[*at].kind, Kind::File { executable: true, .. }),
            Some(Kind::Link(_)) => true,
            Some(Kind::Directory) | None => false,
        };
        if !self.programs.iter().all(|program| runs(&program.path)) {
            return Err(ReadError::Malformed("a program is no executable file"));
        }
        Ok(())
    }

    /// The bytes that [`Manifest::decode`] reads. Texts and paths of 64 KiB and more are cut.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut to = Vec::new();
        let About { package, version, nixpkgs, system, licence } = &self.about;
        for text in [package, version, nixpkgs, system, licence] {
            put(&mut to, text.as_bytes());
        }
        put_length(&mut to, self.programs.len());
        for program in &self.programs {
            put(&mut to, program.name.as_bytes());
            put(&mut to, &program.path);
        }
        put_length(&mut to, self.main);
        to.extend(self.launcher);
        put_length(&mut to, self.frames.len());
        for frame in &self.frames {
            to.extend(frame.packed.to_le_bytes());
            to.extend(frame.sha256);
        }
        put_length(&mut to, self.entries.len());
        for entry in &self.entries {
            put(&mut to, &entry.path);
            match &entry.kind {
                Kind::Directory => to.push(0),
                Kind::File { executable, size, sha256 } => {
                    to.push(1 + u8::from(*executable));
                    to.extend(size.to_le_bytes());
                    to.extend(sha256);
                }
                Kind::Link(target) => {
                    to.push(3);
                    put(&mut to, target);
                }
                Kind::Same(at) => {
                    to.push(4);
                    put_length(&mut to, *at);
                }
            }
        }
        to
    }
}

const TOO_LARGE: ReadError = ReadError::Malformed("its files are too large");

impl Entry {
    /// The bytes that the frames hold of it.
    pub(crate) fn size(&self) -> u64 {
        if let Kind::File { size, .. } = self.kind { size } else { 0 }
    }
}

fn put(to: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    to.extend(length.to_le_bytes());
    to.extend(&bytes[..length.into()]);
}

fn put_length(to: &mut Vec<u8>, length: usize) {
    to.extend(u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
}

fn entries(from: &mut Cursor) -> Result<Vec<Entry>, ReadError> {
    from.list(3, |from, before| {
        let entry = Entry { path: from.bytes()?.to_vec(), kind: kind(from)? };
        if before.last().is_some_and(|last: &Entry| last.path >= entry.path) {
            return Err(ReadError::Malformed("entries are not in order"));
        }
        check_path(&entry.path, before)?;
        if let Kind::Same(at) = entry.kind
            && !matches!(before.get(at), Some(Entry { kind: Kind::File { .. }, .. }))
        {
            return Err(ReadError::Malformed("a name is that of no file"));
        }
        Ok(entry)
    })
}

fn kind(from: &mut Cursor) -> Result<Kind, ReadError> {
    Ok(match from.u8()? {
        0 => Kind::Directory,
        kind @ 1..=2 => Kind::File { executable: kind == 2, size: from.u64()?, sha256: from.array()? },
        3 => match from.bytes()? {
            target if target.is_empty() || target.len() > PATH_MAX || target.contains(&0) => {
                return Err(ReadError::Malformed("a link has no proper target"));
            }
            target => Kind::Link(target.to_vec()),
        },
        4 => Kind::Same(from.u32()? as usize),
        _ => return Err(ReadError::Malformed("an entry has an unknown kind")),
    })
}

fn find<'a>(entries: &'a [Entry], path: &[u8]) -> Option<&'a Entry> {
    entries.binary_search_by(|entry| entry.path.as_slice().cmp(path)).ok().map(|at| &entries[at])
}

/// A path is made of plain names, and lies in a directory of the bundle, so that no link can lead it elsewhere.
fn check_path(path: &[u8], before: &[Entry]) -> Result<(), ReadError> {
    let name = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && name.len() <= 255 && !name.contains(&0);
    // Names of the launcher's own begin with a dot.
    if path.len() > PATH_MAX || path.starts_with(b".") || !path.split(|byte| *byte == b'/').all(name) {
        return Err(ReadError::Malformed("a path is not a plain one"));
    }
    let Some(slash) = path.iter().rposition(|byte| *byte == b'/') else { return Ok(()) };
    let parent = &path[..slash];
    let near = before.last().filter(|last| last.path == parent);
    match near.or_else(|| find(before, parent)) {
        Some(Entry { kind: Kind::Directory, .. }) => Ok(()),
        _ => Err(ReadError::Malformed("a path lies in no directory")),
    }
}
