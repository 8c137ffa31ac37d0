//! What a client may check: signatures, keys, the transparency log, and the documents on a build. Reads only.

use std::collections::{BTreeMap, btree_map};

use crate::{
    build::{Build, State},
    flow::{
        integrity, load_build,
        tlog::{head, is_logged, logged, tile},
    },
    id::key::{BuildKey, Sha256},
    nixpkgs::served::Served,
    objects::{artifact::ObjectName, content::Content},
    ports::{HasLedger, HasStore, Store, Unavailable},
    trust::{
        head::{Keyring, LogName},
        leaf::{Documents, Leaf},
        merkle::{Hash, Range, inclusion, root_of},
        minisign::Signature,
        note::Note,
        proof::Proof,
        tile::{TileName, entries, hashes},
    },
};

/// Whether a ready build is not in the log yet, and is not served until it is.
pub(crate) async fn awaits_log<D: HasLedger>(d: &D, build: &Build) -> Result<bool, Unavailable> {
    let State::Ready(made) = &build.state else { return Ok(false) };
    if !d.signs() {
        return Ok(false);
    }
    if is_logged(d, &build.key, made).await? {
        return Ok(false);
    }
    // Without its keys the service goes on, and says so.
    Ok(head(d).await?.is_none_or(|head| head.offered.is_none()))
}

/// Whether a build is not settled, or not signed yet.
pub(crate) async fn is_under_way<D: HasLedger>(d: &D, key: &BuildKey) -> Result<bool, Unavailable> {
    let (build, _) = load_build(d, key).await?;
    Ok(build.is_under_way() || awaits_log(d, &build).await?)
}

/// The public keys; `None`: the service does not sign.
///
/// # Errors
/// [`Unavailable`].
pub async fn keys<D: HasLedger>(d: &D) -> Result<Option<Keyring>, Unavailable> {
    Ok(head(d).await?.map(|head| head.keyring()))
}

/// An object of the log, for readers who copy or audit it.
///
/// # Errors
/// [`Unavailable`].
pub async fn object<D: HasStore>(d: &D, name: &TileName) -> Result<Option<Vec<u8>>, Unavailable> {
    d.store().log_object(&LogName::Tile(*name)).await
}

/// An artifact's entry in the log, and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place, from 0.
    pub index: u64,
    /// The entry: a minisign file.
    pub text: String,
}

impl Entry {
    /// What it says of its artifact.
    fn leaf(&self) -> Option<Leaf> {
        self.text.parse::<Signature>().ok().and_then(|signature| signature.comment.parse().ok())
    }
}

/// The entry of a served artifact; `None`: the log does not have it.
///
/// # Errors
/// [`Unavailable`].
pub async fn entry<D: HasLedger + HasStore>(d: &D, served: &Served) -> Result<Option<Entry>, Unavailable> {
    let (Some(head), Some(logged)) = (head(d).await?, logged(d, &served.key()).await?) else { return Ok(None) };
    let mut bundles = BTreeMap::new();
    for index in logged.first..logged.first + logged.count {
        let (name, place) = TileName::of_entry(index, head.size());
        let bundle = match bundles.entry(name) {
            btree_map::Entry::Occupied(read) => read.into_mut(),
            btree_map::Entry::Vacant(unread) => unread.insert(bundle(d, &name).await?),
        };
        let entry = Entry { index, text: String::from_utf8_lossy(&bundle[place]).into_owned() };
        let is_it = |leaf: Leaf| leaf.sha256 == served.sha256 && leaf.identity.is_of(served);
        if entry.leaf().is_some_and(is_it) {
            return Ok(Some(entry));
        }
    }
    Ok(None)
}

/// The signed provenance of an artifact with that entry; `None`: it was signed before there was provenance.
///
/// # Errors
/// [`Unavailable`].
pub async fn provenance<D: HasStore>(d: &D, entry: &Entry) -> Result<Option<Vec<u8>>, Unavailable> {
    let Some(Documents { provenance, .. }) = entry.leaf().and_then(|leaf| leaf.documents) else { return Ok(None) };
    let envelope = d.store().log_object(&LogName::Provenance(provenance.clone())).await?;
    let envelope = envelope.filter(|envelope| Sha256::of(envelope) == provenance);
    envelope
        .map(Some)
        .ok_or_else(|| Unavailable::new("log", format!("the provenance {provenance} is missing or damaged")))
}

/// A document on the build of an artifact; `None`: an earlier version has built it, and wrote none.
///
/// # Errors
/// [`Unavailable`].
pub async fn document<D: HasStore>(d: &D, served: &Served, name: ObjectName) -> Result<Option<Vec<u8>>, Unavailable> {
    let prefix = served.object.prefix();
    let wrong = |what: &ObjectName| Unavailable::new("store", format!("{what} of {prefix} is missing or damaged"));
    let inventory = integrity::inventory(d, &prefix).await?.map_err(|_| wrong(&ObjectName::Manifest))?;
    let Some(content) = inventory.content(&name) else { return Ok(None) };
    let document = d.store().read(&prefix.object(name.clone())).await?;
    document.filter(|document| Content::of(document) == content).map(Some).ok_or_else(|| wrong(&name))
}

async fn bundle<D: HasStore>(d: &D, name: &TileName) -> Result<Vec<Vec<u8>>, Unavailable> {
    let entries = entries(name, &tile(d, name).await?);
    entries.ok_or_else(|| Unavailable::new("log", format!("{name} is damaged")))
}

/// The proof that the log has an entry.
///
/// # Errors
/// [`Unavailable`].
pub async fn proof<D: HasLedger + HasStore>(d: &D, entry: Entry) -> Result<Proof, Unavailable> {
    let missing = || Unavailable::new("log", "it has no tree");
    let head = head(d).await?.ok_or_else(missing)?;
    let checkpoint = head.checkpoint().ok_or_else(missing)?.parse();
    let checkpoint: Note = checkpoint.map_err(|error| Unavailable::new("log", error))?;
    let mut path = Vec::new();
    for range in inclusion(entry.index, head.size()) {
        path.push(hash(d, range, head.size()).await?);
    }
    Ok(Proof { extra: entry.text.into_bytes(), index: entry.index, hashes: path, checkpoint })
}

async fn hash<D: HasStore>(d: &D, range: Range, size: u64) -> Result<Hash, Unavailable> {
    let mut nodes = Vec::new();
    for node in range.nodes() {
        let (name, from, to) = TileName::with(node, size);
        let hashes = hashes(&name, &tile(d, &name).await?);
        let root = hashes.as_deref().and_then(|hashes| root_of(hashes.get(from..to)?));
        nodes.push(root.ok_or_else(|| Unavailable::new("log", format!("{name} is damaged")))?);
    }
    Ok(Range::hash(&nodes))
}
