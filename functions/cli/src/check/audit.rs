//! `binplz audit HOST`: follows a service's log from where it was left, and checks it against what the service serves.

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use binplz_core::{
    id::{
        key::{Rev, Sha256},
        target::Target,
    },
    trust::{
        checkpoint::Checkpoint,
        leaf::Identity,
        note::{Algorithm, Note, NoteKey},
        proof::Proof,
        tile::{Edge, TileName, entries},
    },
};
use binplz_signing::Ring;
use clap::Args as ClapArgs;
use serde::{Deserialize, Serialize};
use ureq::Agent;

use crate::check::{CheckError, Trusted, read, verify, wrong};

/// The timeout of a request.
const PATIENCE: Duration = Duration::from_secs(60);
/// The largest answer that is read, in bytes: a full bundle of the longest entries.
const ANSWER_MAX: u64 = 32 << 20;

/// The arguments of `binplz audit`.
#[derive(ClapArgs, Debug)]
pub(crate) struct Audit {
    /// The URL of the service
    host: String,
    /// The keys to trust, saved before [default: those of the first audit]
    #[arg(long, value_name = "KEYS")]
    keys: Option<PathBuf>,
    /// A witness whose cosignatures to show; may be given several times
    #[arg(long, value_name = "KEY")]
    witness: Vec<NoteKey>,
    /// The file that has what the last audit saw [default: below $XDG_STATE_HOME/binplz]
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
    let path = args.state.clone().unwrap_or_else(|| host.state());
    let mut seen: Seen = match fs::read(&path) {
        Ok(json) => serde_json::from_slice(&json)
            .map_err(|error| CheckError::Wrong(format!("{}: {error}; remove it to begin anew", path.display())))?,
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
    let note: Note = host.text("tlog/checkpoint")?.parse().map_err(wrong("the checkpoint"))?;
    let now = claim(&trusted, &note)?;
    let before = match &seen.checkpoint {
        Some(text) => Some(claim(&trusted, &text.parse().map_err(wrong("the last checkpoint"))?)?),
        None => None,
    };
    let new = follow(&host, &trusted, before.as_ref(), &now, &mut seen.contents)?;
    println!("log {}: {} entries, {new} of them new; it only grew", now.origin, now.size);
    for key in &args.witness {
        witness(&note, key)?;
    }
    let served = compare(&host, &trusted, &now)?;
    println!("{served} served artifacts compared with their entries");
    seen.checkpoint = Some(note.to_string());
    keep(&path, &seen)
}

fn claim(trusted: &Trusted, note: &Note) -> Result<Checkpoint, CheckError> {
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
            return Err(CheckError::Wrong(format!("the log was {}, and is {}", before.origin, now.origin)));
        }
        if before.size > now.size {
            let (had, has) = (before.size, now.size);
            return Err(CheckError::Wrong(format!("the log had {had} entries, and has {has}: entries were removed")));
        }
    }
    // The old tree's edge, as the new tree has it: another root shows that its leaves are others.
    let mut objects = BTreeMap::new();
    for name in Edge::needs(from) {
        objects.insert(name, name.cut(host.tile(&name, now.size)?));
    }
    let damaged = || CheckError::Wrong("the log's tiles are malformed".to_owned());
    let mut edge = Edge::of(from, &objects).ok_or_else(damaged)?;
    if let Some(before) = before
        && edge.root() != before.root
    {
        return Err(CheckError::Wrong(format!(
            "the first {from} entries are not those of the last audit: the log was forked"
        )));
    }
    let mut at = from;
    while at < now.size {
        let (name, place) = TileName::of_entry(at, now.size);
        let bundle = entries(&name, &host.tile(&name, now.size)?).ok_or_else(damaged)?;
        for entry in &bundle[place..] {
            look(trusted, at, entry, contents)?;
            at += 1;
        }
        edge.append(bundle.into_iter().skip(place));
    }
    if edge.root() != now.root {
        return Err(CheckError::Wrong("the entries are not those that the checkpoint's root is of".to_owned()));
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
            "{} of nixpkgs {} was signed before with another content",
            leaf.identity, leaf.identity.nixpkgs
        )))),
        _ => Ok(()),
    }
}

fn name(identity: &Identity) -> String {
    format!("{identity} of {}", identity.nixpkgs)
}

fn witness(note: &Note, key: &NoteKey) -> Result<(), CheckError> {
    let keys = std::slice::from_ref(key);
    match note.signed_by(keys, &Ring) {
        Ok(signed) => {
            let when = signed.iter().filter(|(key, _)| key.algorithm == Algorithm::Cosignature);
            let when = when.filter_map(|(_, signature)| signature.time()).max();
            println!(
                "witnessed by {}{}",
                key.name,
                when.map_or(String::new(), |time| format!(" at {time} s since 1970"))
            );
            Ok(())
        }
        Err(error) => Err(wrong(&format!("of {}: the checkpoint", key.name))(error)),
    }
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
            return Err(CheckError::Wrong(format!("{target} is served with other content than the log has")));
        }
        if leaf.identity.nixpkgs != nixpkgs {
            let of = &leaf.identity.nixpkgs;
            return Err(CheckError::Wrong(format!("{target} is served as of nixpkgs {nixpkgs}, and is that of {of}")));
        }
        // It may have been logged since the checkpoint was read.
        if proof.index >= now.size && checkpoint.size <= now.size {
            return Err(CheckError::Wrong(format!("{target} is served, and is not in the log")));
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

/// The service.
struct Host {
    origin: String,
    agent: Agent,
}

impl Host {
    fn new(origin: &str) -> Host {
        let config = Agent::config_builder().timeout_global(Some(PATIENCE)).user_agent("binplz audit");
        let agent = config.http_status_as_error(false).max_redirects(0).build().new_agent();
        Host { origin: origin.trim_end_matches('/').to_owned(), agent }
    }

    /// The usual place of what an audit of it saw.
    #[expect(clippy::disallowed_methods, reason = "the user's environment says where programs keep their state")]
    fn state(&self) -> PathBuf {
        let home = || std::env::home_dir().unwrap_or_default().join(".local/state");
        let state = std::env::var_os("XDG_STATE_HOME").map_or_else(home, PathBuf::from);
        let host: String = self.origin.chars().map(|c| if c.is_alphanumeric() || c == '.' { c } else { '_' }).collect();
        state.join("binplz").join(format!("audit-{host}.json"))
    }

    fn get(&self, path: &str, accept: &str) -> Result<Vec<u8>, CheckError> {
        let url = format!("{}/-/{path}", self.origin);
        let failed = |cause: String| CheckError::Http { url: url.clone(), cause };
        let answer = self.agent.get(&url).header("Accept", accept).call().map_err(|error| failed(error.to_string()))?;
        let status = answer.status();
        let body = answer.into_body().with_config().limit(ANSWER_MAX).read_to_vec();
        let body = body.map_err(|error| failed(error.to_string()))?;
        match status.as_u16() {
            200 => Ok(body),
            _ => Err(failed(format!("{status}: {}", String::from_utf8_lossy(&body).trim()))),
        }
    }

    fn bytes(&self, path: &str) -> Result<Vec<u8>, CheckError> {
        self.get(path, "*/*")
    }

    fn text(&self, path: &str) -> Result<String, CheckError> {
        Ok(String::from_utf8_lossy(&self.get(path, "text/plain")?).into_owned())
    }

    fn json<T: for<'a> Deserialize<'a>>(&self, path: &str) -> Result<T, CheckError> {
        let cause = |error: serde_json::Error| CheckError::Http {
            url: format!("{}/-/{path}", self.origin),
            cause: error.to_string(),
        };
        serde_json::from_slice(&self.get(path, "application/json")?).map_err(cause)
    }

    /// A tile that a tree of `size` entries has, at least as wide as the name says.
    fn tile(&self, name: &TileName, size: u64) -> Result<Vec<u8>, CheckError> {
        self.bytes(&format!("tlog/{}", TileName::of(name.kind, name.index, size)))
    }

    /// The sha256 of what a target leads to, and its nixpkgs, by the service's word; `None`: it leads to nothing now.
    fn served(&self, target: &str) -> Result<Option<(Sha256, Rev)>, CheckError> {
        let url = format!("{}/{target}", self.origin);
        let answer = self.agent.head(&url).call();
        let answer = answer.map_err(|error| CheckError::Http { url, cause: error.to_string() })?;
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let served = || Some((header("x-binplz-sha256")?.parse().ok()?, header("x-binplz-nixpkgs")?.parse().ok()?));
        Ok(served().filter(|_| answer.status() == 302))
    }
}

#[cfg(test)]
mod tests {
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
        assert!(strangers.contains("by no trusted key"), "{strangers}");
        let mut bent = entry(&key, b"d", '4');
        let at = bent.windows(4).position(|text| text == b"tree").expect("a name");
        bent[at] = b'f';
        assert!(look(&bent).is_err());
        assert_eq!(look(b"no entry").expect_err("no entry"), "entry 7: the signature is malformed");
    }
}
