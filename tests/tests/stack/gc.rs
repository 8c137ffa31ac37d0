//! Garbage collection on a deployed stack: by the function that a schedule wakes, killed in its middle, and by the
//! operator; rows first, objects a grace later. And what the collector does about stored objects that are missing or damaged.

use std::{collections::BTreeSet, process::Command};

use binplz_core::row::Row;
use binplz_tests::{
    answers::Running,
    server::{fresh_set, program},
    site::wait_for,
};
use serde_json::{Value, json};

use crate::{
    pins::{change, pack},
    watched::{Watched, endpoint, watched},
};

const PACKAGES: &str = r#"
  stays = package "stays" { };
  goes = package "goes" { };
"#;

/// What the operator's own run says.
fn gc(w: &Watched, more: &[&str]) -> Value {
    let mut command = Command::new(program("binplz"));
    command.args(["gc", "--json", "--stack", &w.name]).args(more).env("AWS_ENDPOINT_URL", endpoint());
    let done = command.output().expect("binplz");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).expect("JSON")
}

/// The paths of the objects of a commit.
fn objects_of(w: &Watched, rev: &str) -> BTreeSet<String> {
    w.objects().into_iter().map(|(path, _)| path).filter(|path| path.contains(rev)).collect()
}

/// The names of all rows that speak of a commit, but for the pins, and for claims on dependencies, which go by their age.
fn rows_of(w: &Watched, rev: &str) -> Vec<String> {
    let rows = w.rows().into_iter().filter(|row| !matches!(row, Row::Pins(_) | Row::Dependency(_)));
    rows.filter(|row| format!("{row:?}").contains(rev)).map(|row| row.key().to_string()).collect()
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn a_retired_pin_goes_though_the_collector_is_killed_in_its_middle_and_another_pin_stays() {
    // Nothing is let alone here but what a minute's clock tells apart.
    let w = watched(PACKAGES, &["--env=BINPLZ_GRACE_SECONDS=1"]);
    assert_eq!(w.settled("failing.stays").status, 302);
    let stays = w.get("/failing.stays").header("x-binplz-nixpkgs").expect("a commit").to_owned();
    let kept = objects_of(&w, &stays);
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let second = fresh_set(PACKAGES);
    let tarball = pack(second.path(), scratch.path());
    let pins = change(&w, &["add", "second", "--tarball", tarball.to_str().expect("a path")]);
    let goes = pins["second"].clone();
    assert_eq!(w.settled("failing.goes?pin=second").status, 302);
    assert!(!objects_of(&w, &goes).is_empty() && !rows_of(&w, &goes).is_empty());

    change(&w, &["retire", "second", "--keep", "0s", "--yes"]);
    // The bed calls what removes many objects by its method. Each run goes on where the one before was killed: at its second row, at its first object, at the last row.
    let faults = [("dynamodb", "DeleteItem", 2), ("dynamodb", "PutItem", 1), ("s3", "POST.s3", 1)];
    for (service, operation, nth) in faults {
        let at = json!({ "function": "Collector", "service": service, "operation": operation });
        let fault = w.scenario.fault(&json!({ "at": at, "nth": nth, "do": "kill-after" }));
        wait_for(operation, || {
            w.invoke("collector");
            let asked = w.scenario.requests(service, operation);
            let asked = asked.iter().filter(|request| request.function.as_deref() == Some("Collector")).count();
            (asked >= nth).then_some(())
        });
        fault.happened();
    }
    wait_for("all to be gone", || {
        w.invoke("collector");
        (objects_of(&w, &goes).is_empty() && rows_of(&w, &goes).is_empty()).then_some(())
    });
    assert_eq!((objects_of(&w, &stays), w.get("/failing.stays").status), (kept, 302));
    assert!(!w.download("failing.stays").is_empty());
    // Its tarball, too; that of the other one is there.
    assert_eq!(w.nixpkgs(), [stays]);

    // The operator's own run finds nothing, with the operator's own credentials and the default grace period.
    let report = gc(&w, &["--dry-run"]);
    assert_eq!((&report["rehearsal"], &report["rows"]["builds"]), (&json!(true), &json!(0)), "{report}");
    assert_eq!(gc(&w, &[])["removed"]["objects"], 0);
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn an_object_that_is_missing_or_damaged_is_found_by_the_collector_and_built_again() {
    let w = watched("", &[]);
    for package in ["tree", "dash"] {
        assert_eq!(w.settled(package).status, 302);
    }
    let good = w.download("tree");
    // The key behind a redirect: its URL names the bucket first.
    let key_of = |package: &str| {
        let hit = w.get(&format!("/{package}"));
        let url = hit.header("location").expect("a location").to_owned();
        let path = url.split_once(&format!("/{}/", w.outputs["Bucket"])).expect("the bucket").1;
        path.split('?').next().expect("a path").to_owned()
    };
    let damaged: Vec<u8> = good.iter().enumerate().map(|(at, byte)| byte ^ u8::from(at == 1000)).collect();
    w.put_as_the_account(&key_of("tree"), &damaged);
    w.delete_as_the_account(&key_of("dash"));
    // Until the collector looks, a hit does not see it.
    assert_eq!((w.download("tree"), w.get("/dash").status), (damaged, 302));

    w.invoke("collector");
    for package in ["tree", "dash"] {
        assert_eq!(w.ended(package).history.len(), 2, "{package} is built once more");
        assert_eq!(w.settled(package).status, 302);
    }
    assert_eq!(w.download("tree"), good);
    assert!(!w.download("dash").is_empty());
    let mut verify = Command::new(program("binplz"));
    verify.args(["verify", "--all", "--json", "--stack", &w.name]).env("AWS_ENDPOINT_URL", endpoint());
    let done = verify.output().expect("binplz");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let report: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    assert_eq!(report["found"], json!([]), "{report}");
}
