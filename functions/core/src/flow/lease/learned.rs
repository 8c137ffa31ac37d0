//! What builds of derivations take: recorded as builders measure it, and read for the estimate of a build.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::{
    build::learned::{Learned, Measured, bounded},
    flow::{
        change_row,
        lease::job::{Bearer, Denied, admit},
        load_row,
    },
    id::key::{Pname, System},
    ports::{HasLedger, Read, Unavailable},
    row::RowKey,
};

/// How many rows are read or written concurrently.
const AT_ONCE: usize = 32;

/// Records what a builder has measured. Idempotent.
///
/// # Errors
/// [`Denied`]; then a part may be recorded.
pub async fn measured<D: HasLedger>(d: &D, bearer: &Bearer, measured: Vec<Measured>) -> Result<(), Denied> {
    let (_, lease) = admit(d, bearer).await?;
    // Where building is free, the size of a machine has no effect.
    let memory = (!d.policy().prices.are_none()).then(|| u64::from(lease.size.memory()) << 20);
    let (now, system) = (d.now(), bearer.key.system);
    let changes = bounded(measured, now - lease.claimed, memory).into_iter().map(|(pname, one)| async move {
        let change = |known: Option<&Learned>| {
            let next = Learned::after(known, &pname, system, &one, &bearer.lease, now);
            Ok::<_, Unavailable>((known != Some(&next)).then_some(next))
        };
        change_row(d, &RowKey::Learned(system, pname.clone()), change).await.map(drop)
    });
    Ok(stream::iter(changes).buffer_unordered(AT_ONCE).try_collect().await?)
}

/// Those of these derivations, by their names with versions, that take little time as far as is known.
///
/// # Errors
/// [`Unavailable`].
pub(crate) async fn cheap<'a, D: HasLedger>(
    d: &D,
    system: System,
    names: impl IntoIterator<Item = &'a str>,
) -> Result<BTreeSet<Pname>, Unavailable> {
    let names: BTreeSet<Pname> = names.into_iter().filter_map(|name| Pname::of(name).ok()).collect();
    let learned = learned(d, system, names).await?;
    Ok(learned.into_values().filter(Learned::is_cheap).map(|learned| learned.pname).collect())
}

/// What is known of derivations of these names.
///
/// # Errors
/// [`Unavailable`].
pub(crate) async fn learned<D: HasLedger>(
    d: &D,
    system: System,
    names: impl IntoIterator<Item = Pname>,
) -> Result<BTreeMap<Pname, Learned>, Unavailable> {
    let reads = names.into_iter().map(|pname| async move {
        let (row, _) = load_row::<D, Learned>(d, &RowKey::Learned(system, pname), Read::Eventual).await?;
        Ok(row.map(|row| (row.pname.clone(), row)))
    });
    stream::iter(reads).buffer_unordered(AT_ONCE).try_filter_map(|row| async { Ok(row) }).try_collect().await
}
