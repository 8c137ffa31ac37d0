//! A private directory: the garbage collector's root that keeps the output alive while it is handed over.
//!
//! A builder that was killed can not tidy up, and its root would keep the output for ever. So each directory holds a
//! lock for as long as its builder lives, and every builder removes the directories whose lock is free.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

const PREFIX: &str = "binplz-builder-";
const LOCK: &str = "lock";

/// The directory; it goes away with this value.
pub(crate) struct Scratch {
    dir: tempfile::TempDir,
    _lock: File,
}

impl Scratch {
    /// Makes the directory, and removes those of dead builders.
    pub(crate) fn new() -> io::Result<Scratch> {
        let home = std::env::temp_dir();
        sweep(&home);
        let dir = tempfile::Builder::new().prefix(PREFIX).tempdir_in(home)?;
        let lock = File::create(dir.path().join(LOCK))?;
        lock.try_lock()?;
        Ok(Scratch { dir, _lock: lock })
    }

    /// Where the root's link is to be.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("result")
    }

    /// Where a file may lie for a while.
    pub(crate) fn file(&self) -> PathBuf {
        self.dir.path().join("file")
    }
}

/// What can not be removed is another user's, or another builder's work at this very moment.
fn sweep(home: &Path) {
    let dirs = fs::read_dir(home).into_iter().flatten().flatten();
    for dir in dirs.filter(|dir| dir.file_name().to_string_lossy().starts_with(PREFIX)) {
        // Without a lock file it is being made.
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
        lock.try_lock().expect("nobody else has it");
        sweep(home.path());
        assert!(!dead.exists() && live.exists());
    }
}
