//! `binplz audit HOST`: follows a service's log from where it was left, and checks it against what the service serves.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use binplz_core::{
    id::{key::Sha256, target::Target},
    trust::{
        checkpoint::Checkpoint,
        leaf::Identity,
        note::{Note, NoteKey},
        proof::Proof,
        tile::{Edge, TileName, entries},
    },
};
use binplz_signing::Ring;
use clap::Args as ClapArgs;
use serde::{Deserialize, Serialize};

use crate::check::{CheckError, Trusted, documents, host::Host, read, verify, witness, wrong};

/// The arguments of `binplz audit`.
#[derive(ClapArgs, Debug)]
pub(crate) struct Audit {
    /// The URL of the service
    host: String,
    /// A file with the keys to trust (curl -o KEYS HOST/-/keys) [default: the keys that the first audit saw]
    #[arg(long, value_name = "KEYS")]
    keys: Option<PathBuf>,
    /// The key of a witness that must have cosigned the log; may be given several times
    #[arg(long, value_name = "KEY")]
    witness: Vec<NoteKey>,
    /// How many of these witnesses must have cosigned the log [default: all]
    #[arg(long, value_name = "NUMBER", requires = "witness")]
    witnesses: Option<usize>,
    /// The file that keeps the state between audits [default: below $XDG_STATE_HOME/binplz]
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
}

/// What an audit saw, for the next one.
#[derive(Default, Serialize, Deserialize)]
struct Seen {
    /// The service's keys, as it listed them.
    keys: String,
    /// The last checkpoint, as a note.
    checkpoint: Option<String>,
    /// The content of each artifact in the log, by what it is.
    contents: BTreeMap<String, Sha256>,
}

/// Audits a service, prints what was checked, and keeps what the next audit needs.
///
/// # Errors
/// [`CheckError`]: the log is not what it should be, or could not be read. Then nothing is kept.
pub(crate) fn audit(args: &Audit) -> Result<(), CheckError> {
    let host = Host::new(&args.host);
    let path = args.state.clone().unwrap_or_else(|| state(&host));
    let mut seen: Seen = match fs::read(&path) {
        Ok(json) => serde_json::from_slice(&json).map_err(|error| {
            CheckError::Wrong(format!("{}: {error}; remove this file to start over", path.display()))
        })?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Seen::default(),
        Err(cause) => return Err(CheckError::File { path, cause }),
    };
    if let Some(keys) = &args.keys {
        seen.keys = read(keys)?;
    } else if seen.keys.is_empty() {
        seen.keys = host.text("keys")?;
        println!("the first audit: the service's own list of keys is trusted from now on\n{}", seen.keys.trim_end());
    }
    let trusted = Trusted::parse(&seen.keys)?;
    let witnesses: BTreeSet<&NoteKey> = args.witness.iter().collect();
    let witnessed: Option<Note> = match witnesses.is_empty() {
        true => None,
        false => Some(host.text("tlog/witnessed")?.parse().map_err(wrong("the cosigned checkpoint"))?),
    };
    let note: Note = host.text("tlog/checkpoint")?.parse().map_err(wrong("the checkpoint"))?;
    let now = claim(&trusted, &note)?;
    let before = match &seen.checkpoint {
        Some(text) => Some(claim(&trusted, &text.parse().map_err(wrong("the last checkpoint"))?)?),
        None => None,
    };
    let new = follow(&host, &trusted, before.as_ref(), &now, &mut seen.contents)?;
    println!("log {}: {} entries, {new} of them new; the log only grew", now.origin, now.size);
    if let Some(witnessed) = &witnessed {
        let least = args.witnesses.unwrap_or(witnesses.len());
        witness::check(&host, &trusted, (witnessed, &now), &witnesses, least)?;
    }
    let served = compare(&host, &trusted, &now)?;
    println!("{served} served artifacts compared with their entries and documents");
    seen.checkpoint = Some(note.to_string());
    keep(&path, &seen)
}

/// What a checkpoint says, if a trusted key of the log has signed it.
pub(super) fn claim(trusted: &Trusted, note: &Note) -> Result<Checkpoint, CheckError> {
    note.signed_by(&trusted.log, &Ring).map_err(wrong("the checkpoint"))?;
    note.text.parse().map_err(wrong("the checkpoint"))
}

/// Reads all entries since the last checkpoint. Returns their number.
fn follow(
    host: &Host,
    trusted: &Trusted,
    before: Option<&Checkpoint>,
    now: &Checkpoint,
    contents: &mut BTreeMap<String, Sha256>,
) -> Result<u64, CheckError> {
    let from = before.map_or(0, |before| before.size);
    if let Some(before) = before {
        if before.origin != now.origin {
            return Err(CheckError::Wrong(format!(
                "the log was named {}, and is now named {}",
                before.origin, now.origin
            )));
        }
        if before.size > now.size {
            let (had, has) = (before.size, now.size);
            return Err(CheckError::Wrong(format!(
                "the log had {had} entries, and now has {has}: entries were removed"
            )));
        }
    }
    // The old tree's edge, as the new tree has it: another root shows that its leaves are others.
    let mut objects = BTreeMap::new();
    for name in Edge::needs(from) {
        objects.insert(name, name.cut(tile(host, &name, now.size)?));
    }
    let damaged = || CheckError::Wrong("the log's tiles are malformed".to_owned());
    let mut edge = Edge::of(from, &objects).ok_or_else(damaged)?;
    if let Some(before) = before
        && edge.root() != before.root
    {
        return Err(CheckError::Wrong(format!(
            "the first {from} entries differ from those of the last audit: the log was forked"
        )));
    }
    let mut at = from;
    while at < now.size {
        let (name, place) = TileName::of_entry(at, now.size);
        let bundle = entries(&name, &tile(host, &name, now.size)?).ok_or_else(damaged)?;
        for entry in &bundle[place..] {
            look(trusted, at, entry, contents)?;
            at += 1;
        }
        edge.append(bundle.into_iter().skip(place));
    }
    if edge.root() != now.root {
        return Err(CheckError::Wrong("the entries do not match the checkpoint's root".to_owned()));
    }
    Ok(now.size - from)
}

/// One entry: signed by a trusted key, well-formed, and not of an artifact that was logged with another content.
fn look(
    trusted: &Trusted,
    index: u64,
    entry: &[u8],
    contents: &mut BTreeMap<String, Sha256>,
) -> Result<(), CheckError> {
    let of = |error: CheckError| CheckError::Wrong(format!("entry {index}: {error}"));
    let leaf = trusted.leaf(&String::from_utf8_lossy(entry)).map_err(of)?;
    let identity = name(&leaf.identity);
    match contents.insert(identity, leaf.sha256.clone()) {
        Some(other) if other != leaf.sha256 => Err(of(CheckError::Wrong(format!(
            "{} of nixpkgs {} was signed before with different content",
            leaf.identity, leaf.identity.nixpkgs
        )))),
        _ => Ok(()),
    }
}

fn name(identity: &Identity) -> String {
    format!("{identity} of {}", identity.nixpkgs)
}

/// Compares what the service serves, as far as it lists it, with the log. Returns the number of artifacts.
fn compare(host: &Host, trusted: &Trusted, now: &Checkpoint) -> Result<usize, CheckError> {
    #[derive(Deserialize)]
    struct Builds {
        ready: Vec<Line>,
    }
    #[derive(Deserialize)]
    struct Line {
        target: Option<String>,
    }
    let builds: Builds = host.json("builds")?;
    let mut compared = 0;
    for target in builds.ready.into_iter().filter_map(|line| line.target) {
        let Some((sha256, nixpkgs)) = host.served(&target)? else { continue };
        let proof: Proof = host.text(&format!("proof/{target}"))?.parse().map_err(wrong("a proof"))?;
        let (leaf, checkpoint) = verify::checked(trusted, &proof)?;
        let is = |wanted: &Target| verify::is_of(&leaf, wanted);
        if leaf.sha256 != sha256 || !target.parse::<Target>().is_ok_and(|target| is(&target)) {
            return Err(CheckError::Wrong(format!("the served content of {target} differs from the log's")));
        }
        if leaf.identity.nixpkgs != nixpkgs {
            let of = &leaf.identity.nixpkgs;
            return Err(CheckError::Wrong(format!(
                "{target} is served as nixpkgs {nixpkgs}, but its entry is for {of}"
            )));
        }
        // It may have been logged since the checkpoint was read.
        if proof.index >= now.size && checkpoint.size <= now.size {
            return Err(CheckError::Wrong(format!("{target} is served, but is not in the log")));
        }
        if leaf.documents.is_some() {
            documents::provenance(trusted, &leaf, &host.bytes(&format!("provenance/{target}"))?)?;
            documents::sbom(&leaf, &host.bytes(&format!("sbom/{target}"))?)?;
        }
        compared += 1;
    }
    Ok(compared)
}

fn keep(path: &PathBuf, seen: &Seen) -> Result<(), CheckError> {
    let of = |cause| CheckError::File { path: path.clone(), cause };
    let json = serde_json::to_vec(seen).map_err(|error| of(error.into()))?;
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(of)?;
    }
    let draft = path.with_extension("new");
    fs::write(&draft, json).and_then(|()| fs::rename(&draft, path)).map_err(of)
}

/// The usual place of what an audit of it saw.
#[expect(clippy::disallowed_methods, reason = "the user's environment says where programs keep their state")]
fn state(host: &Host) -> PathBuf {
    let home = || std::env::home_dir().unwrap_or_default().join(".local/state");
    let state = std::env::var_os("XDG_STATE_HOME").map_or_else(home, PathBuf::from);
    let host: String = host.origin.chars().map(|c| if c.is_alphanumeric() || c == '.' { c } else { '_' }).collect();
    state.join("binplz").join(format!("audit-{host}.json"))
}

/// A tile that a tree of `size` entries has, at least as wide as the name says.
pub(super) fn tile(host: &Host, name: &TileName, size: u64) -> Result<Vec<u8>, CheckError> {
    host.bytes(&format!("tlog/{}", TileName::of(name.kind, name.index, size)))
}

#[cfg(test)]
mod tests {
    use binplz_core::id::key::Rev;
    use binplz_core::trust::{
        leaf::{Blake2b, Form, Leaf},
        minisign::{PublicKey, Signature},
    };
    use binplz_signing::KeyPair;

    use super::*;

    fn entry(key: &KeyPair, content: &[u8], rev: char) -> Vec<u8> {
        let (digest, blake2b) = binplz_signing::Digester::of(content).expect("bytes");
        let nixpkgs: Rev = String::from_iter([rev; 40]).parse().expect("hex");
        let (package, program) = ("tree".parse().expect("a name"), "tree".parse().ok());
        let system = binplz_core::id::key::System::X86_64Linux;
        let leaf = Leaf {
            binplz: 1,
            identity: Identity { package, program, form: Form::Program, system, nixpkgs },
            version: "2.1.0".to_owned(),
            output: None,
            derivation: "/nix/store/x.drv".to_owned(),
            size: digest.size,
            sha256: digest.sha256,
            blake2b: Blake2b(blake2b.0),
            documents: None,
        };
        let (file, comment) = (key.sign(&blake2b.0), leaf.to_string());
        let global = key.sign(&Signature::message(&file, &comment));
        Signature { id: PublicKey::of(key.public()).id, file, comment, global }.to_string().into_bytes()
    }

    #[test]
    fn an_entry_is_signed_by_a_trusted_key_and_of_no_artifact_that_had_another_content() {
        let (key, stranger) = (KeyPair::of_seed(&[1; 32]), KeyPair::of_seed(&[2; 32]));
        let trusted = Trusted { artifacts: vec![PublicKey::of(key.public())], log: Vec::new() };
        let mut contents = BTreeMap::new();
        let mut look = |entry: &[u8]| look(&trusted, 7, entry, &mut contents).map_err(|error| error.to_string());
        assert_eq!(look(&entry(&key, b"a", '1')), Ok(()));
        assert_eq!(look(&entry(&key, b"a", '1')), Ok(()));
        assert_eq!(look(&entry(&key, b"b", '2')), Ok(()));
        let again = look(&entry(&key, b"b", '1')).expect_err("another content");
        assert!(again.starts_with("entry 7: tree/tree for x86_64-linux of nixpkgs 1111"), "{again}");
        let strangers = look(&entry(&stranger, b"c", '3')).expect_err("another key");
        assert!(strangers.contains("not by a trusted artifact key"), "{strangers}");
        let mut bent = entry(&key, b"d", '4');
        let at = bent.windows(4).position(|text| text == b"tree").expect("a name");
        bent[at] = b'f';
        assert!(look(&bent).is_err());
        assert_eq!(look(b"no entry").expect_err("no entry"), "entry 7: the signature is malformed");
    }
}
