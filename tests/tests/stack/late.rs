//! With every read that is not consistent one version late (`tests/bed/late_reads.py`): the same answers. Nothing is decided by such
//! a read, and what it does not show is looked for again.

use std::{ops::Deref, path::Path, process::Command};

use binplz_core::build::policy::Policy;
use binplz_tests::{
    answers::{Running, Start},
    scenario::Scenario,
    server::fresh_set,
    site::{Site, wait_for},
    stack::Stack,
};
use serde_json::json;

use crate::{
    pins::{change, pack},
    watched::{endpoint, watched},
};

/// On the bed, with late reads. Its minutes are short: where the index shows nothing yet, the schedule looks again.
struct Late;

struct Deployed {
    _scenario: Scenario,
    stack: Stack,
}

impl Start for Late {
    type Running = Deployed;
    fn start(&self, set: &Path, policy: &Policy) -> Deployed {
        let stack = Stack::deploy(set, policy);
        let scenario = Scenario::begin(&endpoint(), &stack.name);
        scenario.set(&json!({ "late_reads": true, "minute": 1 }));
        Deployed { _scenario: scenario, stack }
    }
}

impl Deref for Deployed {
    type Target = Site;
    fn deref(&self) -> &Site {
        &self.stack
    }
}

impl Running for Deployed {
    const PAID: bool = Stack::PAID;

    fn operator(&self, arguments: &[&str]) -> Command {
        self.stack.operator(arguments)
    }
    fn builders(&self) -> Vec<String> {
        self.stack.builders()
    }
    fn objects(&self) -> Vec<(String, String)> {
        self.stack.objects()
    }
}

/// One test for each promise.
macro_rules! late {
    ($module:ident: $($promise:ident),+;) => {
        mod $module {
            $(
                #[test]
                #[ignore = "needs AWS beside it: tests/bed/up --tasks"]
                fn $promise() {
                    binplz_tests::answers::$module::$promise(&super::Late);
                }
            )+
        }
    };
}

binplz_tests::answer_promises!(late);

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn an_index_that_does_not_show_a_build_yet_costs_a_minute_and_not_the_build() {
    let watched = watched("", &[]);
    watched.scenario.set(&json!({ "late_reads": true, "minute": null }));
    assert_eq!(watched.get("/dash").status, 202);
    // The dispatcher looks, sees nothing, and has nothing to do.
    wait_for("the dispatcher", || {
        let log = watched.scenario.log().into_iter();
        let its: Vec<_> = log.map(|request| request.what()).filter(|what| what.starts_with("Dispatcher ")).collect();
        let looked = its.contains(&"Dispatcher dynamodb:Query".to_owned());
        (looked && its.last()? == "Dispatcher lambda:Next").then_some(())
    });
    assert_eq!(watched.scenario.requests("ecs", "RunTask").len(), 0);
    watched.scenario.tick();
    watched.ended("dash");
    assert_eq!(watched.get("/dash").status, 302);
    assert_eq!(watched.scenario.requests("events", "Scheduled Event").len(), 1);
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn a_served_row_that_is_late_is_read_again_and_the_last_good_binary_is_served_while_a_new_one_is_built() {
    let watched = watched("", &[]);
    watched.scenario.set(&json!({ "late_reads": true, "minute": 1 }));
    let commit = |site: &Site| {
        let answer = site.get("/dash");
        (answer.status, answer.header("x-binplz-nixpkgs").map(str::to_owned))
    };
    assert_eq!(watched.settled("dash").status, 302);
    let (_, first) = commit(&watched);
    assert!(first.is_some());

    // It is remembered, and hidden: the next one reads twice, and asks for nothing else.
    let from = watched.scenario.log().len();
    assert_eq!(commit(&watched), (302, first.clone()));
    let asked: Vec<_> = watched.scenario.log()[from..]
        .iter()
        .filter(|request| request.what() == "Api dynamodb:GetItem")
        .map(|request| request.parameters["ConsistentRead"] == true)
        .collect();
    assert_eq!(asked, [false, true]);

    // The pin moves. No request waits, and in the end the new program is served.
    let (moved, scratch) = (fresh_set(""), tempfile::tempdir().expect("a temporary directory"));
    let tarball = pack(moved.path(), scratch.path());
    change(&watched, &["move", "demo", "--tarball", tarball.to_str().expect("a path")]);
    assert_eq!(commit(&watched), (302, first.clone()));
    // No read is late for ever.
    watched.scenario.set(&json!({ "late_reads": false }));
    wait_for("the new one", || match commit(&watched) {
        (302, now) if now == first => None,
        (302, now) => Some(now),
        other => panic!("{other:?}"),
    });
    // The row that was stale is shown, and not believed.
    watched.scenario.set(&json!({ "late_reads": true }));
    for _ in 0..3 {
        let (status, now) = commit(&watched);
        assert!(status == 302 && now != first, "{status} {now:?}");
    }
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn nothing_is_decided_by_a_read_that_may_be_late() {
    let watched = watched("", &[]);
    watched.scenario.set(&json!({ "minute": 1 }));
    assert_eq!(watched.settled("dash").status, 302);
    let log = watched.scenario.log();
    let mut reads = log.iter().filter(|request| request.operation == "GetItem").peekable();
    assert!(reads.peek().is_some());
    for read in reads {
        let pk = read.parameters["Key"]["pk"]["S"].as_str().expect("a key");
        // A served row that is late is a good one; progress is shown, and decides nothing; and one read opens a connection.
        let decides = pk.starts_with("build/") || pk == "limits" && read.function.as_deref() != Some("Api");
        assert!(!decides || read.parameters["ConsistentRead"] == true, "{read:?}");
    }
}
