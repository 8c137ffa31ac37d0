//! Promotion: checks what builders offer, signs it, and copies it into the shared binary cache. This is the only step
//! that signs, and it trusts no builder.
//!
//! Whether a store path has the content that its derivation makes can be verified only by building it again. So the
//! source and the time of an offer count: a builder reports its plan before anything is built, and keeps its lease's
//! token from its builds. Promotion checks that the offer was planned, that it is complete and matches its description,
//! and that the attempt is or was ours. A path that is in the cache stays.

use std::collections::BTreeSet;

use thiserror::Error;

use crate::{
    build::dependency::{Dependency, Stage},
    flow::{load_build, load_row, ring},
    id::key::{DrvHash, StoreHash},
    objects::{
        artifact::{AttemptPrefix, ObjectName},
        narinfo::{BadNarinfo, Narinfo},
        stored::Measured,
    },
    ports::{BinaryCache, HasBell, HasLedger, Ledger, NotCommitted, Read, Unavailable},
    row::{Row, RowKey, Swap},
    telemetry::{About, Signal},
};

/// Longest content of a store path, in bytes: a few minutes of a small machine's time to look at.
pub const NAR_MAX: u64 = 16 << 30;

/// What became of an attempt's offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promoted {
    /// They are looked at. The attempt is not over, and may offer more.
    NotYet {
        /// Store paths that the cache had not had.
        new: usize,
        /// Offers that were not what they should be.
        refused: usize,
    },
    /// They are looked at, and gone from the quarantine.
    Done {
        /// Store paths that the cache had not had.
        new: usize,
        /// Offers that were not what they should be.
        refused: usize,
    },
}

/// Why an offer is not promoted.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
enum OfferError {
    #[error("the attempt's plan does not contain it")]
    NotPlanned,
    #[error("its narinfo is malformed: {0}")]
    Narinfo(#[from] BadNarinfo),
    #[error("its narinfo describes another path")]
    OtherPath,
    #[error("its file is missing")]
    NoFile,
    #[error("the size or hash of its file differs from its narinfo")]
    File,
    /// Another content, a longer one, or none.
    #[error("the size or hash of its content differs from its narinfo")]
    Content,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Looks at all that an attempt has offered: what is as it should be is signed and put into the cache, and builds that wait for it go
/// on. If the attempt has ended, all of it is removed then.
/// Died anywhere and run again, or twice at once, it comes to the same.
///
/// # Errors
/// [`Unavailable`]: run it again.
pub async fn promote<D: HasLedger + HasBell, V: BinaryCache>(
    d: &D,
    binary_cache: &V,
    prefix: &AttemptPrefix,
) -> Result<Promoted, Unavailable> {
    let (build, _) = load_build(d, &prefix.key).await?;
    let lives = build.lease().is_some_and(|lease| lease.id == prefix.lease);
    let about = About::Attempt(&prefix.key, &prefix.lease);
    let (mut new, mut refused) = (0, 0);
    let ours = lives || build.history.iter().any(|attempt| attempt.lease == prefix.lease);
    let planned = if ours { planned(binary_cache, prefix).await? } else { Vec::new() };
    let (mut seen, mut derivers) = (BTreeSet::new(), BTreeSet::new());
    loop {
        let before = seen.len();
        for path in binary_cache.offers(prefix).await? {
            if !seen.insert(path.clone()) || binary_cache.has(&path).await? {
                continue;
            }
            match look(binary_cache, prefix, &planned, &path).await {
                Ok(narinfo) => {
                    let dir = binary_cache.store_dir();
                    let signature = binary_cache.sign(&narinfo.fingerprint(dir));
                    // The file first: a reader of the narinfo expects its file.
                    binary_cache.keep(prefix, &narinfo.packed.sha256).await?;
                    binary_cache.publish(&path, narinfo.signed(dir, &signature)).await?;
                    derivers.extend(narinfo.deriver.and_then(|drv| DrvHash::of_path(&drv.to_string()).ok()));
                    new += 1;
                }
                Err(OfferError::Unavailable(error)) => return Err(error),
                Err(why) => {
                    d.warn(about, "its offer to the cache was dropped", &format!("{path}: {why}"));
                    refused += 1;
                }
            }
        }
        // A dependency counts as made when all its outputs are in the cache. So the offers are listed once more after
        // its builder has said that these were all.
        let offered = offered(d, prefix, &derivers).await?;
        if offered.is_empty() || (seen.len() == before && before > 0) {
            made(d, offered).await?;
            break;
        }
    }
    if new > 0 {
        d.emit(about, Signal::Promoted(new));
    }
    if lives {
        return Ok(Promoted::NotYet { new, refused });
    }
    binary_cache.clear(prefix).await?;
    Ok(Promoted::Done { new, refused })
}

/// Those of these dependencies that the attempt has built and offered, by its word.
async fn offered<D: HasLedger>(
    d: &D,
    prefix: &AttemptPrefix,
    derivers: &BTreeSet<DrvHash>,
) -> Result<Vec<Swap>, Unavailable> {
    let mut offered = Vec::new();
    for drv in derivers {
        let key = RowKey::Dependency(prefix.key.system, drv.clone());
        let (row, seen) = load_row::<D, Dependency>(d, &key, Read::Consistent).await?;
        let stage = Stage::Offered { lease: prefix.lease.clone() };
        if let Some(row) = row.filter(|row| row.holder == prefix.key && row.stage == stage) {
            let row = Dependency { stage: Stage::Made, since: d.now(), ..row };
            offered.push(Swap { seen, row: Row::Dependency(row) });
        }
    }
    Ok(offered)
}

/// Lets the builds go on that wait for these dependencies.
async fn made<D: HasLedger + HasBell>(d: &D, dependencies: Vec<Swap>) -> Result<(), Unavailable> {
    let any = !dependencies.is_empty();
    for swap in dependencies {
        match d.ledger().commit(vec![swap]).await {
            // Another task has claimed it since.
            Ok(()) | Err(NotCommitted::Conflict) => {}
            Err(NotCommitted::Unavailable(error)) => return Err(error),
        }
    }
    if any {
        ring(d).await;
    }
    Ok(())
}

/// What the attempt may offer; nothing, where it has not said so in time.
async fn planned<V: BinaryCache>(binary_cache: &V, prefix: &AttemptPrefix) -> Result<Vec<StoreHash>, Unavailable> {
    let Some(json) = binary_cache.read(prefix, ObjectName::Plan).await? else { return Ok(Vec::new()) };
    serde_json::from_slice(&json).map_err(|error| Unavailable::new("plan", error))
}

async fn look<V: BinaryCache>(
    binary_cache: &V,
    prefix: &AttemptPrefix,
    planned: &[StoreHash],
    path: &StoreHash,
) -> Result<Narinfo, OfferError> {
    if !planned.contains(path) {
        return Err(OfferError::NotPlanned);
    }
    let text = binary_cache.read(prefix, ObjectName::Narinfo(path.clone())).await?.unwrap_or_default();
    let narinfo = Narinfo::parse(&String::from_utf8_lossy(&text), binary_cache.store_dir())?;
    if narinfo.path.hash != *path {
        return Err(OfferError::OtherPath);
    }
    let most = narinfo.nar.size.min(NAR_MAX);
    match binary_cache.measure(prefix, &narinfo.packed.sha256, most).await? {
        None => Err(OfferError::NoFile),
        Some(Measured { packed, .. }) if packed != narinfo.packed => Err(OfferError::File),
        Some(Measured { unpacked, .. }) if unpacked.as_ref() != Some(&narinfo.nar) => Err(OfferError::Content),
        Some(_) => Ok(narinfo),
    }
}
