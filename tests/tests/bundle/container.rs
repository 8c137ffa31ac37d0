//! Bundles in a container, with podman's defaults: no rights to mount, and a filter of system calls.

use std::{
    collections::BTreeSet,
    fs,
    process::{Command, Stdio},
};

use binplz_tests::server::repository;

use crate::fixture::{bundle, open_to_all, scratch, tool};

#[test]
#[ignore = "takes podman: run by scripts/e2e"]
fn in_a_container_with_default_settings_a_bundle_runs_as_root_with_all_ids_and_as_a_user() {
    let dir = scratch();
    for name in ["tmp", "etc", "proc", "dev", "sys", "run"] {
        fs::create_dir(dir.path().join(name)).expect("a directory");
    }
    open_to_all(&dir.path().join("tmp"));
    fs::copy(bundle(), dir.path().join("tools")).expect("a copy");
    fs::copy(tool("probe"), dir.path().join("probe")).expect("a copy");
    let state = |options: &[&str], program: &str| {
        let mut podman = Command::new(repository().join("infra/image/podman"));
        podman.args([
            "run",
            "--rm",
            "--interactive",
            "--network",
            "none",
            "--hostname",
            "here",
            "--env",
            "XDG_CACHE_HOME=/tmp/cache",
        ]);
        podman.args(["--env", "LOCALE_ARCHIVE=none"]).args(options);
        let out = podman
            .arg("--rootfs")
            .arg(dir.path())
            .args([program, "state"])
            .stdin(Stdio::piped())
            .output()
            .expect("podman runs");
        assert!(out.status.success(), "{options:?}: {out:?}");
        // podman shuffles the variables.
        let text = String::from_utf8(out.stdout).expect("text");
        text.lines().map(str::to_owned).collect::<BTreeSet<_>>()
    };
    for options in [&[][..], &["--user", "1001"], &["--read-only", "--tmpfs", "/tmp:exec"], &["--privileged"]] {
        assert_eq!(state(options, "/tools"), state(options, "/probe"), "{options:?}");
    }
}
