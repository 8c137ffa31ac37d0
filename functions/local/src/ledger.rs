//! The rows, in an embedded database whose transactions are durable before they are acknowledged.
//!
//! Reads use the newest committed snapshot, take microseconds and run on the caller's thread. Writes go to one thread
//! (`writer.rs`), which lets concurrent writes share one sync of the disk.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock, mpsc},
    thread::JoinHandle,
};

use binplz_core::{
    build::protocol::Progress,
    id::{key::LeaseId, time::Timestamp},
    nixpkgs::{pins::Pinned, served::ServedKey},
    ports::{Cursor, Ledger, NotCommitted, Read, Scanned, Unavailable},
    row::{Listed, Row, RowKey, StatusIndex, Swap, Version},
};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::sync::oneshot;

use crate::{
    dir::{DataDir, OpenError, private},
    item,
    row_cache::RowCache,
    wait_limiter::Settled,
    writer::{Work, Write, Writer},
};

/// The rows: key to version and JSON.
pub(crate) const ROWS: TableDefinition<&str, (u64, &[u8])> = TableDefinition::new("rows");
/// Index number, instant and build (or requested target): written in the row's transaction, so that the index always
/// matches the rows.
pub(crate) const SHELVES: TableDefinition<(u8, u64, &str), ()> = TableDefinition::new("shelves");
/// Lease to its last progress.
pub(crate) const PROGRESS: TableDefinition<&str, &[u8]> = TableDefinition::new("progress");
/// The file's format.
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

/// The format that this version writes, and the newest that it reads.
const FORMAT: u64 = 1;
/// Page cache of the database: room for about 50,000 rows, so that reads of a busy service rarely touch the disk.
const CACHE_BYTES: usize = 64 << 20;

/// The database; `None` between a failure of the disk and the next attempt to reopen it.
pub(crate) type Slot = RwLock<Option<Database>>;

/// The ledger of one machine.
#[derive(Debug)]
pub struct LocalLedger {
    slot: Arc<Slot>,
    row_cache: Arc<RowCache>,
    pub(crate) settled: Settled,
    works: Option<mpsc::Sender<Work>>,
    writer: Option<JoinHandle<()>>,
}

pub(crate) fn unavailable(cause: impl ToString) -> Unavailable {
    Unavailable::new("ledger", cause)
}

impl LocalLedger {
    /// Opens the ledger in a data directory, or creates it. After a crash, opening repairs the file.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(dir: &Arc<DataDir>) -> Result<LocalLedger, OpenError> {
        let path = dir.file("ledger.redb");
        let slot = Arc::new(RwLock::new(Some(open_database(&path)?)));
        let (works, inbox) = mpsc::channel();
        let row_cache = Arc::new(RowCache::default());
        let settled = Settled::new();
        let writer = Writer {
            slot: Arc::clone(&slot),
            row_cache: Arc::clone(&row_cache),
            settled: settled.clone(),
            path: path.clone(),
            _dir: Arc::clone(dir),
        };
        let writer = std::thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || writer.run(&inbox))
            .map_err(|cause| OpenError::Io { path, cause })?;
        Ok(LocalLedger { slot, row_cache, settled, works: Some(works), writer: Some(writer) })
    }

    fn read<T>(
        &self,
        look: impl FnOnce(&redb::ReadTransaction) -> Result<T, Box<dyn std::error::Error>>,
    ) -> Result<T, Unavailable> {
        let slot = self.slot.read().unwrap_or_else(PoisonError::into_inner);
        let Some(database) = slot.as_ref() else {
            return Err(unavailable("the database is closed after a disk error"));
        };
        database.begin_read().map_err(Into::into).and_then(|transaction| look(&transaction)).map_err(unavailable)
    }

    async fn write(&self, write: Write) -> Result<(), NotCommitted> {
        let (reply, answer) = oneshot::channel();
        let gone = || unavailable("the ledger's thread has ended");
        let works = self.works.as_ref().ok_or_else(gone)?;
        works.send(Work { write, reply }).map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone().into()))
    }

    async fn write_unfenced(&self, write: Write) -> Result<(), Unavailable> {
        match self.write(write).await {
            Ok(()) => Ok(()),
            Err(NotCommitted::Conflict) => Err(unavailable("progress is not fenced, and conflicted")),
            Err(NotCommitted::Unavailable(error)) => Err(error),
        }
    }
}

impl Drop for LocalLedger {
    /// Writes everything that was sent, then closes the database and releases the directory.
    fn drop(&mut self) {
        self.works = None;
        if let Some(writer) = self.writer.take() {
            // If the thread panicked, it has logged that itself.
            let _ = writer.join();
        }
    }
}

impl Ledger for LocalLedger {
    // Both kinds of read see every acknowledged commit here.
    async fn load(&self, key: &RowKey, _read: Read) -> Result<Option<(Row, Version)>, Unavailable> {
        let began = match self.row_cache.get(key) {
            Ok(remembered) => return Ok(Some(remembered)),
            Err(began) => began,
        };
        let found = self.read(|transaction| {
            let rows = transaction.open_table(ROWS)?;
            let Some(found) = rows.get(key.to_string().as_str())? else { return Ok(None) };
            let (version, bytes) = found.value();
            Ok(Some((item::row_from_bytes(key, bytes)?, Version(version))))
        })?;
        if let Some((row, version)) = &found {
            self.row_cache.fill(began, row, *version);
        }
        Ok(found)
    }

    async fn commit(&self, swaps: Vec<Swap>) -> Result<(), NotCommitted> {
        self.write(Write::swaps(&swaps)?).await
    }

    async fn list(
        &self,
        status_index: StatusIndex,
        after: Option<&Listed>,
        limit: usize,
    ) -> Result<Vec<Listed>, Unavailable> {
        use std::ops::Bound;
        let number = item::shelf_number(status_index);
        let after = after.map(|listed| (listed.at.0, listed.key.to_string()));
        let from = match &after {
            Some((at, key)) => Bound::Excluded((number, *at, key.as_str())),
            None => Bound::Included((number, 0, "")),
        };
        self.read(|transaction| {
            let status_indexes = transaction.open_table(SHELVES)?;
            let mut listed = Vec::new();
            for entry in status_indexes.range((from, Bound::Excluded((number + 1, 0, ""))))?.take(limit) {
                let (entry, _) = entry?;
                let (_, at, key) = entry.value();
                listed.push(Listed { key: item::listed_key(key)?, at: Timestamp(at) });
            }
            Ok(listed)
        })
    }

    async fn latest(&self, status_index: StatusIndex, limit: usize) -> Result<Vec<Listed>, Unavailable> {
        let number = item::shelf_number(status_index);
        self.read(|transaction| {
            let status_indexes = transaction.open_table(SHELVES)?;
            let mut listed = Vec::new();
            for entry in status_indexes.range((number, 0, "")..(number + 1, 0, ""))?.rev().take(limit) {
                let (entry, _) = entry?;
                let (_, at, key) = entry.value();
                listed.push(Listed { key: item::listed_key(key)?, at: Timestamp(at) });
            }
            Ok(listed)
        })
    }

    async fn list_served(
        &self,
        pinned: &Pinned,
        after: Option<&ServedKey>,
        limit: usize,
    ) -> Result<Vec<ServedKey>, Unavailable> {
        use std::ops::Bound;
        let first = item::served_place(pinned);
        let from = match after {
            Some(asked) => format!("{first}{asked}"),
            None => first.clone(),
        };
        self.read(|transaction| {
            let status_indexes = transaction.open_table(SHELVES)?;
            // A requested target is never empty, so no entry equals the bare prefix.
            let range = (Bound::Excluded((item::SERVED, 0, from.as_str())), Bound::Unbounded);
            let mut listed = Vec::new();
            for entry in status_indexes.range::<(u8, u64, &str)>(range)?.take(limit) {
                let (entry, _) = entry?;
                let (status_index, _, place) = entry.value();
                if status_index != item::SERVED || !place.starts_with(&first) {
                    break;
                }
                listed.push(item::listed_served(place)?);
            }
            Ok(listed)
        })
    }

    async fn scan(&self, after: Option<&Cursor>, limit: usize) -> Result<Scanned, Unavailable> {
        use std::ops::Bound;
        let from = after.map_or(Bound::Unbounded, |Cursor(key)| Bound::Excluded(key.as_str()));
        self.read(|transaction| {
            let table = transaction.open_table(ROWS)?;
            let (mut rows, mut last) = (Vec::new(), None);
            for entry in table.range::<&str>((from, Bound::Unbounded))?.take(limit) {
                let (name, found) = entry?;
                let (version, bytes) = found.value();
                let unknown = |_| format!("this version does not know the row {}", name.value());
                let key = name.value().parse().map_err(unknown)?;
                rows.push((item::row_from_bytes(&key, bytes)?, Version(version)));
                last = Some(Cursor(name.value().to_owned()));
            }
            let next = last.filter(|_| rows.len() == limit);
            Ok(Scanned { rows, next })
        })
    }

    async fn remove(&self, key: &RowKey, seen: Version) -> Result<(), NotCommitted> {
        self.write(Write::Removal(key.clone(), seen)).await
    }

    async fn put_progress(&self, lease: &LeaseId, progress: &Progress) -> Result<(), Unavailable> {
        let bytes = item::progress_bytes(progress).map_err(unavailable)?;
        self.write_unfenced(Write::Progress(lease.to_string(), Some(bytes))).await
    }

    async fn progress(&self, lease: &LeaseId) -> Result<Option<Progress>, Unavailable> {
        self.read(|transaction| {
            let table = transaction.open_table(PROGRESS)?;
            let found = table.get(lease.as_str())?;
            Ok(found.map(|bytes| item::progress_from_bytes(bytes.value())).transpose()?)
        })
    }

    async fn remove_progress(&self, lease: &LeaseId) -> Result<(), Unavailable> {
        self.write_unfenced(Write::Progress(lease.to_string(), None)).await
    }
}

/// Opens the file, and checks that it is a ledger of a format that this version knows.
pub(crate) fn open_database(path: &Path) -> Result<Database, OpenError> {
    // Created here rather than by the database, to set its mode.
    private().create(true).truncate(false).open(path).map_err(|e| OpenError::of(path, e))?;
    let database =
        Database::builder().set_cache_size(CACHE_BYTES).create(path).map_err(|e| told_apart(path, e.into()))?;
    let format = prepare(&database).map_err(|e| told_apart(path, e))?;
    if format != FORMAT {
        return Err(OpenError::Newer { path: path.to_owned(), found: format, known: FORMAT });
    }
    Ok(database)
}

/// Creates every table, so that readers find them, and returns the file's format.
fn prepare(database: &Database) -> Result<u64, redb::Error> {
    let transaction = database.begin_write()?;
    let found = {
        let mut meta = transaction.open_table(META)?;
        let found = meta.get("format")?.map(|format| format.value());
        match found {
            Some(format) => format,
            None => {
                meta.insert("format", FORMAT)?;
                FORMAT
            }
        }
    };
    if found == FORMAT {
        transaction.open_table(ROWS)?;
        transaction.open_table(SHELVES)?;
        transaction.open_table(PROGRESS)?;
        transaction.commit()?;
    } else {
        transaction.abort()?;
    }
    Ok(found)
}

fn told_apart(path: &Path, error: redb::Error) -> OpenError {
    let path: PathBuf = path.to_owned();
    match error {
        redb::Error::Io(cause) if cause.kind() != std::io::ErrorKind::InvalidData => OpenError::of(&path, cause),
        redb::Error::DatabaseAlreadyOpen => OpenError::InUse(path),
        error => OpenError::Damaged { path, cause: error.to_string() },
    }
}
