//! What is signed and what signs: notes, checkpoints, proofs, minisign's files, keys, entries, provenance.

use binplz_core::trust::{
    checkpoint::Checkpoint,
    head::Keyring,
    leaf::{Blake2b, Leaf},
    minisign::{self, COMMENT_MAX, PublicKey},
    note::{BadNote, NOTE_MAX, Note, NoteKey, SIGNATURES_MAX, Verify},
    proof::Proof,
    provenance::Stated,
};

use crate::input::{is_line, one_form, one_form_in_json, text};

/// Every signature is good, or none is.
struct Always(bool);

impl Verify for Always {
    fn verify(&self, _: &[u8; 32], _: &[u8], _: &[u8; 64]) -> bool {
        self.0
    }
}

pub(crate) fn check(data: &[u8]) {
    let key = PublicKey::of([7; 32]);
    assert!(Stated::open(data, &[key], &Always(false)).is_err(), "no statement without a signature");
    assert!(Stated::open(data, &[], &Always(true)).is_err(), "no statement without a key");
    let _ = Stated::open(data, &[key], &Always(true));
    let Some(text) = text(data) else { return };
    if let Some(note) = one_form::<Note>(text) {
        signed(&note, text);
    }
    if let Some(key) = one_form::<NoteKey>(text) {
        assert!(!key.name.contains(char::is_whitespace) && !key.name.contains('+'));
    }
    if let Ok(checkpoint) = text.parse::<Checkpoint>() {
        let printed = checkpoint.to_string();
        assert!(text.starts_with(&printed), "extensions follow");
        assert_eq!(one_form(&printed), Some(checkpoint));
    }
    if let Ok(proof) = text.parse::<Proof>() {
        assert_eq!(one_form::<Proof>(&proof.to_string()).as_ref(), Some(&proof));
        assert!(proof.hashes.len() <= 63);
        let _ = proof.holds(&proof.extra);
    }
    if let Ok(signature) = text.parse::<minisign::Signature>() {
        assert_eq!(one_form::<minisign::Signature>(&signature.to_string()).as_ref(), Some(&signature));
        assert!(
            signature.comment.len() <= COMMENT_MAX
                && is_line(&signature.comment.replace(|c: char| !c.is_control(), ""))
        );
        assert!(!signature.is_good(&key, &[0; 64], &Always(false)));
    }
    if let Some(key) = one_form_in_json::<PublicKey>(text) {
        assert_eq!(key.file().lines().nth(1), Some(text));
    }
    one_form::<Leaf>(text);
    one_form_in_json::<Blake2b>(text);
    if let Ok(keyring) = text.parse::<Keyring>() {
        assert_eq!(keyring.to_string().parse().as_ref(), Ok(&keyring));
        assert_eq!(serde_json::from_str(&keyring.json()).ok(), Some(keyring));
    }
}

fn signed(note: &Note, text: &str) {
    assert!(text.len() <= NOTE_MAX && (1..=SIGNATURES_MAX).contains(&note.signatures.len()));
    assert!(note.text.ends_with('\n') && text.starts_with(&note.text));
    let keys: Vec<NoteKey> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert_eq!(note.signed_by(&[], &Always(true)), Err(BadNote::NotSigned));
    assert!(note.signed_by(&keys, &Always(false)).is_err());
    if let Ok(signed) = note.signed_by(&keys, &Always(true)) {
        assert!(!signed.is_empty() && signed.iter().all(|(key, one)| key.id() == one.id && key.name == one.name));
    }
}
