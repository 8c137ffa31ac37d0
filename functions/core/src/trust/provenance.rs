//! Provenance: who has built an artifact, how, and from what, as an in-toto Statement v1 with SLSA v1 provenance, in a DSSE
//! envelope that the key of artifacts signs.
//!
//! A statement is about the contents of one build, as many as fit into the message that a signer signs; a build with more
//! has several statements. It names the nixpkgs, the derivation (whose hash commits to all inputs), and by their digests
//! the build's materials and SBOM, which have the long lists. It has no time and no attempt: what is built twice with
//! equal results has one provenance.
//!
//! The service makes and signs it, apart from the builder. The contents' digests are those that the signer has read. That these
//! bytes are a result of that derivation, and what the materials say, is the builder's word. SLSA's build level follows from
//! that ([`Level`]), and is a matter of the deployment: each has its own builder id.

use std::{collections::BTreeMap, fmt};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::{
    build::{policy::Policy, protocol::Nixpkgs},
    id::key::{BuildKey, Product, Sha256},
    nixpkgs::pins::Source,
    objects::{artifact::Manifest, materials::Builder},
    ports::MESSAGE_MAX,
    trust::{
        leaf::{Artifact, Form},
        minisign::PublicKey,
        note::{BadNote, Verify},
    },
};

/// The type of the payload.
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// The media type of an envelope.
pub const MEDIA_TYPE: &str = "application/vnd.in-toto.provenance+dsse";

/// SLSA's build level, version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Provenance exists: builds run on the machine that has the keys.
    One,
    /// The provenance is made and signed by a service whose keys no build reaches.
    Two,
}

impl Level {
    /// That of a deployment. Builds that share a Nix store run on the machine with the keys.
    pub fn of(policy: &Policy) -> Level {
        if policy.shared_store { Level::One } else { Level::Two }
    }

    /// The fragment of the trust page that describes builders of this level: a part of their id.
    pub fn fragment(self) -> &'static str {
        match self {
            Level::One => "builder-on-one-machine",
            Level::Two => "builder-in-tasks",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::One => "Build L1",
            Level::Two => "Build L2",
        })
    }
}

/// What there is to state of a build.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The service.
    pub origin: &'a str,
    /// The level that it reaches.
    pub level: Level,
    /// The build.
    pub key: &'a BuildKey,
    /// The location of its nixpkgs, if that is known still.
    pub nixpkgs: Option<&'a Source>,
    /// Its manifest.
    pub manifest: &'a Manifest,
    /// What has built it.
    pub builder: &'a Builder,
    /// The sha256 of `materials.json`.
    pub materials: &'a Sha256,
    /// The sha256 of `sbom.json`.
    pub sbom: &'a Sha256,
}

/// A statement, as the bytes that are signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The contents that it is about.
    pub contents: Vec<Sha256>,
    /// Its JSON.
    pub payload: String,
}

impl Facts<'_> {
    /// The statements on these artifacts. Each content is in one of them, by the name of its first artifact.
    pub fn statements(&self, artifacts: &[Artifact]) -> Vec<Statement> {
        let mut names = BTreeMap::new();
        for artifact in artifacts {
            names.entry(&artifact.content.sha256).or_insert_with(|| self.name(artifact));
        }
        let mut left: Vec<(String, &Sha256)> = names.into_iter().map(|(sha256, name)| (name, sha256)).collect();
        left.sort();
        let (mut statements, mut rest) = (Vec::new(), left.as_slice());
        while !rest.is_empty() {
            // One that does not fit even alone is too long: the signer leaves it out.
            let fits = |count: &usize| pae(&self.statement(&rest[..*count])).len() <= MESSAGE_MAX;
            let count = (1..=rest.len()).take_while(fits).last().unwrap_or(1);
            let (these, others) = rest.split_at(count);
            let contents = these.iter().map(|(_, sha256)| (*sha256).clone()).collect();
            statements.push(Statement { contents, payload: self.statement(these) });
            rest = others;
        }
        statements
    }

    fn name(&self, artifact: &Artifact) -> String {
        let identity = &artifact.identity;
        match (&identity.program, identity.form) {
            (Some(program), Form::Program) => program.to_string(),
            (Some(program), _) => format!("{program}.bundle"),
            (None, _) => format!("{}.tar.gz", identity.package),
        }
    }

    fn statement(&self, subjects: &[(String, &Sha256)]) -> String {
        let Facts { origin, key, builder, .. } = self;
        let subject = |(name, sha256): &(String, &Sha256)| json!({ "name": name, "digest": { "sha256": sha256 } });
        let materials = json!({
            "name": "materials.json", "digest": { "sha256": self.materials },
            "annotations": { "derivation": self.manifest.drv_path },
        });
        let image = builder.image.iter().map(|image| json!({ "name": "image", "digest": { "sha256": image } }));
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": subjects.iter().map(subject).collect::<Vec<_>>(),
            "predicateType": "https://slsa.dev/provenance/v1",
            "predicate": {
                "buildDefinition": {
                    "buildType": format!("{origin}/-/trust#build-type"),
                    "externalParameters": {
                        "nixpkgs": key.rev, "system": key.system, "package": key.product.attr(), "product": product(&key.product),
                    },
                    "internalParameters": { "derivation": self.manifest.drv_path },
                    "resolvedDependencies": self.nixpkgs().into_iter().chain([materials]).collect::<Vec<_>>(),
                },
                "runDetails": {
                    "builder": {
                        "id": format!("{origin}/-/trust#{}", self.level.fragment()),
                        "version": { "binplz": builder.version, "nix": builder.nix },
                        "builderDependencies": image.collect::<Vec<_>>(),
                    },
                    "byproducts": [{ "name": "sbom.json", "digest": { "sha256": self.sbom } }],
                },
            },
        });
        statement.to_string()
    }

    /// The nixpkgs as a dependency. in-toto has no name for the hash of a NAR, so that is an annotation.
    fn nixpkgs(&self) -> Option<Value> {
        let rev = &self.key.rev;
        let (uri, commit, nar_hash) = match self.nixpkgs? {
            Source::Stored { nar_hash } => {
                ("https://github.com/NixOS/nixpkgs".to_owned(), Some(rev), Some(nar_hash.clone()))
            }
            Source::Elsewhere(Nixpkgs::Tarball { url, nar_hash }) => (url.clone(), Some(rev), nar_hash.clone()),
            // The revision of a directory is the beginning of the sha256 of its NAR.
            Source::Elsewhere(Nixpkgs::Path(path)) => (format!("file://{path}"), None, Some(format!("sha256:{rev}…"))),
        };
        let mut found = json!({ "name": "nixpkgs", "uri": uri });
        if let Some(commit) = commit {
            found["digest"] = json!({ "gitCommit": commit });
        }
        if let Some(nar_hash) = nar_hash {
            found["annotations"] = json!({ "narHash": nar_hash });
        }
        Some(found)
    }
}

fn product(product: &Product) -> &'static str {
    match product {
        Product::Package(_) => "static-package",
        Product::Bundle { full: false, .. } => "bundle",
        Product::Bundle { full: true, .. } => "full-bundle",
        Product::Catalogue => "catalogue",
    }
}

/// What is signed of a statement: DSSE's pre-authentication encoding.
pub fn pae(payload: &str) -> Vec<u8> {
    format!("DSSEv1 {} {PAYLOAD_TYPE} {} {payload}", PAYLOAD_TYPE.len(), payload.len()).into_bytes()
}

/// The DSSE envelope of a statement.
pub fn envelope(payload: &str, by: &PublicKey, signature: &[u8; 64]) -> Vec<u8> {
    let envelope = json!({
        "payload": BASE64_STANDARD.encode(payload), "payloadType": PAYLOAD_TYPE,
        "signatures": [{ "keyid": by.name(), "sig": BASE64_STANDARD.encode(signature) }],
    });
    envelope.to_string().into_bytes()
}

/// What a reader of an envelope compares with the entry of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stated {
    /// The sha256 of each file that the statement is about.
    pub subjects: Vec<Sha256>,
    /// The derivation.
    pub derivation: String,
    /// The sha256 of `sbom.json`.
    pub sbom: Sha256,
}

impl Stated {
    /// The statement in an envelope that one of these keys has signed.
    ///
    /// # Errors
    /// [`BadNote`].
    pub fn open(envelope: &[u8], keys: &[PublicKey], verify: &impl Verify) -> Result<Stated, BadNote> {
        let form = |_| BadNote::Form;
        let decoded =
            |value: &Value| BASE64_STANDARD.decode(value.as_str().unwrap_or_default()).map_err(|_| BadNote::Form);
        let envelope: Value = serde_json::from_slice(envelope).map_err(form)?;
        let payload = String::from_utf8(decoded(&envelope["payload"])?).map_err(|_| BadNote::Form)?;
        let by = |signature: &Value| {
            let bytes: Option<[u8; 64]> = decoded(&signature["sig"]).ok().and_then(|bytes| bytes.try_into().ok());
            bytes.is_some_and(|bytes| keys.iter().any(|key| verify.verify(&key.key, &pae(&payload), &bytes)))
        };
        let signatures = envelope["signatures"].as_array().ok_or(BadNote::Form)?;
        if envelope["payloadType"] != PAYLOAD_TYPE || !signatures.iter().any(by) {
            return Err(BadNote::NotSigned);
        }
        let statement: Value = serde_json::from_str(&payload).map_err(form)?;
        let sha256 = |of: &Value| {
            of["digest"]["sha256"].as_str().and_then(|hex| hex.parse::<Sha256>().ok()).ok_or(BadNote::Form)
        };
        let subjects = statement["subject"].as_array().ok_or(BadNote::Form)?;
        let predicate = &statement["predicate"];
        let derivation = predicate["buildDefinition"]["internalParameters"]["derivation"].as_str();
        let byproducts = predicate["runDetails"]["byproducts"].as_array().ok_or(BadNote::Form)?;
        let sbom = byproducts.iter().find(|one| one["name"] == "sbom.json").ok_or(BadNote::Form)?;
        Ok(Stated {
            subjects: subjects.iter().map(sha256).collect::<Result<_, _>>()?,
            derivation: derivation.ok_or(BadNote::Form)?.to_owned(),
            sbom: sha256(sbom)?,
        })
    }
}
