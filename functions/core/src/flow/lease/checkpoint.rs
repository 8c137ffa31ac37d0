//! Checkpoints of a catalogue: a builder reports what it has stored, for the requests until the catalogue is complete
//! and for the attempt that continues if this one does not finish.

use crate::{
    build::{
        Event,
        partial::{Checkpoint, PARTS_MAX},
        protocol::Checkpointed,
    },
    flow::{
        advance,
        lease::job::{Bearer, Denied, admit},
    },
    id::key::Product,
    objects::artifact::ObjectName,
    ports::{HasLedger, HasStore, Inspect, Intake},
};

/// Records a checkpoint whose objects are stored. Their content is not read here: a reader checks it, and does without
/// what is damaged.
///
/// # Errors
/// [`Denied`]; then the build is unchanged.
pub async fn checkpoint<D: HasLedger + HasStore<Store: Intake>>(
    d: &D,
    bearer: &Bearer,
    stored: Checkpointed,
) -> Result<(), Denied> {
    let (build, lease) = admit(d, bearer).await?;
    if bearer.key.product != Product::Catalogue {
        return Err(Denied::Forbidden("only a catalogue has checkpoints"));
    }
    let Checkpointed { parts, top_level } = stored;
    if !(1..=PARTS_MAX).contains(&parts) {
        return Err(Denied::Forbidden("the number of the checkpoint's parts is out of range"));
    }
    let known = build.partial.of(&lease.id);
    let published = build.partial.published.as_ref().is_some_and(|published| published.lease == lease.id);
    let new = (known.map_or(0, |known| known.parts) + 1..=parts).map(ObjectName::Checkpoint);
    let files = [ObjectName::PartialLookup, ObjectName::PartialDetails];
    let mut bytes = known.map_or(0, |known| known.bytes);
    for name in new.chain(files.into_iter().filter(|_| top_level && !published)) {
        let size = d.store().size(&bearer.prefix().object(name)).await?;
        bytes += size.ok_or(Denied::Nonsense("a part of the catalogue is not in the store"))?;
    }
    let checkpoint = Checkpoint { lease: lease.id, parts, bytes };
    advance(d, &bearer.key, &Event::Checkpoint { checkpoint, top_level }).await?;
    Ok(())
}
