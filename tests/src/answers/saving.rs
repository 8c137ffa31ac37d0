//! What people save without `-L` becomes the program.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use super::{Start, quick};
use crate::server::{demo_set, fresh_set};

fn sh(dir: &Path, script: &str) -> Output {
    Command::new("sh").arg("-c").arg(script).current_dir(dir).output().expect("sh")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn what_was_saved_without_dash_l_before_the_build_waits_becomes_the_program_and_runs_it(at: &impl Start) {
    let (set, home) = (fresh_set(""), tempfile::tempdir().expect("a temporary directory"));
    let site = at.start(set.path(), &quick());
    let url = format!("{}/tree", site.origin());
    let saved = sh(home.path(), &format!("curl -s {url} > tree; sh ./tree --version"));
    assert!(saved.status.success(), "{}", text(&saved.stderr));
    assert!(text(&saved.stdout).starts_with("tree v2.1.0"), "{}", text(&saved.stdout));
    let elf = fs::read(home.path().join("tree")).expect("the file");
    assert!(elf.starts_with(b"\x7fELF") && elf == site.download("tree"));
    let again = sh(home.path(), "./tree --version");
    assert!(text(&again.stdout).starts_with("tree v2.1.0"));
    // A stub of a hit, executable and run by name, keeps its mode and hands on its arguments and its exit code.
    let hit = sh(home.path(), &format!("curl -s {url} > t2; chmod 750 t2; ./t2 /nonexistent"));
    assert_eq!(hit.status.code(), sh(home.path(), "./tree /nonexistent").status.code());
    let mode = fs::metadata(home.path().join("t2")).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o750);
    // Nothing else was left behind.
    let mut left: Vec<_> =
        fs::read_dir(home.path()).expect("a directory").map(|e| e.expect("an entry").file_name()).collect();
    left.sort();
    assert_eq!(left, ["t2", "tree"]);
}

pub fn piped_into_sh_it_saves_beside_us_and_overwrites_nothing(at: &impl Start) {
    let home = tempfile::tempdir().expect("a temporary directory");
    let site = at.start(&demo_set(), &quick());
    let pipe = format!("curl -s {}/tree | sh", site.origin());
    let first = sh(home.path(), &pipe);
    assert!(first.status.success(), "{}", text(&first.stderr));
    assert!(text(&sh(home.path(), "./tree --version").stdout).starts_with("tree v2.1.0"));
    fs::write(home.path().join("tree"), "precious").expect("a file");
    let second = sh(home.path(), &pipe);
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second.stderr).contains("will not overwrite"), "{}", text(&second.stderr));
    assert_eq!(fs::read(home.path().join("tree")).expect("the file"), b"precious");
}

pub fn a_stub_of_a_failing_build_tells_the_reason_and_the_log_and_stays(at: &impl Start) {
    let home = tempfile::tempdir().expect("a temporary directory");
    let site = at.start(&demo_set(), &quick());
    let out = sh(home.path(), &format!("curl -s {}/failing.compileError > x; cp x y; sh ./x", site.origin()));
    let said = text(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("the build failed") && said.contains("/-/log/failing.compileError"), "{said}");
    assert_eq!(fs::read(home.path().join("x")).ok(), fs::read(home.path().join("y")).ok());
    // An error that was saved is a program that says so and fails.
    let error = sh(home.path(), &format!("curl -s {}/failing.compileError > e; sh ./e", site.origin()));
    assert_eq!(error.status.code(), Some(1));
    assert!(text(&error.stderr).contains("undeclared"), "{}", text(&error.stderr));
}
