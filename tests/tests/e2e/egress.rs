//! A ceiling for what is downloaded in a day, as everybody meets it who asks a real server.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use binplz_tests::{
    server::{Server, demo_set, program},
    site::wait_for,
};
use serde_json::Value;

const WORDS: &str = "the daily download limit is reached; downloads resume on 20";

fn status(data: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program("binplz")).arg("status").args(arguments).arg("--data").arg(data).output();
    String::from_utf8(output.expect("binplz").stdout).expect("text")
}

fn sh(home: &Path, script: &str) -> Output {
    Command::new("sh").arg("-c").arg(script).current_dir(home).env("HOME", home).output().expect("sh")
}

#[test]
fn when_a_days_ceiling_is_reached_everybody_is_told_until_when_and_a_higher_one_serves_again() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let (data, home) = (home.path().join("data"), home.path());
    let start = |options: &[&str]| Server::start(&demo_set(), &data, options);
    let mut server = start(&[]);
    let hit = server.settled("tree");
    let size: u64 = hit.header("x-binplz-size").and_then(|size| size.parse().ok()).expect("a size");
    let stub = hit.text();
    assert!(!status(&data, &[]).contains("egress"));
    server.kill();

    let old = server.origin();
    let mut server = start(&["--egress", &(3 * size).to_string()]);
    // The port is another one.
    fs::write(home.join("stub"), stub.replace(&old, &server.origin())).expect("a file");
    // Until it is counted, which it is every lease's time.
    wait_for("the ceiling", || (server.get("/tree").status == 503).then_some(()));
    let refused = server.get("/tree");
    let seconds = refused.header("retry-after").and_then(|after| after.parse::<u64>().ok()).expect("a time");
    assert!((1..=900).contains(&seconds) && refused.text().contains(WORDS), "{}", refused.text());
    assert_eq!(refused.header("cache-control"), Some("no-store"));
    assert!(refused.header("location").is_none());
    for (method, path, accept) in
        [("HEAD", "/tree", "*/*"), ("GET", "/tree/tree", "application/json"), ("GET", "/tree", "text/html")]
    {
        assert_eq!(server.send(method, path, &[("accept", accept)], b"").status, 503, "{method} {path} {accept}");
    }
    let polled = server.get("/tree?retry");
    // Within fifteen minutes of midnight it is worth to poll.
    match polled.status {
        503 => assert_eq!(polled.text(), ""),
        status => assert!(status == 409 && polled.text().contains(WORDS), "{polled:?}"),
    }
    // No build starts whose program could not be downloaded.
    assert_eq!(server.get("/dash").status, 503);
    assert_eq!(server.status("dash")["state"], "unasked");

    let told = server.status("tree");
    assert!(told["state"] == "ready" && told["artifact"].is_null(), "{told}");
    assert!(told["reason"].as_str().is_some_and(|reason| reason.starts_with(WORDS)), "{told}");
    let health = server.send("GET", "/-/health", &[("accept", "application/json")], b"").json();
    assert!(health["egress"]["ceiling"] == 3 * size && health["egress"]["until"].is_u64(), "{health}");
    assert!(health["egress"]["served"].as_u64() >= Some(3 * size), "{health}");
    let page = server.send("GET", "/-/health", &[("accept", "text/html")], b"").text();
    assert!(page.contains("download limit is reached") && page.contains("Downloaded today"), "{page}");
    let overview: Value = serde_json::from_str(&status(&data, &["--json"])).expect("JSON");
    assert_eq!(overview["egress"], health["egress"]);
    assert!(status(&data, &[]).contains("; downloads stop until 20"));
    assert!(server.log().contains("no program is served any more today"), "{}", server.log());

    // A saved stub and the installer do not wait until tomorrow.
    let install = |server: &Server| sh(home, &format!("curl -fsS {}/-/install/tree | sh", server.origin()));
    for ended in [sh(home, "sh ./stub --version"), install(&server)] {
        let words = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(ended.status.code() == Some(1) && words.contains(WORDS), "{words}");
    }
    assert!(!home.join(".local/bin/tree").exists());

    // A restarted server keeps the count, and its own ceiling applies.
    server.kill();
    server.restart();
    assert_eq!(server.get("/tree").status, 503);
    server.kill();
    let server = start(&["--egress", &(1_000_000 * size).to_string()]);
    let served = |server: &Server| {
        let health = server.send("GET", "/-/health", &[("accept", "application/json")], b"").json();
        assert!(health["egress"]["until"].is_null(), "{health}");
        health["egress"]["served"].as_u64().expect("bytes")
    };
    let before = served(&server);
    let installed = install(&server);
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    wait_for("what was installed to be counted", || (served(&server) == before + size).then_some(()));
    assert_eq!(server.get("/tree").status, 302);
}
