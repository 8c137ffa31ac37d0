//! `binplz verify FILE`, `binplz audit HOST` and `binplz reproduce HOST TARGET`: checks that need no trust in the service.

mod audit;
mod documents;
mod host;
mod reproduce;
mod verify;
mod witness;

use std::{fs, io, path::PathBuf};

use binplz_core::trust::{
    head::Keyring,
    leaf::Leaf,
    minisign::{PublicKey, Signature},
    note::{BadNote, NoteKey},
};
use binplz_signing::Ring;
use thiserror::Error;

pub(crate) use audit::{Audit, audit};
pub(crate) use reproduce::{Reproduce, reproduce};
pub(crate) use verify::{Offline, verify};
pub(crate) use witness::cosigned;

/// A check failed, or could not be done.
#[derive(Debug, Error)]
pub(crate) enum CheckError {
    /// The check failed.
    #[error("{0}")]
    Wrong(String),
    /// A file could not be read or written.
    #[error("{}: {cause}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        cause: io::Error,
    },
    /// The service does not answer as expected.
    #[error("{url}: {cause}")]
    Http {
        /// The URL.
        url: String,
        /// The reason.
        cause: String,
    },
}

/// The named thing is malformed, or has no valid signature.
fn wrong(what: &str) -> impl Fn(BadNote) -> CheckError {
    move |bad| CheckError::Wrong(format!("{what} {bad}"))
}

fn read(path: &PathBuf) -> Result<String, CheckError> {
    fs::read_to_string(path).map_err(|cause| CheckError::File { path: path.clone(), cause })
}

fn read_bytes(path: &PathBuf) -> Result<Vec<u8>, CheckError> {
    fs::read(path).map_err(|cause| CheckError::File { path: path.clone(), cause })
}

/// The trusted keys, parsed from the text of `/-/keys`.
struct Trusted {
    artifacts: Vec<PublicKey>,
    log: Vec<NoteKey>,
}

impl Trusted {
    fn parse(text: &str) -> Result<Trusted, CheckError> {
        let keyring: Keyring = text.parse().map_err(wrong("the list of keys"))?;
        Ok(Trusted {
            artifacts: keyring.artifacts.into_iter().map(|dated| dated.key).collect(),
            log: keyring.log.into_iter().map(|dated| dated.key.0).collect(),
        })
    }

    /// The content of a log's entry, if a trusted key has signed it.
    fn leaf(&self, entry: &str) -> Result<Leaf, CheckError> {
        let signature: Signature = entry.parse().map_err(wrong("the signature"))?;
        let leaf: Leaf = signature.comment.parse().map_err(wrong("the signed comment"))?;
        let signed = |key: &PublicKey| signature.is_good(key, &leaf.blake2b.0, &Ring);
        match self.artifacts.iter().any(signed) {
            true => Ok(leaf),
            false => {
                Err(CheckError::Wrong(format!("the signature of {} is not by a trusted artifact key", leaf.identity)))
            }
        }
    }
}
