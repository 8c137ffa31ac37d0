//! A build's SBOM: its [`Materials`] in the form of CycloneDX 1.6 (JSON).
//!
//! What a static program may contain has the scope `required`, what only builds it `excluded`, and each says that it is
//! declared. A bundle also contains store paths that no package declares. The list is marked incomplete, since no derivation
//! proves it. There is no time and no serial number: equal materials have an equal SBOM.

use serde::Serialize;

use crate::objects::materials::{Component, HashMode, Licence, Materials, Source};

/// All identifiers of the SPDX licence list 3.28: CycloneDX allows others as names only.
const SPDX: &str = include_str!("spdx.txt");

/// A bill of materials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sbom {
    bom_format: &'static str,
    spec_version: &'static str,
    version: u32,
    metadata: Metadata,
    components: Vec<Part>,
    dependencies: Vec<Dependency>,
    compositions: [Composition; 1],
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Metadata {
    lifecycles: [Lifecycle; 1],
    tools: Tools,
    component: Part,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Lifecycle {
    phase: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Tools {
    components: [Part; 2],
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(rename = "bom-ref", skip_serializing_if = "String::is_empty")]
    bom_ref: String,
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    licenses: Vec<Choice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpe: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purl: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    external_references: Vec<Reference>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    properties: Vec<Property>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Choice {
    license: License,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct License {
    #[serde(flatten)]
    by: LicenseBy,
    acknowledgement: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum LicenseBy {
    Id(String),
    Name(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Reference {
    url: String,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    comment: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hashes: Vec<Hash>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Hash {
    alg: &'static str,
    content: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Property {
    name: &'static str,
    value: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Dependency {
    #[serde(rename = "ref")]
    of: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    depends_on: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Composition {
    aggregate: &'static str,
    dependencies: Vec<String>,
}

impl Sbom {
    /// That of clean materials.
    pub fn of(materials: &Materials) -> Sbom {
        let Materials { builder, package, linked, contained, build_time, .. } = materials;
        let tool = |name: &str, version: &String| Part {
            kind: "application",
            name: name.to_owned(),
            version: version.clone(),
            ..Part::default()
        };
        let tools = [tool("binplz-builder", &builder.version), tool("nix", &builder.nix)];
        let one = |component: &Component, kind, scope, how| Part {
            properties: vec![Property { name: "binplz:declared-as", value: String::from(how) }],
            scope: Some(scope),
            ..part(component, kind)
        };
        let linked_parts = linked.iter().map(|component| one(component, "library", "required", "linked"));
        let other_parts = build_time.iter().map(|component| one(component, "library", "excluded", "build-time"));
        let contained_parts = contained.iter().map(|path| one(&of_path(path), "library", "required", "contained"));
        let required = linked.iter().map(|component| &component.derivation).chain(contained);
        let depends_on: Vec<String> = required.cloned().collect();
        Sbom {
            bom_format: "CycloneDX",
            spec_version: "1.6",
            version: 1,
            metadata: Metadata {
                lifecycles: [Lifecycle { phase: "build" }],
                tools: Tools { components: tools },
                component: part(package, "application"),
            },
            components: linked_parts.chain(contained_parts).chain(other_parts).collect(),
            dependencies: vec![Dependency { of: package.derivation.clone(), depends_on }],
            compositions: [Composition { aggregate: "incomplete", dependencies: vec![package.derivation.clone()] }],
        }
    }

    /// As JSON: equal values have equal bytes.
    ///
    /// # Errors
    /// serde's; there is no such value.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }
}

fn part(component: &Component, kind: &'static str) -> Part {
    Part {
        kind,
        bom_ref: component.derivation.clone(),
        name: component.name.clone(),
        version: component.version.clone(),
        scope: None,
        licenses: component.licences.iter().map(license).collect(),
        cpe: component.cpe.clone(),
        purl: component.purl.clone(),
        external_references: component.sources.iter().flat_map(references).collect(),
        properties: Vec::new(),
    }
}

/// A store path in a bundle: its name says what it is, as Nix splits names into name and version.
fn of_path(path: &str) -> Component {
    let base = path.rsplit('/').next().unwrap_or(path);
    let full = base.split_once('-').map_or(base, |(_, name)| name);
    let is_version = |(at, _): &(usize, &str)| full[at + 1..].starts_with(|c: char| !c.is_ascii_alphabetic());
    let (name, version) = match full.match_indices('-').find(is_version) {
        Some((at, _)) => (&full[..at], &full[at + 1..]),
        None => (full, ""),
    };
    Component { name: name.into(), version: version.into(), derivation: path.into(), ..Component::default() }
}

fn license(licence: &Licence) -> Choice {
    let by = match licence {
        Licence::Spdx(id) if SPDX.split_whitespace().any(|known| known == id) => LicenseBy::Id(id.clone()),
        other => LicenseBy::Name(other.text().to_owned()),
    };
    Choice { license: License { by, acknowledgement: "declared" } }
}

/// A reference for each URL of a source. The hash of unpacked files is none of what the URL leads to.
fn references(source: &Source) -> impl Iterator<Item = Reference> + '_ {
    let (hashes, comment) = match (source.mode, algorithm(&source.algorithm)) {
        (HashMode::Flat, Some((alg, digits))) if source.hash.len() == digits => {
            (vec![Hash { alg, content: source.hash.clone() }], String::new())
        }
        _ => (Vec::new(), source.told_hash()),
    };
    source.urls.iter().map(move |url| Reference {
        url: url.clone(),
        kind: "source-distribution",
        comment: comment.clone(),
        hashes: hashes.clone(),
    })
}

/// An algorithm's name in CycloneDX, and the digits of its hashes.
fn algorithm(name: &str) -> Option<(&'static str, usize)> {
    Some(match name {
        "md5" => ("MD5", 32),
        "sha1" => ("SHA-1", 40),
        "sha256" => ("SHA-256", 64),
        "sha512" => ("SHA-512", 128),
        _ => return None,
    })
}
