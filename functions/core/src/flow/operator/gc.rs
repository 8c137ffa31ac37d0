//! Garbage collection: unreferenced rows first, and objects a grace period later. [`crate::gc`] decides.
//!
//! A run reads all rows, removes unneeded ones, and then reads all rows again for their references. A stored prefix
//! without a reference gets a trash row; a later run deletes its objects if no row has come to need them by then, and
//! not before the grace period has ended. A row that a late request writes restarts the period.
//!
//! A new reference to a prefix can arise only through the row of its build, which references it since it was made, or
//! by an older read of that row, and then within the grace period. So a prefix that two runs find unreferenced, a grace
//! period apart, stays so. A run that dies leaves its work to the next one, and any number may run at once.
//!
//! Blobs come last, since the listing of attempts shows their references.

use std::collections::HashSet;

use futures_util::future::try_join_all;

use crate::{
    flow::{Tries, change_limits, load_limits, operator::pins},
    gc::{self, Census, Fate, Found, Report, Rule, Verdict},
    id::key::Sha256,
    objects::stored::{Held, HeldBlob},
    ports::{Collect, Deployment, HasLedger, HasStore, Ledger, NotCommitted, Read, Unavailable},
    row::{Row, RowKey, Swap, Trash, Unreferenced, Version},
    telemetry::{About, Signal},
};

/// How many rows or prefixes are read per page.
const PAGE: usize = 250;
/// How many writes run concurrently.
const AT_ONCE: usize = 25;

/// Collects garbage if the store is nearly full ([`Limits::collects_early`]). Returns whether it is.
///
/// # Errors
/// [`Unavailable`]: part of it is done; run it again.
///
/// [`Limits::collects_early`]: crate::quota::limits::Limits::collects_early
pub async fn gc_if_nearly_full<D: HasLedger + HasStore<Store: Collect>>(d: &D) -> Result<bool, Unavailable> {
    let early = load_limits(d, Read::Consistent).await?.0.collects_early(d.policy(), d.now());
    if early {
        gc(d, false).await?;
    }
    Ok(early)
}

/// Collects garbage. `rehearsal`: a dry run, which changes nothing and returns what would be deleted.
///
/// # Errors
/// [`Unavailable`]: part of it is done; run it again.
pub async fn gc<D: HasLedger + HasStore<Store: Collect>>(d: &D, rehearsal: bool) -> Result<Report, Unavailable> {
    let mut report = Report { rehearsal, ..Report::default() };
    let verdict = look(d).await?;
    let found = if rehearsal {
        verdict.goes.iter().for_each(|(key, _)| report.rows.count(key));
        verdict.found
    } else {
        remove_rows(d, verdict, &mut report).await?;
        look_again(d).await?
    };
    let (limits, _) = load_limits(d, Read::Consistent).await?;
    let referenced = clear_homes(d, &found, &mut report).await?;
    clear_blobs(d, &found, &referenced, &mut report).await?;
    clear_nixpkgs(d, &mut report).await?;
    clear_programs(d, &mut report).await?;
    clear_cache(d, &mut report).await?;
    if !rehearsal {
        let at = d.now();
        change_limits(d, |now| now.measured(report.there(), limits.stored(), at)).await?;
        d.emit(About::Service, Signal::Cleared(&report));
    }
    Ok(report)
}

async fn look<D: HasLedger>(d: &D) -> Result<Verdict, Unavailable> {
    let now = d.now();
    let mut census = Census::new(Rule { pins: pins::load(d).await?, now, grace: d.policy().grace });
    scan(d, |row, version| census.count(row, version)).await?;
    Ok(census.verdict())
}

async fn look_again<D: HasLedger>(d: &D) -> Result<Found, Unavailable> {
    let mut found = Found::none(d.now(), d.policy().grace);
    scan(d, |row, version| found.count(&row, version)).await?;
    Ok(found)
}

async fn scan<D: HasLedger>(d: &D, mut count: impl FnMut(Row, Version)) -> Result<(), Unavailable> {
    let mut after = None;
    loop {
        let page = d.ledger().scan(after.as_ref(), PAGE).await?;
        page.rows.into_iter().for_each(|(row, version)| count(row, version));
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(()),
        }
    }
}

async fn remove_rows<D: HasLedger>(d: &D, verdict: Verdict, report: &mut Report) -> Result<(), Unavailable> {
    for (what, version) in verdict.was_needed {
        remove(d, &RowKey::Trash(what), version).await?;
    }
    for page in verdict.goes.chunks(AT_ONCE) {
        // A pin that came back needs its builds. The next run starts with the new pins.
        if pins::load(d).await? != verdict.pins {
            return Ok(());
        }
        let removed = try_join_all(page.iter().map(|(key, seen)| remove(d, key, *seen))).await?;
        for ((key, _), removed) in page.iter().zip(removed) {
            if removed { report.rows.count(key) } else { report.rows.busy += 1 }
        }
    }
    for (shorter, seen) in verdict.failed_dependencies {
        // Another writer was first: the next run decides.
        put(d, Row::FailedDependencies(shorter), seen).await?;
    }
    Ok(())
}

/// Removes a row; false if it was written since.
async fn remove<D: HasLedger>(d: &D, key: &RowKey, seen: Version) -> Result<bool, Unavailable> {
    let mut tries = Tries::default();
    loop {
        match d.ledger().remove(key, seen).await {
            Ok(()) => return Ok(true),
            Err(NotCommitted::Conflict) => return Ok(false),
            // It may be gone already.
            Err(error) => tries.again(error)?,
        }
    }
}

/// Writes a row; false if it was written since.
async fn put<D: HasLedger>(d: &D, row: Row, seen: Version) -> Result<bool, Unavailable> {
    match d.ledger().commit(vec![Swap { seen, row }]).await {
        Ok(()) => Ok(true),
        Err(NotCommitted::Conflict) => Ok(false),
        Err(NotCommitted::Unavailable(error)) => Err(error),
    }
}

/// Writes the trash row of something that is unreferenced, or to be deleted, as of now.
async fn put_trash<D: HasLedger>(d: &D, what: Unreferenced, seen: Version) -> Result<bool, Unavailable> {
    put(d, Row::Trash(Trash { what, since: d.now() }), seen).await
}

/// Deletes the objects of attempts, and returns the blobs that those of the others keep.
async fn clear_homes<D: HasLedger + HasStore<Store: Collect>>(
    d: &D,
    found: &Found,
    report: &mut Report,
) -> Result<HashSet<Sha256>, Unavailable> {
    let (mut after, mut there, mut referenced) = (None, HashSet::new(), HashSet::new());
    loop {
        let page = d.store().prefixes(after.as_ref(), PAGE).await?;
        for some in page.chunks(AT_ONCE) {
            if !report.rehearsal {
                let clears = some
                    .iter()
                    .map(|held| clear(d, Unreferenced::Attempt(held.prefix.clone()), found.fate(&held.prefix)));
                try_join_all(clears).await?;
            }
            for held in some {
                let fate = found.fate(&held.prefix);
                tell(d, held, fate, report);
                there.insert(held.prefix.clone());
                if !matches!(fate, Fate::Over(_)) {
                    referenced.extend(held.blobs.iter().cloned());
                }
            }
        }
        match page.last() {
            Some(last) if page.len() == PAGE => after = Some(last.prefix.clone()),
            _ => break,
        }
    }
    for (prefix, version) in found.gone(&there) {
        if !report.rehearsal {
            // A run deleted the objects, and died before it removed this row.
            d.ledger().remove_progress(&prefix.lease).await?;
            remove(d, &RowKey::Trash(Unreferenced::Attempt(prefix)), version).await?;
        }
    }
    Ok(referenced)
}

/// Brings the trash row of something up to its fate, and deletes its objects if their time is over.
async fn clear<D: HasLedger + HasStore<Store: Collect>>(
    d: &D,
    what: Unreferenced,
    fate: Fate,
) -> Result<(), Unavailable> {
    match (fate, what) {
        (Fate::Needed(None) | Fate::Waits(_), _) => {}
        (Fate::Needed(Some(version)), what) => drop(remove(d, &RowKey::Trash(what), version).await?),
        (Fate::Unneeded, what) => drop(put_trash(d, what, Version(0)).await?),
        (Fate::Over(version), Unreferenced::Attempt(prefix)) => {
            d.store().remove_prefix(&prefix).await?;
            d.ledger().remove_progress(&prefix.lease).await?;
            remove(d, &RowKey::Trash(Unreferenced::Attempt(prefix)), version).await?;
        }
        // The row stays: it keeps new references away until this deletion is certainly over.
        (Fate::Over(version), Unreferenced::Blob(sha256)) => {
            if put_trash(d, Unreferenced::Blob(sha256.clone()), version).await? {
                d.store().remove_blob(&sha256).await?;
            }
        }
    }
    Ok(())
}

/// Deletes blobs without references.
async fn clear_blobs<D: HasLedger + HasStore<Store: Collect>>(
    d: &D,
    found: &Found,
    referenced: &HashSet<Sha256>,
    report: &mut Report,
) -> Result<(), Unavailable> {
    let (mut after, mut there) = (None, HashSet::new());
    let fate = |blob: &HeldBlob| found.blob(&blob.sha256, referenced.contains(&blob.sha256));
    loop {
        let page = d.store().blobs(after.as_ref(), PAGE).await?;
        for some in page.chunks(AT_ONCE) {
            if !report.rehearsal {
                let clears = some.iter().map(|blob| clear(d, Unreferenced::Blob(blob.sha256.clone()), fate(blob)));
                try_join_all(clears).await?;
            }
            for blob in some {
                let mut waits = |until| {
                    report.blobs.waiting += blob;
                    report.waiting_until = report.waiting_until.max(Some(until));
                };
                match fate(blob) {
                    Fate::Needed(_) => report.blobs.kept += blob,
                    Fate::Unneeded => waits(d.now() + d.policy().grace),
                    Fate::Waits(until) => waits(until),
                    Fate::Over(_) => report.blobs.removed += blob,
                }
                there.insert(blob.sha256.clone());
            }
        }
        match page.last() {
            Some(last) if page.len() == PAGE => after = Some(last.sha256.clone()),
            _ => break,
        }
    }
    for (sha256, version) in found.gone_blobs(&there) {
        if !report.rehearsal {
            remove(d, &RowKey::Trash(Unreferenced::Blob(sha256)), version).await?;
        }
    }
    Ok(())
}

fn tell<D: Deployment>(d: &D, held: &Held, fate: Fate, report: &mut Report) {
    let mut waits = |until| {
        report.waiting += held;
        report.waiting_until = report.waiting_until.max(Some(until));
    };
    match fate {
        Fate::Needed(_) => report.kept += held,
        Fate::Unneeded => waits(d.now() + d.policy().grace),
        Fate::Waits(until) => waits(until),
        Fate::Over(_) => report.removed += held,
    }
}

/// Deletes nixpkgs tarballs without a pin. An operator uploads one first, and then changes the pins, so a new one has a
/// grace period like everything else.
async fn clear_nixpkgs<D: HasLedger + HasStore<Store: Collect>>(d: &D, report: &mut Report) -> Result<(), Unavailable> {
    let (now, grace) = (d.now(), d.policy().grace);
    for kept in d.store().kept_nixpkgs().await? {
        if now >= kept.since + grace && !pins::load(d).await?.needs(&kept.rev, now, grace) {
            if !report.rehearsal {
                d.store().remove_nixpkgs(&kept.rev).await?;
            }
            report.nixpkgs += 1;
        }
    }
    Ok(())
}

/// Deletes databases of programs that no pin has, after the same grace period.
async fn clear_programs<D: HasLedger + HasStore<Store: Collect>>(
    d: &D,
    report: &mut Report,
) -> Result<(), Unavailable> {
    for kept in d.store().kept_programs().await? {
        if d.now() >= kept.since + d.policy().grace && !pins::load(d).await?.has_programs(&kept.sha256) {
            if !report.rehearsal {
                d.store().remove_programs(&kept.sha256).await?;
            }
            report.databases += 1;
        }
    }
    Ok(())
}

/// Deletes old files of the binary cache. A build that still needs one builds it again, and offers it.
async fn clear_cache<D: HasStore<Store: Collect>>(d: &D, report: &mut Report) -> Result<(), Unavailable> {
    let (goes, stays) = gc::shared(d.store().cached().await?, d.now(), d.policy().grace);
    for some in goes.chunks(AT_ONCE) {
        if !report.rehearsal {
            try_join_all(some.iter().map(|file| d.store().remove_cached(&file.name))).await?;
        }
    }
    goes.iter().for_each(|file| report.cache.removed += file);
    stays.iter().for_each(|file| report.cache.kept += file);
    report.cache.offered = d.store().in_quarantine().await?;
    Ok(())
}
