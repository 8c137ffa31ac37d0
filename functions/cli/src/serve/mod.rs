//! `binplz serve`: the whole service in one process, on one directory.

mod http;
mod listener;
mod log;
mod loops;
mod objects;
mod peers;
mod spool;
mod supervise;

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use binplz_core::{
    build::{
        policy::{Names, Policy, Prices},
        protocol::{JobLimits, Nixpkgs},
    },
    flow::operator::pins::{self, NotChanged},
    id::{key::System, money::Micros},
    nixpkgs::pins::{Change, Pins, Source},
    ports::{Deployment, Unavailable},
};
use binplz_local::{Config, Local, OpenError};
use binplz_web::{Hosts, Network};
use clap::Args as ClapArgs;
use hyper_util::server::graceful::GracefulShutdown;
use thiserror::Error;
use tokio::{net::TcpListener, signal::unix::SignalKind};

use crate::{
    build_users::BuildUsers,
    nixpkgs::{self, Named},
    serve::{listener::Listener, log::Log, loops::Loops, peers::Peers, spool::Spool, supervise::supervise},
    socket,
};

/// The arguments of `binplz serve`. If an option is repeated, the last one counts, so that users can override a script's options.
#[derive(ClapArgs)]
#[command(args_override_self = true)]
pub(crate) struct Args {
    /// Serve this package set by default, also in later runs: a directory, or github:NixOS/nixpkgs/COMMIT [default: the stored pins; at first, infra/pins.json]
    #[arg(long, value_name = "PATH|github:…")]
    nixpkgs: Option<String>,
    /// The address to listen on
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// The data directory
    #[arg(long, default_value = ".binplz", value_name = "DIR")]
    data: PathBuf,
    /// The URL that clients use for this server [default: http:// and the listen address]
    #[arg(long, value_name = "URL")]
    origin: Option<String>,
    /// Another host name to accept, besides the origin's; requests for other hosts are refused [default: any host, unless the origin is local]
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
    /// A reverse proxy or its network; for its requests, the client is the last address in X-Forwarded-For that is no trusted proxy
    #[arg(long = "trusted-proxy", value_name = "ADDRESS|NETWORK")]
    proxies: Vec<Network>,
    /// The builder program [default: binplz-builder beside this program]
    #[arg(long, value_name = "FILE")]
    builder: Option<PathBuf>,
    /// Keep a Nix cache of built dependencies, for builders that do not share a Nix store
    #[arg(long)]
    cache: bool,
    /// Start even if builders could read the data directory; use it only if you trust all packages of the Nixpkgs
    #[arg(long)]
    trust_nixpkgs: bool,
    /// Sign each file, and log the signature in a transparency log, before the file is served for the first time
    #[arg(long)]
    sign: bool,
    #[command(flatten)]
    numbers: Numbers,
    /// Names to accept: only those in the catalogue (known); others too, as attributes (open); only attributes, without a catalogue (attributes)
    #[arg(long, default_value_t = Names::default(), value_name = "known|open|attributes")]
    names: Names,
}

#[derive(ClapArgs)]
#[command(next_help_heading = "Limits")]
struct Numbers {
    /// Builds in parallel
    #[arg(long, default_value_t = Policy::default().slots, value_name = "N")]
    jobs: usize,
    /// New builds per client (an IPv4 address, an IPv6 /64) and day [default: no limit]
    #[arg(long, value_name = "N")]
    client_builds: Option<u32>,
    /// The most bytes in the store; a build that could exceed this does not start [default: no limit]
    #[arg(long, value_name = "BYTES")]
    store_size: Option<u64>,
    /// The most bytes of programs to serve in a day (UTC); downloads then stop until the next day [default: no limit]
    #[arg(long, value_name = "BYTES")]
    egress: Option<u64>,
    /// The cost of an hour of building on this machine, in dollars
    #[arg(long, default_value = "0", value_name = "DOLLARS")]
    hour_price: Micros,
    /// The budget for builds in a calendar month (UTC), in dollars [default: no limit]
    #[arg(long, value_name = "DOLLARS")]
    budget: Option<Micros>,
    /// The time limit of each attempt at a build, in seconds
    #[arg(long, default_value_t = JobLimits::default().seconds, value_name = "SECONDS")]
    build_time: u64,
    /// The longest time that a build may print nothing, in seconds
    #[arg(long, default_value_t = JobLimits::default().silent_seconds, value_name = "SECONDS")]
    silent_time: u64,
    /// The longest log of a build, in bytes
    #[arg(long, default_value_t = JobLimits::default().log_bytes, value_name = "BYTES")]
    log_size: u64,
    /// The largest program, in bytes
    #[arg(long, default_value_t = JobLimits::default().program_bytes, value_name = "BYTES")]
    program_size: u64,
    /// The most bytes that all programs of a package may have together
    #[arg(long, default_value_t = JobLimits::default().package_bytes, value_name = "BYTES")]
    package_size: u64,
    /// The largest bundle, in bytes; --package-size limits it too
    #[arg(long, default_value_t = JobLimits::default().bundle_bytes, value_name = "BYTES")]
    bundle_size: u64,
    /// The most compressed bytes that a build may offer to the builders' cache
    #[arg(long, default_value_t = JobLimits::default().cache_bytes, value_name = "BYTES")]
    cache_size: u64,
    /// The most processor time for evaluating an attribute of a catalogue, in seconds
    #[arg(long, default_value_t = JobLimits::default().attribute_seconds, value_name = "SECONDS")]
    attribute_time: u64,
    /// The most memory for evaluating an attribute of a catalogue, in bytes
    #[arg(long, default_value_t = JobLimits::default().attribute_bytes, value_name = "BYTES")]
    attribute_memory: u64,
    /// The most attempts at a build that fails for temporary reasons, the first attempt included
    #[arg(long, default_value_t = Policy::default().attempts, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    attempts: u32,
    /// How often to continue a build that reached its time limit and has built a dependency
    #[arg(long, default_value_t = Policy::default().continued_attempts, value_name = "N")]
    continued_attempts: u32,
    /// The most that all continued attempts of one build may cost, in dollars [default: no limit]
    #[arg(long, value_name = "DOLLARS")]
    package_budget: Option<Micros>,
    /// The delay before the second attempt, in seconds; each later delay is four times as long
    #[arg(long, default_value_t = Policy::default().first_delay.as_secs(), value_name = "SECONDS")]
    retry_delay: u64,
    /// The delay after the last attempt, in seconds; after it, a request may start the build again
    #[arg(long, default_value_t = Policy::default().cool_down.as_secs(), value_name = "SECONDS")]
    cool_down: u64,
    /// The time without a heartbeat after which a builder counts as lost, in seconds
    #[arg(long, default_value_t = Policy::default().lease.as_secs(), value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(3..))]
    lease: u64,
    /// The grace period before unreferenced objects are deleted, in seconds; choose more than any download takes
    #[arg(long, default_value_t = Policy::default().grace.as_secs(), value_name = "SECONDS")]
    grace: u64,
    /// The most requests that may wait at a time (?wait); the server answers further requests at once
    #[arg(long, default_value_t = Policy::default().waiters, value_name = "N")]
    waiters: usize,
    /// The most connections per client (an IPv4 address, an IPv6 /64); at most half of the file descriptor limit
    #[arg(long, default_value_t = 512, value_name = "N")]
    client_connections: usize,
    /// The longest time to hold an answer for ?wait, in seconds; choose less than a proxy's timeout
    #[arg(long, default_value_t = Policy::default().hold.as_secs(), value_name = "SECONDS")]
    hold: u64,
}

impl Numbers {
    /// The policy. `cache`: whether builders share a cache.
    fn policy(&self, cache: bool) -> Policy {
        Policy {
            lease: Duration::from_secs(self.lease),
            attempts: self.attempts,
            continued_attempts: self.continued_attempts,
            package_budget: self.package_budget,
            first_delay: Duration::from_secs(self.retry_delay),
            cool_down: Duration::from_secs(self.cool_down),
            slots: self.jobs,
            budget: self.budget,
            prices: Prices { task: self.hour_price, ..Prices::default() },
            client_builds: self.client_builds,
            store_bytes: self.store_size,
            egress_bytes: self.egress,
            grace: Duration::from_secs(self.grace),
            waiters: self.waiters,
            hold: Duration::from_secs(self.hold),
            job: JobLimits {
                seconds: self.build_time,
                silent_seconds: self.silent_time,
                log_bytes: self.log_size,
                program_bytes: self.program_size,
                package_bytes: self.package_size,
                bundle_bytes: self.bundle_size,
                cache_bytes: if cache { self.cache_size } else { 0 },
                attribute_seconds: self.attribute_time,
                attribute_bytes: self.attribute_memory,
                ..JobLimits::default()
            },
            ..Policy::default()
        }
    }
}

/// Why the server did not start, or stopped.
#[derive(Debug, Error)]
pub(crate) enum Fatal {
    /// The data directory.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Nix, or the package set.
    #[error(transparent)]
    Nixpkgs(#[from] nixpkgs::NixpkgsError),
    /// The port.
    #[error("cannot listen on {address}: {cause}; if another program uses this port, choose another one with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The error.
        cause: io::Error,
    },
    /// The kernel does not show which connections are of builds.
    #[error(
        "this kernel does not report the owner of a connection (INET_DIAG: {0}), so builds could use this server: pass --trust-nixpkgs if you trust every package of the nixpkgs that you serve"
    )]
    Peers(io::Error),
    /// The builder.
    #[error("no builder program at {0}; build it with cargo build --package binplz-builder, or name it with --builder")]
    Builder(PathBuf),
    /// The pins.
    #[error("the pins: {0}")]
    Pins(#[from] NotChanged),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] Unavailable),
    /// The origin.
    #[error("--origin must be http:// or https:// followed by a host, without a path")]
    Origin,
    /// `--listen` stands for all addresses of the machine, and `--origin` is missing.
    #[error("--listen {0} stands for all addresses of this machine: name the one that clients use with --origin http://HOST:{port}", port = .0.port())]
    NoOrigin(SocketAddr),
    /// The machine.
    #[error("unsupported machine: binplz serves on x86_64 and aarch64 Linux")]
    System,
    /// The operating system failed.
    #[error("the server stopped: {0}")]
    Io(#[from] io::Error),
}

/// Serves until SIGINT or SIGTERM. Then it stops the builders first, while they can still report.
///
/// # Errors
/// [`Fatal`].
pub(crate) fn run(args: Args) -> Result<(), Fatal> {
    let log = Log::open()?;
    let served = tokio::runtime::Runtime::new()?.block_on(serve(args, &log));
    log.flush();
    served
}

async fn serve(args: Args, log: &Log) -> Result<(), Fatal> {
    let system: System = format!("{}-linux", std::env::consts::ARCH).parse().map_err(|_| Fatal::System)?;
    let builder = builder(args.builder)?;
    let listener = TcpListener::bind(args.listen);
    let listener = listener.await.map_err(|cause| Fatal::Listen { address: args.listen, cause })?;
    let origin = origin(args.origin, listener.local_addr()?)?;
    let hosts = Hosts::of(&origin, &args.hosts);
    let connections = listener::connections();
    nixpkgs::check_nix()?;
    let peers = match args.trust_nixpkgs {
        true => None,
        false => Some(Arc::new(Peers::new(BuildUsers::of_this_machine()?).map_err(Fatal::Peers)?)),
    };
    let named = args.nixpkgs.as_deref().map(nixpkgs::named).transpose()?;
    let first_pins = match named.clone() {
        Some(Named { name, rev, source, .. }) => Pins::one(name, rev, source),
        None => nixpkgs::PinsFile::read()?.pins()?,
    };
    let policy = Policy { names: args.names, ..args.numbers.policy(args.cache) };
    let cache = args.cache.then(nixpkgs::store_dir).transpose()?;
    let port_file = args.data.join("builders/port");
    let builders_socket = listener::for_builders(&port_file).await?;
    let builder_origin = format!("http://{}", builders_socket.local_addr()?);
    let config = Config {
        data: args.data.clone(),
        origin,
        builder_origin,
        policy,
        first_pins,
        system,
        builder,
        trusted: args.trust_nixpkgs,
        signs: args.sign,
        cache,
    };
    let (local, ends) = Local::open(config)?;
    let local = Arc::new(local);
    // Builders outlive this server: its successor listens there again.
    fs::write(&port_file, builders_socket.local_addr()?.port().to_string())?;
    if let Some(named) = named {
        serve_by_default(&local, named, &args.data).await?;
    }
    let told = format!("binplz {} serves {} at {}", binplz_core::VERSION, served(&local).await?, local.origin());
    let orders = Arc::new(socket::listen(&args.data)?);
    let hearing = Arc::clone(&local);
    let orders = supervise(&local, socket::PART, move || socket::hear(Arc::clone(&orders), Arc::clone(&hearing)));
    let loops = Loops::start(&local, ends);

    let stop = Arc::new(GracefulShutdown::new());
    let proxies: Arc<[Network]> = args.proxies.into();
    let spool = Spool::new(args.data.join("tmp"));
    let clients = Listener {
        part: "listener",
        socket: listener,
        limits: listener::Limits::new(
            connections,
            args.numbers.client_connections.min(connections / 2),
            Arc::clone(&proxies),
        ),
        routes: http::for_clients(&local, hosts, &proxies, &spool),
        peers: peers.clone(),
        stop: Arc::clone(&stop),
    };
    let builders = Listener {
        part: "builders' listener",
        socket: builders_socket,
        limits: listener::Limits::of_builders(),
        routes: http::for_builders(&local),
        peers,
        stop: Arc::clone(&stop),
    };
    let listeners = [clients, builders].map(|listener| {
        let (listener, d) = (Arc::new(listener), Arc::clone(&local));
        supervise(&local, listener.part, move || Arc::clone(&listener).accept(Arc::clone(&d)))
    });
    log.line(&told);

    stop_signal().await?;
    log.line("binplz: stopping the builders; press Ctrl-C again to stop at once");
    tokio::select! {
        () = loops.stop_builders(&local) => {}
        again = stop_signal() => again?,
    }
    orders.abort();
    drop(loops);
    for listener in listeners {
        listener.abort();
        // The error says that it was aborted.
        let _ = listener.await;
    }
    // Running downloads are cut off when this process ends; clients can resume them.
    if let Some(stop) = Arc::into_inner(stop) {
        let _ = tokio::time::timeout(Duration::from_secs(2), stop.shutdown()).await;
    }
    loops::save_hits(&local);
    Ok(())
}

/// Makes the argument of `--nixpkgs` the default pin, as `binplz pin` would.
async fn serve_by_default(local: &Local, named: Named, data: &Path) -> Result<(), Fatal> {
    let Named { name, rev, source, programs } = named;
    if let Source::Elsewhere(Nixpkgs::Path(path)) = &source {
        nixpkgs::keep(&rev, path, data)?;
    }
    let change = match pins::load(local).await?.all().contains_key(&name) {
        true => Change::Move(name.clone(), rev, source, programs),
        false => Change::Add(name.clone(), rev, source, programs),
    };
    pins::change(local, &change).await?;
    pins::change(local, &Change::Default(name)).await?;
    Ok(())
}

/// "NAME (COMMIT), …", the default first.
async fn served(local: &Local) -> Result<String, Fatal> {
    let pins = pins::load(local).await?;
    let (default, others): (Vec<_>, Vec<_>) = pins.all().iter().partition(|(name, _)| *name == pins.default_name());
    let all = default.into_iter().chain(others).map(|(name, pin)| format!("{name} ({})", pin.rev));
    Ok(all.collect::<Vec<_>>().join(", "))
}

async fn stop_signal() -> io::Result<()> {
    let mut interrupt = tokio::signal::unix::signal(SignalKind::interrupt())?;
    let mut terminate = tokio::signal::unix::signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

fn builder(named: Option<PathBuf>) -> Result<PathBuf, Fatal> {
    let path = match named {
        Some(path) => path,
        None => std::env::current_exe()?.with_file_name("binplz-builder"),
    };
    if path.is_file() { Ok(std::path::absolute(path)?) } else { Err(Fatal::Builder(path)) }
}

/// Checks the origin: the stub has it between single quotes, so only plain URL characters are allowed.
fn origin(named: Option<String>, address: SocketAddr) -> Result<String, Fatal> {
    let Some(origin) = named else {
        return if address.ip().is_unspecified() {
            Err(Fatal::NoOrigin(address))
        } else {
            Ok(format!("http://{address}"))
        };
    };
    let origin = origin.trim_end_matches('/');
    let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")).unwrap_or("");
    let plain = |b: u8| b.is_ascii_alphanumeric() || b".-:[]_".contains(&b);
    if !host.is_empty() && host.bytes().all(plain) { Ok(origin.to_owned()) } else { Err(Fatal::Origin) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A deployment in a directory of its own, without builders.
    pub(crate) fn local() -> (tempfile::TempDir, Arc<Local>, binplz_local::Ends) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let rev = "ab".repeat(20).parse().expect("hex");
        let set = Source::Elsewhere(Nixpkgs::Path("/nowhere".into()));
        let config = Config {
            data: dir.path().to_path_buf(),
            origin: "http://127.0.0.1:8080".to_owned(),
            builder_origin: "http://127.0.0.1:8081".to_owned(),
            policy: Policy { names: Names::Attributes, ..Policy::default() },
            first_pins: Pins::one("local".parse().expect("a name"), rev, set),
            system: System::X86_64Linux,
            builder: "/nowhere".into(),
            trusted: true,
            signs: false,
            cache: None,
        };
        let (local, ends) = Local::open(config).expect("a data directory");
        (dir, Arc::new(local), ends)
    }
}
