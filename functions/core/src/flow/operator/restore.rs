//! Restores a ledger: the rows of a backup, and then those that follow from what is stored.

use futures_util::future::try_join_all;

use crate::{
    build::{Build, Made, State, derivation::Derivation},
    flow::{Tries, integrity},
    id::{key::DrvHash, time::Timestamp},
    objects::artifact::AttemptPrefix,
    ports::{Collect, Ledger, NotCommitted, Read, Store, Unavailable},
    row::{Row, Swap, Version},
};

/// How many rows are written concurrently, and how many prefixes are listed per page.
const AT_ONCE: usize = 64;

/// Writes rows, and replaces those that the ledger has under their keys.
///
/// # Errors
/// [`Unavailable`]: some are written; run it again.
pub async fn restore<L: Ledger>(ledger: &L, rows: &[Row]) -> Result<(), Unavailable> {
    for some in rows.chunks(AT_ONCE) {
        try_join_all(some.iter().map(|row| put(ledger, row))).await?;
    }
    Ok(())
}

async fn put<L: Ledger>(ledger: &L, row: &Row) -> Result<(), Unavailable> {
    let mut tries = Tries::default();
    loop {
        let found = ledger.load(&row.key(), Read::Consistent).await?;
        let seen = match found {
            Some((known, _)) if known == *row => return Ok(()),
            Some((_, seen)) => seen,
            None => Version(0),
        };
        match ledger.commit(vec![Swap { seen, row: row.clone() }]).await {
            Ok(()) => return Ok(()),
            Err(error) => tries.again(error)?,
        }
    }
}

/// Makes builds ready again whose row is lost and whose inventory is stored. Returns how many.
///
/// The next scrub compares their objects.
///
/// # Errors
/// [`Unavailable`]: some are written; run it again.
pub async fn find_stored<L: Ledger, S: Store + Collect>(
    ledger: &L,
    store: &S,
    now: Timestamp,
) -> Result<usize, Unavailable> {
    let (mut after, mut found) = (None, 0);
    loop {
        let page = store.prefixes(after.as_ref(), AT_ONCE).await?;
        let made = try_join_all(page.iter().map(|held| find(ledger, store, &held.prefix, now))).await?;
        found += made.into_iter().filter(|made| *made).count();
        match page.last() {
            Some(last) if page.len() == AT_ONCE => after = Some(last.prefix.clone()),
            _ => return Ok(found),
        }
    }
}

async fn find<L: Ledger, S: Store>(
    ledger: &L,
    store: &S,
    prefix: &AttemptPrefix,
    now: Timestamp,
) -> Result<bool, Unavailable> {
    let Ok(inventory) = integrity::inventory_in(store, prefix).await? else { return Ok(false) };
    let made = Made { lease: prefix.lease.clone(), borrowed: None, since: now };
    let build = Build { state: State::Ready(made), ..Build::unasked(prefix.key.clone()) };
    let mut rows = vec![Row::Build(build)];
    if let Some(manifest) = &inventory.manifest
        && let Ok(drv) = DrvHash::of_path(&manifest.drv_path)
    {
        let drv = prefix.key.product.claims(drv);
        rows.push(Row::Derivation(Derivation { drv, prefix: prefix.clone() }));
    }
    for (at, row) in rows.into_iter().enumerate() {
        // A row that is there stays, and so does that of another attempt.
        if ledger.load(&row.key(), Read::Consistent).await?.is_some() {
            return Ok(at > 0);
        }
        match ledger.commit(vec![Swap { seen: Version(0), row }]).await {
            Ok(()) => {}
            Err(NotCommitted::Conflict) => return Ok(at > 0),
            Err(NotCommitted::Unavailable(error)) => return Err(error),
        }
    }
    Ok(true)
}
