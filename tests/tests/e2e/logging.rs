//! The log of `binplz serve` is for its operator: where it cannot be written, the server serves and builds all the same.

use std::{
    fs::OpenOptions,
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpListener},
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::{Child, Command, Stdio},
};

use binplz_tests::{
    server::{demo_set, program},
    site::{Site, wait_for},
};

/// A server whose standard error is `stderr`, and a terminal's signal to it.
struct Quiet {
    child: Child,
    site: Site,
    _data: tempfile::TempDir,
}

impl Quiet {
    fn start(stderr: Stdio) -> Quiet {
        let data = tempfile::tempdir().expect("a temporary directory");
        // A port that was free a moment ago: this server cannot say which one it has taken.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
        let address = format!("127.0.0.1:{port}");
        let mut command = Command::new(program("binplz"));
        command.args(["serve", "--names", "attributes", "--listen", &address]);
        command.arg("--nixpkgs").arg(demo_set()).arg("--data").arg(data.path());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn().expect("binplz");
        Quiet { child, site: Site::at(address), _data: data }
    }

    /// Builds, answers and stops, as it always does.
    fn serves_builds_and_stops(mut self, place: &str) {
        wait_for("the server to listen", || self.site.try_get("/-/health").ok());
        for package in ["tree", "hello"] {
            assert_eq!(self.site.settled(package).status, 302, "{place}: {package}");
        }
        assert_eq!(self.site.get("/-/health").status, 200, "{place}");
        let stopped = Command::new("kill").arg(self.child.id().to_string()).status();
        assert!(stopped.expect("kill").success());
        assert_eq!(self.child.wait().expect("a child").code(), Some(0), "{place}");
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_log_that_is_closed_full_or_not_read_stops_no_loop_and_no_request() {
    // As after `2>&1 | head -1`.
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    let server = Quiet::start(OwnedFd::from(theirs).into());
    let mut first = String::new();
    BufReader::new(&ours).read_line(&mut first).expect("a line");
    assert!(first.contains(" serves "), "{first}");
    ours.shutdown(Shutdown::Both).expect("a socket");
    drop(ours);
    server.serves_builds_and_stops("closed");

    let full = OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    Quiet::start(full.into()).serves_builds_and_stops("full");

    // As before a pager that shows its first page.
    let (mut ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    theirs.set_nonblocking(true).expect("a socket");
    while (&theirs).write(&[b'x'; 4096]).is_ok() {}
    theirs.set_nonblocking(false).expect("a socket");
    Quiet::start(OwnedFd::from(theirs).into()).serves_builds_and_stops("not read");
    // It had nothing to say that could be read.
    let mut text = String::new();
    ours.read_to_string(&mut text).expect("text");
    assert!(text.bytes().all(|b| b == b'x'), "{text}");
}

#[test]
fn a_command_whose_output_is_closed_or_full_ends_without_a_panic() {
    let ended = |stdout: Stdio| {
        let mut command = Command::new(program("binplz"));
        let output = command.args(["completions", "bash"]).stdout(stdout).output().expect("binplz");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    // As before `head`, when it has read enough.
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    drop(ours);
    assert_eq!(ended(OwnedFd::from(theirs).into()), (Some(1), String::new()));

    let full = OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let (code, said) = ended(full.into());
    assert!(code == Some(1) && said.starts_with("binplz: ") && said.contains("No space left"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}
