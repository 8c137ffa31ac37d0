//! A bundle, from requests to its run. So many at once fill a machine: `scripts/e2e` runs this with nothing beside it.

use std::process::Command;

use binplz_tests::{crowd::at_once, http, server::write_program, site::wait_for};
use serde_json::json;

use crate::watched::watched;

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn three_hundred_who_ask_for_a_bundle_get_one_file_of_one_attempt_and_it_runs() {
    let stack = watched("", &[]);
    stack.scenario.set(&json!({ "at_once": 24 }));
    let target = "-/bundle/failing.wrapper";
    let path = format!("/{target}");
    // They ask again where the gateway of a busy machine has no answer of the service.
    let statuses = at_once(300, |_| wait_for(&path, || stack.answered(&path)).status);
    assert!(statuses.iter().all(|status| [202, 302].contains(status)), "{statuses:?}");
    let hit = stack.settled(target);
    assert_eq!((hit.status, hit.header("x-binplz-package")), (302, Some("failing.wrapper")), "{}", hit.text());
    let status = stack.status(target);
    assert_eq!((&status["attempt"], &status["form"]), (&1.into(), &"bundle".into()), "{status}");
    let url = hit.header("location").expect("a location");
    let whole = http::ask("GET", url, &[], b"").body;
    let rest = http::ask("GET", url, &[("range", &format!("bytes={}-", whole.len() - 100))], b"");
    assert_eq!((rest.status, &rest.body[..]), (206, &whole[whole.len() - 100..]));
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("wrapper");
    write_program(&file, &whole);
    let ran = Command::new(&file).env("XDG_CACHE_HOME", dir.path()).output().expect("a program");
    let (said, error) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert_eq!(said, "from a wrapper, and a file\n", "{error}");
}
