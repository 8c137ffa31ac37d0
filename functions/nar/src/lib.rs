//! The files of a Nix binary cache. A builder packs them ([`Packer`]). The promoter measures the uploaded files without
//! trusting them ([`Meter`]), and signs them ([`Key`]). Core has the narinfos (`binplz_core::objects::narinfo`).
//!
//! The compression is gzip: every Nix reads it, and safe Rust unpacks it. Safety matters because the promoter has the signing
//! key, and unpacks untrusted bytes.

mod key;
mod meter;
mod packer;

pub use crate::{key::Key, meter::Meter, packer::Packer};

use std::io::{self, Write};

use binplz_core::objects::content::Content;
use sha2::{Digest, Sha256};

/// Counts and hashes bytes on their way to `to`.
#[derive(Debug)]
struct Counted<W> {
    to: W,
    hasher: Sha256,
    size: u64,
    /// The limit, in bytes.
    most: u64,
}

impl<W> Counted<W> {
    fn new(to: W, most: u64) -> Counted<W> {
        Counted { to, hasher: Sha256::new(), size: 0, most }
    }

    fn content(&self) -> Content {
        let sha256: [u8; 32] = self.hasher.clone().finalize().into();
        Content { sha256: sha256.into(), size: self.size }
    }
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = usize::try_from(self.most - self.size).unwrap_or(usize::MAX);
        if bytes.len() > left {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let written = self.to.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests;
