//! What is being built.

use std::{
    collections::BTreeSet,
    fs,
    process::{Command, Output, Stdio},
    time::Duration,
};

use binplz_core::build::policy::Policy;

use super::{Running, Start, quick};
use crate::{
    crowd::at_once,
    gate::Gate,
    server::fresh_set,
    site::{wait_for, without_state},
};

pub fn who_asks_while_it_builds_is_told_when_to_come_back(at: &impl Start) {
    let set = fresh_set("");
    let site = at.start(set.path(), &quick());
    // It writes now and then, and never ends by itself.
    for _ in 0..2 {
        let pending = site.get("/failing.hangs");
        assert_eq!((pending.status, pending.header("location")), (202, Some("/-/status/failing.hangs")));
        assert_eq!(pending.header("cache-control"), Some("no-store"));
        let after: u64 = pending.header("retry-after").expect("a time").parse().expect("seconds");
        assert!(after >= 1);
        assert!(pending.text().starts_with("#!/bin/sh\n"), "{}", pending.text());
    }
    let json = site.send("GET", "/failing.hangs", &[("accept", "application/json")], b"");
    assert_eq!(json.status, 202);
    assert!(["queued", "building"].contains(&json.json()["state"].as_str().expect("a state")), "{}", json.text());
    let page = site.send("GET", "/failing.hangs", &[("accept", "text/html")], b"");
    assert_eq!((page.status, page.header("content-type")), (202, Some("text/html; charset=utf-8")));
    // curl would prepend the body of what it retries to what it gets in the end.
    let retried = site.get("/failing.hangs?retry");
    assert_eq!((retried.status, retried.body.len()), (503, 0));
    assert!(retried.header("retry-after").is_some());
    let line = site.get("/-/status/failing.hangs").text();
    assert!(line.starts_with("queued ") || line.starts_with("building "), "{line}");
}

pub fn many_who_ask_at_once_get_one_build(at: &impl Start) {
    const CLIENTS: usize = 40;
    let set = fresh_set("");
    let site = at.start(set.path(), &quick());
    let client = &*site;
    let all_ask = || BTreeSet::from_iter(at_once(CLIENTS, |_| client.get("/tree").status));
    // The quickest may be served before the slowest has asked.
    assert!(all_ask().is_subset(&BTreeSet::from([202, 302])));
    assert_eq!(site.settled("tree").status, 302);
    assert_eq!(all_ask(), BTreeSet::from([302]));
    let status = site.status("tree");
    assert_eq!((&status["attempt"], &status["derivations_started"]), (&1.into(), &1.into()), "{status}");
    assert_eq!(site.builders().len(), 1);
}

fn sh(line: &str) -> Output {
    Command::new("sh").arg("-c").arg(line).output().expect("sh")
}

pub fn one_command_waits_from_hop_to_hop_and_brings_the_binary(at: &impl Start) {
    let (gate, home) = (Gate::new("gated"), tempfile::tempdir().expect("a temporary directory"));
    let set = fresh_set(&gate.package());
    let site = at.start(set.path(), &Policy { hold: Duration::from_secs(1), ..quick() });
    let (file, told) = (home.path().join("gated"), home.path().join("told"));
    let mut curl = Command::new("curl")
        .args(["-svL", &format!("{}/{}?wait", site.origin(), gate.target()), "-o"])
        .arg(&file)
        .stderr(fs::File::create(&told).expect("a file"))
        .stdout(Stdio::null())
        .spawn()
        .expect("curl");
    gate.arrived();
    let came_to = |hop: &str| {
        wait_for(hop, || {
            assert!(curl.try_wait().expect("a child").is_none(), "{}", fs::read_to_string(&told).unwrap_or_default());
            fs::read_to_string(&told).expect("a file").contains(hop).then_some(())
        });
    };
    [1, 2, 3].map(|hop| format!("/-/wait/{hop}/")).iter().map(String::as_str).for_each(came_to);
    gate.open();
    assert!(curl.wait().expect("a child").success());
    assert!(fs::read(file).expect("the program") == site.download(&gate.target()));
    let told = fs::read_to_string(told).expect("a file").to_ascii_lowercase();
    assert!(!told.contains("retry-after"), "{told}");
}

pub fn a_build_that_outlives_the_chain_ends_in_a_202_and_its_stub(at: &impl Start) {
    let (gate, home) = (Gate::new("gated"), tempfile::tempdir().expect("a temporary directory"));
    let set = fresh_set(&gate.package());
    // No hop holds its answer, so the whole chain ends at once.
    let site = at.start(set.path(), &Policy { hold: Duration::ZERO, ..quick() });
    let (url, saved) = (format!("{}/{}", site.origin(), gate.target()), home.path().join("saved"));
    let stub = without_state(&site.get(&format!("/{}", gate.target())).body);
    gate.arrived();
    for (agent, redirects) in [("", 48), ("-A Wget/1.21.3", 18), ("-A Wget", 13), ("-A other", 7)] {
        let line =
            format!("curl -sL {agent} '{url}?wait' -o {} -w '%{{http_code}} %{{num_redirects}}'", saved.display());
        let out = sh(&line);
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert_eq!((out.status.code(), said), (Some(0), format!("202 {redirects}")), "{agent}");
        assert_eq!(without_state(&fs::read(&saved).expect("a file")), stub, "{agent}");
    }
    // One who asked for both goes on by itself: to its client the end of the chain is a 503 without a body.
    let both = sh(&format!("curl -sL '{url}?wait&retry' -w '%{{http_code}} %{{size_download}}'"));
    assert_eq!(String::from_utf8_lossy(&both.stdout), "503 0");
}

pub fn where_nobody_may_wait_the_answer_is_a_202_at_once(at: &impl Start) {
    let gate = Gate::new("gated");
    let set = fresh_set(&gate.package());
    let site = at.start(set.path(), &Policy { waiters: 0, ..quick() });
    let stub = without_state(&site.get(&format!("/{}", gate.target())).body);
    gate.arrived();
    let answer = site.get(&format!("/{}?wait", gate.target()));
    assert_eq!(answer.status, 202);
    assert!(answer.header("retry-after").is_some() && without_state(&answer.body) == stub);
}
