//! The result of a build, and the form of every object path. A builder may write only the objects of its own attempt.

use std::{borrow::Cow, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    id::{
        key::{BadName, Bin, BuildKey, LeaseId, NAME_MAX, OutputName, Rev, Sha256, StoreHash, serde_as_text},
        text::clean_line,
    },
    objects::{
        content::Content,
        needs::{self, Need},
    },
};

/// The manifest of one build: `manifest.json` beside its programs. A package may ship hundreds of programs, so this
/// list is in the store, not in a ledger row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The package's name without its version.
    pub pname: String,
    /// The package's version; may be empty.
    pub version: String,
    /// What the attribute says beyond its derivation.
    #[serde(flatten)]
    pub declared: Declared,
    /// The derivation that was realised.
    pub drv_path: String,
    /// The derivation's outputs, in its order. Empty: an earlier version made the manifest, from one output.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<OutputName>,
    /// Those that Nix installs of the whole package (`meta.outputsToInstall`), in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub installed: Vec<OutputName>,
    /// The package's archive ([`crate::id::target::Wanted::Archive`]): a `.tar.gz` of its programs and the files of `share/`. Earlier versions made none, and one that is too
    /// large is not made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<Content>,
    /// Of a bundle: what is in it. Each of its programs is the bundle, which runs the one that it is called by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<Bundled>,
    /// Every program in `bin/` of each output, by name.
    pub programs: Vec<Program>,
}

/// What is in a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundled {
    /// The bytes of its files, once they are unpacked.
    pub unpacked: u64,
    /// Their number.
    pub files: u64,
    /// Whether they are of the static build, and not of nixpkgs' ordinary package.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub of_static: bool,
}

/// What an attribute says beyond its derivation. Two attributes of one derivation may differ in it: `meta` and the choice
/// of an output are no part of a derivation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declared {
    /// `meta.mainProgram`: the program may not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub main_program: Option<String>,
    /// The one output that the attribute stands for (`outputSpecified`), as `dig` does for `dnsutils` of bind. `None`:
    /// the package as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<OutputName>,
}

impl Declared {
    /// The same with all foreign text sanitised.
    pub fn cleaned(self) -> Declared {
        Declared { main_program: self.main_program.map(|name| clean_line(&name, NAME_MAX)), ..self }
    }
}

/// One file in `bin/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Its file name.
    pub bin: Bin,
    /// The output that contains it. `None`: an earlier version made the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<OutputName>,
    /// Whether it can be served.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// The result of the inspection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// A static program for the requested system; it is stored.
    Static {
        /// The file's sha256.
        sha256: Sha256,
        /// The file's size, in bytes.
        size: u64,
        /// Store paths in the program that exist in the built closure.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        leftovers: Vec<String>,
        /// What it needs of them, and of its wrapper. `None`: an earlier version made the manifest.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        needs: Option<Vec<Need>>,
        /// Its name is that of a wrapper, which only sets variables and runs it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        unwrapped: bool,
    },
    /// Not served.
    Refused {
        /// The reason.
        why: Refusal,
    },
}

/// Why a file in `bin/` is not served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// It needs a dynamic linker or shared libraries.
    Dynamic,
    /// It starts with `#!`.
    Script,
    /// It only runs this program of the store, which is not served in its place.
    Wrapper(String),
    /// It is for another machine.
    OtherMachine,
    /// It is a link that leads out of the package's closure.
    OutsideLink,
    /// It is larger than the deployment's limit.
    TooLarge,
    /// It is not a regular, executable ELF file.
    NotAProgram,
}

impl Refusal {
    /// The text follows "`NAME` …".
    pub fn sentence(&self) -> Cow<'static, str> {
        let sentence = match self {
            Refusal::Wrapper(runs) => return format!("is a wrapper that runs {}", clean_line(runs, NAME_MAX)).into(),
            Refusal::Dynamic => "is dynamically linked",
            Refusal::Script => "is a script",
            Refusal::OtherMachine => "is for another machine",
            Refusal::OutsideLink => "is a link that leads out of the package",
            Refusal::TooLarge => "is larger than this service stores",
            Refusal::NotAProgram => "is not an executable program",
        };
        sentence.into()
    }
}

/// The program of a request that names only a package.
#[derive(Debug, PartialEq, Eq)]
pub enum Main<'a, P = &'a Program> {
    /// This one.
    Program(P),
    /// None of its programs is its main one.
    Many,
    /// It declares a main program that it does not ship.
    Missing(&'a str),
    /// It ships no programs.
    None,
}

impl<'a, P: Copy> Main<'a, P> {
    /// The main program of a package: the declared one, else the one named like the package (its attribute's last
    /// component, or its pname), else the only one that Nix installs. `others` are programs of outputs that it does not
    /// install. A declared program that does not exist is ignored if the other rules find one: declarations are wrong at
    /// times, and the client wants the program.
    pub fn of(
        installed: &[P],
        others: &[P],
        name: impl Fn(P) -> &'a Bin,
        declared: Option<&'a str>,
        leaf: &str,
        pname: &str,
    ) -> Main<'a, P> {
        let called = |wanted: &str| installed.iter().chain(others).find(|program| name(**program).as_str() == wanted);
        let by_name = declared.into_iter().chain([leaf, pname]).find_map(called);
        match (by_name, installed, declared) {
            (Some(program), _, _) | (None, [program], _) => Main::Program(*program),
            (None, [], _) if others.is_empty() => Main::None,
            (None, _, Some(declared)) => Main::Missing(declared),
            (None, _, None) => Main::Many,
        }
    }
}

impl Manifest {
    /// The manifest with all foreign text sanitised.
    pub fn cleaned(mut self) -> Manifest {
        for program in &mut self.programs {
            if let Verdict::Static { needs: Some(needs), .. } = &mut program.verdict {
                *needs = needs::cleaned(std::mem::take(needs));
            }
        }
        Manifest {
            pname: clean_line(&self.pname, NAME_MAX),
            version: clean_line(&self.version, NAME_MAX),
            declared: self.declared.cleaned(),
            ..self
        }
    }

    /// The outputs that Nix installs of the attribute, in order.
    pub fn own_outputs(&self) -> &[OutputName] {
        self.declared.output.as_ref().map_or(&self.installed, std::slice::from_ref)
    }

    /// Whether Nix installs a program with the attribute.
    pub fn installs(&self, program: &Program) -> bool {
        program.output.as_ref().is_none_or(|output| self.own_outputs().contains(output))
    }

    /// The output that a Nix command has to name to build a program, if it has to: for an attribute alone, the versions
    /// of Nix build different outputs.
    pub fn selector<'a>(&self, program: &'a Program) -> Option<&'a OutputName> {
        program.output.as_ref().filter(|output| self.outputs.len() > 1 && self.declared.output.as_ref() != Some(output))
    }

    /// The programs by name. If several outputs have one of the same name, the first installed output counts.
    pub fn by_name(&self) -> Vec<&Program> {
        let place = |program: &Program| {
            let place = |output| self.own_outputs().iter().position(|own| own == output).unwrap_or(usize::MAX);
            program.output.as_ref().map_or(0, place)
        };
        let mut programs: Vec<&Program> = self.programs.iter().collect();
        programs.sort_by_key(|program| (&program.bin, place(program)));
        programs.dedup_by_key(|program| &program.bin);
        programs
    }

    /// Whether the file of a program has other names too: it may act by the name that it is called by.
    pub fn has_other_names(&self, program: &Program) -> bool {
        let content = |program: &Program| match &program.verdict {
            Verdict::Static { sha256, .. } => Some(sha256.clone()),
            Verdict::Refused { .. } => None,
        };
        let same = |other: &&Program| other.bin != program.bin && content(other) == content(program);
        content(program).is_some() && self.programs.iter().any(|other| same(&other))
    }

    /// The program of that name.
    pub fn program(&self, name: &str) -> Option<&Program> {
        self.by_name().into_iter().find(|program| program.bin.as_str() == name)
    }

    /// The package's main program; `leaf` is its attribute's last component.
    pub fn main<'a>(&'a self, leaf: &str) -> Main<'a> {
        let (installed, others): (Vec<_>, Vec<_>) =
            self.by_name().into_iter().partition(|program| self.installs(program));
        let declared = self.declared.main_program.as_deref();
        Main::of(&installed, &others, |program| &program.bin, declared, leaf, &self.pname)
    }
}

/// The prefix of the objects of one attempt at one build.
///
/// No two attempts can write the same object, and an object that a redirect leads to is never written again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptPrefix {
    /// The build.
    pub key: BuildKey,
    /// The attempt.
    pub lease: LeaseId,
}

/// `REV/SYSTEM/ATTR/LEASE`.
impl fmt::Display for AttemptPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.key, self.lease)
    }
}

impl FromStr for AttemptPrefix {
    type Err = BadName;
    fn from_str(s: &str) -> Result<Self, BadName> {
        let (key, lease) = s.rsplit_once('/').ok_or(BadName::Form)?;
        Ok(AttemptPrefix { key: key.parse()?, lease: lease.parse()? })
    }
}

impl AttemptPrefix {
    /// The path of one of its objects.
    pub fn object(&self, name: ObjectName) -> ObjectPath {
        ObjectPath { key: self.key.clone(), lease: self.lease.clone(), name }
    }

    /// The common prefix of its objects' paths, and of no others: a directory.
    pub fn objects(&self) -> String {
        format!("{BUILDS}{self}/")
    }

    /// The common prefix of its log segments' paths, and of no other objects: a directory.
    pub fn segments(&self) -> String {
        self.objects() + SEGMENTS
    }

    /// The common prefix of the paths of a catalogue's partial files, and of no other objects: a directory.
    pub fn partial(&self) -> String {
        self.objects() + PARTIAL
    }

    /// The common prefix of the paths of its offers to the binary cache, and of no other objects: a directory.
    pub fn quarantine(&self) -> String {
        format!("{QUARANTINE}{self}/")
    }
}

/// The common prefix of the objects of all builds.
pub const BUILDS: &str = "builds/";
/// The common prefix of the blobs: `blobs/SHA256`.
pub const BLOBS: &str = "blobs/";
/// The common prefix of all offers, which are not trusted yet.
pub const QUARANTINE: &str = "quarantine/";
/// The prefix of the shared binary cache.
pub const CACHE: &str = "cache";

/// The part of a log segment's path behind the attempt's prefix.
const SEGMENTS: &str = "log/";
/// The part of a partial catalogue's path behind the attempt's prefix.
const PARTIAL: &str = "partial/";
/// The part of a reference's path behind the attempt's prefix.
pub const REFERENCES: &str = "ref/";
/// The same for an addition.
pub const ADDITIONS: &str = "new/";

/// An object that belongs to one attempt at one build.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ObjectName {
    /// `bin/NAME`: a program, below its attempt's prefix: under its sha256, if it shares no blob. Earlier versions stored
    /// each name of a program so.
    Program(Bin),
    /// `archive.tar.gz`: a package's archive; only in requests for an upload, since it is stored as a blob.
    Archive,
    /// `blob/SHA256`: a program's content, which all attempts with the same content share (`flow/lease/blob.rs`).
    Blob(Sha256),
    /// `ref/SHA256`: an empty object, which keeps a blob for its attempt.
    Reference(Sha256),
    /// `new/SHA256`: an empty object: its attempt was the first to upload a blob.
    Addition(Sha256),
    /// `log/NUMBER`: a segment of the log, numbered from 1; immutable, and removed once the whole log is stored.
    Log(u32),
    /// `log.gz`: the whole log, after its end ([`crate::objects::gzip`]).
    WholeLog,
    /// `manifest.json`: written by the service when the build settles, never by a builder.
    Manifest,
    /// `materials.json`: what the build is made of ([`crate::objects::materials`]); written like the manifest.
    Materials,
    /// `sbom.json`: the same as CycloneDX; written like the manifest.
    Sbom,
    /// `lookup`: a catalogue's names and their meaning.
    Lookup,
    /// `details`: the descriptions of a catalogue's packages.
    Details,
    /// `partial/NUMBER`: a part of a catalogue's checkpoint, numbered from 1; immutable, and removed once the catalogue
    /// is complete, as are the two files of its top level.
    Checkpoint(u32),
    /// `partial/lookup`: the names at the top level of a catalogue, for requests until all of it is there.
    PartialLookup,
    /// `partial/details`: the descriptions of the packages at the top level.
    PartialDetails,
    /// `plan.json`, in the quarantine: the store paths that the attempt may offer to the binary cache. The service
    /// writes it before anything is built; no builder can.
    Plan,
    /// `nar/SHA256.nar.gz`, in the quarantine: a store path's content, packed, under the packed file's hash.
    Nar(Sha256),
    /// `HASH.narinfo`, in the quarantine: a builder's description of a store path ([`crate::objects::narinfo`]).
    Narinfo(StoreHash),
}

impl ObjectName {
    /// Whether it is an offer to the binary cache: it is in the quarantine, and never served.
    pub fn is_offer(&self) -> bool {
        matches!(self, ObjectName::Plan | ObjectName::Nar(_) | ObjectName::Narinfo(_))
    }

    fn root(&self) -> &'static str {
        if self.is_offer() { QUARANTINE } else { BUILDS }
    }

    /// Whether its path ends with this name.
    pub fn is_called(&self, bin: &Bin) -> bool {
        matches!(self, ObjectName::Program(own) if own == bin)
    }

    /// The media type of its content.
    pub fn media_type(&self) -> &'static str {
        match self {
            ObjectName::Program(_)
            | ObjectName::Blob(_)
            | ObjectName::Lookup
            | ObjectName::Details
            | ObjectName::Checkpoint(_)
            | ObjectName::PartialLookup
            | ObjectName::PartialDetails => "application/octet-stream",
            ObjectName::Log(_) | ObjectName::Narinfo(_) | ObjectName::Reference(_) | ObjectName::Addition(_) => {
                "text/plain; charset=utf-8"
            }
            ObjectName::WholeLog | ObjectName::Nar(_) | ObjectName::Archive => "application/gzip",
            ObjectName::Manifest | ObjectName::Materials | ObjectName::Plan => "application/json",
            ObjectName::Sbom => "application/vnd.cyclonedx+json",
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ObjectName::Program(bin) => write!(f, "bin/{bin}"),
            ObjectName::Archive => f.write_str("archive.tar.gz"),
            ObjectName::Blob(sha256) => write!(f, "blob/{sha256}"),
            ObjectName::Reference(sha256) => write!(f, "{REFERENCES}{sha256}"),
            ObjectName::Addition(sha256) => write!(f, "{ADDITIONS}{sha256}"),
            ObjectName::Log(number) => write!(f, "{SEGMENTS}{number:06}"),
            ObjectName::WholeLog => f.write_str("log.gz"),
            ObjectName::Manifest => f.write_str("manifest.json"),
            ObjectName::Materials => f.write_str("materials.json"),
            ObjectName::Sbom => f.write_str("sbom.json"),
            ObjectName::Lookup => f.write_str("lookup"),
            ObjectName::Details => f.write_str("details"),
            ObjectName::Checkpoint(number) => write!(f, "{PARTIAL}{number:06}"),
            ObjectName::PartialLookup => write!(f, "{PARTIAL}lookup"),
            ObjectName::PartialDetails => write!(f, "{PARTIAL}details"),
            ObjectName::Plan => f.write_str("plan.json"),
            ObjectName::Nar(sha256) => write!(f, "nar/{sha256}{NAR}"),
            ObjectName::Narinfo(hash) => write!(f, "{hash}{NARINFO}"),
        }
    }
}

const NAR: &str = ".nar.gz";
const NARINFO: &str = ".narinfo";

impl FromStr for ObjectName {
    type Err = BadName;
    fn from_str(s: &str) -> Result<Self, BadName> {
        let name = match s.split_once('/') {
            Some(("bin", bin)) => ObjectName::Program(bin.parse()?),
            Some(("blob", sha256)) => ObjectName::Blob(sha256.parse()?),
            Some(("ref", sha256)) => ObjectName::Reference(sha256.parse()?),
            Some(("new", sha256)) => ObjectName::Addition(sha256.parse()?),
            Some(("log", number)) => ObjectName::Log(number.parse().map_err(|_| BadName::Form)?),
            Some(("partial", "lookup")) => ObjectName::PartialLookup,
            Some(("partial", "details")) => ObjectName::PartialDetails,
            Some(("partial", number)) => ObjectName::Checkpoint(number.parse().map_err(|_| BadName::Form)?),
            None if s == "archive.tar.gz" => ObjectName::Archive,
            None if s == "log.gz" => ObjectName::WholeLog,
            None if s == "manifest.json" => ObjectName::Manifest,
            None if s == "materials.json" => ObjectName::Materials,
            None if s == "sbom.json" => ObjectName::Sbom,
            None if s == "lookup" => ObjectName::Lookup,
            None if s == "details" => ObjectName::Details,
            None if s == "plan.json" => ObjectName::Plan,
            Some(("nar", file)) => ObjectName::Nar(file.strip_suffix(NAR).ok_or(BadName::Form)?.parse()?),
            None if s.ends_with(NARINFO) => ObjectName::Narinfo(s.trim_end_matches(NARINFO).parse()?),
            _ => return Err(BadName::Form),
        };
        // Each name has one form; any other is refused.
        if name.to_string() == s { Ok(name) } else { Err(BadName::Form) }
    }
}

serde_as_text!(ObjectName, BadName);

/// An object's path: `builds/REV/SYSTEM/ATTR/LEASE/NAME`, its [`AttemptPrefix`] and its name; below `quarantine/` for
/// an offer.
///
/// ```
/// use binplz_core::objects::artifact::{AttemptPrefix, ObjectName, ObjectPath};
///
/// let attempt = "34268251cf5547d39063f2c5ea9a196246f7f3a6/x86_64-linux/procps/0123456789abcdef0123456789abcdef";
/// let path = attempt.parse::<AttemptPrefix>()?.object(ObjectName::Program("ps".parse()?));
/// assert_eq!(path.to_string(), format!("builds/{attempt}/bin/ps"));
/// assert!(format!("builds/{attempt}/bin/../ps").parse::<ObjectPath>().is_err());
/// # Ok::<(), binplz_core::id::key::BadName>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectPath {
    /// The build.
    pub key: BuildKey,
    /// The attempt.
    pub lease: LeaseId,
    /// The object's name.
    pub name: ObjectName,
}

impl ObjectPath {
    /// The prefix of its attempt's objects.
    pub fn prefix(&self) -> AttemptPrefix {
        AttemptPrefix { key: self.key.clone(), lease: self.lease.clone() }
    }

    /// The key of its bytes in the store: the path itself, and `blobs/SHA256` for a blob.
    pub fn location(&self) -> String {
        match &self.name {
            ObjectName::Blob(sha256) => blob_path(sha256),
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for ObjectPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}/{}/{}", self.name.root(), self.key, self.lease, self.name)
    }
}

impl FromStr for ObjectPath {
    type Err = BadName;
    fn from_str(s: &str) -> Result<Self, BadName> {
        let mut parts = s.splitn(6, '/');
        let mut next = || parts.next().ok_or(BadName::Form);
        let root = next()?;
        let key = BuildKey { rev: next()?.parse()?, system: next()?.parse()?, product: next()?.parse()? };
        let path = ObjectPath { key, lease: next()?.parse()?, name: next()?.parse()? };
        if path.name.root().strip_suffix('/') == Some(root) { Ok(path) } else { Err(BadName::Form) }
    }
}

serde_as_text!(ObjectPath, BadName);

/// The key of a blob's bytes in the store: `blobs/SHA256`.
pub fn blob_path(sha256: &Sha256) -> String {
    format!("{BLOBS}{sha256}")
}

/// A file of the shared binary cache: `cache/NAME`, in Nix's form. Only the promoter writes it
/// ([`crate::flow::schedule::promote`]), and only once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CacheName {
    /// `nix-cache-info`: the store directory of its paths.
    Info,
    /// `public-key`: its public key, in the form of Nix's `trusted-public-keys`.
    PublicKey,
    /// `HASH.narinfo`: a store path.
    Narinfo(StoreHash),
    /// `nar/SHA256.nar.gz`: its content.
    Nar(Sha256),
}

impl CacheName {
    /// Parses a path; `None` if it is not one of these files.
    pub fn at(path: &str) -> Option<CacheName> {
        let rest = path.strip_prefix(CACHE)?.strip_prefix('/')?;
        let name = match rest {
            "nix-cache-info" => CacheName::Info,
            "public-key" => CacheName::PublicKey,
            _ => match rest.parse().ok()? {
                ObjectName::Narinfo(hash) => CacheName::Narinfo(hash),
                ObjectName::Nar(sha256) => CacheName::Nar(sha256),
                _ => return None,
            },
        };
        Some(name)
    }
}

impl fmt::Display for CacheName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CacheName::Info => write!(f, "{CACHE}/nix-cache-info"),
            CacheName::PublicKey => write!(f, "{CACHE}/public-key"),
            CacheName::Narinfo(hash) => write!(f, "{CACHE}/{hash}{NARINFO}"),
            CacheName::Nar(sha256) => write!(f, "{CACHE}/nar/{sha256}{NAR}"),
        }
    }
}
/// The common prefix of all nixpkgs tarballs, and of their databases of programs.
pub const NIXPKGS: &str = "nixpkgs/";

/// The path of a nixpkgs tarball: `nixpkgs/REV.tar.gz`. Operators upload it; no build can.
pub fn nixpkgs_path(rev: &Rev) -> String {
    format!("{NIXPKGS}{rev}.tar.gz")
}

/// Parses such a path; `None` if it is another.
pub fn nixpkgs_at(path: &str) -> Option<Rev> {
    path.strip_prefix(NIXPKGS)?.strip_suffix(".tar.gz")?.parse().ok()
}

/// The path of a database of programs: `nixpkgs/SHA256.sqlite`. Operators upload it; no build can.
pub fn programs_path(sha256: &Sha256) -> String {
    format!("{NIXPKGS}{sha256}.sqlite")
}

/// Parses such a path; `None` if it is another.
pub fn programs_at(path: &str) -> Option<Sha256> {
    path.strip_prefix(NIXPKGS)?.strip_suffix(".sqlite")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(main: Option<&str>, programs: &[&str]) -> Manifest {
        let program = |name: &&str| Program {
            bin: name.parse().expect("a program's name"),
            output: None,
            verdict: Verdict::Refused { why: Refusal::Script },
        };
        Manifest {
            pname: "gnugrep".into(),
            version: "3.8".into(),
            declared: Declared { main_program: main.map(str::to_owned), output: None },
            drv_path: "/nix/store/x.drv".into(),
            outputs: Vec::new(),
            installed: Vec::new(),
            archive: None,
            bundle: None,
            programs: programs.iter().map(program).collect(),
        }
    }

    #[test]
    fn the_main_program_is_the_declared_else_the_namesake_else_the_only_one() {
        let name = |m: &Manifest| match m.main("gnugrep") {
            Main::Program(p) => p.bin.to_string(),
            other => format!("{other:?}"),
        };
        assert_eq!(name(&manifest(Some("grep"), &["egrep", "grep", "gnugrep"])), "grep");
        assert_eq!(name(&manifest(None, &["egrep", "gnugrep"])), "gnugrep");
        assert_eq!(name(&manifest(None, &["egrep"])), "egrep");
        assert_eq!(name(&manifest(Some("fgrep"), &["egrep"])), "egrep");
        assert_eq!(name(&manifest(Some("fgrep"), &["egrep", "grep"])), "Missing(\"fgrep\")");
        assert_eq!(name(&manifest(None, &["egrep", "grep"])), "Many");
        assert_eq!(name(&manifest(Some("grep"), &[])), "None");
    }

    /// bind's programs, with a `host` in two outputs.
    fn bind(declared: Declared) -> Manifest {
        let output = |name: &str| name.parse::<OutputName>().expect("an output's name");
        let program =
            |(bin, of): (&str, &str)| Program { output: Some(output(of)), ..manifest(None, &[bin]).programs.remove(0) };
        let programs =
            [("dig", "dnsutils"), ("host", "dnsutils"), ("host", "host"), ("isc-config", "dev"), ("named", "out")];
        Manifest {
            pname: "bind".into(),
            declared,
            outputs: ["out", "dev", "dnsutils", "host"].map(output).into(),
            installed: ["out", "host"].map(output).into(),
            programs: programs.map(program).into(),
            ..manifest(None, &[])
        }
    }

    #[test]
    fn an_attributes_own_output_comes_first_then_those_that_nix_installs_then_all_others() {
        let asked = |main: Option<&str>, output: Option<&str>, leaf: &str, name: &str| {
            let output = output.map(|name| name.parse().expect("an output's name"));
            let manifest = bind(Declared { main_program: main.map(str::to_owned), output });
            let shown = |program: &Program| format!("{}/{}", program.output.as_ref().expect("an output"), program.bin);
            let main = match manifest.main(leaf) {
                Main::Program(program) => shown(program),
                other => format!("{other:?}"),
            };
            (main, manifest.program(name).map(shown).unwrap_or_default())
        };
        let told = |main: &str, program: &str| (main.to_owned(), program.to_owned());
        assert_eq!(asked(None, None, "bind", "host"), told("Many", "host/host"));
        assert_eq!(asked(Some("named"), None, "bind", "dig"), told("out/named", "dnsutils/dig"));
        assert_eq!(asked(Some("dig"), Some("dnsutils"), "dig", "host"), told("dnsutils/dig", "dnsutils/host"));
        assert_eq!(asked(None, Some("host"), "x", "dig"), told("host/host", "dnsutils/dig"));
        // Its name, or what it declares, is found in an output that is not installed too; the only program is not.
        assert_eq!(asked(None, None, "dig", "dig"), told("dnsutils/dig", "dnsutils/dig"));
        assert_eq!(asked(None, Some("man"), "x", "named"), told("Many", "out/named"));
    }

    #[test]
    fn a_manifest_of_an_earlier_version_has_programs_of_one_output_all_installed() {
        let json = r#"{"pname":"x","version":"1","main_program":"b","drv_path":"/x.drv","programs":[
            {"bin":"a","verdict":"refused","why":"script"},{"bin":"b","verdict":"refused","why":"dynamic"}]}"#;
        let manifest: Manifest = serde_json::from_str(json).expect("a manifest");
        assert!(manifest.programs.iter().all(|program| manifest.installs(program)));
        assert!(matches!(manifest.main("x"), Main::Program(program) if program.bin.as_str() == "b"));
        let rewritten = serde_json::to_value(&manifest).expect("JSON");
        assert_eq!(rewritten, serde_json::from_str::<serde_json::Value>(json).expect("JSON"));
    }

    #[test]
    fn a_file_of_the_cache_is_known_by_its_path() {
        let (sha256, hash) = ("a".repeat(64), "b".repeat(32));
        for name in ["nix-cache-info", "public-key", &format!("{hash}.narinfo"), &format!("nar/{sha256}.nar.gz")] {
            let path = format!("cache/{name}");
            assert_eq!(CacheName::at(&path).map(|name| name.to_string()), Some(path));
        }
        for path in
            ["cache", "cache/", "cache/x", "cache/plan.json", "cache/log.gz", "cachenix-cache-info", "public-key"]
        {
            assert_eq!(CacheName::at(path), None, "{path}");
        }
    }

    #[test]
    fn an_object_path_has_one_spelling_and_no_way_out() {
        let prefix = format!("builds/{}/x86_64-linux/tree/{}", "0".repeat(40), "1".repeat(32));
        for name in [
            "bin/tree",
            "bin/[",
            "log/000001",
            "log/1000000",
            "log.gz",
            "manifest.json",
            "lookup",
            "details",
            "partial/000001",
            "partial/lookup",
            "partial/details",
        ] {
            let path = format!("{prefix}/{name}");
            assert_eq!(path.parse::<ObjectPath>().map(|p| p.to_string()), Ok(path.clone()));
            assert!(path.replace("builds/", "quarantine/").parse::<ObjectPath>().is_err(), "{path}");
        }
        let (sha256, hash) = ("a".repeat(64), "b".repeat(32));
        for name in ["plan.json".to_owned(), format!("nar/{sha256}.nar.gz"), format!("{hash}.narinfo")] {
            let path = format!("{prefix}/{name}");
            assert!(path.parse::<ObjectPath>().is_err(), "{path}");
            let path = path.replace("builds/", "quarantine/");
            assert_eq!(path.parse::<ObjectPath>().map(|p| p.to_string()), Ok(path));
        }
        for name in [
            &format!("nar/{sha256}"),
            "nar/../x.nar.gz",
            ".narinfo",
            &format!("{hash}.narinfo.narinfo"),
            &format!("../{hash}.narinfo"),
        ] {
            let path = format!("{prefix}/{name}").replace("builds/", "quarantine/");
            assert!(path.parse::<ObjectPath>().is_err(), "{path}");
        }
        for name in [
            "bin/../x",
            "bin/..",
            "bin/a/b",
            "log",
            "log/",
            "log/gz",
            "log/1",
            "log/+00001",
            "log/-1",
            "partial/1",
            "partial/x",
            "partial/",
            "",
            "bin/",
            "manifest.json/",
        ] {
            assert!(format!("{prefix}/{name}").parse::<ObjectPath>().is_err(), "{name}");
        }
    }

    #[test]
    fn what_is_removed_at_a_builds_end_lies_in_directories_of_its_own() {
        // A package and its program may have any name.
        let path = format!("builds/{}/x86_64-linux/log/{}/bin/log", "0".repeat(40), "1".repeat(32));
        let program: ObjectPath = path.parse().expect("a program");
        let prefix = program.prefix();
        let below = |name: &ObjectName| {
            let path = prefix.object(name.clone()).to_string();
            [prefix.segments(), prefix.partial()].map(|directory| path.starts_with(&directory))
        };
        for name in [ObjectName::Log(1), ObjectName::Log(u32::MAX)] {
            assert_eq!(below(&name), [true, false]);
        }
        for name in [ObjectName::Checkpoint(1), ObjectName::PartialLookup, ObjectName::PartialDetails] {
            assert_eq!(below(&name), [false, true]);
        }
        for name in [program.name, ObjectName::WholeLog, ObjectName::Manifest, ObjectName::Lookup, ObjectName::Details]
        {
            assert_eq!(below(&name), [false, false]);
        }
    }
}
