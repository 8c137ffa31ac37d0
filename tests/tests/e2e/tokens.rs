//! A builder's token opens its own build and nothing else.

use std::{fs, path::Path};

use binplz_tests::{
    leases::{self, Lease},
    server::{Server, demo_set, write_program},
    site::wait_for,
};

/// A builder that writes down what it was told and waits to be ended, so that the test is the builder.
fn patient_builder(dir: &Path) -> std::path::PathBuf {
    let script = dir.join("builder");
    let text = format!(
        "#!/bin/sh\numask 077\necho \"$BINPLZ_LEASE_URL $BINPLZ_LEASE_TOKEN\" > {0}/$$.tmp && mv {0}/$$.tmp {0}/$$.lease\nexec sleep 600\n",
        dir.display()
    );
    write_program(&script, text);
    script
}

fn lease(dir: &Path, server: &Server, attr: &str) -> Lease {
    assert_eq!(server.get(&format!("/{attr}")).status, 202);
    wait_for("a lease", || {
        fs::read_dir(dir).expect("a directory").find_map(|entry| {
            let path = entry.expect("an entry").path();
            let text = fs::read_to_string(&path).ok().filter(|_| path.extension().is_some_and(|e| e == "lease"))?;
            let (url, token) = text.trim().split_once(' ')?;
            Some(Lease::at(url, token)).filter(|lease| lease.path.contains(&format!("/{attr}/")))
        })
    })
}

#[test]
fn a_token_of_one_build_is_refused_for_another_builds_objects_and_row() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let builder = patient_builder(dir.path());
    let server = Server::start(
        &demo_set(),
        &dir.path().join("data"),
        &["--builder", builder.to_str().expect("a path"), "--lease", "60"],
    );
    let (a, b) = (lease(dir.path(), &server, "tree"), lease(dir.path(), &server, "hello"));
    leases::a_token_opens_its_own_build_and_nothing_else(&server, &a, &b, false);
}

#[test]
fn an_expired_leases_settle_changes_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let builder = patient_builder(dir.path());
    let options = ["--builder", builder.to_str().expect("a path"), "--lease", "3", "--retry-delay", "3600"];
    let server = Server::start(&demo_set(), &dir.path().join("data"), &options);
    let lease = lease(dir.path(), &server, "tree");
    wait_for("the lease to lapse", || (server.status("tree")["state"] == "queued").then_some(()));
    leases::a_lease_that_is_over_is_not_heard(&server, &lease);
}
