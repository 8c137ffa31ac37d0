//! The end of a build, reported by its builder or by its launcher.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::{
    build::{
        Event, Step, apply,
        failure::{Class, Failure},
        protocol::{Outcome, PROGRAMS_MAX, Report, Stats},
        waiting::checked,
    },
    flow::{
        AdvanceError, Advanced, advance, change_limits,
        lease::{
            blob,
            job::{AT_ONCE, Bearer, Denied, admit},
        },
        load_build, load_limits, ring,
        schedule::failed_dependencies,
    },
    id::key::{Bin, BuildKey, DrvHash, LeaseId, Product, Sha256},
    objects::{
        artifact::{AttemptPrefix, Manifest, ObjectName, Program, Verdict},
        content::Content,
        inventory::{Entry, Inventory},
        materials::Materials,
        stored::Fingerprint,
    },
    ports::{HasBell, HasLauncher, HasLedger, HasStore, Inspect, Intake, Launcher, Read, Unavailable},
    quota::limits::Limits,
    telemetry::About,
    trust::sbom::Sbom,
};

/// A builder reports the outcome. Reported objects are checked first: a row that is Ready has its objects.
///
/// # Errors
/// [`Denied`]; then the build is unchanged.
pub async fn settle<D: HasLedger + HasStore<Store: Intake> + HasBell>(
    d: &D,
    bearer: &Bearer,
    report: Report,
) -> Result<(), Denied> {
    let live = match admit(d, bearer).await {
        Ok(admitted) => Some(admitted),
        // It may have settled before, and missed the reply. No object is checked or written for it, so the row must not change.
        Err(Denied::NotLive) => None,
        Err(denied) => return Err(denied),
    };
    let (mut stored, mut waits) = (0, None);
    let end = match (report.outcome, &bearer.key.product) {
        (Outcome::Built(manifest), product @ (Product::Package(_) | Product::Bundle { .. }))
            if manifest.bundle.is_some() == matches!(product, Product::Bundle { .. }) =>
        {
            if let Some((_, lease)) = &live {
                let claimed = DrvHash::of_path(&manifest.drv_path).map(|drv| product.claims(drv));
                if lease.derivation.as_ref().is_some_and(|held| claimed.as_ref() != Ok(held)) {
                    return Err(Denied::Nonsense("this is not the derivation that the job names"));
                }
                let materials = report.materials.map(Materials::cleaned);
                stored = store_package(d, bearer, manifest.cleaned(), materials).await?;
            }
            Ok(())
        }
        (Outcome::Catalogued, Product::Catalogue) => {
            if live.is_some() {
                stored = store_catalogue(d, bearer).await?;
            }
            Ok(())
        }
        (Outcome::Failed(failure), _) if failure.kind.is_of_no_builder() => {
            return Err(Denied::Nonsense("a builder cannot report such a failure"));
        }
        (Outcome::Failed(failure), _) => Err(failure.cleaned()),
        (Outcome::Waits { plan, first }, Product::Package(_) | Product::Bundle { .. }) => {
            let plan =
                checked(plan).filter(|plan| first < plan.len()).ok_or(Denied::Nonsense("the plan is malformed"))?;
            waits = Some((plan, first));
            Ok(())
        }
        (Outcome::Built(_) | Outcome::Catalogued | Outcome::Waits { .. }, _) => {
            return Err(Denied::Nonsense("the outcome does not match the job"));
        }
    };
    if let Some((build, _)) = &live {
        if end.is_err() {
            stored += build.partial.of(&bearer.lease).map_or(0, |checkpoint| checkpoint.bytes);
        }
        stored += d.store().size(&bearer.prefix().object(ObjectName::WholeLog)).await?.unwrap_or(0);
        if report.stats.offers > 0 {
            stored += d.store().offered_bytes(&bearer.prefix()).await?;
        }
    }
    let built = if found_again(d, &bearer.prefix(), &report.stats).await? { report.stats.built } else { 0 };
    let stats = Stats { stored: Some(stored), built, ..report.stats };
    let id = bearer.lease.clone();
    let event = match waits {
        Some((plan, first)) => Event::Wait { id, plan, first, stats },
        None => Event::Settle { id, end, stats },
    };
    let settled = match live {
        Some(_) => advance(d, &bearer.key, &event).await?,
        None => repeated(d, &bearer.key, &event).await?,
    };
    if let Err(error) = failed_dependencies::note(d, &settled.after).await {
        d.warn(About::Attempt(&bearer.key, &bearer.lease), "a failed dependency was not recorded", &error);
    }
    ring(d).await;
    if report.stats.offers > 0
        && let Err(error) = d.store().offered(&bearer.prefix()).await
    {
        d.warn(About::Attempt(&bearer.key, &bearer.lease), "the promoter was not notified of its offers", &error);
    }
    // Nothing depends on it: segments that stay are still read.
    if let Err(error) = tidy_log(d, &bearer.prefix()).await {
        d.warn(About::Attempt(&bearer.key, &bearer.lease), "the segments of its log are still there", &error);
    }
    if let Err(error) = tidy_partial(d, &bearer.prefix(), &settled).await {
        d.warn(About::Attempt(&bearer.key, &bearer.lease), "the catalogue's partial files are still there", &error);
    }
    Ok(())
}

/// A report without a live lease: applied before, or refused.
async fn repeated<D: HasLedger>(d: &D, key: &BuildKey, event: &Event) -> Result<Advanced, Denied> {
    let (build, _) = load_build(d, key).await?;
    match apply(&build, event, d.now(), d.policy()).map_err(AdvanceError::from)? {
        Step::Stay => Ok(Advanced { before: build.clone(), after: build, paused: None }),
        // A heartbeat that was decided before has extended the lease.
        Step::Move(_) => Err(Unavailable::new("lease", "it is live again: report again").into()),
    }
}

/// Whether the next attempt finds what this one has built, by the service's own look.
async fn found_again<D: HasLedger + HasStore<Store: Intake>>(
    d: &D,
    prefix: &AttemptPrefix,
    stats: &Stats,
) -> Result<bool, Unavailable> {
    if stats.built == 0 {
        return Ok(false);
    }
    match d.store().cache().await? {
        Some(_) => Ok(!d.store().offered_paths(prefix).await?.is_empty()),
        None => Ok(d.policy().shared_store),
    }
}

/// Removes the partial files of a complete catalogue: this attempt's, and those of the attempts that it continued.
async fn tidy_partial<D: HasStore<Store: Intake>>(
    d: &D,
    prefix: &AttemptPrefix,
    settled: &Advanced,
) -> Result<(), Unavailable> {
    if prefix.key.product != Product::Catalogue || settled.after.prefix().as_ref() != Some(prefix) {
        return Ok(());
    }
    let before: BTreeSet<_> = settled.before.partial.leases().chain([&prefix.lease]).collect();
    for lease in before {
        d.store().remove_partial(&AttemptPrefix { key: prefix.key.clone(), lease: lease.clone() }).await?;
    }
    Ok(())
}

/// Removes the segments of a finished log if the whole log is stored: an older builder, or one that could not store it,
/// has only the segments.
async fn tidy_log<D: HasStore<Store: Intake>>(d: &D, prefix: &AttemptPrefix) -> Result<(), Unavailable> {
    match d.store().size(&prefix.object(ObjectName::WholeLog)).await? {
        Some(_) => d.store().remove_segments(prefix).await,
        None => Ok(()),
    }
}

/// Writes the inventory of a catalogue if it is stored, and returns the bytes of all of it.
async fn store_catalogue<D: HasStore<Store: Intake>>(d: &D, bearer: &Bearer) -> Result<u64, Denied> {
    let (mut objects, mut bytes) = (Vec::new(), 0);
    for name in [ObjectName::Lookup, ObjectName::Details] {
        let stored = entry(d, bearer, name).await?.ok_or(Denied::Nonsense("the catalogue is not in the store"))?;
        bytes += stored.content.size;
        objects.push(stored);
    }
    Ok(bytes + store_inventory(d, bearer, None, objects).await?)
}

/// Writes the inventory, which also lists the log, and returns its bytes.
async fn store_inventory<D: HasStore<Store: Intake>>(
    d: &D,
    bearer: &Bearer,
    manifest: Option<Manifest>,
    mut objects: Vec<Entry>,
) -> Result<u64, Denied> {
    objects.extend(entry(d, bearer, ObjectName::WholeLog).await?);
    let json = Inventory { manifest, objects }.to_json().map_err(|error| Unavailable::new("manifest", error))?;
    let bytes = json.len() as u64;
    d.store().write(&bearer.prefix().object(ObjectName::Manifest), json).await?;
    Ok(bytes)
}

/// An object as it is stored, for the inventory.
async fn entry<D: HasStore<Store: Intake>>(
    d: &D,
    bearer: &Bearer,
    name: ObjectName,
) -> Result<Option<Entry>, Unavailable> {
    let stored = d.store().digest(&bearer.prefix().object(name.clone())).await?;
    Ok(stored.and_then(Fingerprint::content).map(|content| Entry { name, content }))
}

/// Writes the inventory of a package if all its programs are stored, and what it is made of. Returns the bytes that the attempt
/// has added.
async fn store_package<D: HasStore<Store: Intake>>(
    d: &D,
    bearer: &Bearer,
    manifest: Manifest,
    materials: Option<Materials>,
) -> Result<u64, Denied> {
    let place = |program: &Program| (program.bin.clone(), program.output.clone());
    if !manifest.programs.is_sorted_by(|one, next| place(one) < place(next)) {
        return Err(Denied::Nonsense("the programs are not in order, each once"));
    }
    if manifest.programs.len() > PROGRAMS_MAX {
        return Err(Denied::Nonsense("there are more programs than this service stores"));
    }
    // Programs of the same content are one object.
    let mut contents: BTreeMap<(Sha256, u64), Vec<Bin>> = BTreeMap::new();
    for program in &manifest.programs {
        if let Verdict::Static { size, sha256, .. } = &program.verdict {
            contents.entry((sha256.clone(), *size)).or_default().push(program.bin.clone());
        }
    }
    if contents.is_empty() {
        return Err(Denied::Nonsense("no program is static"));
    }
    if let Some(Content { sha256, size }) = &manifest.archive {
        contents.entry((sha256.clone(), *size)).or_default();
    }
    let prefix = bearer.prefix();
    let stored = stream::iter(contents).map(|((sha256, size), names)| {
        let prefix = &prefix;
        async move { blob::stored(d, prefix, Content { sha256, size }, &names).await }
    });
    let stored: Vec<_> = stored.buffered(AT_ONCE).try_collect().await?;
    let (mut objects, mut bytes) = (Vec::with_capacity(stored.len()), 0);
    for found in stored {
        let (entry, added) = found.ok_or(Denied::Nonsense("a program or the archive is not in the store"))?;
        objects.push(entry);
        bytes += added;
    }
    if let Some(materials) = materials {
        let json = |json: serde_json::Result<Vec<u8>>| json.map_err(|error| Unavailable::new("materials", error));
        let documents = [
            (ObjectName::Materials, json(materials.to_json())?),
            (ObjectName::Sbom, json(Sbom::of(&materials).to_json())?),
        ];
        for (name, json) in documents {
            let content = Content::of(&json);
            bytes += content.size;
            d.store().write(&prefix.object(name.clone()), json).await?;
            objects.push(Entry { name, content });
        }
    }
    Ok(bytes + store_inventory(d, bearer, Some(manifest), objects).await?)
}

/// The launcher reports that a lease's task has stopped or never started; `ran`: the charged time, if known. Returns
/// whether this ended the lease. Idempotent.
///
/// # Errors
/// [`Unavailable`]: report it again, or let the lease expire.
pub async fn stopped<D: HasLedger + HasBell + HasLauncher>(
    d: &D,
    key: &BuildKey,
    lease: &LeaseId,
    failure: Failure,
    ran: Option<Duration>,
) -> Result<bool, Unavailable> {
    let refused = failure.kind.class() == Class::Launcher;
    let telemetry = match advance(d, key, &Event::Stopped { id: lease.clone(), failure }).await {
        Ok(advanced) => advanced.before != advanced.after,
        Err(AdvanceError::Unavailable(error)) => return Err(error),
        Err(AdvanceError::Illegal(_) | AdvanceError::LimitExceeded(_)) => false,
    };
    measure(d, &AttemptPrefix { key: key.clone(), lease: lease.clone() }).await?;
    charge(d, lease, ran, refused).await?;
    Ok(telemetry)
}

/// The launcher refuses to start a lease's task. Returns whether this ended the lease: another start of it, of which the
/// task or its builder has told, stands.
///
/// # Errors
/// [`Unavailable`]: let the lease expire; a sweep frees its slot.
pub(crate) async fn refused<D: HasLedger + HasBell>(
    d: &D,
    key: &BuildKey,
    lease: &LeaseId,
    failure: Failure,
) -> Result<bool, Unavailable> {
    match advance(d, key, &Event::Refused { id: lease.clone(), failure }).await {
        Ok(advanced) if advanced.before == advanced.after => return Ok(false),
        Ok(_) => {}
        Err(AdvanceError::Illegal(_) | AdvanceError::LimitExceeded(_)) => return Ok(false),
        Err(AdvanceError::Unavailable(error)) => return Err(error),
    }
    charge(d, lease, Some(Duration::ZERO), true).await?;
    Ok(true)
}

/// An attempt whose task is gone may have ended without a report. Then what it has left is measured, since it counts as
/// the most that it might have stored.
async fn measure<D: HasLedger + HasLauncher>(d: &D, prefix: &AttemptPrefix) -> Result<(), Unavailable> {
    if !load_limits(d, Read::Consistent).await?.0.is_unmeasured(&prefix.lease) {
        return Ok(());
    }
    match d.launcher().left(prefix).await {
        Ok(Some(bytes)) => change_limits(d, |limits| limits.left(&prefix.lease, bytes)).await.map(drop),
        Ok(None) => Ok(()),
        Err(error) => {
            d.warn(
                About::Attempt(&prefix.key, &prefix.lease),
                "the bytes that it has stored were not measured",
                &error,
            );
            Ok(())
        }
    }
}

/// The task of a lease has stopped: its price is spent, and its slot is free. Unless its start was `refused`, another one
/// may start in its place.
pub(crate) async fn charge<D: HasLedger + HasBell>(
    d: &D,
    lease: &LeaseId,
    ran: Option<Duration>,
    refused: bool,
) -> Result<(), Unavailable> {
    let now = d.now();
    let charged = |limits: &Limits| match limits.charged(lease, ran, now, d.policy()) {
        charged if charged == *limits || refused => charged,
        charged => charged.vacated(now),
    };
    if change_limits(d, charged).await? {
        ring(d).await;
    }
    Ok(())
}
