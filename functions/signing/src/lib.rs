//! Ed25519 keys, and the digests that they sign. Core has the formats of the signed texts (`binplz_core::trust`).

use std::{fmt, io};

use binplz_core::{
    objects::content::Content,
    trust::{leaf::Blake2b, note::Verify},
};
use blake2::Blake2b512;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use sha2::{Digest, Sha256};

/// An Ed25519 key pair.
pub struct KeyPair(Ed25519KeyPair);

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({:02x?})", self.public())
    }
}

impl KeyPair {
    /// Makes the key of 32 random bytes.
    ///
    /// # Panics
    /// Never: any 32 bytes are a seed.
    pub fn of_seed(seed: &[u8; 32]) -> KeyPair {
        KeyPair(Ed25519KeyPair::from_seed_unchecked(seed).expect("any 32 bytes are a seed"))
    }

    /// The public key.
    pub fn public(&self) -> [u8; 32] {
        let mut public = [0; 32];
        public.copy_from_slice(self.0.public_key().as_ref());
        public
    }

    /// Signs a message (RFC 8032).
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.0.sign(message).as_ref());
        signature
    }
}

/// Checks signatures with `ring`.
#[derive(Clone, Copy, Debug)]
pub struct Ring;

impl Verify for Ring {
    fn verify(&self, key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
        UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok()
    }
}

/// Computes all digests of a file in one pass.
#[derive(Clone, Debug, Default)]
pub struct Digester {
    sha256: Sha256,
    blake2b: Blake2b512,
    size: u64,
}

impl Digester {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.blake2b.update(bytes);
        self.size += bytes.len() as u64;
    }

    /// The size, the sha256 and the BLAKE2b-512 of all bytes.
    pub fn finish(self) -> (Content, Blake2b) {
        let sha256: [u8; 32] = self.sha256.finalize().into();
        (Content { sha256: sha256.into(), size: self.size }, Blake2b(self.blake2b.finalize().into()))
    }

    /// The digests of all bytes of a reader.
    ///
    /// # Errors
    /// The reader's.
    pub fn of(mut reader: impl io::Read) -> io::Result<(Content, Blake2b)> {
        let (mut digester, mut piece) = (Digester::default(), vec![0; 1 << 16]);
        loop {
            match reader.read(&mut piece)? {
                0 => return Ok(digester.finish()),
                n => digester.update(&piece[..n]),
            }
        }
    }
}
