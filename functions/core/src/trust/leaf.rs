//! What an artifact is, in one line: the comment that is signed with it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    id::key::{Attr, BadName, Bin, BuildKey, OutputName, Product, Rev, Sha256, System, hex, serde_as_text},
    nixpkgs::served::Served,
    objects::{
        artifact::{Manifest, ObjectName, Verdict},
        content::Content,
        inventory::Inventory,
    },
    trust::note::BadNote,
};

/// A BLAKE2b-512.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Blake2b(pub [u8; 64]);

impl fmt::Display for Blake2b {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl FromStr for Blake2b {
    type Err = BadName;
    fn from_str(s: &str) -> Result<Self, BadName> {
        let mut bytes = [0; 64];
        if !s.is_ascii() || s.len() != 128 {
            return Err(BadName::Form);
        }
        for (n, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&s[2 * n..2 * n + 2], 16).map_err(|_| BadName::Form)?;
        }
        let value = Blake2b(bytes);
        if value.to_string() == s { Ok(value) } else { Err(BadName::Form) }
    }
}

serde_as_text!(Blake2b, BadName);

/// The form of an artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// A static program.
    Program,
    /// A package's archive.
    Archive,
    /// A bundle.
    Bundle,
    /// A bundle with man pages and headers.
    FullBundle,
}

impl Form {
    /// The form of a build's programs; a catalogue has none.
    fn of(product: &Product) -> Option<Form> {
        match product {
            Product::Package(_) => Some(Form::Program),
            Product::Bundle { full: false, .. } => Some(Form::Bundle),
            Product::Bundle { full: true, .. } => Some(Form::FullBundle),
            Product::Catalogue => None,
        }
    }
}

/// Which artifact it is. No two artifacts that are served at a time have the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// The package.
    pub package: Attr,
    /// The program; an archive has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<Bin>,
    /// The form.
    pub form: Form,
    /// The system.
    pub system: System,
    /// The nixpkgs.
    pub nixpkgs: Rev,
}

/// For people: `procps/ps for x86_64-linux`.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.form {
            Form::Program => {}
            Form::Archive => f.write_str("the archive of ")?,
            Form::Bundle => f.write_str("the bundle of ")?,
            Form::FullBundle => f.write_str("the full bundle of ")?,
        }
        write!(f, "{}", self.package)?;
        self.program.iter().try_for_each(|program| write!(f, "/{program}"))?;
        write!(f, " for {}", self.system)
    }
}

impl Identity {
    /// Whether it is that of a served artifact.
    pub fn is_of(&self, served: &Served) -> bool {
        let key = served.key();
        let archive = served.asked.wanted().is_archive();
        let form = if archive { Some(Form::Archive) } else { Form::of(&key.product) };
        let program = (!archive).then_some(&served.bin);
        let is_it = self.package == served.attr && Some(self.form) == form && self.program.as_ref() == program;
        is_it && self.system == key.system && self.nixpkgs == key.rev
    }
}

/// An artifact, in one line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaf {
    /// The version of this form.
    pub binplz: u32,
    /// Which artifact it is.
    #[serde(flatten)]
    pub identity: Identity,
    /// The package's version; may be empty.
    pub version: String,
    /// The output of the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<OutputName>,
    /// The derivation that made it.
    pub derivation: String,
    /// The file's size, in bytes.
    pub size: u64,
    /// Its sha256.
    pub sha256: Sha256,
    /// Its BLAKE2b-512, which minisign signs.
    pub blake2b: Blake2b,
    /// What documents it. Version 1 has none: its build is from before there were such documents.
    #[serde(flatten)]
    pub documents: Option<Documents>,
}

/// The documents on an artifact, by their sha256.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Documents {
    /// The envelope of its provenance.
    pub provenance: Sha256,
    /// Its build's SBOM.
    pub sbom: Sha256,
}

impl Leaf {
    /// The size and sha256.
    pub fn content(&self) -> Content {
        Content { sha256: self.sha256.clone(), size: self.size }
    }
}

impl fmt::Display for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for Leaf {
    type Err = BadNote;
    fn from_str(s: &str) -> Result<Self, BadNote> {
        let leaf: Leaf = serde_json::from_str(s).map_err(|_| BadNote::Form)?;
        // One form only, so that no field can be hidden from a reader.
        if leaf.binplz == version(leaf.documents.as_ref()) && leaf.to_string() == s {
            Ok(leaf)
        } else {
            Err(BadNote::Form)
        }
    }
}

/// The version of a leaf's form.
fn version(documents: Option<&Documents>) -> u32 {
    if documents.is_some() { 2 } else { 1 }
}

/// An artifact of a build, before its bytes were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// Which one it is.
    pub identity: Identity,
    /// The output of the program.
    pub output: Option<OutputName>,
    /// What its bytes must be.
    pub content: Content,
    /// The object that has them.
    pub object: ObjectName,
}

impl Artifact {
    /// The artifacts of a build that can be served, in the manifest's order, the archive last.
    pub fn of(key: &BuildKey, manifest: &Manifest, inventory: &Inventory) -> Vec<Artifact> {
        let (Some(package), Some(form)) = (key.product.attr(), Form::of(&key.product)) else { return Vec::new() };
        let identity = |program, form| Identity {
            package: package.clone(),
            program,
            form,
            system: key.system,
            nixpkgs: key.rev.clone(),
        };
        let programs = manifest.by_name().into_iter().filter_map(|program| match &program.verdict {
            Verdict::Static { sha256, size, .. } => Some(Artifact {
                identity: identity(Some(program.bin.clone()), form),
                output: program.output.clone(),
                content: Content { sha256: sha256.clone(), size: *size },
                object: inventory.object(&program.bin, sha256),
            }),
            Verdict::Refused { .. } => None,
        });
        let archive = manifest.archive.iter().map(|content| Artifact {
            identity: identity(None, Form::Archive),
            output: None,
            content: content.clone(),
            object: ObjectName::Blob(content.sha256.clone()),
        });
        programs.chain(archive).collect()
    }

    /// Its leaf, once its bytes were read and are what they must be.
    pub fn leaf(self, manifest: &Manifest, blake2b: Blake2b, documents: Option<Documents>) -> Leaf {
        Leaf {
            binplz: version(documents.as_ref()),
            identity: self.identity,
            version: manifest.version.clone(),
            output: self.output,
            derivation: manifest.drv_path.clone(),
            size: self.content.size,
            sha256: self.content.sha256,
            blake2b,
            documents,
        }
    }
}
