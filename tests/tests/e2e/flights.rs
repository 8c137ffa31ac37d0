//! However many ask at once, a package is built once.

use std::{
    sync::{Arc, Barrier},
    thread,
};

use binplz_tests::server::{Server, fresh_set};

const PACKAGES: [&str; 10] =
    ["tree", "ncompress", "nq", "byacc", "dos2unix", "games.figlet", "lz4", "xxHash", "mawk", "dash"];

#[test]
fn three_hundred_simultaneous_requests_for_ten_packages_are_ten_builds_and_three_hundred_right_answers() {
    let set = fresh_set("");
    let data = tempfile::tempdir().expect("a temporary directory");
    // No process dies here, so no lease should expire, however busy the machine is.
    let server = Arc::new(Server::start(set.path(), data.path(), &["--lease", "600"]));
    let start = Arc::new(Barrier::new(300));
    let clients: Vec<_> = (0..300)
        .map(|n| {
            let (server, start) = (Arc::clone(&server), Arc::clone(&start));
            thread::spawn(move || {
                let package = PACKAGES[n % PACKAGES.len()];
                start.wait();
                (package, server.get(&format!("/{package}")).status, server.settled(package))
            })
        })
        .collect();
    for client in clients {
        let (package, first, settled) = client.join().expect("a client");
        // The quickest may be built before the slowest has asked.
        assert!(first == 202 || first == 302, "{package}: {first}");
        assert_eq!((settled.status, settled.header("x-binplz-package")), (302, Some(package)));
    }
    for package in PACKAGES {
        let status = server.status(package);
        assert_eq!(status["attempt"], 1, "{status}");
        assert_eq!(status["derivations_started"], 1, "{status}");
    }
}
