//! What a builder may ask for while it holds its lease.

use crate::{
    build::{
        Build, Event, Lease,
        protocol::{Heartbeat, Job, Nixpkgs, PresignedUpload, Progress, Upload},
    },
    flow::{AdvanceError, advance, load_build, operator::pins},
    id::key::{BuildKey, LeaseId, Product, Token},
    nixpkgs::{catalogue, pins::Source},
    objects::{
        artifact::{AttemptPrefix, ObjectName},
        narinfo,
    },
    ports::{HasLedger, HasStore, Intake, Ledger, Unavailable},
    telemetry::About,
};

/// A builder's word: which build and lease it speaks for, and its proof.
#[derive(Clone, Debug)]
pub struct Bearer {
    /// Which build.
    pub key: BuildKey,
    /// Which lease.
    pub lease: LeaseId,
    /// The lease's secret, as it was sent.
    pub token: Token,
}

impl Bearer {
    /// Where its objects lie.
    pub fn prefix(&self) -> AttemptPrefix {
        AttemptPrefix { key: self.key.clone(), lease: self.lease.clone() }
    }
}

/// Why a builder's word is not heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// Not the lease's token.
    Token,
    /// The lease is over, or never was: the builder stops.
    NotLive,
    /// It asks for what no builder may have; tells what.
    Forbidden(&'static str),
    /// It says what can not be; tells what.
    Nonsense(&'static str),
    /// Ask again.
    Unavailable(Unavailable),
}

impl From<Unavailable> for Denied {
    fn from(error: Unavailable) -> Denied {
        Denied::Unavailable(error)
    }
}

impl From<AdvanceError> for Denied {
    fn from(halt: AdvanceError) -> Denied {
        match halt {
            AdvanceError::Unavailable(error) => Denied::Unavailable(error),
            AdvanceError::Illegal(_) | AdvanceError::LimitExceeded(_) => Denied::NotLive,
        }
    }
}

/// Lets a builder in that holds the build's live lease.
pub(crate) async fn admit<D: HasLedger>(d: &D, bearer: &Bearer) -> Result<(Build, Lease), Denied> {
    let (build, _) = load_build(d, &bearer.key).await?;
    match build.lease().cloned() {
        Some(lease) if lease.id == bearer.lease && lease.token != bearer.token => Err(Denied::Token),
        Some(lease) if lease.id == bearer.lease && d.now() < lease.expires => Ok((build, lease)),
        _ => Err(Denied::NotLive),
    }
}

/// What to make.
///
/// # Errors
/// [`Denied`].
pub async fn job<D: HasLedger + HasStore<Store: Intake>>(d: &D, bearer: &Bearer) -> Result<Job, Denied> {
    let (build, _) = admit(d, bearer).await?;
    let cache = d.store().cache().await?;
    // What the attempt before has offered, if it was killed: nobody else tells of it.
    if let (Some(_), Some(last)) = (&cache, build.history.last()) {
        let prefix = AttemptPrefix { key: bearer.key.clone(), lease: last.lease.clone() };
        if let Err(error) = d.store().offered(&prefix).await {
            d.warn(About::Attempt(&prefix.key, &prefix.lease), "nobody looks at what it offers to the cache", &error);
        }
    }
    // A pin that was moved or retired since the claim: nobody wants it built any more.
    let nixpkgs = match pins::load(d).await?.nixpkgs(&bearer.key.rev).ok_or(Denied::NotLive)? {
        Source::Elsewhere(nixpkgs) => nixpkgs.clone(),
        Source::Stored { nar_hash } => {
            Nixpkgs::Tarball { url: d.store().nixpkgs(&bearer.key.rev).await?, nar_hash: Some(nar_hash.clone()) }
        }
    };
    Ok(Job {
        key: bearer.key.clone(),
        nixpkgs,
        limits: d.policy().job.clone(),
        lease_seconds: d.policy().lease.as_secs(),
        cache,
    })
}

/// The builder is alive and has come so far: its lease is renewed.
///
/// # Errors
/// [`Denied`].
pub async fn heartbeat<D: HasLedger>(d: &D, bearer: &Bearer, progress: &Progress) -> Result<Heartbeat, Denied> {
    let (_, lease) = admit(d, bearer).await?;
    d.ledger().put_progress(&lease.id, &progress.clone().cleaned()).await?;
    // A write a second for a progress bar is one row's business, not the ledger's: the lease moves once a third of it is used.
    if lease.expires - d.now() < d.policy().lease * 2 / 3 {
        advance(d, &bearer.key, &Event::Heartbeat { id: lease.id }).await?;
    }
    Ok(Heartbeat { lease_seconds: d.policy().lease.as_secs() * 2 / 3 })
}

/// Permission to store objects: its own programs or its catalogue, its log, and what it offers to the shared cache; nothing else.
///
/// # Errors
/// [`Denied`].
pub async fn uploads<D: HasLedger + HasStore<Store: Intake>>(
    d: &D,
    bearer: &Bearer,
    uploads: &[Upload],
) -> Result<Vec<PresignedUpload>, Denied> {
    admit(d, bearer).await?;
    let job = &d.policy().job;
    let mut grants = Vec::with_capacity(uploads.len());
    for upload in uploads {
        let most = match (&upload.name, &bearer.key.product) {
            (ObjectName::Log(_) | ObjectName::WholeLog, _) => job.log_bytes,
            (ObjectName::Program(_), Product::Package(_)) => job.program_bytes,
            (ObjectName::Lookup | ObjectName::Details, Product::Catalogue) => catalogue::FILE_MAX,
            (ObjectName::Manifest, _) => return Err(Denied::Forbidden("a builder writes no manifest")),
            (ObjectName::Plan, _) => return Err(Denied::Forbidden("what may be offered was said before")),
            (ObjectName::Nar(_) | ObjectName::Narinfo(_), Product::Package(_))
                if d.store().cache().await?.is_none() =>
            {
                return Err(Denied::Forbidden("this service has no cache"));
            }
            // By its name it has one content for ever: what was looked at in the quarantine is what comes into the cache.
            (ObjectName::Nar(sha256), Product::Package(_)) if *sha256 == upload.sha256 => job.cache_bytes,
            (ObjectName::Narinfo(_), Product::Package(_)) => narinfo::LENGTH_MAX,
            _ => return Err(Denied::Forbidden("the object is of other work than this")),
        };
        if upload.size > most {
            return Err(Denied::Forbidden("the object is larger than this service stores"));
        }
        let path = bearer.prefix().object(upload.name.clone());
        grants.push(d.store().grant(&path, upload.size, &upload.sha256).await?);
    }
    Ok(grants)
}
