//! Accepts connections, within limits: none of them holds this server's memory, descriptors or time for long.
//!
//! A client gets some seconds for a request's head, and some for each part of its body and of the answer. One address
//! has a share of all connections, and all connections together leave descriptors for the ledger, the operator's socket
//! and the builders, who have a listener of their own.

use std::{
    collections::HashMap,
    fs,
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::Router;
use binplz_core::{ports::Deployment, quota::client::Client, telemetry::About};
use binplz_local::Local;
use binplz_web::Network;
use futures_util::TryFutureExt;
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
    service::TowerToHyperService,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt;

use crate::serve::peers::Peers;

/// How long a client may take to send a request's head; also how long a connection may be idle between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a client may take to accept the next bytes of an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest head of a request, in bytes.
const HEAD_MAX: usize = 64 << 10;

/// The most connections at a time, if the descriptor limit allows them.
const CONNECTIONS_MAX: usize = 16_384;
/// The most connections of builders at a time.
const BUILDERS_MAX: usize = 256;
/// The descriptors of one connection: its socket, and the files of the answer.
const DESCRIPTORS_EACH: usize = 3;
/// The descriptors that connections leave: to the ledger, the operator's socket, the builders' connections and pipes.
const DESCRIPTORS_LEFT: usize = 512;
/// What the descriptor limit is raised to: child processes inherit it, and some programs visit every possible descriptor.
const DESCRIPTORS_MAX: u64 = 65_536;

/// The answer to a connection that is one too many: a request of it is not read.
const TOO_MANY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\ncontent-type: text/plain; charset=utf-8\r\n\
    content-length: 80\r\nconnection: close\r\n\r\n\
    printf '%s\\n' 'binplz: too many connections; try again in a moment' >&2; exit 1\n";

/// The answer to a connection of a build.
const NO_CLIENT: &[u8] = b"HTTP/1.1 403 Forbidden\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 67\r\n\
    connection: close\r\n\r\nprintf '%s\\n' 'binplz: builds may not use this server' >&2; exit 1\n";

/// Raises this process's descriptor limit; returns how many connections it allows.
pub(crate) fn connections() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(DESCRIPTORS_MAX).min(DESCRIPTORS_MAX);
    let now = limit.current.unwrap_or(DESCRIPTORS_MAX);
    let raised =
        wanted > now && setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum }).is_ok();
    let descriptors = usize::try_from(if raised { wanted } else { now }).unwrap_or(usize::MAX);
    (descriptors.saturating_sub(DESCRIPTORS_LEFT) / DESCRIPTORS_EACH).clamp(32, CONNECTIONS_MAX)
}

/// The builders' socket, on a port that builders know from an earlier server, if that is free.
///
/// # Errors
/// The operating system's.
pub(crate) async fn for_builders(port_file: &Path) -> io::Result<TcpListener> {
    let known = fs::read_to_string(port_file).ok().and_then(|port| port.parse().ok());
    let bind = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    match known {
        Some(port) => bind(port).or_else(|_| bind(0)).await,
        None => bind(0).await,
    }
}

/// How many connections may be open, in all and for each client.
#[derive(Debug)]
pub(crate) struct Limits {
    all: Arc<Semaphore>,
    each: usize,
    open: Mutex<HashMap<Client, usize>>,
    /// Their connections are many clients'.
    proxies: Arc<[Network]>,
}

impl Limits {
    /// At most `all` connections, and `each` of one address (of IPv6, one /64) that is no proxy's.
    pub(crate) fn new(all: usize, each: usize, proxies: Arc<[Network]>) -> Arc<Limits> {
        let all = all.min(Semaphore::MAX_PERMITS);
        Arc::new(Limits { all: Arc::new(Semaphore::new(all)), each, open: Mutex::default(), proxies })
    }

    /// Builders' connections: all come from this machine.
    pub(crate) fn of_builders() -> Arc<Limits> {
        Limits::new(BUILDERS_MAX, BUILDERS_MAX, Arc::new([]))
    }

    /// One more connection, unless it is one too many.
    fn admit(self: &Arc<Limits>, peer: IpAddr) -> Option<Admission> {
        let permit = Arc::clone(&self.all).try_acquire_owned().ok()?;
        let client = Client::from(Some(peer));
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(client.clone()).or_default();
        if *count >= self.each && !Network::any_has(&self.proxies, peer) {
            return None;
        }
        *count += 1;
        drop(open);
        Some(Admission { limits: Arc::clone(self), client, _permit: permit })
    }
}

/// A connection's place, which it has until this is dropped.
#[derive(Debug)]
struct Admission {
    limits: Arc<Limits>,
    client: Client,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut open = self.limits.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.client);
            }
        }
    }
}

/// A listening socket, and what answers its requests.
pub(crate) struct Listener {
    pub(crate) part: &'static str,
    pub(crate) socket: TcpListener,
    pub(crate) limits: Arc<Limits>,
    pub(crate) routes: Router,
    /// What tells builds from clients; `None`: builds are clients too.
    pub(crate) peers: Option<Arc<Peers>>,
    pub(crate) stop: Arc<GracefulShutdown>,
}

impl Listener {
    /// Accepts connections until this future is dropped. A request's extensions hold its peer's [`IpAddr`].
    pub(crate) async fn accept(self: Arc<Listener>, d: Arc<Local>) {
        d.health().works(self.part);
        loop {
            match self.socket.accept().await {
                Ok((stream, peer)) => self.opened(stream, peer),
                // Of that connection only.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    d.health().fails(self.part, &error);
                    d.warn(About::Service, "a connection was not accepted", &error);
                    sleep(Duration::from_secs(1)).await;
                    d.health().works(self.part);
                }
            }
        }
    }

    fn opened(&self, stream: TcpStream, peer: SocketAddr) {
        let Some(admission) = self.limits.admit(peer.ip()) else { return say(stream, TOO_MANY) };
        let (peers, routes, stop) = (self.peers.clone(), self.routes.clone(), self.stop.watcher());
        tokio::spawn(async move {
            match peers {
                Some(peers) if peers.is_build(&stream, peer) => say(stream, NO_CLIENT),
                _ => serve(stream, peer.ip(), routes, stop).await,
            }
            drop(admission);
        });
    }
}

/// Ends a connection with an answer, of which it gets as much as the socket takes without waiting.
fn say(stream: TcpStream, answer: &[u8]) {
    let _ = stream.into_std().and_then(|mut stream| stream.write(answer));
}

/// Answers a connection's requests until it ends. Its errors are its client's.
async fn serve(stream: TcpStream, peer: IpAddr, routes: Router, stop: Watcher) {
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    let routes = routes.map_request(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        request
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_MAX);
    let connection = server.serve_connection(TokioIo::new(Box::pin(stream)), TowerToHyperService::new(routes));
    let _ = stop.watch(connection).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_a_connection_that_is_refused_is_whole() {
        for answer in [TOO_MANY, NO_CLIENT] {
            let text = std::str::from_utf8(answer).expect("text");
            let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
            assert!(head.contains(&format!("\r\ncontent-length: {}\r\n", body.len())), "{}", body.len());
        }
    }

    #[test]
    fn an_address_has_its_share_of_connections_and_all_have_a_limit() {
        let limits = Limits::new(3, 2, Arc::new([]));
        let (one, other): (IpAddr, IpAddr) = ("192.0.2.1".parse().expect("one"), "192.0.2.2".parse().expect("one"));
        let mut open: Vec<_> = [one, one].map(|peer| limits.admit(peer).expect("a place")).into();
        assert!(limits.admit(one).is_none());
        open.push(limits.admit(other).expect("a place of its own"));
        assert!(limits.admit(other).is_none(), "all are taken");
        open.remove(0);
        open.push(limits.admit(other).expect("the place that is free"));
        open.clear();
        assert!(limits.open.lock().expect("no panic").is_empty());
        // An IPv6 client has a /64 network.
        let limits = Limits::new(9, 1, Arc::new(["192.0.2.1".parse().expect("an address")]));
        let _first = limits.admit("2001:db8::1".parse().expect("one")).expect("a place");
        assert!(limits.admit("2001:db8::2".parse().expect("one")).is_none());
        let _other = limits.admit("2001:db8:0:1::1".parse().expect("one")).expect("a place");
        // A proxy's connections are many clients'.
        let _many = [one, one].map(|peer| limits.admit(peer).expect("a place"));
    }
}
