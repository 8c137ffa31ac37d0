//! A build that takes longer than one attempt may: each attempt continues where the one before has ended.

use std::process::Command;

use binplz_tests::{
    server::{Server, fresh_set, program},
    site::wait_for,
};

use crate::cache::nix;

/// A chain whose parts hang at their first try, and `alone`, which always hangs and needs nothing.
fn packages(tried: &str) -> String {
    let part = |name: &str, before: &str| {
        let needs =
            if before.is_empty() { String::new() } else { format!("${{pkgs.failing.{before}}}/bin/{before}; ") };
        let hangs = format!("if mkdir {tried}/{name} 2> /dev/null; then while :; do echo hangs; sleep 1; done; fi; ");
        let hangs = if name == "first" { String::new() } else { hangs };
        format!("{name} = package \"{name}\" {{ buildPhase = \"{needs}{hangs}$CC -o program ${{good}}\"; }};\n")
    };
    let alone = "alone = package \"alone\" { buildPhase = \"while :; do echo hangs; sleep 1; done\"; };\n";
    [part("first", ""), part("second", "first"), part("third", "second"), alone.to_owned()].concat()
}

/// What `binplz show` says of a build.
fn shown(server: &Server, target: &str) -> serde_json::Value {
    let shown = Command::new(program("binplz")).args(["show", target, "--json", "--data"]).arg(&server.data).output();
    serde_json::from_slice(&shown.expect("binplz").stdout).expect("JSON")
}

#[test]
fn a_chain_that_takes_three_times_the_limit_is_built_in_three_attempts() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let tried = dir.path().join("tried");
    std::fs::create_dir(&tried).expect("a directory");
    let set = fresh_set(&packages(tried.to_str().expect("a path")));
    let data = dir.path().join("data");
    // Without a sandbox and build users, so that a build remembers that it was tried.
    let options = ["--trust-nixpkgs", "--build-time", "20", "--continued-attempts", "2", "--jobs", "2"];
    let server = Server::start_in(&nix(&dir.path().join("nix")), set.path(), &data, &options);
    for name in ["third", "alone"] {
        assert_eq!(server.get(&format!("/failing.{name}")).status, 202);
    }
    // It is told while it goes on, in the queue and at work.
    wait_for("the second part", || server.status("failing.third")["continued"].is_object().then_some(()));
    wait_for("the second part at work", || {
        let status = server.status("failing.third");
        let told = status["headline"].as_str()?.contains("continued: 2nd part");
        (status["state"] == "building" && told).then_some(())
    });
    let log = wait_for("the third part", || {
        (server.status("failing.third")["continued"]["attempts"] == 2)
            .then(|| server.get("/-/log/failing.third").text())
    });
    assert_eq!(server.settled("failing.third").status, 302, "{log}");
    let third = shown(&server, "failing.third");
    let ended =
        third["history"].as_array().expect("attempts").iter().map(|attempt| {
            (attempt["number"].clone(), attempt["continued"] == true, attempt["failure"]["kind"].clone())
        });
    let part = || (1.into(), true, "timed-out".into());
    assert_eq!(ended.collect::<Vec<_>>(), [part(), part(), (1.into(), false, serde_json::Value::Null)]);
    // The first of them has built one part, and the second another.
    let built: Vec<_> =
        third["history"].as_array().expect("attempts").iter().map(|one| one["stats"]["built"].clone()).collect();
    assert_eq!(built[..2], [1, 1]);
    // What has built nothing for others fails as ever, at the first attempt.
    assert_eq!(server.settled("failing.alone").status, 422);
    assert_eq!(shown(&server, "failing.alone")["history"].as_array().map(Vec::len), Some(1));
}
