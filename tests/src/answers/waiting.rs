//! What is being built.

use std::{collections::BTreeSet, sync::Barrier, thread::scope};

use super::{Running, Start, quick};
use crate::server::fresh_set;

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
    let at_once = || {
        let (start, client) = (Barrier::new(CLIENTS), &*site);
        scope(|scope| {
            let ask = || {
                start.wait();
                client.get("/tree").status
            };
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(ask)).collect();
            clients.into_iter().map(|client| client.join().expect("a client")).collect::<BTreeSet<_>>()
        })
    };
    // The quickest may be served before the slowest has asked.
    assert!(at_once().is_subset(&BTreeSet::from([202, 302])));
    assert_eq!(site.settled("tree").status, 302);
    assert_eq!(at_once(), BTreeSet::from([302]));
    let status = site.status("tree");
    assert_eq!((&status["attempt"], &status["derivations_started"]), (&1.into(), &1.into()), "{status}");
    assert_eq!(site.builders().len(), 1);
}
