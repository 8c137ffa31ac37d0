//! Identities: names that are valid by construction.
//!
//! Every type here has private fields and one constructor (`FromStr`), which serde uses too, so no row, message or
//! request can contain what the constructor refuses. Only validated names reach Nix, an object path or a ledger key.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The longest name, in bytes.
pub const NAME_MAX: usize = 128;
/// The digits of Nix's base 32.
pub const BASE32: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";
/// The most components of an attribute path.
pub const ATTR_PARTS_MAX: usize = 4;

/// Why a name was refused; the text follows "the name …".
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BadName {
    /// The empty string.
    #[error("is empty")]
    Empty,
    /// More than [`NAME_MAX`] bytes.
    #[error("is longer than {NAME_MAX} bytes")]
    TooLong,
    /// A byte outside the alphabet of that kind of name.
    #[error("contains an invalid character")]
    Character,
    /// It does not start with a letter, a digit or `_`.
    #[error("does not start with a letter, a digit or `_`")]
    Start,
    /// `a..b`, `a.`, or a component of dots only.
    #[error("has an empty part")]
    EmptyPart,
    /// More than [`ATTR_PARTS_MAX`] components.
    #[error("has more than {ATTR_PARTS_MAX} parts")]
    Parts,
    /// A component that leads out of the package set (`pkgs*`, `buildPackages`, `builtins`, `__*`).
    #[error("leads to another package set")]
    Reserved,
    /// Not 40 lower-case hex digits, not a known system, or the like.
    #[error("is malformed")]
    Form,
}

/// Makes serde read and write a type as text, through its `FromStr` and `Display`: for `#[serde(try_from = "String",
/// into = "String")]` on the type.
macro_rules! serde_as_text {
    ($type:ty, $error:ty) => {
        impl TryFrom<String> for $type {
            type Error = $error;
            fn try_from(s: String) -> Result<Self, $error> {
                s.parse()
            }
        }
        impl From<$type> for String {
            fn from(value: $type) -> String {
                value.to_string()
            }
        }
    };
}
pub(crate) use serde_as_text;

/// Gives a validated string type its `FromStr`, `Display`, `Debug` and serde, all through `$check`.
macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = BadName;
            fn from_str(s: &str) -> Result<Self, BadName> {
                let check: fn(&str) -> Result<(), BadName> = $check;
                check(s).map(|()| Self(s.to_owned()))
            }
        }
        serde_as_text!($name, BadName);
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }
    };
}

name_type! {
    /// An attribute path below `pkgsStatic`: `tree`, `python3Packages.foo`. At most four components, none of which
    /// leads to another package set.
    ///
    /// ```
    /// use binplz_core::id::key::{Attr, BadName};
    ///
    /// let attr: Attr = "python3Packages.foo".parse()?;
    /// assert_eq!(attr.leaf(), "foo");
    /// assert_eq!("pkgsCross.foo".parse::<Attr>(), Err(BadName::Reserved));
    /// # Ok::<(), BadName>(())
    /// ```
    Attr, check_attr
}
name_type! {
    /// A program's file name in a package's `bin/`: `ps`, `[`, `c++`.
    Bin, check_bin
}
name_type! {
    /// The name of a derivation's output: `out`, `bin`, `dnsutils`. In Nix's alphabet for the names of store paths.
    OutputName, check_output
}
name_type! {
    /// A pin's name: `nixos-26.05`, `unstable`. 1 to 64 of `[a-z0-9.-]`, starting with a letter or a digit.
    PinName, check_plain
}
name_type! {
    /// An API key's public name; the same form as a pin's.
    KeyName, check_plain
}
name_type! {
    /// The revision of a nixpkgs: 40 lower-case hex digits. A git commit or, for a set given as a path, the first 40
    /// digits of the sha256 of its NAR.
    Rev, |s| check_hex(s, 40)
}
name_type! {
    /// The public id of one attempt at one build: 32 random lower-case hex digits. A part of object paths.
    LeaseId, |s| check_hex(s, 32)
}
name_type! {
    /// A sha256 as 64 lower-case hex digits.
    Sha256, |s| check_hex(s, 64)
}
name_type! {
    /// A derivation's identity: the hash in its store path, 32 characters of Nix's base 32.
    DrvHash, check_store_hash
}
name_type! {
    /// A derivation's name without its version: `gcc` of `gcc-13.2.0`. In Nix's alphabet for the names of store paths.
    Pname, |s| check_length(s).and_then(|()| check_alphabet(s, is_store_name))
}
name_type! {
    /// A store path's identity: `HASH` in `/nix/store/HASH-tree-2.1.0`, in the form of [`DrvHash`].
    StoreHash, check_store_hash
}

impl Sha256 {
    /// As bytes.
    pub fn bytes(&self) -> [u8; 32] {
        let digit = |digit: u8| u8::try_from(char::from(digit).to_digit(16).unwrap_or(0)).unwrap_or(0);
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(self.0.as_bytes().chunks(2)) {
            *byte = digit(pair[0]) << 4 | digit(pair[1]);
        }
        bytes
    }
}

/// The digits, as a file's name.
impl From<&Sha256> for Bin {
    fn from(sha256: &Sha256) -> Bin {
        Bin(sha256.0.clone())
    }
}

impl From<[u8; 32]> for Sha256 {
    fn from(bytes: [u8; 32]) -> Sha256 {
        Sha256(hex(&bytes))
    }
}

impl DrvHash {
    /// The hash in `/nix/store/HASH-tree-2.1.0.drv`.
    ///
    /// # Errors
    /// [`BadName`], if that is not a derivation's path.
    pub fn of_path(path: &str) -> Result<DrvHash, BadName> {
        let file = path.strip_suffix(".drv").ok_or(BadName::Form)?.rsplit('/').next().unwrap_or_default();
        file.split_once('-').ok_or(BadName::Form)?.0.parse()
    }
}

impl Pname {
    /// The name without its version, by Nix's rule (`parseDrvName`): a version begins behind the first dash that is not
    /// followed by a letter.
    ///
    /// ```
    /// use binplz_core::id::key::Pname;
    ///
    /// assert_eq!(Pname::of("gcc-wrapper-13.2.0")?.as_str(), "gcc-wrapper");
    /// # Ok::<(), binplz_core::id::key::BadName>(())
    /// ```
    ///
    /// # Errors
    /// [`BadName`], if that is not a derivation's name.
    pub fn of(name: &str) -> Result<Pname, BadName> {
        let bytes = name.as_bytes();
        let end = bytes.windows(2).position(|pair| pair[0] == b'-' && !pair[1].is_ascii_alphabetic());
        name.get(..end.unwrap_or(name.len())).ok_or(BadName::Character)?.parse()
    }
}

impl Attr {
    /// The components of the path, outermost first.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.split('.')
    }

    /// The last component: the package's usual name.
    pub fn leaf(&self) -> &str {
        self.0.rsplit('.').next().unwrap_or(&self.0)
    }
}

fn check_attr(s: &str) -> Result<(), BadName> {
    check_length(s)?;
    check_start(s, |b| b == b'_')?;
    check_alphabet(s, |b| matches!(b, b'_' | b'.' | b'+' | b'\'' | b'-'))?;
    if s.split('.').any(str::is_empty) {
        return Err(BadName::EmptyPart);
    }
    if s.split('.').count() > ATTR_PARTS_MAX {
        return Err(BadName::Parts);
    }
    let leads_out = |p: &str| {
        p.starts_with("pkgs") || p.starts_with("__") || matches!(p, "buildPackages" | "targetPackages" | "builtins")
    };
    if s.split('.').any(leads_out) {
        return Err(BadName::Reserved);
    }
    Ok(())
}

fn check_bin(s: &str) -> Result<(), BadName> {
    check_length(s)?;
    check_start(s, |b| matches!(b, b'_' | b'['))?;
    check_alphabet(s, |b| {
        matches!(b, b'_' | b'.' | b'+' | b'\'' | b'-' | b'[' | b']' | b'@' | b':' | b',' | b'=' | b'~')
    })
}

fn check_output(s: &str) -> Result<(), BadName> {
    check_length(s)?;
    check_start(s, |b| b == b'_')?;
    check_alphabet(s, is_store_name)
}

fn is_store_name(b: u8) -> bool {
    matches!(b, b'_' | b'.' | b'+' | b'-' | b'?' | b'=')
}

fn check_length(s: &str) -> Result<(), BadName> {
    match s.len() {
        0 => Err(BadName::Empty),
        1..=NAME_MAX => Ok(()),
        _ => Err(BadName::TooLong),
    }
}

fn check_start(s: &str, more: fn(u8) -> bool) -> Result<(), BadName> {
    match s.bytes().next() {
        Some(b) if b.is_ascii_alphanumeric() || more(b) => Ok(()),
        _ => Err(BadName::Start),
    }
}

fn check_alphabet(s: &str, more: fn(u8) -> bool) -> Result<(), BadName> {
    if s.bytes().all(|b| b.is_ascii_alphanumeric() || more(b)) { Ok(()) } else { Err(BadName::Character) }
}

fn check_hex(s: &str, digits: usize) -> Result<(), BadName> {
    let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    if s.len() == digits && s.bytes().all(hex) { Ok(()) } else { Err(BadName::Form) }
}

fn check_store_hash(s: &str) -> Result<(), BadName> {
    if s.len() == 32 && s.bytes().all(|b| BASE32.contains(&b)) { Ok(()) } else { Err(BadName::Form) }
}

impl Sha256 {
    /// The sha256 of some bytes.
    pub fn of(content: &[u8]) -> Sha256 {
        use sha2::Digest;
        Sha256(hex(&sha2::Sha256::digest(content)))
    }
}

/// Checks a name that operators choose: 1 to 64 of `[a-z0-9.-]`, starting with a letter or a digit.
fn check_plain(s: &str) -> Result<(), BadName> {
    match s.as_bytes() {
        [] => Err(BadName::Empty),
        [b'.' | b'-', ..] => Err(BadName::Start),
        bytes if bytes.len() > 64 => Err(BadName::TooLong),
        bytes if bytes.iter().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-')) => Ok(()),
        _ => Err(BadName::Character),
    }
}

/// The lower-case hex digits of some bytes.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A system, by Nix's name. A program is for exactly one.
///
/// ```
/// use binplz_core::id::key::System;
///
/// assert_eq!("aarch64-linux".parse(), Ok(System::Aarch64Linux));
/// assert!("aarch64-darwin".parse::<System>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum System {
    /// 64-bit x86 Linux.
    #[serde(rename = "x86_64-linux")]
    X86_64Linux,
    /// 64-bit ARM Linux.
    #[serde(rename = "aarch64-linux")]
    Aarch64Linux,
}

impl System {
    /// All supported systems.
    pub const ALL: [System; 2] = [System::X86_64Linux, System::Aarch64Linux];

    /// Nix's name: `x86_64-linux`.
    pub fn as_str(self) -> &'static str {
        match self {
            System::X86_64Linux => "x86_64-linux",
            System::Aarch64Linux => "aarch64-linux",
        }
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for System {
    type Err = BadName;
    fn from_str(s: &str) -> Result<Self, BadName> {
        System::ALL.into_iter().find(|system| system.as_str() == s).ok_or(BadName::Form)
    }
}

/// The product of a build.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Product {
    /// The programs of a package.
    Package(Attr),
    /// The bundle of a package ([`crate::id::target::Wanted::Bundle`]).
    Bundle {
        /// The package.
        attr: Attr,
        /// With the files that a bundle leaves out otherwise.
        full: bool,
    },
    /// The [catalogue](crate::nixpkgs::catalogue) of all its packages.
    Catalogue,
}

/// The text that stands for a catalogue in place of an attribute: no attribute starts so.
const CATALOGUE: &str = "-catalogue";
/// The text before the attribute of a bundle, and of one with all files.
const BUNDLE: &str = "-bundle.";
const BUNDLE_FULL: &str = "-bundle-full.";

impl Product {
    /// The package of which it is; a catalogue is of none.
    pub fn attr(&self) -> Option<&Attr> {
        match self {
            Product::Package(attr) | Product::Bundle { attr, .. } => Some(attr),
            Product::Catalogue => None,
        }
    }

    /// Under what a build of it claims the derivation `drv`. A package and its bundles may have one derivation, and are
    /// different work.
    pub fn claims(&self, drv: DrvHash) -> DrvHash {
        match self {
            Product::Bundle { full, .. } => {
                let hash = Sha256::of(format!("{} {drv}", before_bundle(*full)).as_bytes());
                DrvHash(hash.bytes().map(|byte| char::from(BASE32[usize::from(byte % 32)])).into_iter().collect())
            }
            Product::Package(_) | Product::Catalogue => drv,
        }
    }
}

fn before_bundle(full: bool) -> &'static str {
    if full { BUNDLE_FULL } else { BUNDLE }
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Product::Package(attr) => attr.fmt(f),
            Product::Bundle { attr, full } => write!(f, "{}{attr}", before_bundle(*full)),
            Product::Catalogue => f.write_str(CATALOGUE),
        }
    }
}

impl FromStr for Product {
    type Err = BadName;
    fn from_str(s: &str) -> Result<Self, BadName> {
        let bundle = |attr: &str, full| attr.parse().map(|attr| Product::Bundle { attr, full });
        match (s.strip_prefix(BUNDLE), s.strip_prefix(BUNDLE_FULL)) {
            (Some(attr), _) => bundle(attr, false),
            (_, Some(attr)) => bundle(attr, true),
            _ if s == CATALOGUE => Ok(Product::Catalogue),
            _ => s.parse().map(Product::Package),
        }
    }
}

serde_as_text!(Product, BadName);

/// The identity of a build: one key has at most one live lease, on any number of machines (single-flight).
///
/// ```
/// use binplz_core::id::key::{BuildKey, Product, System};
///
/// let key: BuildKey = "34268251cf5547d39063f2c5ea9a196246f7f3a6/x86_64-linux/tree".parse()?;
/// assert_eq!(key.system, System::X86_64Linux);
/// assert_eq!(key.product, Product::Package("tree".parse()?));
/// # Ok::<(), binplz_core::id::key::BadName>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BuildKey {
    /// The nixpkgs.
    pub rev: Rev,
    /// The system.
    pub system: System,
    /// The product. It is serialised as `attr`, since once there were only packages.
    #[serde(rename = "attr")]
    pub product: Product,
}

/// `REV/SYSTEM/ATTR`: the form in ledger keys, object paths and the lease endpoint's URLs.
impl fmt::Display for BuildKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.rev, self.system, self.product)
    }
}

impl FromStr for BuildKey {
    type Err = BadName;
    fn from_str(s: &str) -> Result<Self, BadName> {
        let mut parts = s.splitn(3, '/');
        let mut next = || parts.next().ok_or(BadName::Form);
        Ok(BuildKey { rev: next()?.parse()?, system: next()?.parse()?, product: next()?.parse()? })
    }
}

/// A lease's secret: 64 random lower-case hex digits. `Debug` never prints it.
///
/// The ledger stores it as it is: a dispatcher that died between claim and launch must be able to launch the same task
/// with the same parameters again, and a reader of the ledger needs no token.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Token(String);

impl Token {
    /// The secret itself, for the builder that it belongs to.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl FromStr for Token {
    type Err = BadName;
    fn from_str(s: &str) -> Result<Self, BadName> {
        check_hex(s, 64).map(|()| Token(s.to_owned()))
    }
}
impl TryFrom<String> for Token {
    type Error = BadName;
    fn try_from(s: String) -> Result<Self, BadName> {
        s.parse()
    }
}
impl From<Token> for String {
    fn from(t: Token) -> String {
        t.0
    }
}
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}
/// A constant-time comparison.
impl PartialEq for Token {
    fn eq(&self, other: &Token) -> bool {
        self.0.bytes().zip(other.0.bytes()).fold(0, |acc, (a, b)| acc | (a ^ b)) == 0
    }
}
impl Eq for Token {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_that_lead_out_of_the_set_are_refused() {
        for s in ["pkgsStatic.tree", "tree.pkgsCross", "pkgs", "buildPackages.tree", "a.b.__toString", "builtins"] {
            assert_eq!(s.parse::<Attr>(), Err(BadName::Reserved), "{s}");
        }
    }

    #[test]
    fn attributes_have_one_to_four_parts() {
        for s in ["tree", "python3Packages.foo", "a.b.c.d", "_7zz", "7zz", "libsigc++", "x'"] {
            assert!(s.parse::<Attr>().is_ok(), "{s}");
        }
        for (s, why) in [
            ("", BadName::Empty),
            ("a.b.c.d.e", BadName::Parts),
            ("a..b", BadName::EmptyPart),
            ("a.", BadName::EmptyPart),
            (".a", BadName::Start),
            ("-a", BadName::Start),
            ("a^out", BadName::Character),
            ("a b", BadName::Character),
            ("ä", BadName::Start),
        ] {
            assert_eq!(s.parse::<Attr>(), Err(why), "{s}");
        }
        assert_eq!("a".repeat(129).parse::<Attr>(), Err(BadName::TooLong));
    }

    #[test]
    fn a_program_may_be_called_what_real_packages_ship() {
        for s in ["[", "[[", "c++", "x86_64-unknown-linux-musl-gcc", "7z", "perl5.38"] {
            assert!(s.parse::<Bin>().is_ok(), "{s}");
        }
        for s in [".", "..", "-rf", ".tree-wrapped", "a/b", "a b", "a$b", "a\"b", "a`b", "a\\b", "a%b", "a\0"] {
            assert!(s.parse::<Bin>().is_err(), "{s}");
        }
    }

    #[test]
    fn serde_goes_through_the_same_check_as_the_constructor() {
        assert!(serde_json::from_str::<Attr>("\"pkgsStatic.tree\"").is_err());
        assert!(serde_json::from_str::<Sha256>("\"../../etc/passwd\"").is_err());
        assert_eq!(serde_json::to_string(&"tree".parse::<Attr>().ok()).ok().as_deref(), Some("\"tree\""));
    }

    #[test]
    fn a_key_is_read_back_from_its_text() {
        for product in ["a.b", "-catalogue", "-bundle.a.b", "-bundle-full.full.a"] {
            let text = format!("{}/x86_64-linux/{product}", "0".repeat(40));
            assert_eq!(text.parse::<BuildKey>().map(|k| k.to_string()), Ok(text));
        }
        for text in ["-tree", "-bundle.", "-bundle", "-bundle.-bundle.a", "-bundle.-catalogue"] {
            assert!(text.parse::<Product>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_package_and_its_bundles_claim_one_derivation_as_different_work() {
        let drv: DrvHash = "0c8avx37rwvyk1s2x2v7x2hqkxbs3qd4".parse().expect("a hash");
        let claimed = ["tree", "-bundle.tree", "-bundle-full.tree"]
            .map(|product| product.parse::<Product>().expect("a product").claims(drv.clone()));
        assert_eq!(claimed[0], drv);
        assert!(claimed.iter().all(|one| claimed.iter().filter(|other| one == *other).count() == 1));
        assert!(claimed.iter().all(|one| one.as_str().parse() == Ok(one.clone())));
        let other: Product = "-bundle.games.tree".parse().expect("a product");
        assert_eq!(other.claims(drv), claimed[1], "another name of one derivation is the same work");
    }

    #[test]
    fn a_derivation_is_known_by_the_hash_in_its_path() {
        let hash = "0c8avx37rwvyk1s2x2v7x2hqkxbs3qd4";
        let path = format!("/nix/store/{hash}-hello-2.10.drv");
        assert_eq!(DrvHash::of_path(&path).as_ref().map(DrvHash::as_str), Ok(hash));
        for path in [hash, "/nix/store/hello-2.10.drv", &path.replace("0c8", "0e8"), &path.replace(".drv", "")] {
            assert!(DrvHash::of_path(path).is_err(), "{path}");
        }
    }

    #[test]
    fn a_token_never_shows_itself() {
        let token: Token = "ab".repeat(32).parse().expect("64 hex digits");
        assert_eq!(format!("{token:?}"), "Token(…)");
        assert_ne!(token, "ac".repeat(32).parse().expect("64 hex digits"));
    }
}
