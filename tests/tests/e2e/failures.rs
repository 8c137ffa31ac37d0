//! What it costs to be asked for what has failed for good.

use std::fs;

use binplz_tests::{
    failures::asked_a_thousand_times,
    server::{Server, children, demo_set},
    site::wait_for,
};

#[test]
fn a_thousand_requests_for_what_has_failed_for_good_start_no_builder_and_write_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(&demo_set(), &dir.path().join("data"), &[]);
    for target in ["failing.compileError", "failing.dependencyFails"] {
        assert_eq!(server.settled(target).status, 422);
        wait_for("its builder's end", || children(server.pid()).is_empty().then_some(()));
        // The end is written after the process has gone.
        let health = || server.send("GET", "/-/health", &[("accept", "application/json")], b"").json();
        wait_for("its slot", || (health()["building"] == 0).then_some(()));
        let builders = || fs::read_dir(server.data.join("builders")).expect("the builders' outputs").count();
        // All that was ever written is in this file.
        let ledger = || fs::read(server.data.join("ledger.redb")).expect("the ledger");
        let (started, written) = (builders(), ledger());
        asked_a_thousand_times(&server, target);
        assert_eq!(builders(), started);
        assert!(ledger() == written, "the ledger was written to");
    }
}
