//! What the files of a Nix cache are made of. A builder packs ([`Packer`]); whoever promotes looks at what that came to, without
//! believing it ([`Meter`]), and signs ([`Key`]). What a narinfo says is the core's (`binplz_core::objects::narinfo`).
//!
//! gzip, since it is read by every Nix, and unpacked in safe Rust: it is a stranger's bytes that the step with the key unpacks.

mod key;
mod meter;
mod packer;

pub use crate::{key::Key, meter::Meter, packer::Packer};

use std::io::{self, Write};

use binplz_core::objects::narinfo::Content;
use sha2::{Digest, Sha256};

/// Bytes on their way to `to`, looked at.
#[derive(Debug)]
struct Counted<W> {
    to: W,
    hasher: Sha256,
    size: u64,
    /// No more than so many.
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
