//! The rows of the transparency log: its head, of which there is one, and what it has of a build.
//!
//! The head is the only place that decides what the log is: a tree is in it before any of its tiles is written, by one
//! compare-and-swap. So two writers cannot fork the log, and one that dies leaves what the next one needs to go on.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    id::{
        key::{BuildKey, LeaseId, Sha256},
        time::Timestamp,
    },
    ports::Unavailable,
    trust::{
        checkpoint::Checkpoint,
        minisign::PublicKey,
        note::{self, Algorithm, BadNote, Note, NoteKey},
        tile::TileName,
    },
};

/// The most keys that are remembered, of each use.
pub const KEYS_MAX: usize = 16;

/// A signed tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedTree {
    /// The number of its leaves.
    pub size: u64,
    /// The signed checkpoint, as a note.
    pub checkpoint: String,
}

impl SignedTree {
    /// What the checkpoint says.
    ///
    /// # Errors
    /// [`Unavailable`]: it is malformed.
    pub fn claim(&self) -> Result<Checkpoint, Unavailable> {
        let claim = self.checkpoint.parse::<Note>().and_then(|note| note.text.parse());
        claim.map_err(|error| Unavailable::new("log", format!("its checkpoint {error}")))
    }
}

/// A tree that is certain, and not complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextTree {
    /// The tree.
    #[serde(flatten)]
    pub tree: SignedTree,
    /// The name of its staged batch.
    pub staged: LeaseId,
}

/// When a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Period {
    /// From then on.
    pub since: Timestamp,
    /// Until then; `None`: it signs now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// A public key and when it signs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dated<K> {
    /// The key.
    pub key: K,
    /// When it signs.
    #[serde(flatten)]
    pub period: Period,
}

/// The public keys of a signer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKeys {
    /// The Ed25519 key of artifacts.
    pub artifacts: [u8; 32],
    /// The Ed25519 key of checkpoints.
    pub log: [u8; 32],
}

/// The public keys that a service signs or has signed with. As text, one a line: `artifacts KEY since DATE until DATE`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keyring {
    /// Those of artifacts, for minisign.
    pub artifacts: Vec<Dated<PublicKey>>,
    /// Those of checkpoints, as verifier keys of signed notes.
    pub log: Vec<Dated<LogKey>>,
}

impl Keyring {
    /// As JSON.
    pub fn json(&self) -> String {
        serde_json::json!(self).to_string()
    }
}

impl fmt::Display for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let artifacts = self.artifacts.iter().map(|dated| ("artifacts", dated.key.to_string(), dated.period));
        let log = self.log.iter().map(|dated| ("log", dated.key.0.to_string(), dated.period));
        for (of, key, period) in artifacts.chain(log) {
            write!(f, "{of} {key} since {}", period.since.day())?;
            match period.until {
                Some(until) => writeln!(f, " until {}", until.day())?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

/// The keys of the text. The times are for people: nothing in a signature says when it was made.
impl FromStr for Keyring {
    type Err = BadNote;
    fn from_str(s: &str) -> Result<Self, BadNote> {
        let (mut keyring, period) = (Keyring::default(), Period { since: Timestamp(0), until: None });
        for line in s.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let mut words = line.split(' ');
            match (words.next(), words.next()) {
                (Some("artifacts"), Some(key)) => keyring.artifacts.push(Dated { key: key.parse()?, period }),
                (Some("log"), Some(key)) => keyring.log.push(Dated { key: LogKey(key.parse()?), period }),
                _ => return Err(BadNote::Form),
            }
        }
        Ok(keyring)
    }
}

/// The log's head: key `log`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogHead {
    /// The log's name, for ever: the URL of its objects when it began, without the scheme.
    pub origin: String,
    /// The keys of artifacts, the oldest first.
    pub artifact_keys: Vec<Dated<PublicKey>>,
    /// The keys of checkpoints, the oldest first, each as the 32 bytes of an Ed25519 key.
    pub log_keys: Vec<Dated<LogKey>>,
    /// The tree that readers see: all of its tiles are written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<SignedTree>,
    /// The tree that follows, or the published one while the rows of its builds are not written. Each signer that finds it
    /// completes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<NextTree>,
    /// Keys that the signer has in place of the last ones. Nothing is signed until an operator accepts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offered: Option<Offered>,
    /// The keys of witnesses, which the operator has added, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub witness_keys: Vec<LogKey>,
    /// The last tree with cosignatures by these keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witnessed: Option<SignedTree>,
}

/// Why the log takes no cosignatures.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NotCosigned {
    /// The checkpoint is malformed.
    #[error("the checkpoint {0}")]
    Bad(#[from] BadNote),
    /// It is not of this log.
    #[error("the checkpoint is not of this log")]
    OtherLog,
    /// A later tree has cosignatures.
    #[error("the checkpoint has {0} entries, and witnesses have cosigned one with {1} entries already")]
    Old(u64, u64),
}

/// A witness's cosignature of a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cosignature {
    /// The key of the witness.
    pub witness: LogKey,
    /// The number of entries in the tree.
    pub size: u64,
    /// When the witness signed.
    pub at: Timestamp,
}

/// For people: `KEY cosigned 12 entries on DATE`.
impl fmt::Display for Cosignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cosigned {} entries on {}", self.witness.0, self.size, self.at.day())
    }
}

/// Keys that an operator has not accepted yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offered {
    /// The key of artifacts.
    pub artifacts: PublicKey,
    /// The key of checkpoints.
    pub log: LogKey,
}

/// The key of checkpoints, as a verifier key of signed notes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LogKey(pub NoteKey);

impl TryFrom<String> for LogKey {
    type Error = BadNote;
    fn try_from(s: String) -> Result<Self, Self::Error> {
        s.parse().map(LogKey)
    }
}

impl From<LogKey> for String {
    fn from(key: LogKey) -> String {
        key.0.to_string()
    }
}

impl LogHead {
    /// A log that begins with these keys.
    pub fn begun(origin: &str, keys: &PublicKeys, now: Timestamp) -> LogHead {
        let head = LogHead {
            origin: origin.to_owned(),
            artifact_keys: Vec::new(),
            log_keys: Vec::new(),
            published: None,
            next: None,
            offered: None,
            witness_keys: Vec::new(),
            witnessed: None,
        };
        head.offering(keys).accepting(now)
    }

    fn named(&self, keys: &PublicKeys) -> Offered {
        let log = NoteKey { name: self.origin.clone(), algorithm: Algorithm::Ed25519, key: keys.log };
        Offered { artifacts: PublicKey::of(keys.artifacts), log: LogKey(log) }
    }

    /// Whether these are the keys that sign now.
    pub fn accepts(&self, keys: &PublicKeys) -> bool {
        let Offered { artifacts, log } = self.named(keys);
        self.artifact_keys.last().is_some_and(|last| last.key == artifacts)
            && self.log_keys.last().is_some_and(|last| last.key == log)
    }

    /// The head that shows these keys to the operator.
    #[must_use]
    pub fn offering(self, keys: &PublicKeys) -> LogHead {
        LogHead { offered: Some(self.named(keys)), ..self }
    }

    /// The head from when the offered keys sign: the last ones do not from then on.
    #[must_use]
    pub fn accepting(mut self, now: Timestamp) -> LogHead {
        if let Some(Offered { artifacts, log }) = self.offered.take() {
            change(&mut self.artifact_keys, artifacts, now);
            change(&mut self.log_keys, log, now);
        }
        self
    }

    /// The keys that it has or had.
    pub fn keyring(&self) -> Keyring {
        Keyring { artifacts: self.artifact_keys.clone(), log: self.log_keys.clone() }
    }

    /// The checkpoint of the tree that readers see, with the cosignatures of it.
    pub fn checkpoint(&self) -> Option<&str> {
        let published = self.published.as_ref()?;
        let witnessed = self.witnessed.as_ref().filter(|witnessed| witnessed.size == published.size);
        Some(&witnessed.unwrap_or(published).checkpoint)
    }

    /// The head with the cosignatures of a checkpoint by these keys and by those that it has. Their signatures, and that of
    /// the log, are good: the caller has checked them.
    ///
    /// # Errors
    /// [`NotCosigned`].
    pub fn cosigned(mut self, keys: &[LogKey], checkpoint: &Note) -> Result<LogHead, NotCosigned> {
        let Checkpoint { origin, size, .. } = checkpoint.text.parse()?;
        for key in keys.iter().filter(|key| key.0.algorithm == Algorithm::Cosignature) {
            if !self.witness_keys.contains(key) {
                self.witness_keys.push(key.clone());
            }
        }
        let old = self.witness_keys.len().saturating_sub(KEYS_MAX);
        self.witness_keys.drain(..old);
        let mut note = checkpoint.clone();
        if origin != self.origin || size > self.size() {
            return Err(NotCosigned::OtherLog);
        }
        for tree in [&self.published, &self.witnessed].into_iter().flatten().filter(|tree| tree.size == size) {
            let known: Note = tree.checkpoint.parse()?;
            if known.text != note.text {
                return Err(NotCosigned::OtherLog);
            }
            let others = known.signatures.into_iter();
            let others: Vec<_> = others.filter(|one| note.signatures.iter().all(|own| own.id != one.id)).collect();
            note.signatures.extend(others);
        }
        if let Some(last) = self.witnessed.as_ref().filter(|last| last.size > size) {
            return Err(NotCosigned::Old(size, last.size));
        }
        let dated = self.log_keys.iter().map(|dated| &dated.key);
        let known: Vec<&LogKey> = dated.chain(&self.witness_keys).collect();
        note.signatures.retain(|signature| known.iter().any(|key| signature.is_by(&key.0)));
        self.witnessed = Some(SignedTree { size, checkpoint: note.to_string() });
        Ok(self)
    }

    /// The cosignatures of the last tree that has any.
    pub fn cosignatures(&self) -> Vec<Cosignature> {
        let Some(tree) = &self.witnessed else { return Vec::new() };
        let signatures = tree.checkpoint.parse::<Note>().map(|note| note.signatures).unwrap_or_default();
        let of = |signature: &note::Signature| {
            let witness = self.witness_keys.iter().find(|key| signature.is_by(&key.0))?.clone();
            Some(Cosignature { witness, size: tree.size, at: Timestamp(signature.time()?.saturating_mul(1000)) })
        };
        signatures.iter().filter_map(of).collect()
    }

    /// The size of the tree that readers see.
    pub fn size(&self) -> u64 {
        self.published.as_ref().map_or(0, |tree| tree.size)
    }
}

fn change<K: PartialEq>(keys: &mut Vec<Dated<K>>, key: K, now: Timestamp) {
    if keys.last().is_some_and(|last| last.key == key) {
        return;
    }
    if let Some(last) = keys.last_mut() {
        last.period.until = Some(now);
    }
    keys.push(Dated { key, period: Period { since: now, until: None } });
    let old = keys.len().saturating_sub(KEYS_MAX);
    keys.drain(..old);
}

/// What the log has of a build: key `logged/KEY`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logged {
    /// The build.
    pub key: BuildKey,
    /// The attempt whose artifacts these are. Those of another attempt are other artifacts.
    pub lease: LeaseId,
    /// The place of its first entry; the others follow it.
    pub first: u64,
    /// The number of its entries.
    pub count: u64,
}

/// The entries that a tree will have beyond the published one, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Each build's.
    pub builds: Vec<BatchOf>,
}

/// The entries of one build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchOf {
    /// The build.
    pub key: BuildKey,
    /// The attempt.
    pub lease: LeaseId,
    /// The entries: minisign files.
    pub entries: Vec<String>,
}

impl Batch {
    /// All entries, as bytes.
    pub fn entries(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        self.builds.iter().flat_map(|of| of.entries.iter().map(|entry| entry.clone().into_bytes()))
    }

    /// What a log of `size` entries has of each build, if this is its end.
    pub fn logged(&self, size: u64) -> Vec<Logged> {
        let (mut logged, mut first) = (Vec::new(), size - self.entries().count() as u64);
        for BatchOf { key, lease, entries } in &self.builds {
            let count = entries.len() as u64;
            logged.push(Logged { key: key.clone(), lease: lease.clone(), first, count });
            first += count;
        }
        logged
    }
}

/// An object of the log, below `tlog/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogName {
    /// A tile, or a bundle of entries.
    Tile(TileName),
    /// A batch of that name.
    Staged(LeaseId),
    /// A signed provenance, by its sha256. Leaves name it.
    Provenance(Sha256),
}

/// The prefix of the log's objects.
pub const TLOG: &str = "tlog/";
/// The part of a staged batch's path behind that.
const STAGED: &str = "staged/";
/// The same of provenance.
const PROVENANCE: &str = "provenance/";

impl fmt::Display for LogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogName::Tile(tile) => write!(f, "{TLOG}{tile}"),
            LogName::Staged(name) => write!(f, "{TLOG}{STAGED}{name}"),
            LogName::Provenance(sha256) => write!(f, "{TLOG}{PROVENANCE}{sha256}"),
        }
    }
}
