//! Programs are stored by content: the bytes of each sha256 once, as a blob, for all names, attempts, pins and packages.
//!
//! An attempt keeps a blob by a reference: an empty object below its prefix, written before its builder uploads the
//! bytes, or is spared that because they are stored. A blob that is to be deleted gets no new reference, since the
//! deletion may be under way: the attempt stores a copy of its own ([`crate::gc`]).
//!
//! Builders are not trusted. Under a sha256 the store accepts only bytes of that sha256, so an upload cannot change what
//! others have stored; it repairs a blob that is missing or damaged. A builder learns whether bytes are stored whose
//! size and sha256 it knows. All stored programs are public, so this reveals no secret.

use crate::{
    build::protocol::{PresignedUpload, Upload},
    id::key::{Bin, Sha256},
    objects::{
        artifact::{AttemptPrefix, ObjectName},
        content::Content,
        inventory::Entry,
        stored::Integrity,
    },
    ports::{HasLedger, HasStore, Inspect, Intake, Ledger, Read, Unavailable},
    row::{RowKey, Unreferenced},
};

/// A presigned upload of a program: of its blob, which the attempt references from now on, or else of its own copy.
pub(super) async fn upload<D: HasLedger + HasStore<Store: Intake>>(
    d: &D,
    prefix: &AttemptPrefix,
    Upload { size, sha256, .. }: &Upload,
) -> Result<PresignedUpload, Unavailable> {
    let trash = RowKey::Trash(Unreferenced::Blob(sha256.clone()));
    if d.ledger().load(&trash, Read::Consistent).await?.is_some() {
        return d.store().grant(&prefix.object(copy(sha256)), *size, sha256).await;
    }
    d.store().write(&prefix.object(ObjectName::Reference(sha256.clone())), Vec::new()).await?;
    let blob = prefix.object(ObjectName::Blob(sha256.clone()));
    let stored = is(d, prefix, &blob.name, &Content { sha256: sha256.clone(), size: *size }).await?;
    if !stored {
        d.store().write(&prefix.object(ObjectName::Addition(sha256.clone())), Vec::new()).await?;
    }
    Ok(PresignedUpload { stored, ..d.store().grant(&blob, *size, sha256).await? })
}

/// The attempt's own copy of a content.
fn copy(sha256: &Sha256) -> ObjectName {
    ObjectName::Program(sha256.into())
}

/// A program's content in the store, and the bytes that this attempt has added for it; `None` if it is not stored.
/// `names`: the program's names, under which an earlier version has stored it.
pub(super) async fn stored<D: HasStore<Store: Intake>>(
    d: &D,
    prefix: &AttemptPrefix,
    content: Content,
    names: &[Bin],
) -> Result<Option<(Entry, u64)>, Unavailable> {
    let there = async |name| Ok::<_, Unavailable>(d.store().size(&prefix.object(name)).await?.is_some());
    let blob = ObjectName::Blob(content.sha256.clone());
    if there(ObjectName::Reference(content.sha256.clone())).await? && is(d, prefix, &blob, &content).await? {
        let added = if there(ObjectName::Addition(content.sha256.clone())).await? { content.size } else { 0 };
        return Ok(Some((Entry { name: blob, content }, added)));
    }
    let names = names.iter().cloned().map(ObjectName::Program);
    for name in std::iter::once(copy(&content.sha256)).chain(names) {
        if is(d, prefix, &name, &content).await? {
            let size = content.size;
            return Ok(Some((Entry { name, content }, size)));
        }
    }
    Ok(None)
}

async fn is<D: HasStore<Store: Inspect>>(
    d: &D,
    prefix: &AttemptPrefix,
    name: &ObjectName,
    content: &Content,
) -> Result<bool, Unavailable> {
    let stored = d.store().digest(&prefix.object(name.clone())).await?;
    Ok(Integrity::of(stored.as_ref(), content) == Integrity::Intact)
}
