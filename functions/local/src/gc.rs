//! Garbage collection's view of the data directory: lists what is stored, and removes it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use binplz_core::{
    id::{
        key::{Rev, Sha256},
        time::Timestamp,
    },
    objects::{
        artifact::{
            ADDITIONS, AttemptPrefix, BLOBS, BUILDS, CACHE, CacheName, NIXPKGS, QUARANTINE, REFERENCES, blob_path,
            programs_at,
        },
        stored::{Cached, Held, HeldBlob, KeptNixpkgs, KeptPrograms},
    },
    ports::{Collect, Unavailable},
};
use tokio::task::spawn_blocking;

use crate::store::{LocalStore, absent, unavailable};

/// `REV/SYSTEM/ATTR/LEASE`: the number of directories above an attempt's objects.
const LEVELS: usize = 4;

impl Collect for LocalStore {
    async fn prefixes(&self, after: Option<&AttemptPrefix>, limit: usize) -> Result<Vec<Held>, Unavailable> {
        let (builds, after) = (self.objects.join(BUILDS), after.map(ToString::to_string));
        let find = move || {
            let after: Vec<&str> = after.iter().flat_map(|after| after.split('/')).collect();
            let mut prefixes = Vec::new();
            find(&builds, String::new(), &after, limit, &mut prefixes).map(|()| prefixes)
        };
        spawn_blocking(find).await.map_err(unavailable)?.map_err(unavailable)
    }

    async fn blobs(&self, after: Option<&Sha256>, limit: usize) -> Result<Vec<HeldBlob>, Unavailable> {
        let (dir, after) = (self.objects.join(BLOBS), after.cloned());
        let look = move || {
            let mut blobs = Vec::new();
            for (name, path) in entries(&dir)? {
                let Ok(sha256) = name.parse::<Sha256>() else { continue };
                if blobs.len() == limit {
                    break;
                }
                if after.as_ref().is_none_or(|after| sha256 > *after)
                    && let Some(bytes) = size_of(&path)?
                {
                    blobs.push(HeldBlob { sha256, bytes });
                }
            }
            io::Result::Ok(blobs)
        };
        spawn_blocking(look).await.map_err(unavailable)?.map_err(unavailable)
    }

    async fn remove_blob(&self, sha256: &Sha256) -> Result<(), Unavailable> {
        let file = self.objects.join(blob_path(sha256));
        spawn_blocking(move || absent(fs::remove_file(file)).map(drop)).await.map_err(unavailable)?
    }

    async fn remove_prefix(&self, prefix: &AttemptPrefix) -> Result<(), Unavailable> {
        let dir = self.objects.join(prefix.objects());
        let remove = move || {
            absent(fs::remove_dir_all(&dir))?;
            // Parent directories that became empty.
            let above = dir.ancestors().skip(1).take(LEVELS - 1);
            above.map(fs::remove_dir).take_while(Result::is_ok).for_each(drop);
            Ok(())
        };
        spawn_blocking(remove).await.map_err(unavailable)?
    }

    /// The nixpkgs that `binplz pin` protects from Nix's own garbage collector.
    async fn kept_nixpkgs(&self) -> Result<Vec<KeptNixpkgs>, Unavailable> {
        let roots = self.roots.clone();
        let look = move || {
            let mut kept = Vec::new();
            for (name, path) in entries(&roots)? {
                if let (Ok(rev), Ok(about)) = (name.parse(), path.symlink_metadata()) {
                    kept.push(KeptNixpkgs { rev, since: instant(about.modified()?) });
                }
            }
            io::Result::Ok(kept)
        };
        spawn_blocking(look).await.map_err(unavailable)?.map_err(unavailable)
    }

    async fn remove_nixpkgs(&self, rev: &Rev) -> Result<(), Unavailable> {
        let root = self.roots.join(rev.as_str());
        spawn_blocking(move || absent(fs::remove_file(root)).map(drop)).await.map_err(unavailable)?
    }

    async fn kept_programs(&self) -> Result<Vec<KeptPrograms>, Unavailable> {
        let dir = self.objects.join(NIXPKGS);
        let look = move || {
            let mut kept = Vec::new();
            for (name, path) in entries(&dir)? {
                if let (Some(sha256), Ok(about)) = (programs_at(&format!("{NIXPKGS}{name}")), path.metadata()) {
                    kept.push(KeptPrograms { sha256, since: instant(about.modified()?) });
                }
            }
            io::Result::Ok(kept)
        };
        spawn_blocking(look).await.map_err(unavailable)?.map_err(unavailable)
    }

    async fn remove_programs(&self, sha256: &Sha256) -> Result<(), Unavailable> {
        let file = self.programs_file(sha256);
        spawn_blocking(move || absent(fs::remove_file(file)).map(drop)).await.map_err(unavailable)?
    }

    async fn cached(&self) -> Result<Vec<Cached>, Unavailable> {
        let dir = self.cached.clone();
        let look = move || {
            let mut cached = Vec::new();
            for (below, dir) in [("", dir.clone()), ("nar/", dir.join("nar"))] {
                for (name, path) in entries(&dir)? {
                    if let (Some(name), Ok(about)) = (CacheName::at(&format!("{CACHE}/{below}{name}")), path.metadata())
                    {
                        cached.push(Cached { name, bytes: about.len(), since: instant(about.modified()?) });
                    }
                }
            }
            io::Result::Ok(cached)
        };
        spawn_blocking(look).await.map_err(unavailable)?.map_err(unavailable)
    }

    async fn remove_cached(&self, name: &CacheName) -> Result<(), Unavailable> {
        let file = self.cached.with_file_name(name.to_string());
        spawn_blocking(move || absent(fs::remove_file(file)).map(drop)).await.map_err(unavailable)?
    }

    async fn in_quarantine(&self) -> Result<u64, Unavailable> {
        bytes_below(self.objects.join(QUARANTINE)).await
    }
}

/// The bytes of all files below a directory.
pub(crate) async fn bytes_below(dir: PathBuf) -> Result<u64, Unavailable> {
    let measured = spawn_blocking(move || measure(&dir)).await.map_err(unavailable)?.map_err(unavailable)?;
    Ok(measured.1)
}

/// The bytes of an attempt's objects, of its offers, and of the blobs that it was the first to upload. `objects`: the
/// directory of all objects.
///
/// # Errors
/// [`Unavailable`].
pub async fn left(objects: &Path, prefix: &AttemptPrefix) -> Result<u64, Unavailable> {
    let (own, offers) = (objects.join(prefix.objects()), objects.join(prefix.quarantine()));
    let blobs = objects.join(BLOBS);
    let look = move || {
        let mut bytes = measure(&own)?.1 + measure(&offers)?.1;
        for (sha256, _) in entries(&own.join(ADDITIONS))? {
            bytes += size_of(&blobs.join(sha256))?.unwrap_or(0);
        }
        io::Result::Ok(bytes)
    };
    spawn_blocking(look).await.map_err(unavailable)?.map_err(unavailable)
}

/// Collects up to `limit` attempt prefixes below a directory in name order, starting after `after`. Directories that
/// disappear meanwhile are skipped.
fn find(dir: &Path, name: String, after: &[&str], limit: usize, prefixes: &mut Vec<Held>) -> io::Result<()> {
    for (entry, path) in entries(dir)? {
        let rest = match after.split_first() {
            Some((first, _)) if entry.as_str() < *first => continue,
            Some((first, rest)) if entry == *first => rest,
            _ => &[],
        };
        let name = if name.is_empty() { entry } else { format!("{name}/{entry}") };
        if name.matches('/').count() + 1 < LEVELS {
            find(&path, name, rest, limit, prefixes)?;
        } else if let Ok(prefix) = name.parse::<AttemptPrefix>()
            && after.last().is_none_or(|last| *last != prefix.lease.as_str())
        {
            let (objects, bytes) = measure(&path)?;
            let references = entries(&path.join(REFERENCES))?.into_iter();
            let blobs = references.filter_map(|(sha256, _)| sha256.parse().ok()).collect();
            prefixes.push(Held { prefix, objects, bytes, blobs });
        }
        if prefixes.len() >= limit {
            break;
        }
    }
    Ok(())
}

/// The number of files below a directory, and their bytes.
fn measure(dir: &Path) -> io::Result<(u64, u64)> {
    let (mut files, mut bytes) = (0, 0);
    for (_, path) in entries(dir)? {
        let (more, larger) = match path.symlink_metadata() {
            Ok(about) if about.is_dir() => measure(&path)?,
            Ok(about) => (1, about.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (0, 0),
            Err(error) => return Err(error),
        };
        (files, bytes) = (files + more, bytes + larger);
    }
    Ok((files, bytes))
}

/// A file's bytes; `None` if it disappears meanwhile.
fn size_of(path: &Path) -> io::Result<Option<u64>> {
    match path.symlink_metadata() {
        Ok(about) => Ok(Some(about.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The entries of a directory in name order. Names that are not UTF-8 are skipped; a path that is not a directory has
/// none.
fn entries(dir: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let found = match fs::read_dir(dir) {
        Ok(found) => found,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let mut entries = Vec::new();
    for entry in found {
        let entry = entry?;
        entries.extend(entry.file_name().into_string().ok().map(|name| (name, entry.path())));
    }
    entries.sort();
    Ok(entries)
}

fn instant(at: SystemTime) -> Timestamp {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
