//! Pins that change while the deployed functions run, by `binplz pin --stack`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
};

use binplz_tests::{
    scenario::Request,
    server::{fresh_set, program},
    site::wait_for,
};
use serde_json::json;

use crate::watched::{Watched, endpoint, watched};

/// A package whose program is another one in each set.
fn who(name: &str) -> String {
    format!(
        r#"
  who = package "who" {{ buildPhase = "echo 'int puts(const char *); int main(void) {{ return puts(\"{name}\") < 0; }}' > it.c; $CC -o program it.c"; }};
"#
    )
}

fn pin(watched: &Watched, arguments: &[&str]) -> Output {
    let mut command = Command::new(program("binplz"));
    command.args(["pin", "--stack", &watched.name]).args(arguments);
    command.env("AWS_ENDPOINT_URL", endpoint()).output().expect("binplz")
}

/// Does it, and tells the pins as they are then: each one's revision.
pub(crate) fn change(watched: &Watched, arguments: &[&str]) -> BTreeMap<String, String> {
    for arguments in [arguments, &["list", "--json"]] {
        let done = pin(watched, arguments);
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        if let Ok(listed) = serde_json::from_slice::<serde_json::Value>(&done.stdout) {
            let pins = listed["pins"].as_object().expect("pins").iter();
            return pins
                .map(|(name, pin)| (name.clone(), pin["rev"].as_str().expect("a revision").to_owned()))
                .collect();
        }
    }
    panic!("no list of pins")
}

/// A tarball of a set.
pub(crate) fn pack(set: &Path, into: &Path) -> PathBuf {
    let tarball = into.join("set.tar.gz");
    let (above, name) = (set.parent().expect("a directory above"), set.file_name().expect("a name"));
    let packed = Command::new("tar").arg("-C").arg(above).arg("-czf").arg(&tarball).arg(name).status();
    assert!(packed.expect("tar").success());
    tarball
}

/// The commit of the program that is served at once, and whether that program says so.
fn served(watched: &Watched, target: &str) -> String {
    let hit = watched.get(&format!("/{target}"));
    assert_eq!(hit.status, 302, "{target}: {}", hit.text());
    hit.header("x-binplz-nixpkgs").expect("a commit").to_owned()
}

fn says(watched: &Watched, target: &str, what: &str) -> bool {
    watched.download(target).windows(what.len()).any(|part| part == what.as_bytes())
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn an_operator_adds_moves_and_retires_pins_from_afar_and_who_asks_never_waits_for_it() {
    let watched = watched(&who("who of the first"), &[]);
    let first = watched.settled("failing.who").header("x-binplz-nixpkgs").expect("a commit").to_owned();
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let second = fresh_set(&who("who of the second"));
    let tarball = pack(second.path(), scratch.path());
    let tarball = tarball.to_str().expect("a path");

    // Its tarball goes into the bucket, and a task takes it from there.
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let pins = change(&watched, &["add", "second", commit, "--tarball", tarball]);
    assert_eq!((&pins["demo"], pins["second"].as_str()), (&first, commit));
    assert_eq!(watched.settled("failing.who?pin=second").status, 302);
    assert!(says(&watched, "failing.who?nixpkgs-commit=0123456", "who of the second"));

    // What was served is served until the new one is there; and that one is there already, by another pin.
    change(&watched, &["move", "demo", commit, "--tarball", tarball]);
    assert_eq!(served(&watched, "failing.who"), commit);
    assert!(says(&watched, "failing.who", "who of the second"));
    let refused = watched.get(&format!("/failing.who?nixpkgs-commit={first}"));
    assert_eq!(refused.status, 400, "{}", refused.text());
    let lost = pin(&watched, &["add", "third", "--path", "/"]);
    assert!(String::from_utf8_lossy(&lost.stderr).contains("on AWS a pin is a commit or a tarball"));

    let third = fresh_set(&who("who of the third"));
    let pins =
        change(&watched, &["move", "demo", "--tarball", pack(third.path(), scratch.path()).to_str().expect("a path")]);
    assert_eq!(served(&watched, "failing.who"), commit, "the last good one, at once");
    wait_for("the new one", || (served(&watched, "failing.who") == pins["demo"]).then_some(()));
    assert!(says(&watched, "failing.who", "who of the third"));

    // Another commit, in which its derivation is the same: a task finds that out, and realises nothing.
    fs::write(third.path().join("NEWS"), "nothing that a package is made of").expect("a file");
    let same =
        change(&watched, &["move", "demo", "--tarball", pack(third.path(), scratch.path()).to_str().expect("a path")]);
    assert_ne!(same["demo"], pins["demo"]);
    wait_for("the same one", || (served(&watched, "failing.who") == same["demo"]).then_some(()));
    assert_eq!(watched.status("failing.who")["derivations_started"], 0);
    assert!(says(&watched, "failing.who", "who of the third"));

    change(&watched, &["retire", "second", "--yes"]);
    assert_eq!(watched.get("/failing.who?pin=second").status, 400);
    let pins = same;
    assert_eq!(served(&watched, "failing.who"), pins["demo"]);
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn what_a_request_writes_after_its_pin_has_moved_is_marked_by_the_next_minutes_sweep() {
    let watched = watched(&who("who of the first"), &[]);
    let first = watched.settled("failing.who").header("x-binplz-nixpkgs").expect("a commit").to_owned();
    let by_commit = format!("/failing.who?nixpkgs-commit={first}");

    // It has looked at the pins, and is about to write down what it found.
    let late = watched.scenario.fault(&json!({
        "at": { "function": "Api", "service": "dynamodb", "operation": "PutItem", "with": "nixpkgs-commit" },
        "do": "hold-before",
    }));
    let (site, path) = ((*watched).clone(), by_commit.clone());
    let request = thread::spawn(move || site.get(&path).status);
    let late_row = late.happened().parameters["Item"]["pk"]["S"].as_str().expect("its key").to_owned();
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let second = fresh_set(&who("who of the second"));
    change(&watched, &["move", "demo", "--tarball", pack(second.path(), scratch.path()).to_str().expect("a path")]);
    late.release();
    assert_eq!(request.join().expect("an answer"), 302);
    assert_eq!(watched.get(&by_commit).status, 302, "no request has come yet");
    watched.scenario.tick();
    wait_for("the sweep", || (watched.get(&by_commit).status == 400).then_some(()));
    let marked = |put: &&Request| {
        put.function.as_deref() == Some("Reaper") && put.parameters["Item"]["pk"]["S"].as_str() == Some(&late_row)
    };
    assert_eq!(watched.scenario.requests("dynamodb", "PutItem").iter().filter(marked).count(), 1);
}
