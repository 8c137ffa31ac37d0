//! A builder's requests while it holds its lease.

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::{
    build::{
        Build, Event, Lease, State,
        partial::{PART_MAX, PARTS_MAX},
        protocol::{
            Database, Heartbeat, Job, JobLimits, LOG_SEGMENT_MAX, Nixpkgs, PresignedUpload, Progress, Resume, Upload,
        },
    },
    flow::{AdvanceError, advance, change_limits, lease::blob, load_build, manifest_of, operator::pins},
    id::key::{BuildKey, LeaseId, Product, Token},
    nixpkgs::{
        catalogue,
        pins::{Pins, Programs, Source},
    },
    objects::{
        artifact::{AttemptPrefix, Main, ObjectName, Verdict},
        narinfo,
    },
    ports::{HasLedger, HasStore, Intake, Ledger, Unavailable},
    telemetry::About,
};

/// How many uploads of a request are granted concurrently, and how many programs of a report are looked up.
pub(super) const AT_ONCE: usize = 8;

/// The credentials of a builder's request: its build, its lease, and the lease's token.
#[derive(Clone, Debug)]
pub struct Bearer {
    /// The build.
    pub key: BuildKey,
    /// The lease.
    pub lease: LeaseId,
    /// The token, as it was sent.
    pub token: Token,
}

impl Bearer {
    /// The prefix of its objects.
    pub fn prefix(&self) -> AttemptPrefix {
        AttemptPrefix { key: self.key.clone(), lease: self.lease.clone() }
    }
}

/// Why a builder's request was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// Not the lease's token.
    Token,
    /// The lease has ended, or never existed: the builder stops.
    NotLive,
    /// The request is not allowed; with the reason.
    Forbidden(&'static str),
    /// The request is malformed; with the reason.
    Nonsense(&'static str),
    /// A retry may succeed.
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

/// Admits the builder that holds the build's live lease.
pub(crate) async fn admit<D: HasLedger>(d: &D, bearer: &Bearer) -> Result<(Build, Lease), Denied> {
    let (build, _) = load_build(d, &bearer.key).await?;
    match build.lease().cloned() {
        Some(lease) if lease.id == bearer.lease && lease.token != bearer.token => Err(Denied::Token),
        Some(lease) if lease.id == bearer.lease && d.now() < lease.expires => Ok((build, lease)),
        _ => Err(Denied::NotLive),
    }
}

/// The builder's job.
///
/// # Errors
/// [`Denied`].
pub async fn job<D: HasLedger + HasStore<Store: Intake>>(d: &D, bearer: &Bearer) -> Result<Job, Denied> {
    let (build, lease) = admit(d, bearer).await?;
    change_limits(d, |limits| limits.started(bearer.key.system)).await?;
    let cache = d.store().cache().await?;
    // An attempt that was killed could not report its offers, so they are reported here.
    if let (Some(_), Some(last)) = (&cache, build.history.last()) {
        let prefix = AttemptPrefix { key: bearer.key.clone(), lease: last.lease.clone() };
        if let Err(error) = d.store().offered(&prefix).await {
            d.warn(About::Attempt(&prefix.key, &prefix.lease), "the promoter was not notified of its offers", &error);
        }
    }
    // The pin was moved or retired since the claim: the build is not needed any more.
    let pins = pins::load(d).await?;
    let nixpkgs = nixpkgs(d, &pins, &bearer.key).await?.ok_or(Denied::NotLive)?;
    let programs = pins.programs(&bearer.key.rev).and_then(Programs::stored);
    let programs = match programs.filter(|_| bearer.key.product == Product::Catalogue) {
        Some(content) => Some(Database { url: d.store().programs(&content.sha256).await?, content: content.clone() }),
        None => None,
    };
    Ok(Job {
        key: bearer.key.clone(),
        nixpkgs,
        programs,
        limits: d.policy().allowing(lease.seconds).job.clone(),
        lease_seconds: d.policy().lease.as_secs(),
        cache,
        resume: resume(d, &build).await?,
        of_static: static_has_needs(d, &bearer.key).await?,
    })
}

/// Whether a bundle is made of the package's static build: its main program is served, and needs more than its file.
async fn static_has_needs<D: HasLedger + HasStore>(d: &D, key: &BuildKey) -> Result<bool, Unavailable> {
    let Product::Bundle { attr, .. } = &key.product else { return Ok(false) };
    let key = BuildKey { product: Product::Package(attr.clone()), ..key.clone() };
    let (build, _) = load_build(d, &key).await?;
    let State::Ready(made) = &build.state else { return Ok(false) };
    // A manifest that is missing or damaged is found by others.
    let Ok((manifest, _)) = manifest_of(d, &key, made).await? else { return Ok(false) };
    let Main::Program(main) = manifest.main(attr.leaf()) else { return Ok(false) };
    Ok(matches!(&main.verdict, Verdict::Static { needs: Some(needs), .. } if !needs.is_empty()))
}

/// The location of the nixpkgs of a build; `None` if no pin stands for it.
async fn nixpkgs<D: HasStore<Store: Intake>>(
    d: &D,
    pins: &Pins,
    key: &BuildKey,
) -> Result<Option<Nixpkgs>, Unavailable> {
    Ok(match pins.nixpkgs(&key.rev) {
        None => None,
        Some(Source::Elsewhere(nixpkgs)) => Some(nixpkgs.clone()),
        Some(Source::Stored { nar_hash }) => {
            Some(Nixpkgs::Tarball { url: d.store().nixpkgs(&key.rev).await?, nar_hash: Some(nar_hash.clone()) })
        }
    })
}

/// The job that a builder of a package would get, for a dry run without a lease; `None` if no pin stands for its nixpkgs.
///
/// # Errors
/// [`Unavailable`].
pub(crate) async fn without_lease<D: HasLedger + HasStore<Store: Intake>>(
    d: &D,
    key: &BuildKey,
) -> Result<Option<Job>, Unavailable> {
    let pins = pins::load(d).await?;
    let cache = d.store().cache().await?;
    let of_static = static_has_needs(d, key).await?;
    Ok(nixpkgs(d, &pins, key).await?.map(|nixpkgs| Job {
        key: key.clone(),
        nixpkgs,
        limits: d.policy().allowing(pins.allowed(&key.product)).job.clone(),
        lease_seconds: 0,
        cache,
        programs: None,
        resume: Resume::default(),
        of_static,
    }))
}

/// What earlier attempts have stored of a catalogue. Nothing is looked up: a builder finds parts that are missing.
async fn resume<D: HasStore<Store: Intake>>(d: &D, build: &Build) -> Result<Resume, Unavailable> {
    let mut parts = Vec::new();
    if let Some(checkpoint) = &build.partial.checkpoint {
        let prefix = AttemptPrefix { key: build.key.clone(), lease: checkpoint.lease.clone() };
        for number in 1..=checkpoint.parts {
            parts.push(d.store().source(&prefix.object(ObjectName::Checkpoint(number))).await?);
        }
    }
    Ok(Resume { parts, published: build.partial.published.is_some() })
}

/// Renews the lease, and stores the progress.
///
/// # Errors
/// [`Denied`].
pub async fn heartbeat<D: HasLedger>(d: &D, bearer: &Bearer, progress: &Progress) -> Result<Heartbeat, Denied> {
    let (_, lease) = admit(d, bearer).await?;
    d.ledger().put_progress(&lease.id, &progress.clone().cleaned()).await?;
    // Progress is written at every heartbeat; the lease's row only once a third of the lease has passed.
    if lease.expires - d.now() < d.policy().lease * 2 / 3 {
        advance(d, &bearer.key, &Event::Heartbeat { id: lease.id }).await?;
    }
    Ok(Heartbeat { lease_seconds: d.policy().lease.as_secs() * 2 / 3 })
}

/// Presigned uploads for the attempt's own objects: its programs or its catalogue, its log, and its offers to the
/// binary cache; nothing else.
///
/// # Errors
/// [`Denied`].
pub async fn uploads<D: HasLedger + HasStore<Store: Intake>>(
    d: &D,
    bearer: &Bearer,
    uploads: &[Upload],
) -> Result<Vec<PresignedUpload>, Denied> {
    let (_, lease) = admit(d, bearer).await?;
    let has_cache = d.store().cache().await?.is_some();
    for upload in uploads {
        allowed(&d.policy().allowing(lease.seconds).job, &bearer.key.product, has_cache, upload)?;
    }
    let grants = stream::iter(uploads.to_vec()).map(|upload| async move {
        let prefix = bearer.prefix();
        match upload.name {
            ObjectName::Program(_) | ObjectName::Archive => blob::upload(d, &prefix, &upload).await,
            name => d.store().grant(&prefix.object(name), upload.size, &upload.sha256).await,
        }
    });
    Ok(grants.buffered(AT_ONCE).try_collect().await?)
}

/// Whether the builder of a product may store an object.
fn allowed(job: &JobLimits, product: &Product, has_cache: bool, upload: &Upload) -> Result<(), Denied> {
    let most = match (&upload.name, product) {
        // So the segments of one lease have a limit together.
        (ObjectName::Log(number), _) if u64::from(*number) > job.log_segments() => {
            return Err(Denied::Forbidden("a log has fewer segments"));
        }
        (ObjectName::Log(_), _) => LOG_SEGMENT_MAX,
        (ObjectName::WholeLog, _) => job.log_bytes,
        (ObjectName::Program(_), Product::Package(_)) => job.program_bytes,
        (ObjectName::Program(_), Product::Bundle { .. }) => job.bundle_most(),
        (ObjectName::Archive, Product::Package(_)) => job.package_bytes,
        (ObjectName::Checkpoint(number), _) if *number > PARTS_MAX => {
            return Err(Denied::Forbidden("a checkpoint has fewer parts"));
        }
        (ObjectName::Checkpoint(_), Product::Catalogue) => PART_MAX,
        (
            ObjectName::Lookup | ObjectName::Details | ObjectName::PartialLookup | ObjectName::PartialDetails,
            Product::Catalogue,
        ) => catalogue::FILE_MAX,
        (ObjectName::Manifest, _) => return Err(Denied::Forbidden("a builder writes no manifest")),
        (ObjectName::Plan, _) => return Err(Denied::Forbidden("the service has stored the plan already")),
        (ObjectName::Nar(_) | ObjectName::Narinfo(_), Product::Package(_) | Product::Bundle { .. }) if !has_cache => {
            return Err(Denied::Forbidden("this service has no cache"));
        }
        // The name is the content's hash, so the object that the promoter checked in the quarantine is the one that
        // it copies.
        (ObjectName::Nar(sha256), Product::Package(_) | Product::Bundle { .. }) if *sha256 == upload.sha256 => {
            job.cache_bytes
        }
        (ObjectName::Narinfo(_), Product::Package(_) | Product::Bundle { .. }) => narinfo::LENGTH_MAX,
        _ => return Err(Denied::Forbidden("the object does not belong to this job")),
    };
    if upload.size > most {
        return Err(Denied::Forbidden("the object is larger than this service stores"));
    }
    Ok(())
}
