//! The rows of the transparency log: its head, of which there is one, and what it has of a build.
//!
//! The head is the only place that decides what the log is: a tree is in it before any of its tiles is written, by one
//! compare-and-swap. So two writers cannot fork the log, and one that dies leaves what the next one needs to go on.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    id::{
        key::{BuildKey, LeaseId, Sha256},
        time::Timestamp,
    },
    ports::Unavailable,
    trust::{
        checkpoint::Checkpoint,
        minisign::PublicKey,
        note::{Algorithm, BadNote, Note, NoteKey},
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
