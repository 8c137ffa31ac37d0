//! Garbage collection of the builders' binary cache. No row needs its files, and a missing path is built again: so
//! files are deleted by age, a path first and its content later.

use std::{ops::AddAssign, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{id::time::Timestamp, objects::artifact::CacheName, ports::Cached};

/// How long a store path is kept in the binary cache. Reads are not recorded, and building a toolchain once more in
/// three months costs less than keeping those of every nixpkgs.
pub const CACHED: Duration = Duration::from_secs(90 * 24 * 3600);

/// A number of files, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// The number.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl AddAssign<&Cached> for Files {
    fn add_assign(&mut self, file: &Cached) {
        self.files += 1;
        self.bytes += file.bytes;
    }
}

/// The builders' binary cache, and the offers to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shared {
    /// Deleted files.
    pub removed: Files,
    /// Files that stay.
    pub kept: Files,
    /// Bytes of offers that are not promoted yet.
    pub offered: u64,
}

/// Splits the cache's files into those to delete now, and the others.
///
/// A content file is deleted one grace period later than the paths that may name it, and never in the same run: a
/// builder that has read the path has fetched the file by then. (A file is at least as young as the path that it came
/// with.)
pub fn shared(cached: Vec<Cached>, now: Timestamp, grace: Duration) -> (Vec<Cached>, Vec<Cached>) {
    let old = |file: &Cached| now >= file.since + CACHED;
    let paths_go = cached.iter().any(|file| matches!(file.name, CacheName::Narinfo(_)) && old(file));
    cached.into_iter().partition(|file| match file.name {
        CacheName::Info | CacheName::PublicKey => false,
        CacheName::Narinfo(_) => old(file),
        CacheName::Nar(_) => !paths_go && now >= file.since + CACHED + grace,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(3600);

    fn file(name: &str, since: Timestamp) -> Cached {
        Cached { name: CacheName::at(&format!("cache/{name}")).expect("a name"), bytes: 1, since }
    }

    #[test]
    fn a_path_goes_first_and_its_file_a_grace_later_and_in_another_run() {
        let (narinfo, nar) = (format!("{}.narinfo", "b".repeat(32)), format!("nar/{}.nar.gz", "a".repeat(64)));
        let came = Timestamp(1_800_000_000_000);
        let all = || ["nix-cache-info", "public-key", &*narinfo, &*nar].map(|name| file(name, came)).to_vec();
        let second = Duration::from_secs(1);
        let goes = |cached, now| {
            let names = shared(cached, now, GRACE).0.into_iter().map(|file| file.name.to_string());
            names.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(goes(all(), came + (CACHED - second)), "");
        for now in [came + CACHED, came + CACHED * 2] {
            assert_eq!(goes(all(), now), format!("cache/{narinfo}"));
        }
        let without =
            || all().into_iter().filter(|file| !matches!(file.name, CacheName::Narinfo(_))).collect::<Vec<_>>();
        assert_eq!(goes(without(), came + CACHED + (GRACE - second)), "");
        assert_eq!(goes(without(), came + CACHED + GRACE), format!("cache/{nar}"));
    }
}
