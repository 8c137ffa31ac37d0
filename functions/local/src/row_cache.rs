//! Decoded served rows in memory, so that a hit costs one look into a map. Reading and decoding a row is otherwise the
//! largest part of a hit (`scripts/bench` measured 0.46 of nginx's rate without this cache).
//!
//! The cache never differs from the database: the writer updates it before it acknowledges a commit, and a reader that
//! was overtaken by a writer does not fill it.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use binplz_core::{
    nixpkgs::served::{Served, ServedKey},
    row::{Row, RowKey, Version},
};

/// The cache's size in rows (about 10 MB); a full cache is cleared.
const ROWS_MAX: usize = 20_000;

/// The cached rows.
#[derive(Debug, Default)]
pub(crate) struct RowCache(RwLock<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Incremented by every write of a served row.
    epoch: Epoch,
    rows: HashMap<ServedKey, (Served, Version)>,
}

/// When a reader began, relative to writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Epoch(u64);

impl RowCache {
    /// The cached row, or the epoch in which the caller's read begins.
    pub(crate) fn get(&self, key: &RowKey) -> Result<(Row, Version), Epoch> {
        let inner = self.inner();
        match key {
            RowKey::Served(key) => inner.rows.get(key).map(|(row, version)| (Row::Served(row.clone()), *version)),
            RowKey::Build(_)
            | RowKey::Derivation(..)
            | RowKey::Dependency(..)
            | RowKey::BuildProfile(..)
            | RowKey::Learned(..)
            | RowKey::FailedDependencies(_)
            | RowKey::Allowance(_)
            | RowKey::Keys
            | RowKey::Trash(_)
            | RowKey::Limits
            | RowKey::Pins
            | RowKey::LogHead
            | RowKey::Logged(_) => None,
        }
        .ok_or(inner.epoch)
    }

    /// Caches a row that was read since `epoch`, unless a write came in between.
    pub(crate) fn fill(&self, epoch: Epoch, row: &Row, version: Version) {
        let Row::Served(served) = row else { return };
        let mut inner = self.inner_mut();
        if inner.epoch == epoch {
            inner.insert(served, version);
        }
    }

    /// Updates the cache after a commit, before the commit is acknowledged.
    pub(crate) fn written(&self, row: &Row, version: Version) {
        let Row::Served(served) = row else { return };
        let mut inner = self.inner_mut();
        inner.epoch.0 += 1;
        inner.insert(served, version);
    }

    /// Removes a row after its removal, before that is acknowledged.
    pub(crate) fn removed(&self, key: &RowKey) {
        let RowKey::Served(asked) = key else { return };
        let mut inner = self.inner_mut();
        inner.epoch.0 += 1;
        inner.rows.remove(asked);
    }

    /// Clears the cache after a failed write, when the database's content is unknown.
    pub(crate) fn forget(&self) {
        let mut inner = self.inner_mut();
        inner.epoch.0 += 1;
        inner.rows.clear();
    }

    fn inner(&self) -> RwLockReadGuard<'_, Inner> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn inner_mut(&self) -> RwLockWriteGuard<'_, Inner> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn insert(&mut self, served: &Served, version: Version) {
        if self.rows.len() >= ROWS_MAX {
            self.rows.clear();
        }
        self.rows.insert(served.asked.clone(), (served.clone(), version));
    }
}

#[cfg(test)]
mod tests {
    use binplz_core::nixpkgs::served::Notes;

    use super::*;

    fn row(size: u64) -> Row {
        let prefix = format!("builds/{}/x86_64-linux/tree/{}/bin/tree", "0".repeat(40), "1".repeat(32));
        Row::Served(Served {
            asked: "tree?sys=x86_64-linux".parse().expect("a key"),
            pin: "p".parse().expect("a name"),
            rev: "0".repeat(40).parse().expect("hex"),
            attr: "tree".parse().expect("an attribute"),
            bin: "tree".parse().expect("a program"),
            version: String::new(),
            sha256: "0".repeat(64).parse().expect("hex"),
            size,
            object: prefix.parse().expect("a path"),
            notes: Notes::default(),
            stale: false,
            lost: false,
        })
    }

    #[test]
    fn a_reader_that_was_overtaken_by_a_writer_leaves_the_writers_row() {
        let row_cache = RowCache::default();
        let epoch = row_cache.get(&row(1).key()).expect_err("nothing is remembered");
        row_cache.written(&row(2), Version(2));
        row_cache.fill(epoch, &row(1), Version(1));
        assert_eq!(row_cache.get(&row(1).key()), Ok((row(2), Version(2))));
    }

    #[test]
    fn a_reader_that_began_before_the_database_was_opened_again_leaves_nothing() {
        let row_cache = RowCache::default();
        let epoch = row_cache.get(&row(1).key()).expect_err("nothing is remembered");
        row_cache.forget();
        row_cache.fill(epoch, &row(1), Version(1));
        assert!(row_cache.get(&row(1).key()).is_err());
    }
}
