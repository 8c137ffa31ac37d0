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
    ports::Deployment,
    telemetry::About,
};
use binplz_local::Local;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
};

const NAME: &str = "operator";
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
        let outcome = match serde_json::from_slice::<Order>(&read_line(&mut stream).await?) {
            Ok(order) => d.carry_out(order).await,
            Err(error) => Err(Declined(format!("this server does not know this order: {error}"))),
        };
        write_line(stream.get_mut(), &outcome).await
    };
    if let Err(error) = answered.await {
        d.warn(About::Service, "an operator's order was not answered", &error);
    }
}

/// The server of a data directory, as its operator reaches it.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) data: PathBuf,
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
        let data = self.data.display();
        answer.await.unwrap_or_else(|error| {
            Err(Declined(match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    format!(
                        "no server is running in {data}: start one with binplz serve, or name its directory with --data"
                    )
                }
                _ => format!("the server in {data} did not answer: {error}"),
            }))
        })
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
