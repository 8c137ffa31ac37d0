//! Signed notes (c2sp.org/signed-note): text, an empty line, and one signature a line. Whether a signature is good, a
//! [`Verify`] decides: cryptography is at the edges.

use std::{fmt, str::FromStr};

use base64::{Engine, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Most signatures of a note that are read.
pub const SIGNATURES_MAX: usize = 100;
/// Longest note that is read, in bytes.
pub const NOTE_MAX: usize = 1 << 20;

/// What is wrong with a note, a key or what they are about.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BadNote {
    /// It is not of the form.
    #[error("is malformed")]
    Form,
    /// No known key has signed it.
    #[error("has no signature by a known key")]
    NotSigned,
    /// A known key has not made the signature that is there in its name.
    #[error("has a bad signature in the name of {0}")]
    BadSignature(String),
}

/// The algorithm of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// Ed25519, over the note's text.
    Ed25519,
    /// Ed25519 of a witness, over the text and a time (c2sp.org/tlog-cosignature).
    Cosignature,
}

impl Algorithm {
    fn byte(self) -> u8 {
        match self {
            Algorithm::Ed25519 => 1,
            Algorithm::Cosignature => 4,
        }
    }
}

/// The public key of a signer of notes: `NAME+ID+KEY`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NoteKey {
    /// The signer's name. A log's is its origin.
    pub name: String,
    /// What it makes.
    pub algorithm: Algorithm,
    /// The Ed25519 public key.
    pub key: [u8; 32],
}

impl NoteKey {
    /// The first bytes of each of its signatures.
    pub fn id(&self) -> [u8; 4] {
        let hash = Sha256::new()
            .chain_update(self.name.as_bytes())
            .chain_update([b'\n', self.algorithm.byte()])
            .chain_update(self.key)
            .finalize();
        [hash[0], hash[1], hash[2], hash[3]]
    }
}

impl fmt::Display for NoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let typed = [&[self.algorithm.byte()], self.key.as_slice()].concat();
        write!(f, "{}+{:08x}+{}", self.name, u32::from_be_bytes(self.id()), BASE64_STANDARD.encode(typed))
    }
}

impl FromStr for NoteKey {
    type Err = BadNote;
    fn from_str(s: &str) -> Result<Self, BadNote> {
        let (name, rest) = s.split_once('+').ok_or(BadNote::Form)?;
        let (_, typed) = rest.split_once('+').ok_or(BadNote::Form)?;
        let typed = BASE64_STANDARD.decode(typed).map_err(|_| BadNote::Form)?;
        let (algorithm, key) = typed.split_first().ok_or(BadNote::Form)?;
        let algorithm = match algorithm {
            1 => Algorithm::Ed25519,
            4 => Algorithm::Cosignature,
            _ => return Err(BadNote::Form),
        };
        let key = NoteKey { name: name.into(), algorithm, key: key.try_into().map_err(|_| BadNote::Form)? };
        // The id as well, and one form only.
        if is_name(name) && key.to_string() == s { Ok(key) } else { Err(BadNote::Form) }
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '+')
}

/// Checks Ed25519 signatures (RFC 8032).
pub trait Verify {
    /// Whether the key has signed the message.
    fn verify(&self, key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool;
}

/// One signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The signer's name.
    pub name: String,
    /// The key's id.
    pub id: [u8; 4],
    /// What the key has made.
    pub bytes: Vec<u8>,
}

impl Signature {
    /// The signature of an Ed25519 key.
    pub fn of(key: &NoteKey, bytes: &[u8; 64]) -> Signature {
        Signature { name: key.name.clone(), id: key.id(), bytes: bytes.to_vec() }
    }

    /// When a witness has signed, in seconds since 1970, if this is a cosignature by its length.
    pub fn time(&self) -> Option<u64> {
        let (time, signature) = self.bytes.split_first_chunk::<8>()?;
        (signature.len() == 64).then(|| u64::from_be_bytes(*time))
    }

    /// Whether it names this key.
    pub(crate) fn is_by(&self, key: &NoteKey) -> bool {
        self.id == key.id() && self.name == key.name
    }

    fn is_good(&self, text: &str, key: &NoteKey, verify: &impl Verify) -> bool {
        let (message, signature) = match key.algorithm {
            Algorithm::Ed25519 => (text.to_owned(), self.bytes.as_slice()),
            Algorithm::Cosignature => {
                let Some(time) = self.time() else { return false };
                (format!("cosignature/v1\ntime {time}\n{text}"), &self.bytes[8..])
            }
        };
        signature.try_into().is_ok_and(|signature| verify.verify(&key.key, message.as_bytes(), signature))
    }
}

/// A text with its signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The signed text, with its last newline.
    pub text: String,
    /// The signatures.
    pub signatures: Vec<Signature>,
}

impl Note {
    /// The signatures by known keys, all good; at least one.
    ///
    /// # Errors
    /// [`BadNote`]. Signatures by unknown keys are passed over, and one bad signature by a known key rejects the note.
    pub fn signed_by<'a>(
        &self,
        known: &'a [NoteKey],
        verify: &impl Verify,
    ) -> Result<Vec<(&'a NoteKey, &Signature)>, BadNote> {
        let mut signed = Vec::new();
        for signature in &self.signatures {
            let Some(key) = known.iter().find(|key| signature.is_by(key)) else { continue };
            if !signature.is_good(&self.text, key, verify) {
                return Err(BadNote::BadSignature(key.name.clone()));
            }
            signed.push((key, signature));
        }
        if signed.is_empty() { Err(BadNote::NotSigned) } else { Ok(signed) }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| {
            let bytes = [&signature.id, signature.bytes.as_slice()].concat();
            writeln!(f, "\u{2014} {} {}", signature.name, BASE64_STANDARD.encode(bytes))
        })
    }
}

impl FromStr for Note {
    type Err = BadNote;
    fn from_str(s: &str) -> Result<Self, BadNote> {
        let legal = |c: char| c == '\n' || !c.is_ascii_control();
        let end = s.rfind("\n\n").filter(|_| s.len() <= NOTE_MAX && s.ends_with('\n')).ok_or(BadNote::Form)?;
        let (text, lines) = (&s[..=end], &s[end + 2..]);
        if !s.chars().all(legal) || lines.is_empty() {
            return Err(BadNote::Form);
        }
        let signatures: Vec<Signature> = lines.lines().map(signature).collect::<Option<_>>().ok_or(BadNote::Form)?;
        if signatures.len() > SIGNATURES_MAX {
            return Err(BadNote::Form);
        }
        Ok(Note { text: text.into(), signatures })
    }
}

fn signature(line: &str) -> Option<Signature> {
    let (name, bytes) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
    let bytes = BASE64_STANDARD.decode(bytes).ok()?;
    let (id, bytes) = bytes.split_first_chunk::<4>().filter(|(_, bytes)| is_name(name) && !bytes.is_empty())?;
    Some(Signature { name: name.into(), id: *id, bytes: bytes.to_vec() })
}
