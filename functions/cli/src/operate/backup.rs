//! `binplz backup` and `binplz restore`: the ledger as a file. Stored programs are not part of it.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use binplz_core::{
    flow::operator::restore::{find_stored, restore},
    ports::{Cursor, Scanned, Unavailable},
    row::{
        Row,
        backup::{BackupWriter, read_backup},
    },
};
use binplz_local::{DataDir, LocalLedger, LocalStore, OpenError};
use clap::Args as ClapArgs;
use thiserror::Error;

use crate::{
    operate::{Common, OperateError},
    site::Site,
    socket::Socket,
};

/// How many rows are read at a time.
const PAGE: usize = 500;

/// Where the rows go.
#[derive(ClapArgs)]
pub(crate) struct Backup {
    /// The text file to write, readable by its owner only. An existing file is replaced
    file: PathBuf,
    #[command(flatten)]
    common: Common,
}

/// Where the rows come from.
#[derive(ClapArgs)]
pub(crate) struct Restore {
    /// A file that binplz backup wrote [default: none; restores only the builds of stored programs]
    file: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

/// Why rows were not written to a file, or not read from it.
#[derive(Debug, Error)]
pub(crate) enum BackupError {
    /// The data directory.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The ledger, or the store.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The file.
    #[error("{}: {why}", file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

fn at(file: &Path) -> impl FnOnce(io::Error) -> BackupError + '_ {
    move |error| BackupError::File { file: file.to_owned(), why: error.to_string() }
}

/// Writes all rows to a file.
///
/// # Errors
/// [`OperateError`].
pub(crate) async fn backup(Backup { file, common }: Backup) -> Result<(), OperateError> {
    let text = match common.which.find().await? {
        Site::Server(socket) => match socket.backup().await {
            Ok(text) => text,
            Err(_) if is_stopped(&socket) => offline(&socket.data)?,
            Err(error) => return Err(socket.declined(&error).into()),
        },
        #[cfg(feature = "aws")]
        Site::Stack(stack) => {
            use binplz_core::ports::{HasLedger, Ledger};
            let mut text = Text::new();
            let mut next = Some(None);
            while let Some(after) = next {
                next = text.add(stack.ledger().scan(after.as_ref(), PAGE).await.map_err(BackupError::from)?);
            }
            text.end()
        }
    };
    let rows = read_backup(&text).map_err(|why| BackupError::File { file: file.clone(), why: why.to_string() })?;
    write(&file, &text).map_err(at(&file))?;
    println!("{} rows, {} bytes: {}", rows.len(), text.len(), file.display());
    Ok(())
}

/// Whether no server runs in a directory that has a ledger.
fn is_stopped(socket: &Socket) -> bool {
    socket.data.join("ledger.redb").exists() && DataDir::open(&socket.data).is_ok()
}

/// The rows of a server that is stopped.
fn offline(data: &Path) -> Result<Vec<u8>, BackupError> {
    let ledger = LocalLedger::open(&DataDir::open(data)?)?;
    let snapshot = ledger.snapshot()?;
    let (mut text, mut next) = (Text::new(), Some(None));
    while let Some(after) = next {
        next = text.add(snapshot.page(after.as_ref(), PAGE)?);
    }
    Ok(text.end())
}

/// A backup in memory.
struct Text {
    writer: BackupWriter,
    text: Vec<u8>,
}

impl Text {
    fn new() -> Text {
        let (writer, header) = BackupWriter::new(binplz_clock::now());
        Text { writer, text: header.into_bytes() }
    }

    /// Adds rows; returns where to go on.
    fn add(&mut self, Scanned { rows, next }: Scanned) -> Option<Option<Cursor>> {
        for (row, _) in &rows {
            // Every row is JSON.
            self.text.extend(self.writer.row(row).unwrap_or_default().bytes());
        }
        next.map(Some)
    }

    fn end(mut self) -> Vec<u8> {
        self.text.extend(self.writer.end().bytes());
        self.text
    }
}

/// The file gets its name when it is on the disk.
fn write(file: &Path, text: &[u8]) -> io::Result<()> {
    let mut draft = file.as_os_str().to_owned();
    draft.push(".new");
    let mut open = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&draft)?;
    open.write_all(text)?;
    open.sync_all()?;
    fs::rename(draft, file)
}

/// Writes the rows of a file, and those that follow from what is stored.
///
/// # Errors
/// [`OperateError`].
pub(crate) async fn restore_from(Restore { file, common }: Restore) -> Result<(), OperateError> {
    let rows = match &file {
        Some(file) => {
            let text = fs::read(file).map_err(at(file))?;
            read_backup(&text).map_err(|why| BackupError::File { file: file.clone(), why: why.to_string() })?
        }
        None => Vec::new(),
    };
    let found = match common.which.find().await? {
        Site::Server(socket) => {
            let dir = DataDir::open(&socket.data).map_err(BackupError::from)?;
            let whole = LocalLedger::open(&dir).is_ok();
            if whole && file.is_some() {
                let data = socket.data.display();
                common.confirm.that(|| format!("replaces the ledger in {data}, which is kept beside the new one"))?;
            }
            restore_here(&dir, &rows, whole && file.is_none()).await?
        }
        #[cfg(feature = "aws")]
        Site::Stack(stack) => {
            use binplz_core::ports::{HasLedger, HasStore};
            common.confirm.that(|| format!("replaces up to {} rows of the table", rows.len()))?;
            restore(stack.ledger(), &rows).await.map_err(BackupError::from)?;
            let found = find_stored(stack.ledger(), stack.store(), binplz_clock::now()).await;
            found.map_err(BackupError::from)?
        }
    };
    println!("{} rows restored, and {found} builds found in the store", rows.len());
    Ok(())
}

/// On this machine, where no server runs. `keep`: into the ledger that is there.
async fn restore_here(dir: &Arc<DataDir>, rows: &[Row], keep: bool) -> Result<usize, BackupError> {
    let store = LocalStore::open(dir, "")?;
    let ledger = if keep { LocalLedger::open(dir)? } else { LocalLedger::draft(dir)? };
    restore(&ledger, rows).await?;
    let found = find_stored(&ledger, &store, binplz_clock::now()).await?;
    drop(ledger);
    if !keep && let Some(aside) = LocalLedger::replace(dir)? {
        println!("the former ledger is {}", aside.display());
    }
    Ok(found)
}
