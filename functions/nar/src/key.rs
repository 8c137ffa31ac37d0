//! Who signs.

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};
use ring::signature::{Ed25519KeyPair, KeyPair};
use sha2::{Digest, Sha256};

/// What the key is called, in Nix's settings and before each signature. It says who signs, and is not part of what is signed.
const NAME: &str = "binplz-1";

/// The cache's key pair.
pub struct Key(Ed25519KeyPair);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.public())
    }
}

impl Key {
    /// Of 32 random bytes.
    pub fn of_seed(seed: [u8; 32]) -> Key {
        Key(Ed25519KeyPair::from_seed_unchecked(&seed).expect("any 32 bytes are a seed"))
    }

    /// Of a random text, as a store of secrets makes them. The same text is the same key.
    pub fn of_secret(secret: &str) -> Key {
        Key::of_seed(Sha256::digest(secret.as_bytes()).into())
    }

    /// As in Nix's `trusted-public-keys`.
    pub fn public(&self) -> String {
        named(self.0.public_key().as_ref())
    }

    /// A signature, as it stands in a narinfo.
    pub fn sign(&self, text: &str) -> String {
        named(self.0.sign(text.as_bytes()).as_ref())
    }
}

fn named(bytes: &[u8]) -> String {
    format!("{NAME}:{}", BASE64_STANDARD.encode(bytes))
}
