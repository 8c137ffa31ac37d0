//! Promotion: checks what builders offer, signs it, and copies it into the shared binary cache. This is the only step
//! that signs, and it trusts no builder.
//!
//! Whether a store path has the content that its derivation makes can be verified only by building it again. So the
//! source and the time of an offer count: a builder reports its plan before anything is built, and keeps its lease's
//! token from its builds. Promotion checks that the offer was planned, that it is complete and matches its description,
//! and that the attempt was ours and has ended. A path that is in the cache stays.

use thiserror::Error;

use crate::{
    flow::load_build,
    id::key::StoreHash,
    objects::{
        artifact::{AttemptPrefix, ObjectName},
        narinfo::{BadNarinfo, Narinfo},
        stored::Measured,
    },
    ports::{BinaryCache, HasLedger, Unavailable},
    telemetry::{About, Signal},
};

/// Longest content of a store path, in bytes: a few minutes of a small machine's time to look at.
pub const NAR_MAX: u64 = 16 << 30;

/// What became of an attempt's offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promoted {
    /// The attempt is not over: they are looked at when it is.
    NotYet,
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
    #[error("its file has another size or hash than its narinfo declares")]
    File,
    /// Another content, a longer one, or none.
    #[error("its content has another size or hash than its narinfo declares")]
    Content,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Looks at all that an attempt has offered: what is as it should be is signed and put into the cache, and then all of it is removed.
/// Died anywhere and run again, or twice at once, it comes to the same.
///
/// # Errors
/// [`Unavailable`]: run it again.
pub async fn promote<D: HasLedger, V: BinaryCache>(
    d: &D,
    binary_cache: &V,
    prefix: &AttemptPrefix,
) -> Result<Promoted, Unavailable> {
    let (build, _) = load_build(d, &prefix.key).await?;
    if build.lease().is_some_and(|lease| lease.id == prefix.lease) {
        return Ok(Promoted::NotYet);
    }
    let about = About::Attempt(&prefix.key, &prefix.lease);
    let (mut new, mut refused) = (0, 0);
    let ours = build.history.iter().any(|attempt| attempt.lease == prefix.lease);
    let planned = if ours { planned(binary_cache, prefix).await? } else { Vec::new() };
    for path in binary_cache.offers(prefix).await? {
        if binary_cache.has(&path).await? {
            continue;
        }
        match look(binary_cache, prefix, &planned, &path).await {
            Ok(narinfo) => {
                let dir = binary_cache.store_dir();
                let signature = binary_cache.sign(&narinfo.fingerprint(dir));
                // The file first: a reader of the narinfo expects its file.
                binary_cache.keep(prefix, &narinfo.packed.sha256).await?;
                binary_cache.publish(&path, narinfo.signed(dir, &signature)).await?;
                new += 1;
            }
            Err(OfferError::Unavailable(error)) => return Err(error),
            Err(why) => {
                d.warn(about, "what it offers to the cache is dropped", &format!("{path}: {why}"));
                refused += 1;
            }
        }
    }
    binary_cache.clear(prefix).await?;
    if new > 0 {
        d.emit(about, Signal::Promoted(new));
    }
    Ok(Promoted::Done { new, refused })
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
