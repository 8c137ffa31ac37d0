//! The cost of requests for unknown names, and the catalogue of a hostile package set.

use std::{fs, process::Command};

use binplz_tests::{
    random::Random,
    server::{Server, children, demo_set, fresh_set, kill, program, repository},
    site::wait_for,
};

/// Waits until the catalogue is made, and its builder is gone.
pub(crate) fn catalogued(server: &Server) {
    wait_for("the catalogue", || {
        let look = server.send("HEAD", "/no-such-thing-exists", &[], b"");
        look.header("x-binplz-catalogue").is_none().then_some(())
    });
    wait_for("its builder's end", || children(server.pid()).is_empty().then_some(()));
}

#[test]
fn ten_thousand_names_that_nobody_has_and_a_thousand_near_misses_start_no_builder_and_write_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(&demo_set(), &dir.path().join("data"), &["--names", "known"]);
    catalogued(&server);
    let builders = || fs::read_dir(server.data.join("builders")).expect("the builders' outputs").count();
    // All that was ever written is in this file.
    let ledger = || fs::read(server.data.join("ledger.redb")).expect("the ledger");
    let (started, written) = (builders(), ledger());
    let mut random = Random(26_05);
    for _ in 0..10_000 {
        let length = 3 + random.below(20);
        let name: String = "zq".chars().chain((0..length).map(|_| random.letter())).collect();
        assert_eq!(server.get(&format!("/{name}")).status, 404, "{name}");
    }
    let real = ["tree", "hello", "gnugrep", "moreutils", "ncompress", "games.figlet", "xxhsum", "bsdiff", "dos2unix"];
    for _ in 0..1000 {
        let mut name = real[random.below(real.len())].to_owned();
        name.insert(1 + random.below(name.len() - 1), ['q', 'z', '0'][random.below(3)]);
        let answer = server.get(&format!("/{name}"));
        assert_eq!(answer.status, 404, "{name}");
    }
    assert_eq!(builders(), started);
    assert!(ledger() == written, "the ledger was written to");
    let line = server.get("/hellp").text().replace("'\\''", "'");
    assert!(line.contains("did you mean hello"), "{line}");
}

#[test]
fn the_programs_of_what_was_built_are_known_by_their_own_names_when_the_next_catalogue_is_made() {
    let (set, next) = (fresh_set(""), fresh_set(""));
    let dir = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(set.path(), &dir.path().join("data"), &["--names", "known"]);
    catalogued(&server);
    // It is unknown: this set has no database of programs.
    assert_eq!(server.get("/sponge").status, 404);
    assert_eq!(server.settled("moreutils/sponge").status, 302);
    let mut moved = Command::new(program("binplz"));
    moved.args(["pin", "move", "local", "--path"]).arg(next.path()).arg("--data").arg(&server.data);
    assert!(moved.status().expect("binplz").success());
    catalogued(&server);
    let answer = server.get("/sponge");
    assert_eq!((answer.status, &server.status("sponge")["package"]), (202, &"moreutils".into()), "{}", answer.text());
}

#[test]
fn a_set_that_does_its_worst_gets_a_catalogue_of_the_rest_from_a_builder_and_its_log_names_what_is_lost() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let set = repository().join("functions/builder/tests/hostile");
    let limits = ["--names=known", "--attribute-time=1", "--attribute-memory=1073741824"];
    let server = Server::start(&set, &dir.path().join("data"), &limits);
    catalogued(&server);
    for (name, package) in [("a0000", "a0000"), ("p999", "a0999"), ("inner", "sets.inner")] {
        assert_eq!(server.status(name)["package"], package);
    }
    let told = ordered(&server, &["catalogue", "--lost"]);
    let overflows = "      1  stack overflow (possible infinite recursion)\n         overflows\n";
    assert!(told.contains(", 58 lost in ") && told.contains(overflows), "{told}");
    let log = log_of_catalogue(&server);
    // One in forty throws when its derivation is evaluated, twenty never end, five take all memory.
    for (name, why) in [("a0023", "throws"), ("a0007", "endless"), ("a0115", "out-of-memory"), ("recurses", "fails")] {
        let answer = server.get(&format!("/{name}"));
        assert_eq!(answer.status, 422, "{name}: {}", answer.text());
        assert!(log.contains(&format!("lost: {name} x86_64-linux {why}")), "{name}: {log}");
    }
    for (why, count) in [("throws", 26), ("endless", 20), ("out-of-memory", 5), ("fails", 7)] {
        assert_eq!(log.matches(&format!(" x86_64-linux {why}:")).count(), count, "{why}: {log}");
    }
    // One that throws as soon as it is looked at is how nixpkgs refuses what it has removed: nothing is lost.
    let refused = server.get("/a0003");
    assert!(refused.status == 422 && refused.text().contains("attribute 3 throws"), "{}", refused.text());
    assert!(!log.contains("lost: a0003"), "{log}");
    assert!(server.get("/a0115").text().contains("its evaluation exceeds the memory limit"));
}

#[test]
fn a_catalogue_whose_builder_is_killed_leaves_its_top_level_in_use_and_the_next_builder_continues() {
    // An attribute of a nested set takes some seconds, and then counts as endless.
    let set = fresh_set(
        r#"
  endless = package "endless" {
    sum = builtins.foldl' (a: _: builtins.foldl' (a: b: a + b) a (builtins.genList (x: x) 100000)) 0 (builtins.genList (x: x) 100000);
  };
"#,
    );
    let dir = tempfile::tempdir().expect("a temporary directory");
    let limits = ["--names=known", "--attribute-time=5", "--lease=30"];
    let server = Server::start(set.path(), &dir.path().join("data"), &limits);
    wait_for("the top level", || {
        let found = server.send("GET", "/-/search?q=tree", &[("accept", "application/json")], b"").json();
        (found["incomplete"] == true).then_some(())
    });
    let builders = children(server.pid());
    assert_eq!(builders.len(), 1, "the catalogue's only");
    kill(builders[0]);
    assert_eq!(server.status("grep")["package"], "gnugrep");
    assert_eq!(server.status("games.figlet")["by_attribute"], true);
    catalogued(&server);
    let log = log_of_catalogue(&server);
    // The number after the first of these words, of attributes.
    let attributes = |after: &str| log.split_once(after)?.1.split(' ').next()?.parse::<usize>().ok();
    let (continued, level) = (attributes("continues with "), attributes("level 1 is evaluated; "));
    assert!(level.is_some_and(|level| level > 0) && continued >= level, "{log}");
    assert!(!log.contains("is not used") && log.contains("lost: failing.endless x86_64-linux endless"), "{log}");
    assert_eq!(server.status("figlet")["package"], "games.figlet");
    assert_eq!(server.get("/no-such-thing-exists").status, 404);
}

/// What an operator's command prints.
fn ordered(server: &Server, arguments: &[&str]) -> String {
    let mut command = Command::new(program("binplz"));
    let output = command.args(arguments).arg("--data").arg(&server.data).output().expect("binplz");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// The log of the only catalogue there is, as an operator reads it.
fn log_of_catalogue(server: &Server) -> String {
    let ready = ordered(server, &["list", "--state", "ready"]);
    let catalogue = ready.split_whitespace().find(|word| word.ends_with("/-catalogue")).expect("a catalogue");
    ordered(server, &["log", catalogue])
}
