//! Clients as people have them: real ones, run for real.

mod hostile;
mod installer;
mod interrupts;
mod machine;
mod matrix;
mod stub;
mod trouble;
mod wait;

use std::{
    path::Path,
    process::{Command, Output},
};

use binplz_tests::server::{Server, demo_set};

/// A server with `tree`.
fn with_tree() -> (Server, tempfile::TempDir) {
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(&demo_set(), &data.path().join("data"), &[]);
    assert_eq!(server.settled("tree").status, 302);
    (server, data)
}

/// Runs a line of shell in a directory.
fn sh(dir: &Path, line: &str) -> Output {
    Command::new("sh").arg("-c").arg(line).current_dir(dir).output().expect("sh")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
