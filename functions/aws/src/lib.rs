//! Implements [`binplz_core::ports`] on AWS: rows in DynamoDB, the doorbell in SQS, objects in S3, builders in ECS. This is the
//! only crate that names `aws_sdk_*`.
//!
//! | function | its ports | its environment variables |
//! |---|---|---|
//! | `api` | [`Serving`]: rows, bell, objects | `BINPLZ_BUCKET` `_ORIGIN`, and behind a CDN `_CDN` `_ORIGIN_SECRET` |
//! | `lease`, `collector` | [`Receiving`] | `BINPLZ_BUCKET` |
//! | `promoter` | [`Receiving`] and [`binary_cache::S3BinaryCache`] | `BINPLZ_BUCKET` `_CACHE_SECRET` |
//! | `signer` | [`Receiving`] and [`signer::KmsSigner`] | `BINPLZ_BUCKET` `_ORIGIN` |
//! | `wait` | [`Serving`], but it only reads | `BINPLZ_BUCKET` `_ORIGIN` |
//! | `dispatcher`, `reaper` | [`Working`]: rows, bell, builders | `BINPLZ_CLUSTER` `_BUCKET` `_TASK_X86_64` `_TASK_ARM64` `_SUBNETS` `_SECURITY_GROUPS` `_ORIGIN`, and, if the images are in ECR, `_REPOSITORY` `_IMAGE_TAGS` |
//!
//! All of them read `BINPLZ_TABLE`, `_QUEUE_URL`, the first pins in `_FIRST_PINS`, the default system in `_SYSTEM`, the numbers of
//! [`config::Settings::policy`] (each has a default), the signing keys in `_SIGNING_KEYS` if artifacts are signed, and the variables
//! that Lambda itself sets. Functions that share a table must have the same values of these.

pub mod config;

pub mod account;

pub mod item;
pub mod ledger;

mod presign;

pub mod binary_cache;
mod gc;
mod left;
pub mod objects;
mod shared;
#[cfg(feature = "signer")]
pub mod signer;
pub mod store;

pub mod bell;

mod images;
pub mod launcher;
mod lease_url;

pub mod download_stats;
pub mod wait_limiter;

pub mod log;
pub mod metrics;

pub mod event;
#[cfg(feature = "gateway")]
pub mod gateway;

#[cfg(feature = "operator")]
pub mod doctor;
#[cfg(feature = "operator")]
pub mod login;
#[cfg(feature = "operator")]
pub mod stack;

use binplz_catalogue::{Open, Opened};
use binplz_core::{
    build::policy::Policy,
    has_ports,
    id::{
        key::{LeaseId, System, Token},
        time::Timestamp,
    },
    nixpkgs::pins::Pins,
    objects::artifact::ObjectPath,
    ports::{Deployment, HasCatalogues, Launcher, Store, Unavailable, Unreadable},
    telemetry::{About, Signal},
};

#[cfg(feature = "signer")]
use crate::signer::KmsSigner;
use crate::{
    account::Account,
    bell::SqsBell,
    config::{ConfigError, SIGNING_KEYS, Settings},
    download_stats::LogDownloadStats,
    launcher::{EcsLauncher, EcsTasks},
    ledger::DynamoLedger,
    log::Log,
    objects::S3Objects,
    store::S3Store,
    wait_limiter::DynamoWaitLimiter,
};

/// A deployment on AWS, as one of its functions uses it.
#[derive(Debug)]
pub struct Aws<S, L> {
    catalogues: Opened,
    ledger: DynamoLedger,
    bell: SqsBell,
    store: S,
    launcher: L,
    wait_limiter: DynamoWaitLimiter,
    download_stats: LogDownloadStats,
    policy: Policy,
    first_pins: Pins,
    system: System,
    origin: String,
    signs: bool,
    log: Log,
}

/// The ports of the functions that answer clients. They start no tasks and store no objects.
pub type Serving = Aws<S3Objects, ()>;
/// The ports of the lease, promoter and collector functions. They start no tasks.
pub type Receiving = Aws<S3Store, ()>;
/// An operator's ports. They stop tasks, but start none.
pub type Operating = Aws<S3Store, EcsTasks>;
/// The ports of the dispatcher and the reaper. They can only see whether a nixpkgs is stored, and what an attempt has left.
pub type Working = Aws<(), EcsLauncher>;

impl Serving {
    /// Opens the ports of the functions `api` and `wait`.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn open(settings: &Settings) -> Result<Serving, ConfigError> {
        let account = Account::open(settings)?;
        let store = S3Objects::open(&account, settings)?;
        Aws::with(&account, settings, store, (), settings.origin()?)
    }

    /// Does the work of a hit during the cold start, which has the processor to itself. It opens the TLS connection and
    /// creates all lazily created state. It costs one eventually consistent read per cold start. If it fails, the function
    /// starts anyway, and its first request reports the failure.
    pub async fn warm(&self) {
        if let Err(error) = self.ledger.warm().await.and_then(|()| self.store.warm()) {
            self.warn(About::Service, "the warm-up failed", &error);
        }
    }
}

impl Receiving {
    /// Opens the ports of the functions `lease`, `promoter` and `collector`, which need no origin.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn open(settings: &Settings) -> Result<Receiving, ConfigError> {
        let account = Account::open(settings)?;
        let store = S3Store::open(&account, settings)?;
        Aws::with(&account, settings, store, (), String::new())
    }

    /// Opens the ports of the function `signer`, and the signer in the same account. The site's URL names a log that begins.
    ///
    /// # Errors
    /// [`ConfigError`].
    #[cfg(feature = "signer")]
    pub fn open_signing(settings: &Settings) -> Result<(Receiving, KmsSigner), ConfigError> {
        let account = Account::open(settings)?;
        let store = S3Store::open(&account, settings)?;
        let signer = KmsSigner::open(&account, &store, settings)?;
        Ok((Aws::with(&account, settings, store, (), settings.origin()?)?, signer))
    }
}

impl Operating {
    /// Opens an operator's ports, in an account whose credentials may have to be renewed.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn open(account: &Account, settings: &Settings) -> Result<Operating, ConfigError> {
        let (store, tasks) = (S3Store::open(account, settings)?, EcsTasks::open(account, settings)?);
        Aws::with(account, settings, store, tasks, settings.origin()?)
    }
}

impl Working {
    /// Opens the ports of the functions `dispatcher` and `reaper`.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn open(settings: &Settings) -> Result<Working, ConfigError> {
        let account = Account::open(settings)?;
        let launcher = EcsLauncher::open(&account, settings)?;
        Aws::with(&account, settings, (), launcher, settings.origin()?)
    }
}

impl<S, L> Aws<S, L> {
    /// Prints warnings on standard error instead of as JSON.
    #[must_use]
    pub fn told_at_a_terminal(self) -> Aws<S, L> {
        Aws { log: Log::Terminal, ..self }
    }

    fn with(
        account: &Account,
        settings: &Settings,
        store: S,
        launcher: L,
        origin: String,
    ) -> Result<Aws<S, L>, ConfigError> {
        let ledger = DynamoLedger::open(account, settings)?;
        Ok(Aws {
            catalogues: Opened::default(),
            wait_limiter: DynamoWaitLimiter::open(&ledger, settings)?,
            download_stats: LogDownloadStats::open(account, settings),
            ledger,
            bell: SqsBell::open(account, settings)?,
            store,
            launcher,
            policy: settings.policy()?,
            first_pins: settings.first_pins()?,
            system: settings.system()?,
            origin,
            signs: settings.find(SIGNING_KEYS).is_some(),
            log: Log::open(settings),
        })
    }
}

has_ports!([S: Held, L: Held] Aws<S, L>:
    HasLedger(Ledger = DynamoLedger, ledger),
    HasBell(Bell = SqsBell, bell),
    HasWaitLimiter(WaitLimiter = DynamoWaitLimiter, wait_limiter),
    HasDownloadStats(DownloadStats = LogDownloadStats, download_stats));
has_ports!([S: Held, L: Launcher + 'static] Aws<S, L>: HasLauncher(Launcher = L, launcher));
has_ports!([S: Store + 'static, L: Held] Aws<S, L>: HasStore(Store = S, store));

impl<S: Store + 'static, L: Held> HasCatalogues for Aws<S, L> {
    type Catalogue = Open;
    async fn catalogue(&self, lookup: &ObjectPath) -> Result<Result<Open, Unreadable>, Unavailable> {
        let bad = |why| self.warn(About::Build(&lookup.key), "a catalogue is not read", &why);
        self.catalogues.get(&self.store, lookup, bad).await
    }
}

impl<S: Held, L: Held> Deployment for Aws<S, L> {
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
    fn signs(&self) -> bool {
        self.signs
    }
    fn now(&self) -> Timestamp {
        binplz_clock::now()
    }
    fn new_lease(&self) -> (LeaseId, Token) {
        binplz_clock::new_lease()
    }
    fn emit(&self, about: About<'_>, signal: Signal<'_>) {
        self.log.emit(about, &signal, self.now());
    }
}

/// A port of a deployment, or `()` if the deployment's role has no permission for it.
pub trait Held: Send + Sync + 'static {}
impl<T: Send + Sync + 'static> Held for T {}

/// A service that failed or did not answer.
fn unavailable(role: &'static str, error: &dyn std::error::Error) -> Unavailable {
    Unavailable::new(role, causes(error))
}

/// An error with all its causes. (The `Debug` of an SDK error would include the whole request and answer, whose content
/// is not checked for secrets.)
fn causes(error: &dyn std::error::Error) -> String {
    let mut causes: Vec<String> =
        std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect();
    causes.dedup();
    causes.join(": ")
}
