//! minisign's files (jedisct1/minisign 0.12): a signature of a file's BLAKE2b-512, with a signed comment, and a public key.

use std::{fmt, str::FromStr};

use base64::{Engine, prelude::BASE64_STANDARD};

use serde::{Deserialize, Serialize};

use crate::{
    id::key::serde_as_text,
    trust::note::{BadNote, Verify},
};

/// Longest signed comment, in bytes: minisign 0.11 refuses 8,000.
pub const COMMENT_MAX: usize = 4000;
/// A signature of a file's hash.
const HASHED: &[u8; 2] = b"ED";
/// A public key.
const KEY: &[u8; 2] = b"Ed";
const TRUSTED: &str = "trusted comment: ";
const UNTRUSTED: &str = "untrusted comment: ";

/// A public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey {
    /// What its signatures name it by.
    pub id: [u8; 8],
    /// The Ed25519 key.
    pub key: [u8; 32],
}

impl PublicKey {
    /// The public key of a key of this service. minisign draws ids at random; here it is a part of the key.
    pub fn of(key: [u8; 32]) -> PublicKey {
        let mut id = [0; 8];
        id.copy_from_slice(&key[..8]);
        PublicKey { id, key }
    }

    /// The id as minisign prints it.
    pub fn name(&self) -> String {
        format!("{:016X}", u64::from_le_bytes(self.id))
    }

    /// The content of a `minisign.pub`.
    pub fn file(&self) -> String {
        format!("{UNTRUSTED}minisign public key {}\n{self}\n", self.name())
    }
}

/// The key alone, as for `minisign -P`.
impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_STANDARD.encode([KEY, self.id.as_slice(), &self.key].concat()))
    }
}

impl FromStr for PublicKey {
    type Err = BadNote;
    fn from_str(s: &str) -> Result<Self, BadNote> {
        let bytes = BASE64_STANDARD.decode(s).map_err(|_| BadNote::Form)?;
        let (id, key) = bytes.strip_prefix(KEY).and_then(|rest| rest.split_first_chunk()).ok_or(BadNote::Form)?;
        Ok(PublicKey { id: *id, key: key.try_into().map_err(|_| BadNote::Form)? })
    }
}

serde_as_text!(PublicKey, BadNote);

/// A signature of a file, with its comments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The key's id.
    pub id: [u8; 8],
    /// Of the file's BLAKE2b-512.
    pub file: [u8; 64],
    /// What is signed with it.
    pub comment: String,
    /// Of the signature and the comment.
    pub global: [u8; 64],
}

impl Signature {
    /// The second message to sign: the first signature, and the comment.
    pub fn message(file: &[u8; 64], comment: &str) -> Vec<u8> {
        [file, comment.as_bytes()].concat()
    }

    /// Whether the key has signed the comment, and a file with this BLAKE2b-512.
    pub fn is_good(&self, key: &PublicKey, blake2b: &[u8; 64], verify: &impl Verify) -> bool {
        self.id == key.id
            && verify.verify(&key.key, blake2b, &self.file)
            && verify.verify(&key.key, &Signature::message(&self.file, &self.comment), &self.global)
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = [HASHED, self.id.as_slice(), &self.file].concat();
        writeln!(f, "{UNTRUSTED}signature of binplz\n{}", BASE64_STANDARD.encode(first))?;
        writeln!(f, "{TRUSTED}{}\n{}", self.comment, BASE64_STANDARD.encode(self.global))
    }
}

impl FromStr for Signature {
    type Err = BadNote;
    fn from_str(s: &str) -> Result<Self, BadNote> {
        let decode = |line: Option<&str>| BASE64_STANDARD.decode(line.ok_or(BadNote::Form)?).map_err(|_| BadNote::Form);
        let mut lines = s.lines();
        lines.next().filter(|line| line.starts_with(UNTRUSTED)).ok_or(BadNote::Form)?;
        let first = decode(lines.next())?;
        let comment = lines.next().and_then(|line| line.strip_prefix(TRUSTED)).ok_or(BadNote::Form)?;
        let global = decode(lines.next())?.try_into().map_err(|_| BadNote::Form)?;
        let (id, file) = first.strip_prefix(HASHED).and_then(|rest| rest.split_first_chunk()).ok_or(BadNote::Form)?;
        let file = file.try_into().map_err(|_| BadNote::Form)?;
        if lines.next().is_some() || comment.len() > COMMENT_MAX || comment.chars().any(char::is_control) {
            return Err(BadNote::Form);
        }
        Ok(Signature { id: *id, file, comment: comment.into(), global })
    }
}
