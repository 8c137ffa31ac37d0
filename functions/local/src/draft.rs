//! An object on its way: written beside the objects, and given its name when it is whole and on the disk. Dropped
//! before that, it is gone.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use binplz_core::id::key::{Sha256, hex};
use sha2::{Digest, Sha256 as Hasher};

use crate::dir::private;

/// A file in `tmp/` that has no name among the objects yet.
#[derive(Debug)]
pub(crate) struct Draft {
    file: File,
    path: PathBuf,
    hasher: Hasher,
    size: u64,
}

/// What came of giving a draft its name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Published {
    /// The object is there, and on the disk.
    Whole,
    /// An object of that name has other content; it stays.
    Taken,
}

impl Draft {
    /// An empty one.
    pub(crate) fn new(tmp: &Path) -> io::Result<Draft> {
        let path = tmp.join(hex(&binplz_clock::random::<16>()));
        let file = private().create_new(true).open(&path)?;
        Ok(Draft { file, path, hasher: Hasher::new(), size: 0 })
    }

    /// Adds to it.
    pub(crate) fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.file.write_all(chunk)?;
        self.hasher.update(chunk);
        self.size += chunk.len() as u64;
        Ok(())
    }

    /// Bytes so far.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The hash of the bytes so far.
    pub(crate) fn sha256(&self) -> Sha256 {
        hex(&self.hasher.clone().finalize()).parse().expect("64 hex digits")
    }

    /// Gives it its name below `root`, without replacing: of two that come together with other content one is refused,
    /// and the same content again is as good as the first.
    pub(crate) fn publish(self, root: &Path, name: &str) -> io::Result<Published> {
        self.file.sync_all()?;
        let target = root.join(name);
        let prefix = target.parent().unwrap_or(root);
        fs::create_dir_all(prefix)?;
        match fs::hard_link(&self.path, &target) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                if hash_of(&target)? != self.sha256() {
                    return Ok(Published::Taken);
                }
            }
            Err(e) => return Err(e),
        }
        // A name is on the disk when every directory that leads to it is.
        for dir in prefix.ancestors().take_while(|dir| dir.starts_with(root)) {
            File::open(dir)?.sync_all()?;
        }
        Ok(Published::Whole)
    }
}

impl Drop for Draft {
    /// Takes the name in `tmp/` away: of an unfinished object nothing stays, and a finished one has its own.
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "a temporary file stays until the next start");
        }
    }
}

fn hash_of(path: &Path) -> io::Result<Sha256> {
    let mut hasher = Hasher::new();
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        match io::Read::read(&mut file, &mut buffer)? {
            0 => break,
            n => hasher.update(&buffer[..n]),
        }
    }
    Ok(hex(&hasher.finalize()).parse().expect("64 hex digits"))
}
