//! The signing key of a binary cache.

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};
use ring::signature::{Ed25519KeyPair, KeyPair};
use sha2::{Digest, Sha256};

/// The key's name, as in Nix's settings and in front of each signature. The name is not part of the signed text.
const NAME: &str = "binplz-1";

/// An Ed25519 key pair.
pub struct Key(Ed25519KeyPair);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.public())
    }
}

impl Key {
    /// Makes the key of 32 random bytes.
    pub fn of_seed(seed: [u8; 32]) -> Key {
        Key(Ed25519KeyPair::from_seed_unchecked(&seed).expect("any 32 bytes are a seed"))
    }

    /// Makes the key of a random text, such as Secrets Manager generates. The same text makes the same key.
    pub fn of_secret(secret: &str) -> Key {
        Key::of_seed(Sha256::digest(secret.as_bytes()).into())
    }

    /// The public key, in the form of Nix's `trusted-public-keys`.
    pub fn public(&self) -> String {
        named(self.0.public_key().as_ref())
    }

    /// Signs a text; the form is that of a narinfo's `Sig`.
    pub fn sign(&self, text: &str) -> String {
        named(self.0.sign(text.as_bytes()).as_ref())
    }
}

fn named(bytes: &[u8]) -> String {
    format!("{NAME}:{}", BASE64_STANDARD.encode(bytes))
}
