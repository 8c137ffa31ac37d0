//! A private directory: for the garbage collector roots that protect outputs while the builder needs them, and for what an
//! evaluation writes.
//!
//! A killed builder cannot clean up, and its root would protect the output forever. So each builder locks its directory
//! while it lives, and removes directories that are not locked.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

const PREFIX: &str = "binplz-builder-";
const LOCK: &str = "lock";

/// The directory; dropping the value removes it.
pub(crate) struct Scratch {
    dir: tempfile::TempDir,
    roots: AtomicU32,
    _lock: File,
}

impl Scratch {
    /// Creates the directory, and removes those of dead builders.
    pub(crate) fn new() -> io::Result<Scratch> {
        let home = std::env::temp_dir();
        sweep(&home);
        let dir = tempfile::Builder::new().prefix(PREFIX).tempdir_in(home)?;
        let lock = File::create(dir.path().join(LOCK))?;
        lock.try_lock()?;
        Ok(Scratch { dir, roots: AtomicU32::new(0), _lock: lock })
    }

    /// Its path.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The path of the root's link.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("result")
    }

    /// The path of one more root's link.
    pub(crate) fn next_root(&self) -> PathBuf {
        self.dir.path().join(format!("dependency-{}", self.roots.fetch_add(1, Ordering::Relaxed)))
    }

    /// The path of the package's archive.
    pub(crate) fn archive(&self) -> PathBuf {
        self.dir.path().join("archive")
    }

    /// The path of a temporary file.
    pub(crate) fn file(&self) -> PathBuf {
        self.dir.path().join("file")
    }
}

/// A directory that cannot be removed belongs to another user, or is being created by another builder.
fn sweep(home: &Path) {
    let dirs = fs::read_dir(home).into_iter().flatten().flatten();
    for dir in dirs.filter(|dir| dir.file_name().to_string_lossy().starts_with(PREFIX)) {
        // Without a lock file, it is being created.
        let Ok(lock) = File::open(dir.path().join(LOCK)) else { continue };
        if lock.try_lock().is_ok() {
            drop(fs::remove_dir_all(dir.path()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_builders_directory_is_removed_and_a_live_ones_is_not() {
        let home = tempfile::tempdir().expect("a directory");
        let make = |name: &str| {
            let dir = home.path().join(format!("{PREFIX}{name}"));
            fs::create_dir(&dir).expect("a directory");
            let lock = File::create(dir.join(LOCK)).expect("a file");
            (dir, lock)
        };
        let (dead, _) = make("dead");
        let (live, lock) = make("live");
        lock.try_lock().expect("it is free");
        sweep(home.path());
        assert!(!dead.exists() && live.exists());
    }
}
