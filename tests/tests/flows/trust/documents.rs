//! The documents on a build: what it is made of, its SBOM, and its signed provenance, over the real ledger and store.

use std::{collections::BTreeSet, path::Path};

use base64::{Engine, prelude::BASE64_STANDARD};
use binplz_core::{
    build::protocol::Nixpkgs,
    flow::{
        request::trust,
        schedule::sign::{Signed, sign},
    },
    id::key::{BuildKey, Sha256},
    nixpkgs::pins::Source as NixpkgsSource,
    objects::{
        artifact::{Declared, Manifest, ObjectName},
        content::Content,
        materials::{Builder, Component, HashMode, INPUTS_MAX, Licence, Materials, Source},
    },
    ports::{HasStore, MESSAGE_MAX},
    trust::{
        leaf::{Artifact, Form, Identity, Leaf},
        minisign::{PublicKey, Signature},
        note::{BadNote, Verify},
        provenance::{Facts, Level, Stated, envelope, pae},
        sbom::Sbom,
    },
};
use binplz_signing::{KeyPair, Ring};
use binplz_tests::world::hit;
use serde_json::{Value, json};

use super::log::{built, built_of, entries_of, head, world};

fn component(name: &str, licence: Licence) -> Component {
    Component {
        name: name.into(),
        version: "1.0".into(),
        derivation: format!("/nix/store/{}-{name}-1.0.drv", "0".repeat(32)),
        licences: vec![licence],
        cpe: Some(format!("cpe:2.3:a:{name}:{name}:1.0:*:*:*:*:*:*:*")),
        purl: None,
        sources: vec![
            Source {
                name: format!("{name}-1.0.tar.gz"),
                urls: vec![format!("mirror://gnu/{name}-1.0.tar.gz"), "not a URL".into()],
                rev: None,
                algorithm: "sha256".into(),
                hash: "ab".repeat(32),
                mode: HashMode::Flat,
            },
            Source {
                name: "source".into(),
                urls: vec![format!("https://example.org/{name}.git")],
                rev: Some("v1.0".into()),
                algorithm: "sha256".into(),
                hash: "cd".repeat(32),
                mode: HashMode::Recursive,
            },
        ],
    }
}

/// What a package may be made of, in no order.
pub(crate) fn materials() -> Materials {
    let spdx = |id: &str| Licence::Spdx(id.into());
    Materials {
        builder: Builder { version: "0.2.0".into(), nix: "2.8.0".into(), image: Some(Sha256::of(b"image")) },
        package: component("tree", spdx("GPL-2.0-or-later")),
        linked: vec![
            component("zlib", spdx("Zlib")),
            component("musl", spdx("No-such-licence")),
            component("odd", Licence::Name("Ours\u{1b}[31m, all of\nit".into())),
            component("zlib", spdx("Zlib")),
        ],
        contained: Vec::new(),
        build_time: vec![component("zlib", spdx("Zlib")), component("perl", Licence::Name("Artistic".into()))],
        inputs: vec!["/nix/store/b.drv".into(), "/nix/store/a.drv".into(), "/nix/store/b.drv".into()],
    }
}

#[tokio::test]
async fn a_builds_documents_are_stored_and_signed_and_its_leaf_names_them() {
    let w = world();
    let key = built_of(&w, "tree", &["tree", "tree-too"], Some(materials())).await;
    assert_eq!(sign(&*w, &w.signer, [key]).await, Ok(Signed { builds: 1, entries: 2 }));
    let served = hit(&w, "tree/tree-too").await;
    let stored = async |name| trust::document(&*w, &served, name).await.expect("the store").expect("a document");
    let (sbom, json) = (stored(ObjectName::Sbom).await, stored(ObjectName::Materials).await);
    assert_eq!(serde_json::from_slice::<Materials>(&json).expect("JSON"), materials().cleaned());
    assert_eq!(sbom, Sbom::of(&materials().cleaned()).to_json().expect("JSON"));

    let entry = trust::entry(&*w, &served).await.expect("the log").expect("an entry");
    let leaf: Leaf = entry.text.parse::<Signature>().expect("a signature").comment.parse().expect("a leaf");
    let documents = leaf.documents.expect("documents");
    assert_eq!((leaf.binplz, &documents.sbom), (2, &Sha256::of(&sbom)));
    let envelope = trust::provenance(&*w, &entry).await.expect("the log").expect("provenance");
    assert_eq!(Sha256::of(&envelope), documents.provenance);

    let envelope: Value = serde_json::from_slice(&envelope).expect("JSON");
    let bytes = |value: &Value| BASE64_STANDARD.decode(value.as_str().expect("text")).expect("base64");
    let payload = String::from_utf8(bytes(&envelope["payload"])).expect("text");
    let signature: [u8; 64] = bytes(&envelope["signatures"][0]["sig"]).try_into().expect("64 bytes");
    let signer = head(&w).await.artifact_keys.last().expect("a key").key;
    assert_eq!(envelope["signatures"][0]["keyid"], signer.name());
    assert!(Ring.verify(&signer.key, &pae(&payload), &signature));
    assert!(!Ring.verify(&signer.key, &pae(&payload.replace("tree-too", "tree")), &signature));

    let stated = Stated::open(envelope.to_string().as_bytes(), &[signer], &Ring).expect("a signed statement");
    assert!(stated.subjects.contains(&served.sha256) && stated.sbom == documents.sbom, "{stated:?}");
    assert_eq!(stated.derivation, leaf.derivation);
    let stranger = [PublicKey::of([7; 32])];
    assert_eq!(Stated::open(envelope.to_string().as_bytes(), &stranger, &Ring), Err(BadNote::NotSigned));

    let statement: Value = serde_json::from_str(&payload).expect("JSON");
    let subjects = statement["subject"].as_array().expect("a list");
    assert_eq!(subjects.len(), 2);
    assert!(subjects.iter().any(|one| *one == json!({ "name": "tree-too", "digest": { "sha256": served.sha256 } })));
    let predicate = &statement["predicate"];
    assert_eq!(predicate["runDetails"]["byproducts"][0]["digest"]["sha256"], json!(documents.sbom));
    let dependencies = predicate["buildDefinition"]["resolvedDependencies"].as_array().expect("a list");
    assert_eq!(dependencies.last().expect("materials")["digest"]["sha256"], json!(Sha256::of(&json)));
}

#[tokio::test]
async fn a_build_of_an_earlier_version_is_signed_without_documents() {
    let w = world();
    let key = built(&w, "tree", &["tree"]).await;
    sign(&*w, &w.signer, [key]).await.expect("a signer");
    let served = hit(&w, "tree").await;
    for name in [ObjectName::Sbom, ObjectName::Materials] {
        assert_eq!(trust::document(&*w, &served, name).await, Ok(None));
    }
    let entry = trust::entry(&*w, &served).await.expect("the log").expect("an entry");
    assert_eq!(trust::provenance(&*w, &entry).await, Ok(None));
    let [leaf] = entries_of(&w).await.try_into().expect("one leaf");
    assert_eq!((leaf.binplz, &leaf.documents), (1, &None));
    // The two versions do not mix.
    let other = leaf.to_string().replace("\"binplz\":1", "\"binplz\":2");
    assert!(other.parse::<Leaf>().is_err() && leaf.to_string().parse::<Leaf>().is_ok());
}

#[tokio::test]
async fn materials_that_were_exchanged_are_not_signed_and_their_build_is_made_again() {
    let w = world();
    let key = built_of(&w, "tree", &["tree"], Some(materials())).await;
    let object = w.object("tree", "tree").await.prefix().object(ObjectName::Materials);
    std::fs::write(w.store().file(&object), b"{}").expect("the object's file");
    assert_eq!(sign(&*w, &w.signer, [key.clone()]).await, Ok(Signed::default()));
    assert!(w.build_of(&key).await.is_under_way());
    assert_eq!(entries_of(&w).await, []);
}

#[test]
fn materials_in_any_order_have_one_form_and_foreign_text_in_them_is_harmless() {
    let clean = materials().cleaned();
    let mut other = materials();
    other.linked.reverse();
    other.build_time.reverse();
    other.inputs.reverse();
    other.package.sources.reverse();
    assert_eq!(other.cleaned().to_json().expect("JSON"), clean.to_json().expect("JSON"));
    assert_eq!(clean.clone().cleaned(), clean);
    let names = |list: &[Component]| list.iter().map(|one| one.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&clean.linked), ["musl", "odd", "zlib"]);
    // What is linked is not listed once more.
    assert_eq!(names(&clean.build_time), ["perl"]);
    assert_eq!(clean.linked[1].licences, [Licence::Name("Ours, all of it".into())]);
    assert_eq!(clean.package.sources.iter().map(|source| source.urls.len()).sum::<usize>(), 2);
    let many = Materials { inputs: vec!["/nix/store/a.drv".into(); INPUTS_MAX + 1], ..materials() };
    assert_eq!(many.cleaned().inputs, Vec::<String>::new());
}

#[test]
fn only_licences_that_spdx_lists_are_named_by_an_identifier() {
    let sbom: Value = serde_json::to_value(Sbom::of(&materials().cleaned())).expect("JSON");
    let licences = |n: usize| &sbom["components"][n]["licenses"][0]["license"];
    assert_eq!((&licences(2)["id"], &licences(0)["name"]), (&json!("Zlib"), &json!("No-such-licence")));
    let scopes: Vec<_> = (0..4).map(|n| sbom["components"][n]["scope"].as_str().expect("a scope")).collect();
    assert_eq!(scopes, ["required", "required", "required", "excluded"]);
    // The hash of unpacked files is not one of the URL's content.
    let references = &sbom["metadata"]["component"]["externalReferences"];
    let hashes: Vec<usize> = (0..2).map(|n| references[n]["hashes"].as_array().map_or(0, Vec::len)).collect();
    assert_eq!(hashes.iter().sum::<usize>(), 1, "{references:#}");
}

#[test]
fn what_a_bundle_contains_is_a_component_by_the_name_of_its_store_path() {
    let paths =
        ["a-glibc-2.40-66", "b-source", "c-perl5.40-x-y-1.0_2-dev", "d"].map(|name| format!("/nix/store/{name}"));
    let materials = Materials { contained: paths.to_vec(), linked: Vec::new(), build_time: Vec::new(), ..materials() };
    let sbom: Value = serde_json::to_value(Sbom::of(&materials.cleaned())).expect("JSON");
    let components = sbom["components"].as_array().expect("a list");
    let told: Vec<_> = components.iter().map(|one| (one["name"].as_str(), one["version"].as_str())).collect();
    let expected = [("glibc", Some("2.40-66")), ("source", None), ("perl5.40-x-y", Some("1.0_2-dev")), ("d", None)];
    assert_eq!(told, expected.map(|(name, version)| (Some(name), version)));
    assert!(components.iter().all(|one| one["scope"] == "required" && one["bom-ref"].is_string()));
    assert_eq!(sbom["dependencies"][0]["dependsOn"], json!(paths));
}

/// A build of programs with the longest names.
fn long_build(programs: usize) -> (BuildKey, Manifest, Vec<Artifact>) {
    let package = format!("x{}", "y".repeat(127));
    let key: BuildKey = format!("{}/aarch64-linux/{package}", "0".repeat(40)).parse().expect("a key");
    let manifest = Manifest {
        pname: package.clone(),
        version: "v".repeat(128),
        declared: Declared::default(),
        drv_path: format!("/nix/store/{}-{}.drv", "0".repeat(32), "d".repeat(207)),
        outputs: Vec::new(),
        installed: Vec::new(),
        archive: None,
        bundle: None,
        programs: Vec::new(),
    };
    let artifact = |n: usize| {
        let content = Content::of(n.to_string().as_bytes());
        Artifact {
            identity: Identity {
                package: package.parse().expect("a package"),
                program: Some(format!("{n:0128}").parse().expect("a program")),
                form: Form::Program,
                system: key.system,
                nixpkgs: key.rev.clone(),
            },
            output: None,
            object: ObjectName::Blob(content.sha256.clone()),
            content,
        }
    };
    let artifacts = (0..programs).map(artifact).collect();
    (key, manifest, artifacts)
}

#[test]
fn each_content_is_in_one_statement_and_each_statement_is_short_enough_to_be_signed() {
    let (key, manifest, artifacts) = long_build(100);
    let nixpkgs = NixpkgsSource::Elsewhere(Nixpkgs::Tarball {
        url: format!("https://example.org/{}", "u".repeat(500)),
        nar_hash: Some(format!("sha256-{}", "h".repeat(44))),
    });
    let (builder, digest) = (materials().builder, Sha256::of(b"document"));
    let facts = Facts {
        origin: "https://binplz.example.org:8443",
        level: Level::Two,
        key: &key,
        nixpkgs: Some(&nixpkgs),
        manifest: &manifest,
        builder: &builder,
        materials: &digest,
        sbom: &digest,
    };
    let twice: Vec<Artifact> = artifacts.iter().rev().chain(&artifacts).cloned().collect();
    let statements = facts.statements(&artifacts);
    assert!(statements.len() > 1 && statements.iter().all(|one| pae(&one.payload).len() <= MESSAGE_MAX));
    let contents: Vec<&Sha256> = statements.iter().flat_map(|one| &one.contents).collect();
    assert_eq!((contents.len(), contents.iter().collect::<BTreeSet<_>>().len()), (100, 100));
    // In any order, and with several names for one content, they are the same.
    assert_eq!(facts.statements(&twice), statements);
}

/// The documents on a build that is the same for ever: the SBOM, the envelope, and the key that has signed it.
fn recorded() -> [(&'static str, String); 3] {
    let materials = materials().cleaned();
    let json = materials.to_json().expect("JSON");
    let sbom = Sbom::of(&materials).to_json().expect("JSON");
    let (key, manifest, artifacts) = long_build(2);
    let nixpkgs = NixpkgsSource::Stored { nar_hash: format!("sha256-{}", "h".repeat(43)) };
    let facts = Facts {
        origin: "https://binplz.example.org",
        level: Level::Two,
        key: &key,
        nixpkgs: Some(&nixpkgs),
        manifest: &manifest,
        builder: &materials.builder,
        materials: &Sha256::of(&json),
        sbom: &Sha256::of(&sbom),
    };
    let [statement] = facts.statements(&artifacts).try_into().expect("one statement");
    let pair = KeyPair::of_seed(&[1; 32]);
    let by = PublicKey::of(pair.public());
    let envelope = envelope(&statement.payload, &by, &pair.sign(&pae(&statement.payload)));
    let text = |bytes| String::from_utf8(bytes).expect("text");
    [("sbom.json", text(sbom)), ("provenance.json", text(envelope)), ("key", by.to_string())]
}

/// Changed on purpose, they are accepted by `attest/check` first, and then recorded. It has accepted these by in-toto-attestation
/// 0.9.3 and cyclonedx-python-lib 11.12.0, whose `bom-1.6.SNAPSHOT.schema.json` has the sha256
/// 83821ba49aa366ad1f1d16c34837d05edd010f036f652e310db1c77d57b37c58.
#[test]
fn the_documents_have_the_form_that_independent_validators_have_accepted() {
    let accepted = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/documents");
    for (name, ours) in recorded() {
        let accepted = std::fs::read_to_string(accepted.join(name)).unwrap_or_default();
        assert_eq!(accepted.trim_end(), ours, "{name}");
    }
}
