//! What nobody needs any more is cleared away: rows first, and objects a grace later. What goes is said in [`crate::gc`].
//!
//! A run looks at all rows, removes those that go, and then looks at all rows once more for what they need. A home in the store that none
//! of them needs is written down as trash; a later run removes it if no row has come to need it until then, and not before the grace is over.
//! A row that a late request has written makes the wait begin anew.
//!
//! Somebody new can come to need a home only through the row of the build that it belongs to, which has needed it since it was
//! made; or by a sighting from before that row went, and then within the grace. So a home that two runs find unneeded, a grace
//! apart, stays so. Whoever dies leaves what the next run finds, and any number may run at once.

use std::collections::HashSet;

use futures_util::future::try_join_all;

use crate::{
    flow::{Tries, change_limits, load_limits, operator::pins},
    gc::{self, Census, Fate, Found, Report, Rule, Verdict},
    objects::{artifact::AttemptPrefix, stored::Held},
    ports::{Collect, Deployment, HasLedger, HasStore, Ledger, NotCommitted, Read, Unavailable},
    row::{Row, RowKey, Swap, Trash, Version},
    telemetry::{About, Signal},
};

/// How many rows, or homes, are looked at in one go.
const PAGE: usize = 250;
/// How many are written at once.
const AT_ONCE: usize = 25;

/// Clears away. `rehearsal`: nothing is changed, and told is what would be.
///
/// # Errors
/// [`Unavailable`]: some of it is done; run it again.
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
    clear_homes(d, &found, &mut report).await?;
    clear_nixpkgs(d, &mut report).await?;
    clear_cache(d, &mut report).await?;
    if !rehearsal {
        change_limits(d, |now| now.measured(report.there(), limits.stored())).await?;
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
    for (prefix, version) in verdict.was_needed {
        remove(d, &RowKey::Trash(prefix), version).await?;
    }
    for page in verdict.goes.chunks(AT_ONCE) {
        // A pin that is there again wants what it had. The next run begins with that.
        if pins::load(d).await? != verdict.pins {
            return Ok(());
        }
        let removed = try_join_all(page.iter().map(|(key, seen)| remove(d, key, *seen))).await?;
        for ((key, _), removed) in page.iter().zip(removed) {
            if removed { report.rows.count(key) } else { report.rows.busy += 1 }
        }
    }
    for (shorter, seen) in verdict.failed_dependencies {
        // Somebody else has written it: the next run.
        put(d, Row::FailedDependencies(shorter), seen).await?;
    }
    Ok(())
}

/// Removes a row; false: somebody has written it since.
async fn remove<D: HasLedger>(d: &D, key: &RowKey, seen: Version) -> Result<bool, Unavailable> {
    let mut tries = Tries::default();
    loop {
        match d.ledger().remove(key, seen).await {
            Ok(()) => return Ok(true),
            Err(NotCommitted::Conflict) => return Ok(false),
            // Perhaps it is gone, which is well.
            Err(error) => tries.again(error)?,
        }
    }
}

async fn put<D: HasLedger>(d: &D, row: Row, seen: Version) -> Result<(), Unavailable> {
    match d.ledger().commit(vec![Swap { seen, row }]).await {
        Ok(()) | Err(NotCommitted::Conflict) => Ok(()),
        Err(NotCommitted::Unavailable(error)) => Err(error),
    }
}

async fn clear_homes<D: HasLedger + HasStore<Store: Collect>>(
    d: &D,
    found: &Found,
    report: &mut Report,
) -> Result<(), Unavailable> {
    let (mut after, mut there) = (None, HashSet::new());
    loop {
        let page = d.store().prefixes(after.as_ref(), PAGE).await?;
        for some in page.chunks(AT_ONCE) {
            if !report.rehearsal {
                try_join_all(some.iter().map(|held| clear(d, &held.prefix, found.fate(&held.prefix)))).await?;
            }
            for held in some {
                tell(d, held, found.fate(&held.prefix), report);
                there.insert(held.prefix.clone());
            }
        }
        match page.last() {
            Some(last) if page.len() == PAGE => after = Some(last.prefix.clone()),
            _ => break,
        }
    }
    for (prefix, version) in found.gone(&there) {
        if !report.rehearsal {
            // Whoever removed what lay there died before its row.
            d.ledger().remove_progress(&prefix.lease).await?;
            remove(d, &RowKey::Trash(prefix), version).await?;
        }
    }
    Ok(())
}

async fn clear<D: HasLedger + HasStore<Store: Collect>>(
    d: &D,
    prefix: &AttemptPrefix,
    fate: Fate,
) -> Result<(), Unavailable> {
    match fate {
        Fate::Needed(None) | Fate::Waits(_) => {}
        Fate::Needed(Some(version)) => drop(remove(d, &RowKey::Trash(prefix.clone()), version).await?),
        Fate::Unneeded => put(d, Row::Trash(Trash { prefix: prefix.clone(), since: d.now() }), Version(0)).await?,
        Fate::Over(version) => {
            d.store().remove_prefix(prefix).await?;
            d.ledger().remove_progress(&prefix.lease).await?;
            remove(d, &RowKey::Trash(prefix.clone()), version).await?;
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

/// The nixpkgs that no pin stands for. An operator puts one there first, and then changes the pins: so one is let alone for as long as
/// everything else.
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

/// What is too old in the builders' cache. Whoever still needs it builds it again, and offers it.
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
