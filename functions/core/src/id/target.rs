//! A request's target: a URL's path and query, parsed once and strictly.
//!
//! A target is not an identity: it may leave out the system, and may name a pin, whose commit changes.
//! [`crate::nixpkgs::pins`] resolves it to a [`crate::id::key::BuildKey`].

use std::{borrow::Cow, fmt, str::FromStr};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::id::{
    key::{Attr, BadName, Bin, NAME_MAX, PinName, Product, System, serde_as_text},
    text::clean_line,
};

/// The characters that a target does not escape: RFC 3986's unreserved ones. So a target can stand in a URL, in a
/// header and between a shell's single quotes.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The subject of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Wanted {
    /// `/NAME`: a package's main program.
    Package(Attr),
    /// `/ATTR/BIN`: one program of a package.
    Program(Attr, Bin),
    /// `/-/archive/ATTR`: a package's archive.
    Archive(Attr),
    /// `/-/bundle/NAME`, `/-/bundle/ATTR/BIN`: one file with a program and all that it needs.
    Bundle {
        /// The package, or the program's name.
        attr: Attr,
        /// The program; `None`: the main one.
        bin: Option<Bin>,
        /// `?full`: with the files that a bundle leaves out otherwise.
        full: bool,
    },
}

/// The part of an archive's path before the package's name.
const ARCHIVE: &str = "-/archive/";
/// The same of a bundle.
const BUNDLE: &str = "-/bundle/";
/// The query of a bundle with all files.
const FULL: &str = "?full";

impl Wanted {
    /// The path of a build's product; a catalogue has none.
    pub fn of(product: &Product) -> Option<Wanted> {
        match product.clone() {
            Product::Package(attr) => Some(Wanted::Package(attr)),
            Product::Bundle { attr, full } => Some(Wanted::Bundle { attr, bin: None, full }),
            Product::Catalogue => None,
        }
    }

    /// The requested package.
    pub fn attr(&self) -> &Attr {
        match self {
            Wanted::Package(attr) | Wanted::Program(attr, _) | Wanted::Archive(attr) | Wanted::Bundle { attr, .. } => {
                attr
            }
        }
    }

    /// The program, if the path names one beside its package.
    fn bin(&self) -> Option<&Bin> {
        match self {
            Wanted::Program(_, bin) | Wanted::Bundle { bin: Some(bin), .. } => Some(bin),
            Wanted::Package(_) | Wanted::Archive(_) | Wanted::Bundle { bin: None, .. } => None,
        }
    }

    /// The product of the build that makes it, of the package `attr` that it means.
    pub fn product(&self, attr: Attr) -> Product {
        match self {
            Wanted::Bundle { full, .. } => Product::Bundle { attr, full: *full },
            Wanted::Package(_) | Wanted::Program(..) | Wanted::Archive(_) => Product::Package(attr),
        }
    }

    /// The same program of this package, in the same form; an archive has none.
    pub fn with(&self, attr: Attr, bin: Bin) -> Option<Wanted> {
        match self {
            Wanted::Package(_) | Wanted::Program(..) => Some(Wanted::Program(attr, bin)),
            Wanted::Bundle { full, .. } => Some(Wanted::Bundle { attr, bin: Some(bin), full: *full }),
            Wanted::Archive(_) => None,
        }
    }

    /// The program itself, if this is its bundle.
    pub fn program(&self) -> Wanted {
        match self.clone() {
            Wanted::Bundle { attr, bin: Some(bin), .. } => Wanted::Program(attr, bin),
            Wanted::Bundle { attr, bin: None, .. } => Wanted::Package(attr),
            wanted => wanted,
        }
    }

    /// The bundle of a program; `None` if this is none.
    pub fn bundle(&self) -> Option<Wanted> {
        match self {
            Wanted::Package(_) | Wanted::Program(..) => {
                Some(Wanted::Bundle { attr: self.attr().clone(), bin: self.bin().cloned(), full: false })
            }
            Wanted::Archive(_) | Wanted::Bundle { .. } => None,
        }
    }

    /// The usual file name for saving it.
    pub fn file_name(&self) -> Cow<'_, str> {
        match self {
            Wanted::Package(attr) => attr.leaf().into(),
            Wanted::Program(_, bin) => bin.as_str().into(),
            Wanted::Archive(attr) => format!("{}.tar.gz", attr.leaf()).into(),
            Wanted::Bundle { attr, bin, .. } => bin.as_ref().map_or(attr.leaf(), Bin::as_str).into(),
        }
    }

    /// Whether it is an archive, which is unpacked, not run.
    pub fn is_archive(&self) -> bool {
        matches!(self, Wanted::Archive(_))
    }

    /// Whether it is a bundle.
    pub fn is_bundle(&self) -> bool {
        matches!(self, Wanted::Bundle { .. })
    }

    /// The name of its form, in JSON.
    pub fn form(&self) -> &'static str {
        match self {
            Wanted::Package(_) | Wanted::Program(..) => "program",
            Wanted::Archive(_) => "archive",
            Wanted::Bundle { .. } => "bundle",
        }
    }

    fn is_full(&self) -> bool {
        matches!(self, Wanted::Bundle { full: true, .. })
    }
}

/// `tree`, `procps/ps`, `-/archive/tree`, `-/bundle/vim?full`: the path without its leading slash, percent-encoded.
impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Wanted::Package(_) | Wanted::Program(..) => "",
            Wanted::Archive(_) => ARCHIVE,
            Wanted::Bundle { .. } => BUNDLE,
        })?;
        write!(f, "{}", utf8_percent_encode(self.attr().as_str(), ENCODED))?;
        if let Some(bin) = self.bin() {
            write!(f, "/{}", utf8_percent_encode(bin.as_str(), ENCODED))?;
        }
        f.write_str(if self.is_full() { FULL } else { "" })
    }
}

serde_as_text!(Wanted, BadTarget);

impl FromStr for Wanted {
    type Err = BadTarget;
    fn from_str(path: &str) -> Result<Self, BadTarget> {
        if let Some(attr) = path.strip_prefix(ARCHIVE) {
            let attr = decode(attr).ok_or(BadTarget::Package(BadName::Character))?;
            return attr.parse().map(Wanted::Archive).map_err(BadTarget::Package);
        }
        if let Some(path) = path.strip_prefix(BUNDLE) {
            let (path, full) = path.strip_suffix(FULL).map_or((path, false), |path| (path, true));
            return match path.parse()? {
                Wanted::Package(attr) => Ok(Wanted::Bundle { attr, bin: None, full }),
                Wanted::Program(attr, bin) => Ok(Wanted::Bundle { attr, bin: Some(bin), full }),
                Wanted::Archive(_) | Wanted::Bundle { .. } => Err(BadTarget::Package(BadName::Start)),
            };
        }
        let (attr, bin) = match path.split_once('/') {
            Some((attr, bin)) => (attr, Some(bin)),
            None => (path, None),
        };
        let attr = decode(attr).ok_or(BadTarget::Package(BadName::Character))?;
        let attr = attr.parse().map_err(|why| match (why, bin) {
            // `/%5B`: a program's name that is not a valid package name.
            (BadName::Start, None) if attr.parse::<Bin>().is_ok() => BadTarget::Unknown,
            _ => BadTarget::Package(why),
        })?;
        let Some(bin) = bin else { return Ok(Wanted::Package(attr)) };
        let bin = decode(bin).ok_or(BadTarget::Program(BadName::Character))?;
        Ok(Wanted::Program(attr, bin.parse().map_err(BadTarget::Program)?))
    }
}

/// The requested nixpkgs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PinRef {
    /// `pin=NAME`.
    Name(PinName),
    /// `nixpkgs-commit=HEX`: 7 to 40 lower-case hex digits, the start of a served pin's revision.
    Commit(String),
}

/// The least digits of a commit prefix.
pub const COMMIT_MIN: usize = 7;

/// A requested program.
/// ```
/// use binplz_core::id::target::{Query, Wanted};
///
/// let query = Query::parse("procps/ps", Some("sys=aarch64-linux&wait"))?;
/// assert!(query.wait && matches!(query.target.wanted, Wanted::Program(_, _)));
/// assert_eq!(query.target.to_string(), "procps/ps?sys=aarch64-linux");
/// assert!(Query::parse("../etc/passwd", None).is_err());
/// # Ok::<(), binplz_core::id::target::BadTarget>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Target {
    /// The package or program.
    pub wanted: Wanted,
    /// The system; `None` is the deployment's.
    pub system: Option<System>,
    /// The nixpkgs; `None` is the default pin.
    pub pin: Option<PinRef>,
}

/// A target, and the client's way to wait for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The target.
    pub target: Target,
    /// `?wait`: hold the answer until the binary is ready ([`crate::id::wait`]).
    pub wait: bool,
    /// `?retry`: while it builds, answer 503 with an empty body, for `curl --retry`.
    pub retry: bool,
    /// `?status`: answer 200 with the status line in every case, for scripts whose client shows no body of an error.
    pub status: bool,
}

/// Why a URL is not a valid target; a sentence for people. It never repeats the input.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BadTarget {
    /// The first component of the path.
    #[error("the package's name {0}")]
    Package(BadName),
    /// The second component of the path.
    #[error("the program's name {0}")]
    Program(BadName),
    /// A valid program name that no package has.
    #[error("there is no such package or program")]
    Unknown,
    /// An unknown parameter.
    #[error("unknown parameter; expected sys, pin, nixpkgs-commit, bundle, full, wait, retry or status")]
    Parameter,
    /// An unknown parameter of a search.
    #[error("unknown parameter; expected q, sys, pin or nixpkgs-commit")]
    SearchParameter,
    /// A parameter given twice, or two that exclude each other.
    #[error("the parameter {0} is given twice")]
    Twice(&'static str),
    /// A parameter's value.
    #[error("the parameter {0} is invalid: {1}")]
    Value(&'static str, &'static str),
}

impl Query {
    /// Whether a query, of any target, has the parameter `status`.
    pub fn has_status(query: Option<&str>) -> bool {
        query.unwrap_or_default().split('&').any(|parameter| parameter.split('=').next() == Some("status"))
    }

    /// Parses a request's path (as on the wire, with or without its leading slash) and query. Percent escapes are
    /// decoded once; a path that a gateway has decoded before gives the same result, since no valid name contains a
    /// `%`.
    ///
    /// # Errors
    /// [`BadTarget`] names the invalid part.
    pub fn parse(path: &str, query: Option<&str>) -> Result<Query, BadTarget> {
        let wanted: Wanted = path.strip_prefix('/').unwrap_or(path).parse()?;
        let target = Target { wanted, system: None, pin: None };
        let mut parsed = Query { target, wait: false, retry: false, status: false };
        let (mut bundle, mut full) = (false, false);
        for pair in query.unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value).unwrap_or_default();
            let Target { system, pin, .. } = &mut parsed.target;
            match name {
                _ if place(name, &value, system, pin)? => {}
                "wait" => flag("wait", &mut parsed.wait, &value)?,
                "retry" => flag("retry", &mut parsed.retry, &value)?,
                "status" => flag("status", &mut parsed.status, &value)?,
                "bundle" => flag("bundle", &mut bundle, &value)?,
                "full" => flag("full", &mut full, &value)?,
                _ => return Err(BadTarget::Parameter),
            }
        }
        let wanted = &mut parsed.target.wanted;
        if bundle && !wanted.is_bundle() {
            *wanted = wanted.bundle().ok_or(BadTarget::Value("bundle", "an archive has no bundle"))?;
        }
        match wanted {
            Wanted::Bundle { full: all, .. } => *all |= full,
            _ if full => return Err(BadTarget::Value("full", "only bundles accept it")),
            _ => {}
        }
        Ok(parsed)
    }
}

/// A search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// A part of a name; may be empty.
    pub text: String,
    /// The system; `None` is the deployment's.
    pub system: Option<System>,
    /// The nixpkgs; `None` is the default pin.
    pub pin: Option<PinRef>,
}

impl Search {
    /// Parses `q=…` as a form sends it, and the parameters that a target has too. The text is sanitised and cut.
    ///
    /// # Errors
    /// [`BadTarget`] names the invalid part.
    pub fn parse(query: Option<&str>) -> Result<Search, BadTarget> {
        let mut parsed = Search { text: String::new(), system: None, pin: None };
        let mut text = None;
        for pair in query.unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(&value.replace('+', "%20")).unwrap_or_default();
            match name {
                "q" => once("q", &mut text, clean_line(&value, NAME_MAX))?,
                // A form sends empty fields too.
                "sys" | "pin" if value.is_empty() => {}
                _ if place(name, &value, &mut parsed.system, &mut parsed.pin)? => {}
                _ => return Err(BadTarget::SearchParameter),
            }
        }
        Ok(Search { text: text.unwrap_or_default(), ..parsed })
    }
}

/// Parses a parameter that names a system or a nixpkgs; false for another parameter.
fn place(name: &str, value: &str, system: &mut Option<System>, pin: &mut Option<PinRef>) -> Result<bool, BadTarget> {
    match name {
        "sys" => {
            let value = value.parse().map_err(|_| BadTarget::Value("sys", "expected x86_64-linux or aarch64-linux"))?;
            once("sys", system, value)?;
        }
        "pin" => {
            let value = value.parse().map_err(|_| BadTarget::Value("pin", "expected the name of a pin"))?;
            once("pin", pin, PinRef::Name(value))?;
        }
        "nixpkgs-commit" => once("nixpkgs-commit", pin, commit(value)?)?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// The target's text, and `retry` if it was given. `wait` is left out: a hop's path implies it.
impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.target)?;
        match (self.retry, self.target.has_query()) {
            (true, true) => write!(f, "&retry"),
            (true, false) => write!(f, "?retry"),
            (false, _) => Ok(()),
        }
    }
}

fn once<T>(name: &'static str, slot: &mut Option<T>, value: T) -> Result<(), BadTarget> {
    if slot.replace(value).is_none() { Ok(()) } else { Err(BadTarget::Twice(name)) }
}

fn flag(name: &'static str, slot: &mut bool, value: &str) -> Result<(), BadTarget> {
    match value {
        "" | "1" | "true" if !*slot => *slot = true,
        "" | "1" | "true" => return Err(BadTarget::Twice(name)),
        _ => return Err(BadTarget::Value(name, "it takes no value")),
    }
    Ok(())
}

fn commit(value: &str) -> Result<PinRef, BadTarget> {
    let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    if (COMMIT_MIN..=40).contains(&value.len()) && value.bytes().all(hex) {
        Ok(PinRef::Commit(value.to_owned()))
    } else {
        Err(BadTarget::Value("nixpkgs-commit", "expected 7 to 40 lower-case hex digits"))
    }
}

/// Decodes percent escapes; `None` if the result is not UTF-8.
fn decode(s: &str) -> Option<String> {
    percent_decode_str(s).decode_utf8().ok().map(|s| s.into_owned())
}

serde_as_text!(Target, BadTarget);

/// Parses its text, with or without a leading slash, without a way to wait.
impl FromStr for Target {
    type Err = BadTarget;
    fn from_str(text: &str) -> Result<Self, BadTarget> {
        let (path, query) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
        match Query::parse(path, query)? {
            Query { target, wait: false, retry: false, status: false } => Ok(target),
            _ => Err(BadTarget::Parameter),
        }
    }
}

impl Target {
    /// The bundle of its program; `None` if it is none.
    pub fn bundle(&self) -> Option<Target> {
        Some(Target { wanted: self.wanted.bundle()?, ..self.clone() })
    }

    /// Whether its canonical text has a query.
    pub fn has_query(&self) -> bool {
        self.system.is_some() || self.pin.is_some() || self.wanted.is_full()
    }
}

/// The canonical text, without a leading slash: `procps/ps?sys=x86_64-linux&pin=unstable`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.wanted)?;
        let mut separator = if self.wanted.is_full() { '&' } else { '?' };
        if let Some(system) = self.system {
            write!(f, "{separator}sys={system}")?;
            separator = '&';
        }
        match &self.pin {
            None => Ok(()),
            Some(PinRef::Name(pin)) => write!(f, "{separator}pin={pin}"),
            Some(PinRef::Commit(commit)) => write!(f, "{separator}nixpkgs-commit={commit}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(url: &str) -> Result<Query, BadTarget> {
        let (path, query) = match url.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (url, None),
        };
        Query::parse(path, query)
    }

    #[test]
    fn targets_are_read_and_printed_in_one_spelling() {
        for (url, canonical) in [
            ("/tree", "tree"),
            ("/tr%65e", "tree"),
            ("/coreutils/%5B", "coreutils/%5B"),
            ("/coreutils/[", "coreutils/%5B"),
            ("/x'", "x%27"),
            ("/libsigc++", "libsigc%2B%2B"),
            ("/procps/ps?pin=unstable&sys=aarch64-linux", "procps/ps?sys=aarch64-linux&pin=unstable"),
            ("/tree?nixpkgs-commit=0ba2543&retry&wait", "tree?nixpkgs-commit=0ba2543"),
            ("/-/bundle/vim?sys=aarch64-linux", "-/bundle/vim?sys=aarch64-linux"),
            ("/-/bundle/vim?sys=aarch64-linux&full", "-/bundle/vim?full&sys=aarch64-linux"),
            ("/vim/xxd?bundle&wait", "-/bundle/vim/xxd"),
            ("/-/bundle/vim?bundle&full", "-/bundle/vim?full"),
        ] {
            assert_eq!(parse(url).map(|q| q.target.to_string()), Ok(canonical.to_owned()), "{url}");
        }
    }

    #[test]
    fn a_search_is_read_as_a_form_sends_it() {
        let text = |query| Search::parse(Some(query)).map(|search| search.text);
        for (query, found) in [
            ("q=tree", "tree"),
            ("q=c%2B%2B", "c++"),
            ("q=google+chrome", "google chrome"),
            ("q=a%1b[31m%E2%80%AE", "a"),
            ("q=", ""),
            ("", ""),
            ("sys=&pin=&q=x", "x"),
        ] {
            assert_eq!(text(query), Ok(found.to_owned()), "{query}");
        }
        assert_eq!(text("q=a&q=b"), Err(BadTarget::Twice("q")));
        assert_eq!(text("q=a&wait"), Err(BadTarget::SearchParameter));
        assert_eq!(text("sys=vax"), Err(BadTarget::Value("sys", "expected x86_64-linux or aarch64-linux")));
    }

    #[test]
    fn a_bad_target_tells_which_part_is_wrong() {
        for (url, why) in [
            ("/", BadTarget::Package(BadName::Empty)),
            ("/a/b/c", BadTarget::Program(BadName::Character)),
            ("/tree/", BadTarget::Program(BadName::Empty)),
            ("//tree", BadTarget::Package(BadName::Empty)),
            ("/%ff", BadTarget::Package(BadName::Character)),
            ("/%5B", BadTarget::Unknown),
            ("/tree?sys=vax", BadTarget::Value("sys", "expected x86_64-linux or aarch64-linux")),
            ("/tree?commit=1", BadTarget::Parameter),
            ("/tree?sys=x86_64-linux&sys=x86_64-linux", BadTarget::Twice("sys")),
            ("/tree?pin=a&nixpkgs-commit=0ba2543", BadTarget::Twice("nixpkgs-commit")),
            (
                "/tree?nixpkgs-commit=0BA2543",
                BadTarget::Value("nixpkgs-commit", "expected 7 to 40 lower-case hex digits"),
            ),
            ("/tree?wait=no", BadTarget::Value("wait", "it takes no value")),
        ] {
            assert_eq!(parse(url), Err(why), "{url}");
        }
    }

    proptest! {
        #[test]
        fn no_input_panics_and_what_is_accepted_is_a_fixed_point(path in ".{0,200}", query in ".{0,80}") {
            if let Ok(q) = Query::parse(&path, Some(&query)) {
                let canonical = q.target.to_string();
                prop_assert_eq!(parse(&canonical).map(|q| q.target), Ok(q.target.clone()));
                let again = parse(&q.to_string());
                prop_assert_eq!(again, Ok(Query { wait: false, status: false, ..q }));
            }
        }

        #[test]
        fn whatever_is_looked_for_is_a_short_line_of_text(query in "(q|sys|pin|%[0-9a-f]{2}|[=&+?]|.){0,200}") {
            if let Ok(search) = Search::parse(Some(&query)) {
                prop_assert!(search.text.chars().count() <= NAME_MAX + 1, "{:?}", search);
                prop_assert_eq!(clean_line(&search.text, NAME_MAX + 1), search.text);
            }
        }

        #[test]
        fn a_canonical_target_is_harmless_in_a_shell_a_header_and_a_url(
            attr in "[A-Za-z_][A-Za-z0-9_+'-]{0,9}(\\.[A-Za-z0-9_+'-]{1,9}){0,3}", bin in "[A-Za-z_\\[][ -~]{0,9}",
        ) {
            if let (Ok(attr), Ok(bin)) = (attr.parse(), bin.parse()) {
                let text = Wanted::Program(attr, bin).to_string();
                prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%/".contains(&b)), "{}", text);
            }
        }
    }
}
