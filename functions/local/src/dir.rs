//! The data directory: created, checked and locked once, before any port opens files in it.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use binplz_core::objects::artifact::CACHE;
use thiserror::Error;

/// The file of the public key that belongs to the binary cache's key.
pub(crate) const PUBLIC_KEY: &str = "cache-key.public";
/// The size of a secret or a key, in bytes.
pub(crate) const KEY_BYTES: usize = 32;

/// Why a data directory cannot be used. Each message says what is wrong and what to do.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process holds the lock.
    #[error("another binplz serves {}: stop it, or choose another data directory", .0.display())]
    InUse(PathBuf),
    /// The path is a file.
    #[error("{} is not a directory: choose another path, or move the file away", .0.display())]
    NotADirectory(PathBuf),
    /// A part of the directory is a symbolic link.
    #[error("{} is a symbolic link, but binplz removes files there: replace it by a directory, or move the whole data directory", .0.display())]
    Link(PathBuf),
    /// No permission, or a file system that is mounted read-only.
    #[error("{} is not writable for this user: change its permissions, or choose another path", .0.display())]
    ReadOnly(PathBuf),
    /// No space, no inodes, or no quota left.
    #[error("the disk that holds {} is full: make room, then start again", .0.display())]
    Full(PathBuf),
    /// A path with characters that a `file://` URL would have to escape.
    #[error("{} contains characters that Nix does not accept in a cache's URL: choose a plainer path, or omit --cache", .0.display())]
    NotPlain(PathBuf),
    /// A later binplz, or a later database version, wrote the file.
    #[error("{} was written by a newer binplz (format {found}, this one knows {known}): run that version", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest format that this version reads.
        known: u64,
    },
    /// Builders cannot be kept from reading the directory.
    #[error(
        "builders could read {} ({cause}): run binplz as root, permit user namespaces, or pass --trust-nixpkgs if you trust every package of the nixpkgs that you serve", path.display()
    )]
    NotHidden {
        /// The directory.
        path: PathBuf,
        /// The reason.
        cause: String,
    },
    /// The file is not a database, or is damaged.
    #[error("{} is damaged ({cause}). {}", path.display(), remedy(path))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The database's error.
        cause: String,
    },
    /// The directory has held a ledger, and its file is missing or empty.
    #[error("{} is {what}, and this directory has held a ledger before. {}", path.display(), remedy(path))]
    Lost {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A key that is not as long as it was written.
    #[error("{} is damaged: it has {size} bytes instead of {}. Remove it and {}: builders fill a new cache", path.display(), KEY_BYTES, beside(path, CACHE).display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Its size, in bytes.
        size: u64,
    },
    /// The key is not the one that has signed the cache.
    #[error("{} and {} do not belong together: one of them is damaged. Restore them from a copy, or remove both and {}: builders fill a new cache", path.display(), beside(path, PUBLIC_KEY).display(), beside(path, CACHE).display())]
    OtherKey {
        /// The key's file.
        path: PathBuf,
    },
    /// A signing key that is not as long as it was written.
    #[error("{} is damaged: it has {size} bytes instead of {}. Restore it from a copy. If there is none, remove it, and accept a new key with `binplz signing-key accept`", path.display(), KEY_BYTES)]
    SigningKey {
        /// The file.
        path: PathBuf,
        /// Its size, in bytes.
        size: u64,
    },
    /// Any other error of the operating system.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        cause: io::Error,
    },
}

/// What a lost ledger means, and what to do.
fn remedy(ledger: &Path) -> String {
    let data = ledger.parent().unwrap_or(ledger).display();
    format!(
        "It has the takedowns, API keys, pins, limits and the list of builds. To restore a backup: \
         binplz restore FILE --data {data}. Without a backup, binplz restore --data {data} lists the stored programs \
         again, and the rest is lost"
    )
}

fn beside(path: &Path, name: &str) -> PathBuf {
    path.with_file_name(name)
}

impl OpenError {
    /// Maps the operating system's error for `path` to its kind.
    pub(crate) fn of(path: &Path, cause: io::Error) -> OpenError {
        let path = path.to_owned();
        match cause.kind() {
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => OpenError::NotADirectory(path),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => OpenError::ReadOnly(path),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => OpenError::Full(path),
            _ => OpenError::Io { path, cause },
        }
    }
}

/// A data directory that only this process serves from. The kernel releases the lock when the process ends, however it
/// ends.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Creates the directory if it is missing, and locks it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: &Path) -> Result<Arc<DataDir>, OpenError> {
        make_dir(path)?;
        let lock = path.join("lock");
        // Opened for writing, so that a read-only directory is found here.
        let file = private().create(true).truncate(false).open(&lock).map_err(|e| OpenError::of(path, e))?;
        match file.try_lock() {
            Ok(()) => Ok(Arc::new(DataDir { path: path.to_owned(), _lock: file })),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse(path.to_owned())),
            Err(TryLockError::Error(e)) => Err(OpenError::of(&lock, e)),
        }
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in the directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A subdirectory, created if it is missing. Files in it are removed, so that it may not be a link to elsewhere.
    pub(crate) fn subdir(&self, name: &str) -> Result<PathBuf, OpenError> {
        let parts = Path::new(name).ancestors().take_while(|part| !part.as_os_str().is_empty());
        let mut paths = parts.map(|part| self.path.join(part));
        if let Some(link) = paths.find(|path| fs::symlink_metadata(path).is_ok_and(|about| about.is_symlink())) {
            return Err(OpenError::Link(link));
        }
        let path = self.path.join(name);
        make_dir(&path)?;
        Ok(path)
    }
}

/// Options for a file that only this user can read: the ledger holds tokens.
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
