//! An object while it is written: a temporary file, which gets its name when it is complete and on the disk. Dropping
//! it before that deletes it.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use binplz_core::id::key::{Sha256, hex};
use sha2::{Digest, Sha256 as Hasher};

use crate::dir::private;

/// A file in `tmp/` without a name among the objects.
#[derive(Debug)]
pub(crate) struct Draft {
    file: File,
    path: PathBuf,
    hasher: Hasher,
    size: u64,
}

/// The outcome of publishing a draft.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Published {
    /// The object exists, and is on the disk.
    Whole,
    /// An object of that name with other content exists; it stays.
    Taken,
}

impl Draft {
    /// Creates an empty draft.
    pub(crate) fn new(tmp: &Path) -> io::Result<Draft> {
        let path = tmp.join(hex(&binplz_clock::random::<16>()));
        let file = private().create_new(true).open(&path)?;
        Ok(Draft { file, path, hasher: Hasher::new(), size: 0 })
    }

    /// Appends a chunk.
    pub(crate) fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.file.write_all(chunk)?;
        self.hasher.update(chunk);
        self.size += chunk.len() as u64;
        Ok(())
    }

    /// Bytes written so far.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The sha256 of the bytes written so far.
    pub(crate) fn sha256(&self) -> Sha256 {
        hex(&self.hasher.clone().finalize()).parse().expect("64 hex digits")
    }

    /// Gives the file its name below `root`. Of two concurrent drafts with different content one is refused; the same
    /// content again succeeds. `replace`: a file of that name with other content is damaged, and is replaced.
    pub(crate) fn publish(self, root: &Path, name: &str, replace: bool) -> io::Result<Published> {
        self.file.sync_all()?;
        let target = root.join(name);
        let prefix = target.parent().unwrap_or(root);
        fs::create_dir_all(prefix)?;
        while let Err(error) = fs::hard_link(&self.path, &target) {
            if error.kind() != io::ErrorKind::AlreadyExists {
                return Err(error);
            }
            match File::open(&target).and_then(|mut file| hash_of(&mut file)) {
                Ok(sha256) if sha256 == self.sha256() => break,
                _ if replace => fs::remove_file(&target)?,
                Ok(_) => return Ok(Published::Taken),
                Err(error) => return Err(error),
            }
        }
        // A name is durable once every directory that leads to it is synced.
        for dir in prefix.ancestors().take_while(|dir| dir.starts_with(root)) {
            File::open(dir)?.sync_all()?;
        }
        Ok(Published::Whole)
    }
}

impl Drop for Draft {
    /// Removes the name in `tmp/`: an unfinished object leaves nothing behind, and a finished one has a name of its
    /// own.
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "a temporary file stays until the next start");
        }
    }
}

/// The sha256 of a file's content.
pub(crate) fn hash_of(file: &mut File) -> io::Result<Sha256> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match io::Read::read(file, &mut buffer)? {
            0 => break,
            n => hasher.update(&buffer[..n]),
        }
    }
    Ok(hex(&hasher.finalize()).parse().expect("64 hex digits"))
}
