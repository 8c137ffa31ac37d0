//! Disks that are full or read-only: small ones, mounted where only the tried process sees them.

use std::{path::Path, process::Command};

/// What the victim says on a disk of its own, made with these options of tmpfs.
fn on_disk(options: &str, what: &str, dir: &Path) -> String {
    // A mount namespace of its own; a user without rights needs a user namespace around it.
    let namespace = if rustix::process::geteuid().is_root() { "-m" } else { "-rm" };
    let script = r#"mount -t tmpfs -o "$1" none "$4" && exec "$2" "$3" "$4""#;
    let mut unshare = Command::new("unshare");
    unshare.args([namespace, "sh", "-ec", script, "sh", options, env!("CARGO_BIN_EXE_victim"), what]).arg(dir);
    let output = unshare.output().expect("unshare, of util-linux");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn a_full_disk_stops_writes_with_a_clear_error_and_neither_hits_nor_the_next_write() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let said = on_disk("size=16m", "fill", dir.path());
    let lines: Vec<&str> = said.lines().collect();
    let [object, size, drafts, row, hit, again, all] = lines.as_slice() else { panic!("{said}") };
    assert!(object.starts_with("object: store: ") && object.contains("No space left"), "{said}");
    assert_eq!((*size, *drafts), ("size: Ok(None)", "drafts: 0"));
    assert!(row.starts_with("row: ledger: ") && row.contains("No space left"), "{said}");
    assert_eq!((*hit, *again, *all), ("hit: true", "again: Ok(())", "all there"), "{said}");
}

#[test]
fn a_read_only_disk_is_told_apart_and_says_what_to_do() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let said = on_disk("ro", "open", dir.path());
    assert!(said.contains("is not writable for this user"), "{said}");
}

#[test]
fn a_disk_that_is_full_at_the_start_is_told_apart_and_says_what_to_do() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let said = on_disk("nr_inodes=1", "open", dir.path());
    assert!(said.contains("is full: make room"), "{said}");
}
