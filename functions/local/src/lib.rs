//! Implements every port of [`binplz_core::ports`] on one machine, in one process, with one data directory and no external
//! service.
//!
//! ```text
//! DATA/lock              locked by the binplz that serves this directory
//! DATA/ledger.redb       the rows
//! DATA/ledger.made       shows that there were rows, in case ledger.redb is lost
//! DATA/objects/builds/…  the objects, each under its object path
//! DATA/objects/quarantine/…  builders' offers to the binary cache
//! DATA/cache/            the builders' Nix binary cache, if enabled
//! DATA/cache-key         the key that signs this cache; cache-key.public is its public key
//! DATA/signing-key, DATA/log-key  the keys of artifacts and of the transparency log
//! DATA/objects/tlog/     the transparency log
//! DATA/roots/            links to the nixpkgs that Nix must keep, made by `binplz pin`
//! DATA/tmp/              objects that are being written
//! DATA/secret            the key that signs upload URLs
//! DATA/builders/*.log    builders' standard output and error
//! DATA/builders/port     the port on which builders reach the server, also after a restart
//! ```
//!
//! A kill at any moment leaves the directory consistent: rows are written in transactions, objects get their names when
//! they are complete, and builders continue without the server.

mod dir;
pub mod health;
mod origin;

pub mod download_stats;
pub mod item;
pub mod ledger;
mod row_cache;
mod wait_limiter;
mod writer;

mod binary_cache;
mod checked;
mod draft;
mod grant;
pub mod store;

mod signer;

mod gc;
mod programs;

pub mod bell;
mod isolation;
pub mod launcher;
mod task;

use std::path::PathBuf;

use binplz_catalogue::{Open, Opened};
use binplz_core::{
    build::policy::Policy,
    has_ports,
    id::{
        key::{LeaseId, System, Token},
        text::without_secrets,
        time::Timestamp,
    },
    nixpkgs::pins::Pins,
    objects::{artifact::ObjectPath, narinfo::StoreDir},
    ports::{Deployment, Fault, HasCatalogues, Unavailable, Unreadable},
    telemetry::{About, Signal},
};

pub use crate::{
    bell::LocalBell,
    binary_cache::LocalBinaryCache,
    dir::{DataDir, OpenError},
    download_stats::LocalDownloadStats,
    gc::left,
    health::Health,
    isolation::Isolation,
    launcher::{BuilderExit, Ends, LocalLauncher},
    ledger::{LocalLedger, Snapshot},
    programs::{has_programs, keep_programs},
    signer::{KEY_FILES, LocalSigner},
    store::{LocalStore, Receiver, UploadError},
    wait_limiter::{LocalWaitLimiter, SettledBuilds},
};

/// The configuration of `binplz serve`.
#[derive(Clone, Debug)]
pub struct Config {
    /// The data directory; created if it is missing.
    pub data: PathBuf,
    /// The URL that clients use for this service, without a trailing slash: `http://127.0.0.1:8080`.
    pub origin: String,
    /// The same for builders.
    pub builder_origin: String,
    /// The limits and durations.
    pub policy: Policy,
    /// The pins of a new data directory.
    pub first_pins: Pins,
    /// The system for requests that name none.
    pub system: System,
    /// The path of the builder's program.
    pub builder: PathBuf,
    /// Whether builders may read the data directory.
    pub trusted: bool,
    /// Whether artifacts are signed and logged before they are served.
    pub signs: bool,
    /// The Nix store directory of the builders' shared binary cache; `None`: there is no shared cache.
    pub cache: Option<StoreDir>,
}

/// A deployment on one machine.
pub struct Local {
    catalogues: Opened,
    ledger: LocalLedger,
    bell: LocalBell,
    launcher: LocalLauncher,
    store: LocalStore,
    binary_cache: Option<LocalBinaryCache>,
    signer: Option<LocalSigner>,
    wait_limiter: LocalWaitLimiter,
    download_stats: LocalDownloadStats,
    policy: Policy,
    first_pins: Pins,
    system: System,
    origin: String,
    data: PathBuf,
    health: Health,
}

impl Local {
    /// Opens the data directory and every port in it. The second value receives the end of each builder. For each end, the
    /// server applies `Stopped` and rings the doorbell.
    ///
    /// # Errors
    /// [`OpenError`]: one sentence that says what is wrong with the directory, and what to do.
    pub fn open(config: Config) -> Result<(Local, Ends), OpenError> {
        let dir = DataDir::open(&config.data)?;
        let isolation = match Isolation::hiding(&dir) {
            Err(OpenError::NotHidden { .. }) if config.trusted => Isolation::default(),
            hidden => hidden?,
        };
        let (launcher, ends) = LocalLauncher::open(&dir, &config.builder_origin, config.builder)?;
        let launcher = launcher.isolated(isolation);
        let ledger = LocalLedger::open(&dir)?;
        let store = LocalStore::open(&dir, &config.origin)?.with_uploads_at(&config.builder_origin);
        let binary_cache = config.cache.map(|of| LocalBinaryCache::open(&dir, of)).transpose()?;
        let store = match &binary_cache {
            Some(binary_cache) => store.sharing(binary_cache),
            None => store,
        };
        let signer = config.signs.then(|| LocalSigner::open(&dir)).transpose()?;
        let local = Local {
            catalogues: Opened::default(),
            wait_limiter: LocalWaitLimiter::new(config.policy.waiters, ledger.settled.clone()),
            ledger,
            bell: LocalBell::default(),
            launcher,
            store,
            binary_cache,
            signer,
            download_stats: LocalDownloadStats::open(&dir)?,
            policy: config.policy,
            first_pins: config.first_pins,
            system: config.system,
            origin: config.origin,
            data: config.data,
            health: Health::default(),
        };
        Ok((local, ends))
    }

    /// The state of this server's background loops. Each loop reports to it.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// The signer, if enabled.
    pub fn signer(&self) -> Option<&LocalSigner> {
        self.signer.as_ref()
    }

    /// The builds that settle from now on.
    pub fn settled_builds(&self) -> SettledBuilds {
        SettledBuilds::of(&self.ledger.settled)
    }

    /// The builders' shared binary cache, if enabled.
    pub fn binary_cache(&self) -> Option<&LocalBinaryCache> {
        self.binary_cache.as_ref()
    }
}

has_ports!([] Local:
    HasLedger(Ledger = LocalLedger, ledger),
    HasBell(Bell = LocalBell, bell),
    HasLauncher(Launcher = LocalLauncher, launcher),
    HasStore(Store = LocalStore, store),
    HasWaitLimiter(WaitLimiter = LocalWaitLimiter, wait_limiter),
    HasDownloadStats(DownloadStats = LocalDownloadStats, download_stats));

impl HasCatalogues for Local {
    type Catalogue = Open;
    async fn catalogue(&self, lookup: &ObjectPath) -> Result<Result<Open, Unreadable>, Unavailable> {
        let bad = |why| self.warn(About::Build(&lookup.key), "a catalogue is not read", &why);
        self.catalogues.get(&self.store, lookup, bad).await
    }
}

impl Deployment for Local {
    fn policy(&self) -> &Policy {
        &self.policy
    }
    fn first_pins(&self) -> &Pins {
        &self.first_pins
    }
    fn system(&self) -> System {
        self.system
    }
    fn origin(&self) -> &str {
        &self.origin
    }
    fn now(&self) -> Timestamp {
        binplz_clock::now()
    }
    fn new_lease(&self) -> (LeaseId, Token) {
        binplz_clock::new_lease()
    }
    fn signs(&self) -> bool {
        self.signer.is_some()
    }
    fn faults(&self) -> Vec<Fault> {
        let mut faults = self.health.faults();
        faults.extend(health::disk(&self.data));
        faults
    }
    fn emit(&self, about: About<'_>, telemetry: Signal<'_>) {
        let (key, lease) = (about.key().map(tracing::field::display), about.lease().map(tracing::field::display));
        match telemetry {
            Signal::Moved(_)
            | Signal::Held(_)
            | Signal::Looked(..)
            | Signal::Stopped(_)
            | Signal::Granted(_)
            | Signal::Cleared(_)
            | Signal::Promoted(_) => {
                tracing::info!(key, lease, "{telemetry}")
            }
            Signal::Exceeded(_) => tracing::warn!("{telemetry}"),
            Signal::Trouble { error, .. } => {
                tracing::warn!(key, lease, error = without_secrets(&error.to_string()), "{telemetry}");
            }
            // Hits are counted but not logged: there may be thousands a second.
            Signal::Answered { hit: Some(served), .. } => {
                self.download_stats.count(&served.product(), served.size, self.now());
            }
            Signal::Answered { .. } => {}
        }
    }
}
