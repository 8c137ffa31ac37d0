//! A page whose name was made to lead to this machine (DNS rebinding) reads and posts nothing here.

use binplz_tests::{
    http::{Answer, send},
    server::{Server, demo_set},
};

fn ask(server: &Server, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    send(None, &server.address, method, path.as_bytes(), headers, b"").expect("an answer")
}

#[test]
fn a_server_on_this_machine_answers_no_request_for_another_host() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(&demo_set(), &data.path().join("data"), &["--host", "box.lan"]);
    assert_eq!(server.settled("hello").status, 302);
    let object = server.get("/hello").header("location").expect("a location").to_owned();
    let object = object.strip_prefix(&server.origin()).expect("an object of this server");
    let port = server.address.rsplit_once(':').expect("a port").1;
    let other = format!("evil.example:{port}");
    let origin = format!("http://{other}");
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/-/health"),
        ("GET", "/-/status/tree"),
        ("GET", "/hello"),
        ("GET", "/tree"),
        ("HEAD", "/tree"),
        ("POST", "/-/build/tree"),
        ("GET", "/-/lease/x/y/z/1"),
        ("GET", object),
    ] {
        // As a browser sends it, to which it is all one site.
        let headers = [("host", other.as_str()), ("origin", origin.as_str()), ("sec-fetch-site", "same-origin")];
        let refused = ask(&server, method, path, &headers);
        if path.starts_with("/-/status/") {
            // A script reads the reason in the line, whose status is always 200.
            let line = refused.text();
            assert!(line.starts_with("failed 0 - - - this server does not serve the requested host name"), "{line}");
            continue;
        }
        assert_eq!(refused.status, 421, "{method} {path}: {refused:?}");
        assert!(refused.header("x-request-id").is_some(), "{refused:?}");
    }
    assert_eq!(server.status("tree")["state"], "unasked");
    for own in [format!("localhost:{port}"), format!("[::1]:{port}"), "Box.lan".to_owned()] {
        assert_eq!(ask(&server, "GET", "/hello", &[("host", &own)]).status, 302, "{own}");
    }
}
