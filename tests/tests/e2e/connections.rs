//! A client holds little of a server, and not for long: a slow client delays no other.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::Command,
};

use binplz_tests::{
    server::{Server, fresh_set, program},
    site::wait_for,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The descriptors that a shell gives a program, by default.
const USUAL: u64 = 1024;
/// What a server's memory may grow by for clients that do not read, in kB.
const GROWTH_MAX: u64 = 160 << 10;

fn set_soft_limit(descriptors: u64) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = Some(maximum.map_or(descriptors, |most| descriptors.min(most)));
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).expect("a lower limit");
}

/// A server as a shell would start it, and a test that may have more connections than that.
fn start(set: &std::path::Path, data: &std::path::Path) -> Server {
    set_soft_limit(USUAL);
    let server = Server::start(set, data, &[]);
    set_soft_limit(20_000);
    server
}

/// Sends this from an address of this machine, and reads nothing.
fn send(server: &Server, from: &str, request: &str) -> TcpStream {
    let mut stream =
        binplz_tests::http::connect(Some(from.parse().expect("an address")), &server.address).expect("a connection");
    stream.write_all(request.as_bytes()).expect("a socket");
    stream
}

/// Its resident memory, in kB.
fn memory(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn descriptors(server: &Server) -> usize {
    fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("it runs").count()
}

#[test]
fn half_sent_requests_keep_no_hit_no_build_and_no_operator_waiting_and_end() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let set = fresh_set("");
    let server = start(set.path(), &data.path().join("data"));
    assert_eq!(server.settled("tree").status, 302);
    let quiet = descriptors(&server);
    let half = "GET /tree HTTP/1.1\r\nhost: localhost\r\n";
    let mut slow: Vec<_> = (0..1200).map(|n| send(&server, &format!("127.0.2.{}", 1 + n % 4), half)).collect();
    // Hits, and a build with all that its builder has to say.
    assert_eq!(server.get("/tree").status, 302);
    assert_eq!(server.settled("hello").status, 302);
    let status = Command::new(program("binplz")).args(["status", "--data"]).arg(&server.data).output();
    let status = status.expect("binplz");
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    // One address has a share.
    let mut more: Vec<_> = (0..600).map(|_| send(&server, "127.0.2.9", half)).collect();
    let mut refused = Vec::new();
    // What it has sent was not read, which ends the connection with an error.
    let _ = more.last_mut().expect("the last").read_to_end(&mut refused);
    assert!(refused.starts_with(b"HTTP/1.1 503 "), "{}", String::from_utf8_lossy(&refused));
    assert_eq!(server.get("/tree").status, 302);
    // Each is over after its time, though its client does nothing.
    for stream in slow.iter_mut().take(20) {
        // With or without an answer.
        let _ = stream.read_to_end(&mut Vec::new());
    }
    wait_for("the connections to be closed", || (descriptors(&server) < quiet + 50).then_some(()));
}

#[test]
fn clients_that_do_not_read_cost_little_memory_and_are_left() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let packages = r#"talks = package "talks" {
      buildPhase = "yes 'it has a lot to say, and says it in lines of eighty characters or so, again and again' | head -c 6000000; false";
    };"#;
    let set = fresh_set(packages);
    let server = start(set.path(), &data.path().join("data"));
    assert_eq!(server.settled("failing.talks").status, 422);
    let path = "/-/log/failing.talks";
    let whole = server.get(path);
    assert!(whole.body.len() > 1 << 20, "{}", whole.body.len());
    let (before, quiet) = (memory(&server), descriptors(&server));
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let unread: Vec<_> = (0..150).map(|_| send(&server, "127.0.3.1", &request)).collect();
    // Each answer has begun.
    for stream in &unread {
        assert_ne!(stream.peek(&mut [0]).expect("an answer"), 0);
    }
    let after = memory(&server);
    assert!(after < before + GROWTH_MAX, "{before} kB, then {after} kB");
    // One who reads gets all of it, meanwhile.
    assert!(server.get(path).body == whole.body);
    wait_for("the connections to be closed", || (descriptors(&server) < quiet + 20).then_some(()));
    let left = memory(&server);
    assert!(left < before + GROWTH_MAX, "{before} kB, then {left} kB");
}
