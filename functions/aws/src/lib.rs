//! The roles of [`binplz_core::ports`], filled by AWS: the rows in DynamoDB, the doorbell in SQS, the objects in S3, the
//! builders in ECS. The only crate that names `aws_sdk_*`.
//!
//! | function | what it plays | where it reads what |
//! |---|---|---|
//! | `api` | [`Serving`]: rows, bell, objects | `BINPLZ_TABLE` `_QUEUE_URL` `_BUCKET` `_PINS` `_ORIGIN`, and behind a CDN `_CDN` `_ORIGIN_SECRET` |
//! | `lease` | [`Serving`] | the same, without `_ORIGIN` |
//! | `dispatcher`, `reaper` | [`Working`]: rows, bell, builders | `BINPLZ_TABLE` `_QUEUE_URL` `_CLUSTER` `_TASK_X86_64` `_TASK_ARM64` `_SUBNETS` `_SECURITY_GROUPS` `_ORIGIN`, and where the images are in ECR `_REPOSITORY` `_IMAGE_TAGS` |
//!
//! All of them take the numbers of [`config::Settings::policy`], each with a default, and what Lambda itself puts into the
//! environment. Functions that share a table must share the numbers too.

pub mod config;

pub mod account;

pub mod item;
pub mod ledger;

mod presign;
pub mod store;

pub mod bell;

mod images;
pub mod launcher;
mod lease_url;

pub mod absent;
pub mod lobby;

pub mod log;
pub mod metrics;

pub mod event;
#[cfg(feature = "gateway")]
pub mod gateway;

use binplz_core::{
    key::{LeaseId, Token},
    news::{About, News},
    pins::Pins,
    policy::Policy,
    ports::{Deployment, Launcher, Ledger, Read, RowKey, Store, Unavailable},
    time::Timestamp,
};

use crate::{
    absent::Absent,
    account::Account,
    bell::SqsBell,
    config::{Fault, Settings},
    launcher::EcsLauncher,
    ledger::DynamoLedger,
    lobby::DynamoLobby,
    log::Log,
    store::S3Store,
};

/// A deployment on AWS, as one of its functions sees it.
#[derive(Debug)]
pub struct Aws<S, L> {
    ledger: DynamoLedger,
    bell: SqsBell,
    store: S,
    launcher: L,
    lobby: DynamoLobby,
    policy: Policy,
    pins: Pins,
    origin: String,
    log: Log,
}

/// What answers requests: it can start no task.
pub type Serving = Aws<S3Store, Absent>;
/// What starts tasks and ends leases: it can read no object.
pub type Working = Aws<Absent, EcsLauncher>;
/// What holds those who wait: it can look, and count them.
pub type Waiting = Aws<Absent, Absent>;

impl Serving {
    /// What the site's function sees.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn of_site(settings: &Settings) -> Result<Serving, Fault> {
        Serving::open(settings, settings.origin()?)
    }

    /// What the builders' endpoint sees: it names no URL of its own.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn of_leases(settings: &Settings) -> Result<Serving, Fault> {
        Serving::open(settings, String::new())
    }

    fn open(settings: &Settings, origin: String) -> Result<Serving, Fault> {
        let account = Account::open(settings)?;
        Ok(Aws {
            ledger: DynamoLedger::open(&account, settings)?,
            bell: SqsBell::open(&account, settings)?,
            store: S3Store::open(&account, settings)?,
            launcher: Absent,
            lobby: DynamoLobby::open(&account, settings)?,
            policy: settings.policy()?,
            pins: settings.pins()?,
            origin,
            log: Log::open(settings),
        })
    }

    /// Does what a hit does, before the first one comes: connections, TLS and all that is made once are then there.
    pub async fn warm(&self) {
        let warm = async {
            self.ledger.load(&RowKey::Limits, Read::Eventual).await?;
            self.store.warm()
        };
        if let Err(error) = warm.await {
            self.note(About::Service, "warming up did not work", &error);
        }
    }
}

impl Working {
    /// Opens what the settings name.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn open(settings: &Settings) -> Result<Working, Fault> {
        let account = Account::open(settings)?;
        Ok(Aws {
            ledger: DynamoLedger::open(&account, settings)?,
            bell: SqsBell::open(&account, settings)?,
            store: Absent,
            launcher: EcsLauncher::open(&account, settings)?,
            lobby: DynamoLobby::open(&account, settings)?,
            policy: settings.policy()?,
            // What it works on has been resolved already.
            pins: Pins::none(),
            origin: settings.origin()?,
            log: Log::open(settings),
        })
    }
}

impl Waiting {
    /// Opens what the settings name.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn open(settings: &Settings) -> Result<Waiting, Fault> {
        let account = Account::open(settings)?;
        Ok(Aws {
            ledger: DynamoLedger::open(&account, settings)?,
            bell: SqsBell::open(&account, settings)?,
            store: Absent,
            launcher: Absent,
            lobby: DynamoLobby::open(&account, settings)?,
            policy: settings.policy()?,
            pins: settings.pins()?,
            origin: settings.origin()?,
            log: Log::open(settings),
        })
    }
}

impl<S: Store + 'static, L: Launcher + 'static> Deployment for Aws<S, L> {
    type Ledger = DynamoLedger;
    type Bell = SqsBell;
    type Launcher = L;
    type Store = S;
    type Lobby = DynamoLobby;

    fn ledger(&self) -> &DynamoLedger {
        &self.ledger
    }
    fn bell(&self) -> &SqsBell {
        &self.bell
    }
    fn launcher(&self) -> &L {
        &self.launcher
    }
    fn store(&self) -> &S {
        &self.store
    }
    fn lobby(&self) -> &DynamoLobby {
        &self.lobby
    }
    fn policy(&self) -> &Policy {
        &self.policy
    }
    fn pins(&self) -> &Pins {
        &self.pins
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
    fn tell(&self, about: About<'_>, news: News<'_>) {
        self.log.tell(about, &news, self.now());
    }
}

/// A service did not do what it was asked, with all causes. (Not with the whole request and its answer, which the error's own
/// `Debug` has: nobody has looked at what is in them.)
fn unavailable(role: &'static str, error: &dyn std::error::Error) -> Unavailable {
    let mut causes: Vec<String> =
        std::iter::successors(Some(error), |error| error.source()).map(|e| e.to_string()).collect();
    causes.dedup();
    Unavailable::new(role, causes.join(": "))
}
