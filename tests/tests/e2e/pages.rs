//! What a page tells to copy, copied.

use std::{fs, process::Command};

use binplz_tests::server::{Server, demo_set};

#[test]
fn the_nix_build_line_of_a_package_builds_the_very_bytes_that_are_served() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(&demo_set(), &home.path().join("data"), &[]);
    for (package, program) in [
        ("tree", "tree"),
        ("games.figlet", "figlet"),
        ("outputs.digx", "digx"),
        ("outputs.digx", "named"),
        ("outputs.bindx", "hostx"),
        ("outputs.inBin", "inBin"),
        ("outputs.devFirst", "devFirst"),
        ("outputs.devFirst", "devFirst-config"),
        ("outputs.twice", "twice"),
        ("outputs.twiceTools", "twice"),
    ] {
        let target = format!("{package}/{program}");
        assert_eq!(server.settled(&target).status, 302);
        let json = [("accept", "application/json")];
        let page = server.send("GET", &format!("/-/p/{package}"), &json, b"").json();
        let programs = page["programs"].as_array().expect("a list");
        let listed = programs.iter().find(|listed| listed["program"] == program).expect("the program");
        let line = listed["nix_build"].as_str().or(page["nix_build"].as_str()).expect("a line");
        let link = match listed["output"].as_str() {
            Some("out") | None => "result".to_owned(),
            Some(output) => format!("result-{output}"),
        };
        let dir = tempfile::tempdir().expect("a temporary directory");
        let settings = std::env::var("NIX_CONFIG").unwrap_or_default();
        let nix = Command::new("sh")
            .args(["-c", line])
            .env("NIX_CONFIG", format!("{settings}\nextra-experimental-features = nix-command"))
            .current_dir(dir.path())
            .output()
            .expect("sh");
        assert!(nix.status.success(), "{line}: {}", String::from_utf8_lossy(&nix.stderr));
        let built = fs::read(dir.path().join(link).join("bin").join(program)).expect("a program");
        assert!(built == server.download(&target), "{line}");
    }
}
