//! Clients as people have them: real ones, run for real.

mod hostile;
mod installer;
mod interrupts;
mod machine;
mod matrix;
mod mistakes;
mod outcomes;
mod signed;
mod stub;
mod trouble;
mod wait;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use binplz_tests::server::{Server, demo_set, repository};

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

/// A program of another release of Debian; none, where its mirror is out of reach and was so before.
pub(crate) fn client(suite: &str, package: &str, program: &str) -> Option<PathBuf> {
    let mut command = Command::new(repository().join("tests/client"));
    let found = command.args([suite, package, program]).output().expect("a script");
    if !found.status.success() {
        eprintln!("without {package} of {suite}: {}", text(&found.stderr));
        return None;
    }
    Some(PathBuf::from(text(&found.stdout).trim()))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
