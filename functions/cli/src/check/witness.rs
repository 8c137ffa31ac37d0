//! Cosignatures of witnesses (c2sp.org/tlog-cosignature): independent parties that saw the log, and saw it only grow.

use std::{collections::BTreeSet, path::PathBuf};

use binplz_core::{
    id::time::Timestamp,
    trust::{
        checkpoint::Checkpoint,
        merkle::{Range, consistency, extends, root_of},
        note::{Algorithm, Note, NoteKey},
        tile::{TileName, hashes},
    },
};
use binplz_signing::Ring;

use crate::check::{CheckError, Trusted, audit, host::Host, read, wrong};

/// A checkpoint in a file that one of the log's keys and each new witness have signed, or at least one of the known ones if
/// there is no new one. All signatures by these keys are good.
pub(crate) fn cosigned(
    path: &PathBuf,
    log: &[NoteKey],
    known: &[NoteKey],
    new: &[NoteKey],
) -> Result<Note, CheckError> {
    let note: Note = read(path)?.parse().map_err(wrong("the checkpoint"))?;
    note.signed_by(log, &Ring).map_err(wrong("the checkpoint"))?;
    note.signed_by(&[log, known, new].concat(), &Ring).map_err(wrong("the checkpoint"))?;
    for key in new {
        signed_at(&note, key)?;
    }
    if new.is_empty() {
        note.signed_by(known, &Ring).map_err(wrong("of witnesses: the checkpoint"))?;
    }
    Ok(note)
}

/// When a witness has signed.
fn signed_at(note: &Note, key: &NoteKey) -> Result<Timestamp, CheckError> {
    let name = &key.name;
    if key.algorithm != Algorithm::Cosignature {
        return Err(CheckError::Wrong(format!("the key of {name} is not a witness's")));
    }
    let keys = std::slice::from_ref(key);
    let signed = note.signed_by(keys, &Ring).map_err(wrong(&format!("of {name}: the checkpoint")))?;
    let seconds = signed.iter().filter_map(|(_, signature)| signature.time()).max().unwrap_or_default();
    Ok(Timestamp(seconds.saturating_mul(1000)))
}

/// Checks that at least `least` of these witnesses have cosigned a checkpoint of the log, which was read before `now`, and
/// that the log now has all that they saw. Prints what each has cosigned.
///
/// # Errors
/// [`CheckError`].
pub(super) fn check(
    host: &Host,
    trusted: &Trusted,
    (note, now): (&Note, &Checkpoint),
    witnesses: &BTreeSet<&NoteKey>,
    least: usize,
) -> Result<(), CheckError> {
    let seen = audit::claim(trusted, note)?;
    if seen.origin != now.origin || !grew(host, &seen, now)? {
        let size = seen.size;
        return Err(CheckError::Wrong(format!(
            "the first {size} entries differ from those that witnesses have cosigned: the log was forked"
        )));
    }
    let mut signed = 0;
    for key in witnesses {
        match signed_at(note, key) {
            Ok(at) => println!("{} cosigned the first {} entries on {}", key.name, seen.size, at.day()),
            Err(error) if least == witnesses.len() => return Err(error),
            Err(error) => {
                println!("{error}");
                continue;
            }
        }
        signed += 1;
    }
    match signed < least {
        true => {
            Err(CheckError::Wrong(format!("{signed} witnesses have cosigned the checkpoint, and {least} are required")))
        }
        false => Ok(()),
    }
}

/// Whether the log as it is now begins with a tree, by a proof from the log's tiles.
fn grew(host: &Host, seen: &Checkpoint, now: &Checkpoint) -> Result<bool, CheckError> {
    let mut proof = Vec::new();
    for range in consistency(seen.size, now.size) {
        let mut nodes = Vec::new();
        for node in range.nodes() {
            let (name, from, to) = TileName::with(node, now.size);
            let tile = hashes(&name, &audit::tile(host, &name, now.size)?);
            let hash = tile.as_deref().and_then(|hashes| root_of(hashes.get(from..to)?));
            nodes.push(hash.ok_or_else(|| CheckError::Wrong("the log's tiles are malformed".to_owned()))?);
        }
        proof.push(Range::hash(&nodes));
    }
    Ok(extends((seen.size, &seen.root), (now.size, &now.root), &proof))
}
