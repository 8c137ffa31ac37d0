//! The operator's connection to a running server: a socket in its data directory, which only the directory's owner can
//! open. An order is one line of JSON, and so is its outcome.

use std::{
    fs::{self, File, Permissions},
    io,
    os::{fd::AsRawFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use binplz_core::{
    flow::operator::orders::{Declined, Operator, Order, Outcome},
    ports::{Deployment, HasLedger},
    row::backup::BackupWriter,
    telemetry::About,
};
use binplz_local::Local;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
};

const NAME: &str = "operator";
/// The line that asks for a backup, whose answer is many lines.
const BACKUP: &str = "backup";
/// How many rows of a backup are read at a time.
const PAGE: usize = 500;
/// The name of the accept loop in `/-/health`.
pub(crate) const PART: &str = "operator socket";
/// Longest order or outcome, in bytes: the most log text in one outcome, with each byte escaped.
const LINE_MAX: u64 = 32 << 20;

/// The socket's address. A data directory's path may be longer than the 107 bytes of an address, so the address goes
/// through the open directory.
struct Address {
    dir: File,
}

impl Address {
    fn of(data: &Path) -> io::Result<Address> {
        Ok(Address { dir: File::open(data)? })
    }
    fn path(&self) -> PathBuf {
        Path::new("/proc/self/fd").join(self.dir.as_raw_fd().to_string()).join(NAME)
    }
}

/// Opens the server's socket. The data directory is locked, so an existing socket was left by a server that has ended.
///
/// # Errors
/// The operating system's.
pub(crate) fn listen(data: &Path) -> io::Result<UnixListener> {
    let address = Address::of(data)?;
    match fs::remove_file(address.path()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(address.path())?;
    fs::set_permissions(address.path(), Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Carries out orders, concurrently.
pub(crate) async fn hear(listener: Arc<UnixListener>, d: Arc<Local>) {
    d.health().works(PART);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                d.health().works(PART);
                tokio::spawn(answer(stream, Arc::clone(&d)));
            }
            Err(error) => {
                d.health().fails(PART, &error);
                d.warn(About::Service, "an operator's connection failed", &error);
                // If descriptors ran out, some will be free again.
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        }
    }
}

async fn answer(stream: UnixStream, d: Arc<Local>) {
    let answered = async {
        let mut stream = BufReader::new(stream);
        let line = read_line(&mut stream).await?;
        if line == BACKUP.as_bytes() {
            return send_backup(stream.get_mut(), &d).await;
        }
        let outcome = match serde_json::from_slice::<Order>(&line) {
            Ok(order) => d.carry_out(order).await,
            Err(error) => Err(Declined(format!("this server does not know this order: {error}"))),
        };
        write_line(stream.get_mut(), &outcome).await
    };
    if let Err(error) = answered.await {
        d.warn(About::Service, "an operator's order was not answered", &error);
    }
}

/// Sends all rows as they are now, as a backup has them. Where it breaks off, its last line is missing.
async fn send_backup(stream: &mut UnixStream, d: &Local) -> io::Result<()> {
    let (snapshot, mut after) = (d.ledger().snapshot().map_err(io::Error::other)?, None);
    let (mut writer, header) = BackupWriter::new(d.now());
    stream.write_all(header.as_bytes()).await?;
    loop {
        let page = snapshot.page(after.as_ref(), PAGE).map_err(io::Error::other)?;
        for (row, _) in &page.rows {
            stream.write_all(writer.row(row)?.as_bytes()).await?;
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return stream.write_all(writer.end().as_bytes()).await,
        }
    }
}

/// The server of a data directory, as its operator reaches it.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) data: PathBuf,
}

impl Socket {
    /// All rows of the server, as a backup has them; the end may be missing.
    ///
    /// # Errors
    /// The operating system's: there is no server.
    pub(crate) async fn backup(&self) -> io::Result<Vec<u8>> {
        let address = Address::of(&self.data)?;
        let mut stream = UnixStream::connect(address.path()).await?;
        stream.write_all(format!("{BACKUP}\n").as_bytes()).await?;
        let mut text = Vec::new();
        stream.read_to_end(&mut text).await?;
        Ok(text)
    }

    /// Why a server did not answer, in a sentence.
    pub(crate) fn declined(&self, error: &io::Error) -> Declined {
        let data = self.data.display();
        Declined(match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                format!(
                    "no server is running in {data}: start one with binplz serve, or name its directory with --data"
                )
            }
            _ => format!("the server in {data} did not answer: {error}"),
        })
    }
}

impl Operator for Socket {
    async fn carry_out(&self, order: Order) -> Result<Outcome, Declined> {
        let answer = async {
            let address = Address::of(&self.data)?;
            let mut stream = BufReader::new(UnixStream::connect(address.path()).await?);
            write_line(stream.get_mut(), &order).await?;
            let line = read_line(&mut stream).await?;
            serde_json::from_slice::<Result<Outcome, Declined>>(&line).map_err(io::Error::other)
        };
        answer.await.unwrap_or_else(|error| Err(self.declined(&error)))
    }
}

async fn read_line(stream: &mut BufReader<UnixStream>) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    stream.take(LINE_MAX).read_until(b'\n', &mut line).await?;
    if line.pop() == Some(b'\n') { Ok(line) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

async fn write_line(stream: &mut UnixStream, value: &impl serde::Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    stream.write_all(&line).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_servers_user_can_open_the_operators_socket() {
        let data = tempfile::tempdir().expect("a directory");
        let _listener = listen(data.path()).expect("a socket");
        let mode = fs::metadata(data.path().join(NAME)).expect("a socket").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
