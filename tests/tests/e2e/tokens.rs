//! A builder's token opens its own build and nothing else.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use binplz_tests::{
    http::Answer,
    server::{Server, demo_set},
    site::wait_for,
};
use serde_json::json;

/// A lease as its builder was told of it.
struct Lease {
    path: String,
    token: String,
}

impl Lease {
    fn call(&self, server: &Server, method: &str, verb: &str, token: &str, body: &serde_json::Value) -> Answer {
        let authorization = format!("Bearer {token}");
        let headers = [("authorization", authorization.as_str())];
        server.send(method, &format!("{}{verb}", self.path), &headers, body.to_string().as_bytes())
    }
}

/// A builder that writes down what it was told and waits to be ended, so that the test is the builder.
fn patient_builder(dir: &Path) -> std::path::PathBuf {
    let script = dir.join("builder");
    let text = format!(
        "#!/bin/sh\numask 077\necho \"$BINPLZ_LEASE_URL $BINPLZ_LEASE_TOKEN\" > {0}/$$.tmp && mv {0}/$$.tmp {0}/$$.lease\nexec sleep 600\n",
        dir.display()
    );
    fs::write(&script, text).expect("a script");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("its owner may");
    script
}

fn lease(dir: &Path, server: &Server, attr: &str) -> Lease {
    assert_eq!(server.get(&format!("/{attr}")).status, 202);
    wait_for("a lease", || {
        fs::read_dir(dir).expect("a directory").find_map(|entry| {
            let path = entry.expect("an entry").path();
            let text = fs::read_to_string(&path).ok().filter(|_| path.extension().is_some_and(|e| e == "lease"))?;
            let (url, token) = text.trim().split_once(' ')?;
            let path = url.strip_prefix(&server.origin())?.to_owned();
            path.contains(&format!("/{attr}/")).then(|| Lease { path, token: token.to_owned() })
        })
    })
}

fn settled() -> serde_json::Value {
    json!({ "outcome": { "failed": { "kind": "build-failed" } }, "stats": { "derivations": 1, "log_segments": 0 } })
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
    let nothing = json!({});
    let object = json!([{ "name": "bin/tree", "size": 3, "sha256": "0".repeat(64) }]);
    let progress = json!({ "phase": "building", "done": 0, "expected": 1, "bytes_fetched": 0, "log_segments": 0 });
    for (method, verb, body) in [
        ("GET", "", &nothing),
        ("POST", "/pulse", &progress),
        ("POST", "/uploads", &object),
        ("POST", "/settle", &settled()),
    ] {
        assert_eq!(b.call(&server, method, verb, &a.token, body).status, 401, "{verb} with another's token");
        assert_eq!(b.call(&server, method, verb, "", body).status, 401, "{verb} without a token");
        assert_eq!(b.call(&server, method, verb, &"0".repeat(64), body).status, 401, "{verb} with a guess");
        // A's own lease under B's build is nobody's lease.
        let mixed = Lease { path: b.path.replace("/hello/", "/tree/"), token: a.token.clone() };
        assert_eq!(mixed.call(&server, method, verb, &a.token, body).status, 409, "{verb} of no lease");
    }
    assert_eq!(server.status("hello")["state"], "building");
    assert_eq!(server.status("tree")["state"], "building");

    // Its own objects: programs and log segments, nothing else, no way out, not a byte more than was said.
    for name in ["manifest.json", "../../x", "bin/../../hello", "/etc/passwd", "bin/", "log/0"] {
        let object = json!([{ "name": name, "size": 3, "sha256": "0".repeat(64) }]);
        let refused = a.call(&server, "POST", "/uploads", &a.token, &object).status;
        assert!([400, 403].contains(&refused), "{name}: {refused}");
    }
    let granted = a.call(&server, "POST", "/uploads", &a.token, &object);
    assert_eq!(granted.status, 200, "{}", granted.text());
    let url = granted.json()[0]["url"].as_str().expect("a URL").replace(&server.origin(), "");
    assert_eq!(server.send("PUT", &url, &[], b"bad").status, 400);
    for other in
        [url.replace("/tree/", "/hello/"), url.replace("bin/tree", "bin/other"), url.replace("size=3", "size=4")]
    {
        assert_eq!(server.send("PUT", &other, &[], b"bad!").status, 403, "{other}");
    }

    // What it says it has stored and has not is not believed.
    let manifest = json!({ "outcome": { "built": { "pname": "tree", "version": "1", "drv_path": "x",
        "programs": [{ "bin": "tree", "verdict": "static", "sha256": "0".repeat(64), "size": 3 }] } },
        "stats": { "derivations": 1, "log_segments": 0 } });
    assert_eq!(a.call(&server, "POST", "/settle", &a.token, &manifest).status, 400);
    assert_eq!(server.status("tree")["state"], "building");

    // With its own token its word counts, once or twice; then its lease is over.
    for _ in 0..2 {
        assert_eq!(a.call(&server, "POST", "/settle", &a.token, &settled()).status, 200);
        assert_eq!(server.status("tree")["state"], "failed");
    }
    assert_eq!(a.call(&server, "POST", "/settle", &a.token, &manifest).status, 409);
    assert_eq!(a.call(&server, "POST", "/uploads", &a.token, &object).status, 409);
    assert_eq!(server.status("tree")["failure"]["kind"], "build-failed");
}

#[test]
fn an_expired_leases_settle_changes_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let builder = patient_builder(dir.path());
    let options = ["--builder", builder.to_str().expect("a path"), "--lease", "3", "--retry-delay", "3600"];
    let server = Server::start(&demo_set(), &dir.path().join("data"), &options);
    let lease = lease(dir.path(), &server, "tree");
    wait_for("the lease to lapse", || (server.status("tree")["state"] == "queued").then_some(()));
    assert_eq!(lease.call(&server, "POST", "/settle", &lease.token, &settled()).status, 409);
    assert_eq!(
        lease
            .call(
                &server,
                "POST",
                "/pulse",
                &lease.token,
                &json!({ "phase": "building", "done": 0, "expected": 0, "bytes_fetched": 0, "log_segments": 0 })
            )
            .status,
        409
    );
    let status = server.status("tree");
    assert_eq!((&status["state"], &status["attempt"]), (&"queued".into(), &2.into()), "{status}");
    assert_eq!(status["failure"]["kind"], "lost-heartbeat");
}
