//! Test vectors of others: the same trees, tiles, proofs and signatures.

use std::{collections::BTreeMap, fs, path::Path};

use base64::{Engine, prelude::BASE64_STANDARD};
use binplz_core::trust::{
    checkpoint::Checkpoint,
    merkle::{Hash, extends, includes, leaf_hash},
    note::{Note, NoteKey, Signature},
    tile::{Edge, TileName, entries},
};
use binplz_signing::{KeyPair, Ring};
use serde_json::Value;

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tlog").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn bytes(value: &Value) -> Vec<u8> {
    BASE64_STANDARD.decode(value.as_str().unwrap_or_default()).expect("base64")
}

/// `None`: it is not a hash.
fn hash(value: &Value) -> Option<Hash> {
    bytes(value).try_into().ok()
}

fn proof(value: &Value) -> Option<Vec<Hash>> {
    value.as_array().map_or(Some(Vec::new()), |hashes| hashes.iter().map(hash).collect())
}

/// Whether the proofs of a file hold, as it says; `None`: something is not even of the form.
fn hold_as_said(file: &str, holds: impl Fn(&Value) -> Option<bool>) {
    let text = fixture(file);
    let cases: Vec<Value> = text.lines().skip(1).map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(cases.len(), 98);
    for case in cases {
        assert_eq!(holds(&case).unwrap_or(false), case["wantErr"] == false, "{case}");
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

#[test]
fn inclusion_proofs_of_another_implementation_hold_and_its_bad_ones_do_not() {
    hold_as_said("inclusion.jsonl", |case| {
        let (root, leaf) = (hash(&case["root"])?, hash(&case["leafHash"])?);
        Some(includes(&root, number(&case["treeSize"]), number(&case["leafIdx"]), &leaf, &proof(&case["proof"])?))
    });
}

#[test]
fn consistency_proofs_of_another_implementation_hold_and_its_bad_ones_do_not() {
    hold_as_said("consistency.jsonl", |case| {
        // Where the sizes alone decide, a root is any text.
        let root = |name: &str| hash(&case[name]).unwrap_or_else(|| leaf_hash(&bytes(&case[name])));
        let (old, new) = (root("root1"), root("root2"));
        Some(extends((number(&case["size1"]), &old), (number(&case["size2"]), &new), &proof(&case["proof"])?))
    });
}

#[test]
fn a_log_of_another_implementation_is_the_one_that_we_write() {
    let log: Value = serde_json::from_str(&fixture("tessera.json")).expect("JSON");
    let key: NoteKey = log["verifier"].as_str().expect("a key").parse().expect("a verifier key");
    assert_eq!(key.to_string(), log["verifier"]);
    let signer = log["signer"].as_str().and_then(|key| key.splitn(5, '+').nth(4)).expect("a key");
    let seed = BASE64_STANDARD.decode(signer).expect("base64")[1..].try_into().expect("a seed");
    let signer = KeyPair::of_seed(&seed);
    assert_eq!(signer.public(), key.key);
    let tiles: BTreeMap<String, Vec<u8>> =
        log["tiles"].as_object().expect("tiles").iter().map(|(name, tile)| (name.clone(), bytes(tile))).collect();
    let last: TileName = "tile/entries/000.p/15".parse().expect("a name");
    let all = entries(&last, &tiles[&last.to_string()]).expect("entries");

    let mut edge = Edge::default();
    let mut checkpoints =
        log["checkpoints"].as_array().expect("checkpoints").iter().map(|note| note.as_str().expect("text"));
    for size in 0..=all.len() {
        if size > 0 {
            for (name, ours) in edge.append([all[size - 1].clone()]) {
                assert_eq!(tiles.get(&name.to_string()), Some(&ours), "{name}");
            }
        }
        let text = Checkpoint { origin: key.name.clone(), size: size as u64, root: edge.root() }.to_string();
        let ours = Note { signatures: vec![Signature::of(&key, &signer.sign(text.as_bytes()))], text };
        let theirs = checkpoints.next().expect("a checkpoint");
        assert_eq!(ours.to_string(), theirs, "{size}");
        assert!(theirs.parse::<Note>().expect("a note").signed_by(std::slice::from_ref(&key), &Ring).is_ok());
    }
    assert_eq!(checkpoints.next(), None);
}

/// signed-note.md of C2SP, "Example".
#[test]
fn the_specifications_example_of_a_signed_note_is_good_and_no_other_text_is() {
    let note = "This is an example message.\n\n\u{2014} example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";
    let key =
        ["example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k".parse().expect("a verifier key")];
    let parsed: Note = note.parse().expect("a note");
    assert_eq!(parsed.to_string(), note);
    assert!(parsed.signed_by(&key, &Ring).is_ok());
    let other: Note = note.replace("an example", "another example").parse().expect("a note");
    assert!(other.signed_by(&key, &Ring).is_err());
    for bad in [
        note.replace("\n\n", "\n"),
        note.trim_end().to_owned(),
        note.replace("\u{2014} ", "- "),
        note.replace("Uw2Q", "Uw2"),
        note.replace("This", "Th\u{1}is"),
        note.replace("example.com/foo U", "example com/foo U"),
    ] {
        assert!(bad.parse::<Note>().is_err(), "{bad}");
    }
    for bad in [
        "example.com/foo+530d903b+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2",
        "+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo",
    ] {
        assert!(bad.parse::<NoteKey>().is_err(), "{bad}");
    }
}
