//! What is known of the objects' files: each is read once, and again when the file has changed since.
//!
//! So a hit costs one look at the file's metadata, and a file that was changed by any program is not served unseen.

use std::{
    collections::{HashMap, hash_map::RandomState},
    fs::{self, File, Metadata},
    hash::BuildHasher,
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use binplz_core::{
    objects::{
        content::Content,
        stored::{Fingerprint, Integrity},
    },
    ports::Unavailable,
};
use tokio::{sync::Semaphore, task::spawn_blocking};

use crate::{
    draft::hash_of,
    store::{absent, unavailable},
};

/// How many files are remembered (about 10 MB); when there are more, all are forgotten.
const FILES_MAX: usize = 20_000;
/// Files that are read at a time for requests; others wait.
const READERS: usize = 16;
/// What Linux says of a block that the disk cannot read.
const EIO: i32 = 5;

/// The files that were read.
#[derive(Debug)]
pub(crate) struct Checked {
    known: Mutex<HashMap<PathBuf, Known>>,
    /// Concurrent requests for one object read it once.
    readers: [Semaphore; READERS],
    hasher: RandomState,
}

impl Default for Checked {
    fn default() -> Checked {
        let readers = std::array::from_fn(|_| Semaphore::new(1));
        Checked { known: Mutex::default(), readers, hasher: RandomState::new() }
    }
}

/// A file when it was read.
#[derive(Clone, Debug)]
struct Known {
    stamp: Stamp,
    /// Whether its last change was old enough that another one would have shown.
    settled: bool,
    digest: Fingerprint,
    /// Whether it was compared with what it must be, and was that.
    intact: bool,
}

/// What changes with every write to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// A file system's clock goes in steps of some milliseconds, so a write right after another may show no change.
const CLOCK_STEP: Duration = Duration::from_millis(100);

impl Stamp {
    fn of(about: &Metadata) -> Stamp {
        Stamp {
            inode: about.ino(),
            size: about.size(),
            modified: (about.mtime(), about.mtime_nsec()),
            changed: (about.ctime(), about.ctime_nsec()),
        }
    }
}

impl Checked {
    /// Compares a file with what it must be: by its metadata, and if that has changed by its content.
    pub(crate) async fn glance(&self, file: PathBuf, content: &Content) -> Result<Integrity, Unavailable> {
        let Some(about) = absent(fs::metadata(&file))? else { return Ok(Integrity::Missing) };
        if about.size() != content.size {
            return Ok(Integrity::OtherSize);
        }
        let digest = match self.unchanged(&file, &about) {
            Some(known) => Some(known.digest),
            None => {
                let reader = self.hasher.hash_one(&file) as usize % READERS;
                let _reads = self.readers[reader].acquire().await.map_err(unavailable)?;
                match self.unchanged(&file, &about) {
                    Some(known) => Some(known.digest),
                    None => self.digest(file.clone()).await?,
                }
            }
        };
        let integrity = Integrity::of(digest.as_ref(), content);
        if let Some(known) = self.known().get_mut(&file).filter(|known| Some(&known.digest) == digest.as_ref()) {
            known.intact = integrity == Integrity::Intact;
        }
        Ok(integrity)
    }

    /// Reads a file.
    pub(crate) async fn digest(&self, file: PathBuf) -> Result<Option<Fingerprint>, Unavailable> {
        let path = file.clone();
        let read = spawn_blocking(move || absent(read(&path))).await.map_err(unavailable)??;
        let Some((stamp, settled, digest)) = read else { return Ok(None) };
        let mut known = self.known();
        if known.len() >= FILES_MAX {
            known.clear();
        }
        let intact = known.get(&file).is_some_and(|known| known.intact && known.digest == digest);
        known.insert(file, Known { stamp, settled, digest: digest.clone(), intact });
        Ok(Some(digest))
    }

    /// Whether a file was found intact, and has not changed since.
    pub(crate) fn is_intact(&self, file: &Path) -> bool {
        fs::metadata(file).is_ok_and(|about| self.unchanged(file, &about).is_some_and(|known| known.intact))
    }

    fn unchanged(&self, file: &Path, about: &Metadata) -> Option<Known> {
        self.known().get(file).filter(|known| known.settled && known.stamp == Stamp::of(about)).cloned()
    }

    fn known(&self) -> MutexGuard<'_, HashMap<PathBuf, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file's metadata before it was read, so that a write meanwhile shows as a change; and its content. One that cannot be
/// read has a size only.
fn read(path: &Path) -> io::Result<(Stamp, bool, Fingerprint)> {
    let mut file = File::open(path)?;
    let about = file.metadata()?;
    let stamp = Stamp::of(&about);
    let changed = Duration::new(stamp.changed.0.try_into().unwrap_or(0), stamp.changed.1.try_into().unwrap_or(0));
    #[expect(clippy::disallowed_methods, reason = "a file's time is of the file system's clock")]
    let settled = SystemTime::now().duration_since(UNIX_EPOCH + changed).is_ok_and(|age| age > CLOCK_STEP);
    let sha256 = match hash_of(&mut file) {
        Ok(sha256) => Some(sha256),
        Err(error) if error.raw_os_error() == Some(EIO) || error.kind() == io::ErrorKind::IsADirectory => None,
        Err(error) => return Err(error),
    };
    Ok((stamp, settled, Fingerprint { size: about.size(), sha256 }))
}
