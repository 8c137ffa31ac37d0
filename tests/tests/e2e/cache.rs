//! `binplz serve --cache`: what one builder has built for its package, a builder with another store fetches.

use std::{fs, path::Path, process::Command};

use binplz_core::{id::key::StoreHash, objects::artifact::ObjectName};
use binplz_tests::{
    cache::{PACKAGES, the_first_one_builds_what_it_needs, the_second_one_fetches_it},
    http,
    server::{Server, fresh_set, program},
    site::wait_for,
};

/// A Nix store of one's own.
pub(crate) fn nix(root: &Path) -> Vec<(&'static str, String)> {
    let path = |name: &str| root.join(name).to_str().expect("a path").to_owned();
    vec![
        ("NIX_STORE_DIR", path("store")),
        ("NIX_STATE_DIR", path("var")),
        ("NIX_LOG_DIR", path("log")),
        ("NIX_CONF_DIR", path("etc")),
        ("HOME", path("home")),
        ("NIX_REMOTE", "local".to_owned()),
        ("NIX_CONFIG", "sandbox = false\nbuild-users-group =\nsubstituters =\n".to_owned()),
    ]
}

/// What is in the cache.
fn cached(data: &Path) -> Vec<StoreHash> {
    let names = fs::read_dir(data.join("cache")).expect("a cache").map(|entry| entry.expect("an entry").file_name());
    let path = |name: std::ffi::OsString| match name.to_str()?.parse() {
        Ok(ObjectName::Narinfo(path)) => Some(path),
        _ => None,
    };
    names.filter_map(path).collect()
}

#[test]
fn of_two_packages_that_need_a_slow_one_the_second_fetches_it() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (set, data, store) = (fresh_set(PACKAGES), dir.path().join("data"), dir.path().join("nix"));
    // Without a sandbox and build users.
    let mut server = Server::start_in(&nix(&store), set.path(), &data, &["--cache", "--trust-nixpkgs"]);
    // Before anybody asks.
    let list = dir.path().join("list");
    fs::write(&list, "failing.needsSlow\n").expect("a list");
    let list = list.to_str().expect("a path");
    let seed = |more: &[&str]| {
        let mut command = Command::new(program("binplz"));
        command.args(["seed", "--list", list, "--data"]).arg(&data).args(more).output().expect("binplz")
    };
    assert!(!seed(&["--pin", "nowhere"]).status.success(), "there is no such pin");
    let seeded = seed(&["--wait"]);
    assert_eq!(String::from_utf8_lossy(&seeded.stdout), "1 ready\n", "{}", String::from_utf8_lossy(&seeded.stderr));
    the_first_one_builds_what_it_needs(&server);
    let [slow] = &wait_for("the promotion", || Some(cached(&data)).filter(|cached| !cached.is_empty()))[..] else {
        panic!("no other package needs the packages themselves")
    };
    wait_for("an empty quarantine", || {
        let leases = fs::read_dir(data.join("objects/quarantine")).ok()?.count();
        let found = Command::new("find").arg(data.join("objects/quarantine")).args(["-type", "f"]).output();
        (leases > 0 && found.ok()?.stdout.is_empty()).then_some(())
    });
    // A store of its own for the second one, and a server that was killed between.
    for gone in ["store", "var"] {
        fs::remove_dir_all(store.join(gone)).expect("a directory");
    }
    server.kill();
    server.restart();
    the_second_one_fetches_it(&server);
    assert_eq!(cached(&data), std::slice::from_ref(slow));
    // It is for builders: neither the cache nor the offers can be read over HTTP.
    for path in [format!("cache/{slow}.narinfo"), format!("quarantine/x/{slow}.narinfo")] {
        let answer = http::ask("GET", &format!("{}/-/objects/{path}", server.origin()), &[], b"");
        assert_eq!(answer.status, 404, "{path}");
    }
}

#[test]
fn a_data_directory_that_no_url_can_name_is_said_at_once() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("da ta");
    let output = Command::new(program("binplz"))
        .args(["serve", "--cache", "--listen", "127.0.0.1:0", "--nixpkgs"])
        .arg(binplz_tests::server::demo_set())
        .arg("--data")
        .arg(&data)
        .output()
        .expect("binplz");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("choose a plainer path, or omit --cache"), "{said}");
}
