//! Ledgers that are wrong on purpose, around one that is right: the suite must find each out.

use binplz_core::{
    build::protocol::Progress,
    id::key::LeaseId,
    nixpkgs::{pins::Pinned, served::ServedKey},
    ports::{Cursor, Ledger, NotCommitted, Read, Scanned, Unavailable},
    row::{Listed, Row, RowKey, StatusIndex, Swap, Version},
};

/// A ledger without the version condition: the last writer wins.
pub struct Forgetful<'l, L>(pub &'l L);

/// A ledger without transactions: each swap is checked, and written, on its own.
pub struct Piecemeal<'l, L>(pub &'l L);

impl<L: Ledger> Ledger for Forgetful<'_, L> {
    async fn load(&self, key: &RowKey, read: Read) -> Result<Option<(Row, Version)>, Unavailable> {
        self.0.load(key, read).await
    }
    async fn commit(&self, mut swaps: Vec<Swap>) -> Result<(), NotCommitted> {
        loop {
            for swap in &mut swaps {
                let current = self.0.load(&swap.row.key(), Read::Consistent).await?;
                swap.seen = current.map_or(Version(0), |(_, version)| version);
            }
            match self.0.commit(swaps.clone()).await {
                Err(NotCommitted::Conflict) => {}
                outcome => return outcome,
            }
        }
    }
    async fn list(
        &self,
        status_index: StatusIndex,
        after: Option<&Listed>,
        limit: usize,
    ) -> Result<Vec<Listed>, Unavailable> {
        self.0.list(status_index, after, limit).await
    }
    async fn latest(&self, status_index: StatusIndex, limit: usize) -> Result<Vec<Listed>, Unavailable> {
        self.0.latest(status_index, limit).await
    }
    async fn list_served(
        &self,
        pinned: &Pinned,
        after: Option<&ServedKey>,
        limit: usize,
    ) -> Result<Vec<ServedKey>, Unavailable> {
        self.0.list_served(pinned, after, limit).await
    }
    async fn scan(&self, after: Option<&Cursor>, limit: usize) -> Result<Scanned, Unavailable> {
        self.0.scan(after, limit).await
    }
    async fn remove(&self, key: &RowKey, _seen: Version) -> Result<(), NotCommitted> {
        let current = self.0.load(key, Read::Consistent).await?;
        self.0.remove(key, current.map_or(Version(0), |(_, version)| version)).await
    }
    async fn put_progress(&self, lease: &LeaseId, progress: &Progress) -> Result<(), Unavailable> {
        self.0.put_progress(lease, progress).await
    }
    async fn progress(&self, lease: &LeaseId) -> Result<Option<Progress>, Unavailable> {
        self.0.progress(lease).await
    }
    async fn remove_progress(&self, lease: &LeaseId) -> Result<(), Unavailable> {
        self.0.remove_progress(lease).await
    }
}

impl<L: Ledger> Ledger for Piecemeal<'_, L> {
    async fn load(&self, key: &RowKey, read: Read) -> Result<Option<(Row, Version)>, Unavailable> {
        self.0.load(key, read).await
    }
    async fn commit(&self, swaps: Vec<Swap>) -> Result<(), NotCommitted> {
        for swap in swaps {
            self.0.commit(vec![swap]).await?;
        }
        Ok(())
    }
    async fn list(
        &self,
        status_index: StatusIndex,
        after: Option<&Listed>,
        limit: usize,
    ) -> Result<Vec<Listed>, Unavailable> {
        self.0.list(status_index, after, limit).await
    }
    async fn latest(&self, status_index: StatusIndex, limit: usize) -> Result<Vec<Listed>, Unavailable> {
        self.0.latest(status_index, limit).await
    }
    async fn list_served(
        &self,
        pinned: &Pinned,
        after: Option<&ServedKey>,
        limit: usize,
    ) -> Result<Vec<ServedKey>, Unavailable> {
        self.0.list_served(pinned, after, limit).await
    }
    async fn scan(&self, after: Option<&Cursor>, limit: usize) -> Result<Scanned, Unavailable> {
        self.0.scan(after, limit).await
    }
    async fn remove(&self, key: &RowKey, seen: Version) -> Result<(), NotCommitted> {
        self.0.remove(key, seen).await
    }
    async fn put_progress(&self, lease: &LeaseId, progress: &Progress) -> Result<(), Unavailable> {
        self.0.put_progress(lease, progress).await
    }
    async fn progress(&self, lease: &LeaseId) -> Result<Option<Progress>, Unavailable> {
        self.0.progress(lease).await
    }
    async fn remove_progress(&self, lease: &LeaseId) -> Result<(), Unavailable> {
        self.0.remove_progress(lease).await
    }
}
