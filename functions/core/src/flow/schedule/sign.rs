//! The signer: signs the artifacts of ready builds, and appends them to the transparency log. This is the only step with
//! the keys.
//!
//! It reads each stored object once and compares it with the manifest, so an object that was exchanged after its upload is
//! not signed. Many signers may run, and each may die anywhere. The order is that of every log that must not fork:
//!
//! 1. The new entries are staged, in an object that the new tree's root names.
//! 2. The new tree becomes the head's `next`, by compare-and-swap. Of several signers one gets this far; from here on the
//!    tree is certain, and each signer completes it before it begins another one.
//! 3. The tiles are written, and the tree becomes the head's `published`: readers see it.
//! 4. The rows of the builds are written, by which they are served, and the head is free for the next batch.
//!
//! A build is taken only if no row says that the log has it, and these rows are written before the head is free for
//! another batch. So no artifact is logged twice.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    build::{Build, State},
    flow::{
        Tries, change_row, integrity, load_build, load_row, manifest_of,
        schedule::attest::attest,
        tlog::{is_logged, tile},
    },
    id::key::{BuildKey, Product},
    objects::{artifact::ObjectName, stored::Integrity},
    ports::{
        Cursor, Deployment, HasBell, HasLedger, HasStore, KeyUse, Ledger, NotCommitted, Read, Signer, Store,
        Unavailable,
    },
    row::{Row, RowKey, Swap, Version},
    telemetry::About,
    trust::{
        checkpoint::Checkpoint,
        head::{Batch, BatchOf, LogHead, LogName, Logged, NextTree, PublicKeys, SignedTree},
        leaf::{Artifact, Blake2b},
        minisign::Signature,
        note::{self, Note},
        tile::{Edge, TileName},
    },
};

/// The most entries of a batch, unless one build alone has more.
const BATCH_MAX: usize = 256;
/// Builds that are looked at in one step of [`sign_all`].
const PAGE: usize = 100;

/// What a signer has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signed {
    /// Builds that the log has now, and had not before.
    pub builds: usize,
    /// Their entries.
    pub entries: usize,
}

/// Why nothing is signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSigned {
    /// The signer's keys are not those that the log accepts: they were lost or exchanged.
    #[error(
        "the signing keys are not the ones that were in use; restore them, or accept these with `binplz signing-key accept`"
    )]
    OtherKeys,
    /// A backend failed: run it again.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Signs and logs what is ready of these builds. What the log has already is passed over.
///
/// # Errors
/// [`NotSigned`].
pub async fn sign<D: HasLedger + HasStore + HasBell, S: Signer>(
    d: &D,
    signer: &S,
    keys: impl IntoIterator<Item = BuildKey>,
) -> Result<Signed, NotSigned> {
    let mut left: Vec<BuildKey> = keys.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    let (mut signed, mut tries) = (Signed::default(), Tries::default());
    loop {
        let (head, seen) = completed(d, signer).await?;
        let mut batch = Batch::default();
        let mut taken = 0;
        for key in &left {
            let entries: usize = batch.builds.iter().map(|of| of.entries.len()).sum();
            if entries >= BATCH_MAX {
                break;
            }
            batch.builds.extend(entries_of(d, signer, &head, key).await?);
            taken += 1;
        }
        if batch.builds.is_empty() {
            return Ok(signed);
        }
        match append(d, signer, head, seen, &batch).await {
            Ok(()) => {
                left.drain(..taken);
                signed.builds += batch.builds.len();
                signed.entries += batch.entries().count();
                tries = Tries::default();
            }
            // With an unknown outcome, the next look at the rows of the builds shows it.
            Err(error) => tries.again(error)?,
        }
    }
}

/// Signs and logs all ready builds that the log lacks, a page of rows after the other. Died anywhere and run again, it goes
/// on: what is logged stays so.
///
/// # Errors
/// [`NotSigned`].
pub async fn sign_all<D: HasLedger + HasStore + HasBell, S: Signer>(d: &D, signer: &S) -> Result<Signed, NotSigned> {
    let (mut signed, mut after) = (Signed::default(), None::<Cursor>);
    loop {
        let page = d.ledger().scan(after.as_ref(), PAGE).await?;
        let more = sign(d, signer, page.rows.into_iter().filter_map(|(row, _)| ready(row))).await?;
        signed = Signed { builds: signed.builds + more.builds, entries: signed.entries + more.entries };
        match page.next {
            None => return Ok(signed),
            next => after = next,
        }
    }
}

/// The build of a row, if it is ready.
pub fn ready(row: Row) -> Option<BuildKey> {
    match row {
        Row::Build(Build { key, state: State::Ready(_), .. }) => Some(key),
        _ => None,
    }
}

/// The URL of the log's objects without its scheme: the name of a log that begins now.
fn origin<D: Deployment>(d: &D) -> String {
    let origin = d.origin();
    let host = origin.split_once("://").map_or(origin, |(_, host)| host);
    format!("{host}/-/tlog")
}

/// The head, once no tree waits to be completed. The first signer begins the log with its keys.
async fn completed<D: HasLedger + HasStore, S: Signer>(d: &D, signer: &S) -> Result<(LogHead, Version), NotSigned> {
    let keys: PublicKeys = signer.public().await?;
    let mut tries = Tries::default();
    loop {
        let (head, seen) = load_row::<D, LogHead>(d, &RowKey::LogHead, Read::Consistent).await?;
        let (after, staged) = match head {
            None => (LogHead::begun(&origin(d), &keys, d.now()), None),
            Some(head) if head.accepts(&keys) => match head.next.clone() {
                None => return Ok((head, seen)),
                Some(next) if head.size() < next.tree.size => {
                    write_tiles(d, signer, &head, &next).await?;
                    (LogHead { published: Some(next.tree), ..head }, None)
                }
                Some(next) => {
                    write_rows(d, &next).await?;
                    (LogHead { next: None, ..head }, Some(next.staged))
                }
            },
            Some(head) => match head.clone().offering(&keys) {
                offering if offering == head => return Err(NotSigned::OtherKeys),
                offering => (offering, None),
            },
        };
        match d.ledger().commit(vec![Swap { seen, row: Row::LogHead(after) }]).await {
            Ok(()) => {
                if let Some(staged) = staged {
                    signer.remove_staged(&staged).await?;
                }
            }
            Err(error) => tries.again(error)?,
        }
    }
}

/// Writes the tiles of a certain tree, from which readers can prove all that is in it.
async fn write_tiles<D: HasStore, S: Signer>(
    d: &D,
    signer: &S,
    head: &LogHead,
    next: &NextTree,
) -> Result<(), Unavailable> {
    // Another signer may have completed it since the head was read: the swap that follows fails, and the head is read again.
    let Some(batch) = staged(d, next).await? else { return Ok(()) };
    let (edge, tiles) = grown(d, head.size(), &batch).await?;
    if edge.root() != next.tree.claim()?.root {
        return Err(Unavailable::new("log", format!("its tree of {} entries would have another root", next.tree.size)));
    }
    for (tile, bytes) in &tiles {
        signer.write(&LogName::Tile(*tile), bytes.clone()).await?;
    }
    for full in tiles.keys().filter(|tile| tile.is_full()) {
        signer.remove_narrower(full).await?;
    }
    Ok(())
}

/// Writes the rows of the builds in a published tree.
async fn write_rows<D: HasLedger + HasStore>(d: &D, next: &NextTree) -> Result<(), Unavailable> {
    let Some(batch) = staged(d, next).await? else { return Ok(()) };
    for logged in batch.logged(next.tree.size) {
        // A signer that was slow finds a row of a later tree, perhaps.
        let older = |row: &Logged| row.first < logged.first;
        let write = |row: Option<&Logged>| Ok::<_, Unavailable>(row.is_none_or(older).then(|| logged.clone()));
        change_row(d, &RowKey::Logged(logged.key.clone()), write).await?;
    }
    Ok(())
}

async fn staged<D: HasStore>(d: &D, next: &NextTree) -> Result<Option<Batch>, Unavailable> {
    let staged = d.store().log_object(&LogName::Staged(next.staged.clone())).await?;
    staged.map(|staged| serde_json::from_slice(&staged).map_err(|error| Unavailable::new("log", error))).transpose()
}

/// The tree of `size` entries with a batch behind them: its right edge, and the objects that it adds.
async fn grown<D: HasStore>(
    d: &D,
    size: u64,
    batch: &Batch,
) -> Result<(Edge, BTreeMap<TileName, Vec<u8>>), Unavailable> {
    let mut objects = BTreeMap::new();
    for name in Edge::needs(size) {
        objects.insert(name, tile(d, &name).await?);
    }
    let damaged = || Unavailable::new("log", format!("the tiles of {size} entries are damaged"));
    let mut edge = Edge::of(size, &objects).ok_or_else(damaged)?;
    let tiles = edge.append(batch.entries());
    Ok((edge, tiles))
}

/// The entries of a ready build that the log lacks; `None`: there is nothing to do.
async fn entries_of<D: HasLedger + HasStore + HasBell, S: Signer>(
    d: &D,
    signer: &S,
    head: &LogHead,
    key: &BuildKey,
) -> Result<Option<BatchOf>, NotSigned> {
    let (build, _) = load_build(d, key).await?;
    let State::Ready(made) = &build.state else { return Ok(None) };
    if matches!(key.product, Product::Catalogue) || is_logged(d, key, made).await? {
        return Ok(None);
    }
    let prefix = made.prefix(key);
    let withdraw = async |object, integrity| {
        integrity::withdraw(d, key, &integrity::Flaw { object: prefix.object(object), integrity }).await
    };
    let (manifest, inventory) = match manifest_of(d, key, made).await? {
        Ok(found) => found,
        Err(integrity) => {
            withdraw(ObjectName::Manifest, integrity).await?;
            return Ok(None);
        }
    };
    let signs = head.artifact_keys.last().map(|last| last.key).ok_or(NotSigned::OtherKeys)?;
    let artifacts = Artifact::of(key, &manifest, &inventory);
    let (mut entries, mut read) = (Vec::new(), BTreeMap::<_, (Blake2b, [u8; 64])>::new());
    for artifact in &artifacts {
        let (object, sha256) = (artifact.object.clone(), artifact.content.sha256.clone());
        if read.contains_key(&sha256) {
            continue;
        }
        let digests = signer.digest(&prefix.object(object.clone())).await?;
        let blake2b = match digests {
            Some((content, blake2b)) if content == artifact.content => blake2b,
            other => {
                let what = "an object is not what its builder reported, and is not signed";
                d.warn(About::Attempt(key, &made.lease), what, &prefix.object(object.clone()));
                let integrity = if other.is_some() { Integrity::OtherContent } else { Integrity::Missing };
                withdraw(object, integrity).await?;
                return Ok(None);
            }
        };
        read.insert(sha256, (blake2b, signer.sign(KeyUse::Artifacts, &blake2b.0).await?));
    }
    let documents = match attest(d, signer, &signs, &prefix, (&manifest, &inventory), &artifacts).await? {
        Ok(documents) => documents,
        Err((object, integrity)) => {
            withdraw(object, integrity).await?;
            return Ok(None);
        }
    };
    for artifact in artifacts {
        let sha256 = &artifact.content.sha256;
        let (blake2b, file) = read[sha256];
        let documents = documents.get(sha256).cloned();
        let comment = artifact.leaf(&manifest, blake2b, documents).to_string();
        let message = Signature::message(&file, &comment);
        let global = signer.sign(KeyUse::Artifacts, &message).await?;
        entries.push(Signature { id: signs.id, file, comment, global }.to_string());
    }
    Ok(Some(BatchOf { key: key.clone(), lease: made.lease.clone(), entries }))
}

/// Makes the tree with a batch the next one.
async fn append<D: HasLedger + HasStore, S: Signer>(
    d: &D,
    signer: &S,
    head: LogHead,
    seen: Version,
    batch: &Batch,
) -> Result<(), NotCommitted> {
    let (edge, _) = grown(d, head.size(), batch).await?;
    let text = Checkpoint { origin: head.origin.clone(), size: edge.size(), root: edge.root() }.to_string();
    let key = head.log_keys.last().ok_or_else(|| Unavailable::new("log", "it has no key"))?.key.0.clone();
    let signature = signer.sign(KeyUse::Log, text.as_bytes()).await?;
    let checkpoint = Note { text, signatures: vec![note::Signature::of(&key, &signature)] }.to_string();
    let json = serde_json::to_vec(batch).map_err(|error| Unavailable::new("log", error))?;
    let (staged, _) = d.new_lease();
    signer.write(&LogName::Staged(staged.clone()), json).await?;
    let next = NextTree { tree: SignedTree { size: edge.size(), checkpoint }, staged: staged.clone() };
    let head = LogHead { next: Some(next), ..head };
    let committed = d.ledger().commit(vec![Swap { seen, row: Row::LogHead(head) }]).await;
    if committed == Err(NotCommitted::Conflict) {
        signer.remove_staged(&staged).await?;
    }
    committed
}
