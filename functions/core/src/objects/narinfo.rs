//! Narinfo files, `HASH.narinfo`: the metadata of a store path in a Nix binary cache, and the signed text of it.
//!
//! Builders write such files for their offers, and Nix reads those in the cache. A builder's narinfo is not trusted: it
//! is parsed as strictly as this module writes it, with one form for each narinfo, and then compared with its file.

use std::{collections::BTreeMap, fmt, str::FromStr};

use thiserror::Error;

use crate::{
    id::key::{BASE32, BadName, Sha256, StoreHash},
    objects::{artifact::ObjectName, content::Content},
};

/// The longest narinfo, in bytes: one with about five thousand references.
pub const LENGTH_MAX: u64 = 512 << 10;
/// The longest name of a store path behind its hash, in bytes; Nix's limit.
const NAME_MAX: usize = 211;

/// The directory of a Nix store: `/nix/store`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreDir(String);

impl Default for StoreDir {
    /// The default, also in our builders' image.
    fn default() -> StoreDir {
        StoreDir("/nix/store".to_owned())
    }
}

impl FromStr for StoreDir {
    type Err = BadName;
    fn from_str(s: &str) -> Result<Self, BadName> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._+-".contains(&b);
        if s.starts_with('/') && !s.ends_with('/') && s.bytes().all(plain) {
            Ok(StoreDir(s.to_owned()))
        } else {
            Err(BadName::Form)
        }
    }
}

impl fmt::Display for StoreDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A store path without the store's directory: `HASH-tree-2.1.0`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoreName {
    /// Its hash, which identifies it.
    pub hash: StoreHash,
    name: String,
}

impl StoreName {
    /// Its name without the hash.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl FromStr for StoreName {
    type Err = BadName;
    fn from_str(s: &str) -> Result<Self, BadName> {
        let (hash, name) = s.split_once('-').ok_or(BadName::Form)?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"+-._?=".contains(&b);
        if name.is_empty() || name.len() > NAME_MAX || name.starts_with('.') || !name.bytes().all(plain) {
            return Err(BadName::Form);
        }
        Ok(StoreName { hash: hash.parse()?, name: name.to_owned() })
    }
}

impl fmt::Display for StoreName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.hash, self.name)
    }
}

/// A narinfo, without its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Narinfo {
    /// The store path.
    pub path: StoreName,
    /// The packed file.
    pub packed: Content,
    /// Its unpacked content: the path as a Nix archive.
    pub nar: Content,
    /// The store paths that it refers to, sorted by name, each once.
    pub references: Vec<StoreName>,
    /// The derivation that made it.
    pub deriver: Option<StoreName>,
}

/// Why a narinfo is refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BadNarinfo {
    /// A line is missing or malformed.
    #[error("the field {0} is missing or malformed")]
    Field(&'static str),
    /// The text is not in canonical form, or has extra lines.
    #[error("the text is not in canonical form")]
    Form,
}

impl Narinfo {
    /// Parses a narinfo of the store at `dir`. Signatures are ignored: a builder's has no value.
    ///
    /// # Errors
    /// [`BadNarinfo`].
    pub fn parse(text: &str, dir: &StoreDir) -> Result<Narinfo, BadNarinfo> {
        let unsigned: String = text.split_inclusive('\n').filter(|line| !line.starts_with("Sig: ")).collect();
        let fields: BTreeMap<&str, &str> = unsigned.lines().filter_map(|line| line.split_once(": ")).collect();
        let field = |name: &'static str| fields.get(name).copied().ok_or(BadNarinfo::Field(name));
        let wrong = |name| move |_: BadName| BadNarinfo::Field(name);
        let content = |hash, size| {
            let sha256 = field(hash)?.strip_prefix("sha256:").and_then(from_base32).ok_or(BadNarinfo::Field(hash))?;
            Ok(Content { sha256, size: field(size)?.parse().map_err(|_| BadNarinfo::Field(size))? })
        };
        let path = field("StorePath")?.strip_prefix(&format!("{dir}/")).ok_or(BadNarinfo::Field("StorePath"))?;
        let references = field("References")?.split(' ').filter(|name| !name.is_empty()).map(str::parse);
        let deriver = fields.get("Deriver").map(|name| name.parse()).transpose();
        let narinfo = Narinfo {
            path: path.parse().map_err(wrong("StorePath"))?,
            packed: content("FileHash", "FileSize")?,
            nar: content("NarHash", "NarSize")?,
            references: references.collect::<Result<_, _>>().map_err(wrong("References"))?,
            deriver: deriver.map_err(wrong("Deriver"))?,
        };
        let in_order = narinfo.references.windows(2).all(|pair| pair[0] < pair[1]);
        if in_order && narinfo.text(dir) == unsigned { Ok(narinfo) } else { Err(BadNarinfo::Form) }
    }

    /// Its text, for the store at `dir`.
    pub fn text(&self, dir: &StoreDir) -> String {
        let Narinfo { path, packed, nar, .. } = self;
        let names: Vec<_> = self.references.iter().map(ToString::to_string).collect();
        let deriver = self.deriver.as_ref().map_or(String::new(), |deriver| format!("Deriver: {deriver}\n"));
        format!(
            "StorePath: {dir}/{path}\nURL: {}\nCompression: gzip\nFileHash: sha256:{}\nFileSize: {}\nNarHash: sha256:{}\n\
             NarSize: {}\nReferences: {}\n{deriver}",
            ObjectName::Nar(packed.sha256.clone()),
            base32(&packed.sha256),
            packed.size,
            base32(&nar.sha256),
            nar.size,
            names.join(" "),
        )
    }

    /// Its text with a signature of its [`Narinfo::fingerprint`].
    pub fn signed(&self, dir: &StoreDir, signature: &str) -> String {
        format!("{}Sig: {signature}\n", self.text(dir))
    }

    /// The signed text: the path, its content and its references. (Nix's manual calls it the fingerprint.)
    pub fn fingerprint(&self, dir: &StoreDir) -> String {
        let references: Vec<_> = self.references.iter().map(|name| format!("{dir}/{name}")).collect();
        let Content { sha256, size } = &self.nar;
        format!("1;{dir}/{};sha256:{};{size};{}", self.path, base32(sha256), references.join(","))
    }
}

/// A hash in Nix's base 32: five bits a digit, the last bits first.
fn base32(sha256: &Sha256) -> String {
    let bytes = sha256.bytes();
    let bits = |n: usize| {
        let (byte, shift) = (n * 5 / 8, n * 5 % 8);
        let next = bytes.get(byte + 1).copied().unwrap_or(0);
        (u16::from_le_bytes([bytes[byte], next]) >> shift) & 0x1f
    };
    (0..52).rev().map(|n| char::from(BASE32[usize::from(bits(n))])).collect()
}

fn from_base32(digits: &str) -> Option<Sha256> {
    let mut bytes = [0u8; 33];
    if digits.len() != 52 {
        return None;
    }
    for (n, digit) in digits.bytes().rev().enumerate() {
        let value = BASE32.iter().position(|known| *known == digit).and_then(|value| u16::try_from(value).ok())?;
        let (byte, shift) = (n * 5 / 8, n * 5 % 8);
        let [low, high] = (value << shift).to_le_bytes();
        bytes[byte] |= low;
        bytes[byte + 1] |= high;
    }
    // 52 digits have four bits more than a hash.
    let (sha256, more) = bytes.split_first_chunk::<32>()?;
    (more == [0]).then(|| Sha256::from(*sha256))
}

#[cfg(test)]
mod tests;
