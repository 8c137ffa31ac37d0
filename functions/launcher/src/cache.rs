//! Where bundles are unpacked, once each: a directory that is written under another name, checked and renamed, so that it is there whole or
//! not at all. A stamp in it says what the files were like; if one has changed, all are read.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind},
    os::{
        fd::OwnedFd,
        unix::{
            ffi::OsStrExt,
            fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
        },
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, open, statat},
    process::geteuid,
};
use sha2::{Digest, Sha256};

use crate::{
    cursor::Cursor,
    error::{At, StartError},
    manifest::{Entry, Kind},
    read::Bundle,
    unpack::{is_whole, unpack, with_exact_modes},
};

/// Of larger bundles, each start looks only at programs, libraries and directories: 2 to 3 µs a file are to stay below 10 ms. A directory
/// changes with the names in it, so that only what is written into other files in place is not seen.
pub const ALL_LOOKED_AT: usize = 2_000;

/// The environment of the launcher, as far as it says where files may be kept.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// `XDG_CACHE_HOME`.
    pub cache: Option<OsString>,
    /// `HOME`.
    pub home: Option<OsString>,
}

/// The place of one bundle's files.
#[derive(Debug)]
pub struct Cache {
    base: PathBuf,
    name: String,
}

/// An unpacked bundle.
#[derive(Debug)]
pub struct Unpacked(PathBuf);

impl Unpacked {
    /// What is to be visible as the store.
    pub(crate) fn store(&self) -> PathBuf {
        self.0.join("store")
    }

    /// An empty directory to mount on.
    pub(crate) fn mount_point(&self) -> PathBuf {
        self.0.join("root")
    }
}

/// The name of a file beside the store paths by which a launcher sees that its own store is visible.
pub(crate) fn marker(name: &str) -> String {
    format!(".binplz-{name}")
}

impl Cache {
    /// Chooses the first directory that belongs to the user alone: `$XDG_CACHE_HOME/binplz`, or `~/.cache/binplz`; else `/tmp/binplz-UID`.
    ///
    /// # Errors
    /// [`StartError::NoCache`] if there is none.
    pub fn choose(places: &Places, name: String) -> Result<Self, StartError> {
        let absolute = |place: &Option<OsString>| place.clone().map(PathBuf::from).filter(|path| path.is_absolute());
        let home = || absolute(&places.home).map(|home| home.join(".cache"));
        let first = absolute(&places.cache).or_else(home).map(|cache| (cache.join("binplz"), false));
        let last = (PathBuf::from(format!("/tmp/binplz-{}", geteuid().as_raw())), true);
        let mut reasons = Vec::new();
        for (base, shared) in first.into_iter().chain([last]) {
            match prepare(&base, shared) {
                Ok(()) => return Ok(Self { base, name }),
                Err(error) => reasons.push(format!("{}: {error}", base.display())),
            }
        }
        Err(StartError::NoCache(reasons.join("; ")))
    }

    fn path(&self, ending: &str) -> PathBuf {
        self.base.join(format!("{}{ending}", self.name))
    }

    /// The directory of the bundle's files.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.path("")
    }

    /// The bundle's files, if they are there as they were.
    #[must_use]
    pub fn found(&self) -> Option<Unpacked> {
        let dir = self.dir();
        is_as_stamped(&dir).then_some(Unpacked(dir))
    }

    /// The bundle's files, unpacked now if they are not there, or not as they were.
    ///
    /// # Errors
    /// What reading the bundle says, and what writing the files says. Nothing that is not complete remains under the final name.
    pub fn unpacked(&self, bundle: &Bundle) -> Result<Unpacked, StartError> {
        let (dir, lock) = (self.dir(), self.lock());
        // Another start may have unpacked them meanwhile.
        if lock.is_ok()
            && let Some(found) = self.found()
        {
            return Ok(found);
        }
        if self.is_whole(bundle) == Some(true) {
            stamp(bundle, &dir);
            return Ok(Unpacked(dir));
        }
        let _lock = lock?;
        self.remove()?;
        let new = self.path(".new");
        let written = with_exact_modes(|| self.write(bundle, &new)).and_then(|()| fs::rename(&new, &dir).at(&dir));
        if written.is_err() {
            // A full disk, for example, is not left full.
            let _ = remove(&new);
        }
        written.map(|()| Unpacked(dir))
    }

    /// Whether all files are as they were packed, with no others between them; `None` if nothing is unpacked.
    #[must_use]
    pub fn is_whole(&self, bundle: &Bundle) -> Option<bool> {
        let (store, marker) = (self.path("/store"), marker(&self.name));
        // The marker is the one file beside the store paths.
        let whole = || self.path("/root").is_dir() && store.join(&marker).is_file() && is_whole(bundle, &store, 1);
        self.dir().exists().then(whole)
    }

    fn write(&self, bundle: &Bundle, new: &Path) -> Result<(), StartError> {
        let store = new.join("store");
        for dir in [new, &store, &new.join("root")] {
            DirBuilder::new().mode(0o755).create(dir).at(dir)?;
        }
        unpack(bundle, &store, None)?;
        let marker = store.join(marker(&self.name));
        File::create_new(&marker).at(&marker)?;
        stamp(bundle, new);
        Ok(())
    }

    /// Removes what this bundle has unpacked.
    ///
    /// # Errors
    /// What removing says.
    pub fn clean(&self) -> Result<(), StartError> {
        let _lock = self.lock()?;
        self.remove()?;
        let lock = self.path(".lock");
        fs::remove_file(&lock).at(&lock)
    }

    /// Removes files of this bundle: what an interrupted start has left, and a directory that is not whole.
    fn remove(&self) -> Result<(), StartError> {
        let (dir, old, new) = (self.dir(), self.path(".old"), self.path(".new"));
        remove(&old).at(&old)?;
        remove(&new).at(&new)?;
        match fs::rename(&dir, &old) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            renamed => renamed.and_then(|()| remove(&old)).at(&old),
        }
    }

    /// Waits until no other start of this bundle writes. The lock ends with its file, or with the process.
    fn lock(&self) -> Result<File, StartError> {
        let path = self.path(".lock");
        loop {
            let mut options = OpenOptions::new();
            let file = options.write(true).create(true).truncate(false).mode(0o600).open(&path).at(&path)?;
            file.lock().at(&path)?;
            // It may have been removed meanwhile, and made again by another.
            let ino = |facts: io::Result<fs::Metadata>| facts.map(|facts| facts.ino()).ok();
            if ino(fs::metadata(&path)) == ino(file.metadata()) {
                return Ok(file);
            }
        }
    }
}

fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Makes the directory, and checks that no other user may write to it. `shared`: it lies in a directory of all users, where it
/// has to be no link.
fn prepare(base: &Path, shared: bool) -> io::Result<()> {
    let user = geteuid().as_raw();
    if !shared {
        // With sudo, HOME may be another user's, who could exchange directories in it.
        let above = base.ancestors().skip(1).find_map(|dir| fs::metadata(dir).ok());
        // In a user namespace, root's directories belong to the overflow user.
        if above.is_some_and(|above| ![user, 0, 65534].contains(&above.uid())) {
            return Err(io::Error::other("its directory belongs to another user"));
        }
    }
    match DirBuilder::new().recursive(!shared).mode(0o700).create(base) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let facts = if shared { fs::symlink_metadata(base)? } else { fs::metadata(base)? };
    if facts.is_dir() && facts.uid() == user && facts.mode() & 0o022 == 0 {
        Ok(())
    } else {
        Err(io::Error::other("another user can write to it"))
    }
}

/// Whether the files are as they were when they were last read, since this machine was started: a crash loses writes.
fn is_as_stamped(dir: &Path) -> bool {
    let check = || {
        let (stamp, boot, store) = (fs::read(dir.join("stamp"))?, fs::read(BOOT)?, opened(dir)?);
        let records = stamp.get(32..).filter(|records| Sha256::digest(records)[..] == stamp[..32]);
        let mut records = Cursor(records.and_then(|records| records.strip_prefix(&boot[..])).unwrap_or_default());
        let mut same = !records.0.is_empty();
        while same && !records.0.is_empty() {
            let path = records.bytes().map_err(io::Error::other)?;
            let before = records.take(FACTS).map_err(io::Error::other)?;
            same = facts(&store, OsStr::from_bytes(path))?[..] == *before;
        }
        io::Result::Ok(same)
    };
    check().unwrap_or(false)
}

/// Saves the next start the time of reading all files. Where it cannot be written, they are read.
fn stamp(bundle: &Bundle, dir: &Path) {
    let write = || {
        let (mut records, store) = (fs::read(BOOT)?, opened(dir)?);
        let entries = &bundle.manifest.entries;
        let all = entries.len() <= ALL_LOOKED_AT;
        for entry in entries.iter().filter(|entry| all || is_looked_at(entry)) {
            records.extend((entry.path.len() as u16).to_le_bytes());
            records.extend(&entry.path);
            records.extend(facts(&store, OsStr::from_bytes(&entry.path))?);
        }
        fs::write(dir.join("stamp"), [&Sha256::digest(&records)[..], &records].concat())
    };
    let _ = write();
}

/// The machine's current run.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

fn opened(dir: &Path) -> io::Result<OwnedFd> {
    Ok(open(dir.join("store"), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// The size of [`facts`].
const FACTS: usize = 36;

/// What the system says about a file, which changes with its content: setting its times changes the last one.
fn facts(store: &OwnedFd, path: &OsStr) -> io::Result<[u8; FACTS]> {
    let facts = statat(store, path, AtFlags::SYMLINK_NOFOLLOW)?;
    let mut bytes = [0; FACTS];
    let fields = [facts.st_ino.to_le_bytes(), facts.st_size.to_le_bytes()];
    let times = [(facts.st_mtime, facts.st_mtime_nsec), (facts.st_ctime, facts.st_ctime_nsec)];
    let times = times.map(|(s, ns)| (i128::from(s) * 1_000_000_000 + i128::from(ns)) as u64);
    let fields = fields.into_iter().chain(times.map(u64::to_le_bytes)).flatten().chain(facts.st_mode.to_le_bytes());
    bytes.iter_mut().zip(fields).for_each(|(byte, field)| *byte = field);
    Ok(bytes)
}

fn is_looked_at(entry: &Entry) -> bool {
    let library = || entry.path.ends_with(b".so") || entry.path.windows(4).any(|part| part == b".so.");
    match entry.kind {
        Kind::Directory => true,
        Kind::File { executable: true, .. } => true,
        Kind::File { .. } | Kind::Same(_) => library(),
        Kind::Link(_) => false,
    }
}
