//! Pins that change under a running server, by `binplz pin`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

use binplz_core::id::key::hex;
use binplz_tests::{
    server::{Server, fresh_set, program},
    site::wait_for,
};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// A set of one's own whose programs say which set they are of.
fn set(name: &str) -> TempDir {
    let says = |program: &str| {
        format!(
            r#"
  {program} = package "{program}" {{ buildPhase = "echo 'int puts(const char *); int main(void) {{ return puts(\"{program} of {name}\") < 0; }}' > it.c; $CC -o program it.c"; }};
"#
        )
    };
    fresh_set(&[says("who"), says("other")].concat())
}

fn pin(data: &Path, arguments: &[&str]) -> Output {
    Command::new(program("binplz")).arg("pin").arg("--data").arg(data).args(arguments).output().expect("binplz")
}

/// Does it, and tells the pins as they are then: each one's revision.
fn change(server: &Server, arguments: &[&str]) -> BTreeMap<String, String> {
    let changed = pin(&server.data, arguments);
    assert!(changed.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&changed.stderr));
    let listed = pin(&server.data, &["list", "--json"]);
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    let pins = listed["pins"].as_object().expect("pins").iter();
    pins.map(|(name, pin)| (name.clone(), pin["rev"].as_str().expect("a revision").to_owned())).collect()
}

fn refusal(server: &Server, arguments: &[&str]) -> String {
    let refused = pin(&server.data, arguments);
    assert!(!refused.status.success(), "{arguments:?}");
    String::from_utf8_lossy(&refused.stderr).into_owned()
}

/// A tarball of a set, in a directory.
fn pack(set: &Path, into: &Path) -> PathBuf {
    let tarball = into.join("set.tar.gz");
    let (above, name) = (set.parent().expect("a directory above"), set.file_name().expect("a name"));
    let packed = Command::new("tar").arg("-C").arg(above).arg("-czf").arg(&tarball).arg(name).status();
    assert!(packed.expect("tar").success());
    tarball
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path")
}

/// The commit that a hit names, and what the program is that it leads to; all that is said of it must fit it.
fn served(server: &Server, target: &str) -> (String, Vec<u8>) {
    let hit = server.get(&format!("/{target}"));
    assert_eq!(hit.status, 302, "{target}: {}", hit.text());
    let header = |name: &str| hit.header(name).expect(name).to_owned();
    let path = header("location").replace(&server.origin(), "");
    let file = server.get(&path);
    assert_eq!(file.status, 200, "{path}");
    assert_eq!(header("x-binplz-sha256"), hex(&Sha256::digest(&file.body)), "{target}");
    assert_eq!(header("x-binplz-size"), file.body.len().to_string(), "{target}");
    (header("x-binplz-nixpkgs"), file.body)
}

/// How often a builder was started.
fn builds(server: &Server) -> usize {
    let logs = fs::read_dir(server.data.join("builders")).expect("the builders' directory");
    logs.filter(|entry| entry.as_ref().is_ok_and(|entry| entry.path().extension().is_some_and(|e| e == "log"))).count()
}

#[test]
fn several_nixpkgs_are_served_side_by_side_each_by_its_name_and_its_commit() {
    let (first, second, third) = (set("first"), set("second"), set("third"));
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(first.path(), data.path(), &[]);
    change(&server, &["add", "second", "--path", text(second.path())]);
    let tarball = pack(third.path(), data.path());
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let pins = change(&server, &["add", "third", commit, "--tarball", text(&tarball)]);
    assert_eq!(pins.len(), 3, "{pins:?}");
    assert_eq!(pins["third"], commit);
    for (name, of) in [("local", "first"), ("second", "second"), ("third", "third")] {
        let by_name = format!("failing.who?pin={name}");
        assert_eq!(server.settled(&by_name).status, 302, "{name}");
        for target in [&by_name, &format!("failing.who?nixpkgs-commit={}", &pins[name][..7])] {
            let (commit, program) = served(&server, target);
            assert_eq!(commit, pins[name], "{target}");
            let said = format!("who of {of}").into_bytes();
            assert!(program.windows(said.len()).any(|part| part == said), "{target}");
        }
    }
    // The set of who names none, and another default.
    assert_eq!(served(&server, "failing.who").0, pins["local"]);
    change(&server, &["default", "third"]);
    assert_eq!(served(&server, "failing.who").0, pins["third"]);

    change(&server, &["retire", "second", "--yes"]);
    for target in ["failing.who?pin=second", &format!("failing.who?nixpkgs-commit={}", pins["second"])] {
        let refused = server.get(&format!("/{target}"));
        assert_eq!(refused.status, 400, "{target}");
        assert!(refused.text().contains("it serves local ("), "{}", refused.text());
    }
    assert_eq!(builds(&server), 3);
}

#[test]
fn pins_outlive_the_server_and_the_set_that_it_is_started_with_is_the_default_again() {
    let (first, second) = (set("first"), set("second"));
    let data = tempfile::tempdir().expect("a temporary directory");
    let mut server = Server::start(first.path(), data.path(), &[]);
    let before = change(&server, &["add", "second", "--path", text(second.path())]);
    change(&server, &["default", "second"]);
    assert_eq!(server.status("failing.who")["nixpkgs"], before["second"]);
    server.kill();
    let gone = refusal(&server, &["list"]);
    assert!(gone.contains("no server is running"), "{gone}");
    server.restart();
    assert_eq!(server.status("failing.who")["nixpkgs"], before["local"]);
    assert_eq!(change(&server, &["default", "second"]), before);
}

#[test]
fn what_can_not_be_a_pin_is_told_in_one_sentence_and_changes_nothing() {
    let set = set("only");
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(set.path(), data.path(), &[]);
    let before = change(&server, &["list"]);
    let tarball = pack(set.path(), data.path());
    let wrong_hash = "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let empty = tempfile::tempdir().expect("a temporary directory");
    for (arguments, says) in [
        (&["add", "local", "--path", text(empty.path())][..], "no package set"),
        (&["add", "other", "--path", "/nonexistent"], "no package set"),
        (&["add", "other", "--tarball", text(&tarball), "--nar-hash", wrong_hash], "hash mismatch"),
        (&["add", "other", "--tarball", text(empty.path())], "nix-instantiate failed"),
        (&["add", "local", "--tarball", text(&tarball)], "the pin local exists already"),
        (&["move", "other", "--path", text(set.path())], "there is no pin other"),
        (&["retire", "other", "--yes"], "there is no pin other"),
        (&["retire", "local", "--yes"], "local is the default pin"),
        (&["default", "other"], "there is no pin other"),
    ] {
        let said = refusal(&server, arguments);
        assert!(said.contains(says) && said.trim_end().lines().count() == 1, "{arguments:?}: {said}");
    }
    assert_eq!(change(&server, &["list"]), before);
}

/// A copy of a set of [`set`] in which nothing is new but one program, which says that it is of `to`.
fn moved(set: &TempDir, name: &str, to: &str) -> TempDir {
    let copy = tempfile::tempdir().expect("a temporary directory");
    let copied = Command::new("cp").arg("-rT").arg(set.path()).arg(copy.path()).status();
    assert!(copied.expect("cp").success());
    let packages = copy.path().join("failing.nix");
    let (text, before) = (fs::read_to_string(&packages).expect("the packages"), format!("who of {name}"));
    assert!(text.contains(&before));
    fs::write(&packages, text.replace(&before, &format!("who of {to}"))).expect("the packages");
    copy
}

/// Derivations that Nix has realised for a target.
fn realised(server: &Server, target: &str) -> u64 {
    server.status(target)["derivations_started"].as_u64().expect("a number")
}

/// Requests never stop while the pin moves over three sets and back. One program has bytes of its own in each, so that a mix
/// of two commits would show; the other is of the same derivation in all of them.
#[test]
fn a_pin_that_moves_under_load_fails_no_request_mixes_no_commits_and_builds_each_derivation_once() {
    let first = set("first");
    let (second, third) = (moved(&first, "first", "second"), moved(&first, "first", "third"));
    let sets = [first, second, third];
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = Arc::new(Server::start(sets[0].path(), data.path(), &["--jobs", "2"]));
    let targets = ["failing.who", "failing.other", "failing.who?pin=local"];
    for target in targets {
        assert_eq!(server.settled(target).status, 302);
    }
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|client| {
            let (server, stop, asked) = (Arc::clone(&server), Arc::clone(&stop), Arc::clone(&asked));
            thread::spawn(move || {
                let mut seen = BTreeSet::new();
                while !stop.load(SeqCst) {
                    let target = targets[client % targets.len()];
                    let (commit, program) = served(&server, target);
                    seen.insert((target.split('?').next().expect("a path"), commit, hex(&Sha256::digest(&program))));
                    asked.fetch_add(1, SeqCst);
                }
                seen
            })
        })
        .collect();

    // By commit.
    let built = || ["failing.who", "failing.other"].map(|target| realised(&server, target));
    let mut commits =
        BTreeMap::from([(server.status("failing.who")["nixpkgs"].as_str().expect("a commit").to_owned(), built())]);
    for to in [1, 2, 0, 1] {
        let pins = change(&server, &["move", "local", "--path", text(sets[to].path())]);
        // Everybody sees it at once, though what is served may still be of the one before.
        assert_eq!(server.status("failing.who")["nixpkgs"], pins["local"]);
        for target in targets {
            wait_for("the new commit's program", || (served(&server, target).0 == pins["local"]).then_some(()));
        }
        // They never stopped.
        let so_far = asked.load(SeqCst);
        wait_for("a few more requests", || (asked.load(SeqCst) > so_far + 20).then_some(()));
        commits.insert(pins["local"].clone(), built());
    }
    stop.store(true, SeqCst);
    let seen: BTreeSet<_> = clients.into_iter().flat_map(|client| client.join().expect("no request failed")).collect();

    // Of each program one content for each commit, and never another's.
    assert_eq!(commits.len(), 3);
    let of: BTreeSet<_> = seen.iter().map(|(program, commit, _)| (*program, commit.clone())).collect();
    assert_eq!((of.len(), seen.len()), (6, 6), "{seen:?}");
    assert!(seen.iter().all(|(_, commit, _)| commits.contains_key(commit)));
    let contents: BTreeSet<_> = seen.iter().map(|(_, _, sha256)| sha256).collect();
    assert_eq!(contents.len(), 4, "{seen:?}");
    // Two programs of three commits are evaluated, and four derivations built: one of them once for all commits.
    assert_eq!(builds(&server), 6);
    assert_eq!(commits.values().map(|[who, _]| *who).collect::<Vec<_>>(), [1, 1, 1], "{commits:?}");
    assert_eq!(commits.values().map(|[_, other]| *other).sum::<u64>(), 1, "{commits:?}");
}

/// With catalogues of both commits, which know the derivations.
#[test]
fn a_moved_pin_whose_derivation_is_unchanged_realises_nothing_and_needs_no_builder() {
    let first = set("first");
    let second = moved(&first, "first", "second");
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(first.path(), data.path(), &["--names", "known"]);
    let catalogued = || {
        wait_for("the catalogue", || {
            let look = server.send("HEAD", "/no-such-thing-exists", &[], b"");
            look.header("x-binplz-catalogue").is_none().then_some(())
        });
    };
    catalogued();
    for target in ["failing.who", "failing.other"] {
        assert_eq!(server.settled(target).status, 302);
    }
    let before = served(&server, "failing.other");
    let pins = change(&server, &["move", "local", "--path", text(second.path())]);
    catalogued();
    let started = builds(&server);
    assert_eq!(started, 4, "two catalogues, and two programs");
    // The very first answer is of the new commit.
    let after = served(&server, "failing.other");
    assert_eq!(after.0, pins["local"]);
    assert_ne!(after.0, before.0);
    assert!(after.1 == before.1);
    assert_eq!((realised(&server, "failing.other"), builds(&server)), (0, started));
    // What has changed is built, behind what is served meanwhile.
    assert_eq!(served(&server, "failing.who").0, before.0);
    wait_for("the new commit's program", || (served(&server, "failing.who").0 == pins["local"]).then_some(()));
    assert_eq!((realised(&server, "failing.who"), builds(&server)), (1, started + 1));
}
