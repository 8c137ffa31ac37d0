//! However many ask at once, a package is built once.

use binplz_tests::{
    crowd::at_once,
    server::{Server, fresh_set},
};

const PACKAGES: [&str; 10] =
    ["tree", "ncompress", "nq", "byacc", "dos2unix", "games.figlet", "lz4", "xxHash", "mawk", "dash"];

#[test]
fn three_hundred_simultaneous_requests_for_ten_packages_are_ten_builds_and_three_hundred_right_answers() {
    let set = fresh_set("");
    let data = tempfile::tempdir().expect("a temporary directory");
    // No process dies here, so no lease should expire, however busy the machine is.
    let server = Server::start(set.path(), data.path(), &["--lease", "600"]);
    let answers = at_once(300, |n| {
        let package = PACKAGES[n % PACKAGES.len()];
        (package, server.get(&format!("/{package}")).status, server.settled(package))
    });
    for (package, first, settled) in answers {
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
