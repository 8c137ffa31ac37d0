//! Bundles for the other machine, under qemu's emulation of a user's programs. Emulated, a user namespace cannot be made: qemu
//! has threads.

use std::{fs, path::Path, process::Command};

use binplz_launcher::trim::Trim;

use crate::fixture::{Fixture, TOOLS, about, scratch};

#[test]
fn an_aarch64_bundle_is_packed_verified_and_unpacked_and_its_programs_run() {
    if !cfg!(target_arch = "x86_64") {
        return; // It is this machine's own.
    }
    let dir = scratch();
    let bundle = dir.path().join("tools");
    Fixture::new("aarch64").pack("aarch64", &about("aarch64"), Trim::Usual, &bundle);
    let emulated = |program: &Path, arguments: &[&str]| {
        let mut command = Command::new("qemu-aarch64-static");
        command.arg(program).args(arguments).env("XDG_CACHE_HOME", dir.path()).output().expect("qemu runs")
    };
    let verified = emulated(&bundle, &["--binplz-verify"]);
    assert!(verified.status.success(), "{verified:?}");
    // Root's namespace works. The program itself is started by the kernel, which has to know qemu for that.
    let started = emulated(&bundle, &["hello"]);
    if fs::metadata("/proc/sys/fs/binfmt_misc/qemu-aarch64").is_ok() {
        assert_eq!(String::from_utf8_lossy(&started.stdout), format!("hello from /nix/store/{TOOLS}/bin/probe\n"));
    } else {
        let said = String::from_utf8_lossy(&started.stderr);
        assert!(started.status.code() == Some(125) && said.contains("Exec format error"), "{started:?}");
    }
    let verified = emulated(&bundle, &["--binplz-verify"]);
    assert!(String::from_utf8_lossy(&verified.stdout).contains("the unpacked files are intact"), "{verified:?}");
    let short = tempfile::Builder::new().prefix("").rand_bytes(3).tempdir_in("/tmp").expect("a directory");
    fs::remove_dir(short.path()).expect("an empty directory");
    let extracted = emulated(&bundle, &["--binplz-extract", short.path().to_str().expect("text")]);
    assert!(extracted.status.success(), "{extracted:?}");
    let plugin = emulated(&short.path().join("bin/probe"), &["plugin"]);
    assert_eq!(String::from_utf8_lossy(&plugin.stdout), "a plugin\n", "{plugin:?}");
}
