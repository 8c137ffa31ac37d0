//! The rows, in an embedded database whose transactions are durable before they are acknowledged.
//!
//! Reads use the newest committed snapshot, take microseconds and run on the caller's thread. Writes go to one thread
//! (`writer.rs`), which lets concurrent writes share one sync of the disk.

use std::{
    fs, io,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock, mpsc},
    thread::JoinHandle,
};

use binplz_core::{
    build::protocol::Progress,
    id::{key::LeaseId, time::Timestamp},
    nixpkgs::{pins::Pinned, served::ServedKey},
    objects::artifact::BUILDS,
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

/// The file.
const FILE: &str = "ledger.redb";
/// A ledger that is not complete yet.
const DRAFT: &str = "ledger.redb.new";
/// Shows that there is a ledger: without its file, it is lost.
const MARKER: &str = "ledger.made";
const MARKER_TEXT: &str =
    "binplz keeps its ledger in ledger.redb. If that file is missing, this file shows that it was lost.\n";

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
    /// Opens the ledger in a data directory, or creates it in a new one. All of the file is checked; after a crash,
    /// opening repairs it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(dir: &Arc<DataDir>) -> Result<LocalLedger, OpenError> {
        let (path, made) = (dir.file(FILE), dir.file(MARKER));
        if is_empty(&path)? {
            let exists = path.try_exists().map_err(|e| OpenError::of(&path, e))?;
            if exists || made.exists() || has_objects(dir) {
                return Err(OpenError::Lost { path, what: if exists { "empty" } else { "missing" } });
            }
            create_database(&path)?;
        }
        let database = open_database(&path)?;
        if !made.exists() {
            fs::write(&made, MARKER_TEXT).map_err(|e| OpenError::of(&made, e))?;
        }
        LocalLedger::of(dir, path, database)
    }

    /// A new and empty ledger in another file of a data directory, for [`LocalLedger::replace`].
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn draft(dir: &Arc<DataDir>) -> Result<LocalLedger, OpenError> {
        let path = dir.file(DRAFT);
        if path.exists() {
            fs::remove_file(&path).map_err(|e| OpenError::of(&path, e))?;
        }
        create_database(&path)?;
        let database = open_database(&path)?;
        LocalLedger::of(dir, path, database)
    }

    /// Puts a [draft](LocalLedger::draft), once it is closed, in the place of the ledger, whose file is kept under
    /// another name: returns that.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn replace(dir: &Arc<DataDir>) -> Result<Option<PathBuf>, OpenError> {
        let (path, made) = (dir.file(FILE), dir.file(MARKER));
        let of = |e| OpenError::of(&path, e);
        let mut aside = None;
        if path.exists() {
            let names = (1..).map(|n| dir.file(&format!("{FILE}.{n}")));
            let name = names.into_iter().find(|name| !name.exists()).unwrap_or_else(|| dir.file(DRAFT));
            fs::rename(&path, &name).map_err(of)?;
            aside = Some(name);
        }
        fs::rename(dir.file(DRAFT), &path).map_err(of)?;
        fs::write(&made, MARKER_TEXT).map_err(|e| OpenError::of(&made, e))?;
        Ok(aside)
    }

    fn of(dir: &Arc<DataDir>, path: PathBuf, database: Database) -> Result<LocalLedger, OpenError> {
        let slot = Arc::new(RwLock::new(Some(database)));
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
        let look = || database.begin_read().map_err(Into::into).and_then(|transaction| look(&transaction));
        // The database may panic where the file was damaged since it was opened.
        let looked = panic::catch_unwind(AssertUnwindSafe(look));
        looked.unwrap_or_else(|_| Err("the file is damaged".into())).map_err(unavailable)
    }

    /// All rows as they are now.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub fn snapshot(&self) -> Result<Snapshot, Unavailable> {
        let slot = self.slot.read().unwrap_or_else(PoisonError::into_inner);
        let database = slot.as_ref().ok_or_else(|| unavailable("the database is closed after a disk error"))?;
        database.begin_read().map(Snapshot).map_err(unavailable)
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
        self.read(|transaction| page(transaction, after, limit))
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

/// All rows as they were at one instant.
pub struct Snapshot(redb::ReadTransaction);

impl Snapshot {
    /// Up to `limit` rows behind `after`.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub fn page(&self, after: Option<&Cursor>, limit: usize) -> Result<Scanned, Unavailable> {
        page(&self.0, after, limit).map_err(unavailable)
    }
}

fn page(
    transaction: &redb::ReadTransaction,
    after: Option<&Cursor>,
    limit: usize,
) -> Result<Scanned, Box<dyn std::error::Error>> {
    use std::ops::Bound;
    let from = after.map_or(Bound::Unbounded, |Cursor(key)| Bound::Excluded(key.as_str()));
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
}

/// Whether the file has no content, or does not exist.
fn is_empty(path: &Path) -> Result<bool, OpenError> {
    match fs::metadata(path) {
        Ok(about) => Ok(about.len() == 0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(OpenError::of(path, error)),
    }
}

/// Whether builds have stored something in a data directory.
fn has_objects(dir: &DataDir) -> bool {
    fs::read_dir(dir.file("objects").join(BUILDS)).is_ok_and(|mut builds| builds.next().is_some())
}

/// Creates a ledger. The file gets its name when it is complete, so an incomplete one is a damaged one.
fn create_database(path: &Path) -> Result<(), OpenError> {
    let draft = path.with_extension("draft");
    // Created here rather than by the database, to set its mode.
    private().create(true).truncate(true).open(&draft).map_err(|e| OpenError::of(path, e))?;
    let created = Database::create(&draft).map_err(Into::into).and_then(|database| prepare(&database));
    created.map_err(|e| told_apart(path, e))?;
    fs::rename(&draft, path).map_err(|e| OpenError::of(path, e))
}

/// Opens the file, checks all of it, and that it is a ledger of a format that this version knows.
pub(crate) fn open_database(path: &Path) -> Result<Database, OpenError> {
    let open = || -> Result<(Database, u64), redb::Error> {
        // Damage is found here, and not where a page is read later.
        let database = Database::builder().set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true).open(path)?;
        let format = prepare(&database)?;
        Ok((database, format))
    };
    // The database may panic where a file is not what it has written.
    let opened = panic::catch_unwind(AssertUnwindSafe(open));
    let damaged = |_| OpenError::Damaged { path: path.to_owned(), cause: "it can not be read".to_owned() };
    let (database, format) = opened.map_err(damaged)?.map_err(|e| told_apart(path, e))?;
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
