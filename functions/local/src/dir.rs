//! The data directory: made, found fit, and locked once, before any role looks into it.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use thiserror::Error;

/// Why a data directory can not be served from: what is wrong, and what to do.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process holds the lock.
    #[error("another binplz serves {}: stop it, or give this one a data directory of its own", .0.display())]
    InUse(PathBuf),
    /// A file lies where the directory should be.
    #[error("{} is not a directory: give another path, or move the file away", .0.display())]
    NotADirectory(PathBuf),
    /// No permission, or a file system that is mounted read-only.
    #[error("{} can not be written to: make it writable for this user, or give another path", .0.display())]
    ReadOnly(PathBuf),
    /// No space, no inodes, or no quota left.
    #[error("the disk that holds {} is full: make room, then start again", .0.display())]
    LimitExceeded(PathBuf),
    /// A path that can not stand in a URL as it is, where one has to.
    #[error("{} has characters that Nix does not take in the URL of a cache: give a plainer path, or leave --cache away", .0.display())]
    NotPlain(PathBuf),
    /// A later binplz, or a later database, wrote it.
    #[error("{} was written by a newer binplz (format {found}, this one knows {known}): run that version", path.display())]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest format that this version reads.
        known: u64,
    },
    /// It is no database, or a damaged one.
    #[error("{} can not be read ({cause}): restore it from a copy, or move it away to start with an empty one", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// Anything else that the operating system says.
    #[error("{}: {cause}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it says.
        cause: io::Error,
    },
}

impl OpenError {
    /// What the operating system said of `path`, told apart.
    pub(crate) fn of(path: &Path, cause: io::Error) -> OpenError {
        let path = path.to_owned();
        match cause.kind() {
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => OpenError::NotADirectory(path),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => OpenError::ReadOnly(path),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => OpenError::LimitExceeded(path),
            _ => OpenError::Io { path, cause },
        }
    }
}

/// A data directory that this process, and no other, serves from. The kernel gives the lock back when the process
/// ends, however it ends.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Makes the directory if it is missing, and locks it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: &Path) -> Result<Arc<DataDir>, OpenError> {
        make_dir(path)?;
        let lock = path.join("lock");
        // Opened for writing, so that a directory which can not be written to is found out here.
        let file = private().create(true).truncate(false).open(&lock).map_err(|e| OpenError::of(path, e))?;
        match file.try_lock() {
            Ok(()) => Ok(Arc::new(DataDir { path: path.to_owned(), _lock: file })),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse(path.to_owned())),
            Err(TryLockError::Error(e)) => Err(OpenError::of(&lock, e)),
        }
    }

    /// A file in the directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A directory in the directory, made if it is missing.
    pub(crate) fn subdir(&self, name: &str) -> Result<PathBuf, OpenError> {
        let path = self.path.join(name);
        make_dir(&path)?;
        Ok(path)
    }
}

/// A file for this user alone: the ledger holds tokens.
pub(crate) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

fn make_dir(path: &Path) -> Result<(), OpenError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| OpenError::of(path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_directory_serves_one_process() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("a/b");
        let first = DataDir::open(&path).expect("a new directory");
        assert!(matches!(DataDir::open(&path), Err(OpenError::InUse(_))));
        drop(first);
        assert!(DataDir::open(&path).is_ok());
    }

    #[test]
    fn a_file_is_no_directory() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("file");
        File::create(&path).expect("a new file");
        for path in [path.clone(), path.join("below")] {
            let refused = DataDir::open(&path).expect_err("no directory");
            assert!(matches!(refused, OpenError::NotADirectory(_)), "{refused}");
        }
    }
}
