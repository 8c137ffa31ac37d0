//! Bad input and bad machines get one clear sentence, and what to do.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
};

use binplz_tests::server::{Server, demo_set, program, write_program};

/// What `binplz serve` says and exits with, where it does not come to serving.
fn serve(arguments: &[&str], path: Option<&Path>) -> String {
    let mut command = Command::new(program("binplz"));
    command.arg("serve").args(arguments).stdin(Stdio::null());
    if let Some(path) = path {
        command.env("PATH", path);
    }
    let out = command.output().expect("binplz");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code().filter(|code| [1, 2].contains(code)), out.status.code(), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

fn set() -> String {
    demo_set().to_string_lossy().into_owned()
}

#[test]
fn a_server_whose_files_its_builds_could_read_does_not_start_unless_the_nixpkgs_is_trusted() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new(program("binplz"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--nixpkgs", &set(), "--data"]).arg(dir.path().join("data"));
    let out = command.env("NIX_CONFIG", "sandbox = false\nbuild-users-group =\n").stdin(Stdio::null()).output();
    let out = out.expect("binplz");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && said.contains("without a sandbox") && said.contains("--trust-nixpkgs"), "{said}");
    assert!(!dir.path().join("data/ledger.redb").exists());
}

#[test]
fn without_nix_it_says_how_to_install_it() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let said = serve(&["--listen", "127.0.0.1:0", "--nixpkgs", &set()], Some(dir.path()));
    assert!(said.contains("Nix is not installed") && said.contains("nixos.org/download"), "{said}");
}

/// A directory whose only program is an old Nix.
fn old_nix() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let old = dir.path().join("nix-store");
    write_program(&old, "#!/bin/sh\necho 'nix-store (Nix) 2.7.1'\n");
    dir
}

#[test]
fn an_old_nix_is_told_from_a_new_one() {
    let dir = old_nix();
    let said = serve(&["--listen", "127.0.0.1:0", "--nixpkgs", &set()], Some(dir.path()));
    assert!(said.contains("binplz needs Nix 2.8 or newer, and Nix 2.7.1 is installed; scripts/setup --nix"), "{said}");
}

#[test]
fn a_nixpkgs_that_requires_a_newer_nix_is_told_at_the_start() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let lib = dir.path().join("set/lib");
    fs::create_dir_all(&lib).expect("a directory");
    fs::write(lib.join("../default.nix"), "{ ... }: { pkgsStatic = { }; }").expect("a set");
    fs::write(lib.join("minver.nix"), "\"9.9\"").expect("a file");
    let set = dir.path().join("set");
    let said = serve(&["--listen", "127.0.0.1:0", "--nixpkgs", set.to_str().expect("a path")], None);
    assert!(said.contains("this nixpkgs needs Nix 9.9 or newer, and Nix 2."), "{said}");
    assert!(said.contains("scripts/setup --nix") && said.lines().count() == 1, "{said}");
}

#[test]
fn the_doctor_compares_nix_with_what_each_pin_of_a_server_requires() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("data");
    let _server = Server::start(&demo_set(), &data, &[]);
    let doctor = |path: Option<&Path>| {
        let mut command = Command::new(program("binplz"));
        command.args(["doctor", "--json", "--data"]).arg(&data);
        let out = path.into_iter().fold(&mut command, |command, path| command.env("PATH", path)).output();
        let out = out.expect("binplz");
        let found: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
        let told = |check: &str| {
            let found = found.as_array().expect("findings").iter().find(|found| found["check"] == check);
            let found = found.unwrap_or_else(|| panic!("{check} was not checked"));
            (found["state"].clone(), found["told"].to_string(), found["mend"].clone())
        };
        (out.status.success(), told("nix"), told("nixpkgs local"))
    };
    let (_, nix, pin) = doctor(None);
    assert_eq!((nix.0, pin.0), ("ok".into(), "ok".into()));
    let (success, nix, pin) = doctor(Some(old_nix().path()));
    assert!(!success);
    for (state, told, mend) in [nix, pin] {
        assert!(state == "missing" && told.contains("needs Nix 2.8 or newer, and Nix 2.7.1 is installed"), "{told}");
        assert_eq!(mend, "scripts/setup --nix");
    }
}

#[test]
fn a_port_in_use_is_told_with_the_option_that_takes_another() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let said = serve(&["--listen", &address, "--nixpkgs", &set()], None);
    assert!(said.contains(&address) && said.contains("another one with --listen"), "{said}");
}

#[test]
fn what_is_no_package_set_is_told() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for no_set in [
        "/nonexistent",
        dir.path().to_str().expect("a path"),
        "github:NixOS/nixpkgs/main",
        "github:NixOS/nixpkgs/../../x",
    ] {
        let said = serve(&["--listen", "127.0.0.1:0", "--nixpkgs", no_set], None);
        assert!(said.contains("no package set at"), "{no_set}: {said}");
    }
}

#[test]
fn a_second_server_on_the_same_data_is_refused_and_the_first_goes_on() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("data");
    let first = Server::start(&demo_set(), &data, &[]);
    let said = serve(&["--listen", "127.0.0.1:0", "--nixpkgs", &set(), "--data", data.to_str().expect("a path")], None);
    assert!(said.contains("another binplz"), "{said}");
    assert_eq!(first.get("/-/health").status, 200);
}

#[test]
fn a_data_directory_that_can_not_be_written_is_told() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("file");
    fs::write(&file, "").expect("a file");
    for data in [file.to_str().expect("a path"), "/proc/binplz"] {
        let said = serve(&["--listen", "127.0.0.1:0", "--nixpkgs", &set(), "--data", data], None);
        assert!(said.contains(data) && said.lines().count() == 1, "{said}");
    }
}

#[test]
fn a_missing_builder_and_a_bad_origin_are_told() {
    let said = serve(&["--listen", "127.0.0.1:0", "--nixpkgs", &set(), "--builder", "/nonexistent"], None);
    assert!(said.contains("no builder program at /nonexistent"), "{said}");
    for origin in ["ftp://x", "http://", "http://x/y", "http://x'y", "x"] {
        let said = serve(&["--listen", "127.0.0.1:0", "--nixpkgs", &set(), "--origin", origin], None);
        assert!(said.contains("--origin must be"), "{origin}: {said}");
    }
    // No client can use such an address.
    for every in ["0.0.0.0:0", "[::]:0"] {
        let said = serve(&["--listen", every, "--nixpkgs", &set()], None);
        assert!(said.contains("with --origin http://HOST:"), "{every}: {said}");
    }
}
