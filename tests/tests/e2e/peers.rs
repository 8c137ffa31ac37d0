//! A fixed-output build has the machine's network, and gets no answer from the server that builds it.

use std::{fs, process};

use binplz_tests::{
    http::send,
    server::{Server, fresh_set},
};

/// Asks for a page, starts a build, does so again without waiting for an answer, and asks the builders' listener; says the
/// status of each answer, 000 without one. What is made has that text, so that it is not in the store yet.
fn asks(clients: &str, builders: &str, made: &str) -> String {
    let (host, port) = clients.split_once(':').expect("an address");
    format!(
        r#"
  asks = package "asks" {{
    outputHash = builtins.hashString "sha256" "{made}\n";
    outputHashMode = "flat";
    outputHashAlgo = "sha256";
    buildPhase = ''
      ask() {{ echo "$1: $(curl -q -s -o answer -w '%{{http_code}}' --max-time 60 "''${{@:2}}")"; }}
      ask page http://{clients}/-/health
      ask build -X POST http://{clients}/-/build/tree
      ask lease http://{builders}/-/lease/x
      exec 3<> /dev/tcp/{host}/{port}
      printf 'POST /-/build/tree HTTP/1.1\r\nhost: {clients}\r\n\r\n' >&3
      exec 3>&-
      ask last http://{clients}/-/health
    '';
    installPhase = "echo {made} > $out";
    fixupPhase = ":";
  }};
"#
    )
}

#[test]
fn a_fixed_output_build_reaches_neither_the_clients_nor_the_builders_port() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let data = home.path().join("data");
    // Below the ports that the kernel gives to others.
    let port = 10_000 + process::id() % 10_000;
    let (clients, builders) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{}", port + 10_000));
    // As an earlier server leaves it.
    fs::create_dir_all(data.join("builders")).expect("a directory");
    fs::write(data.join("builders/port"), (port + 10_000).to_string()).expect("a file");
    let set = fresh_set(&asks(&clients, &builders, &home.path().display().to_string()));
    let server = Server::start(set.path(), &data, &["--listen", &clients]);
    let status = |address: &str, path: &[u8]| send(None, address, "GET", path, &[], b"").expect("an answer").status;
    assert_eq!((status(&clients, b"/-/health"), status(&builders, b"/-/lease/x")), (200, 404));

    let settled = server.settled("failing.asks");
    assert_eq!(settled.status, 422, "a file is no program: {}", settled.text());
    let log = server.get("/-/log/failing.asks").text();
    for what in ["page", "build", "lease", "last"] {
        let refused = ["403", "000"].iter().any(|status| log.contains(&format!("\n{what}: {status}\n")));
        assert!(refused, "{what}: {log}");
    }
    assert_eq!(server.status("tree")["state"], "unasked");
}
