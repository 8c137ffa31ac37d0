//! Every real package of the demo set, from `curl` to `exec`.

use std::{fs, path::Path, process::Command};

use binplz_tests::{
    server::{Server, demo_set, fresh_set, write_program},
    site::wait_for,
};

/// What to ask for, the program that comes, and how to run it so that it says who it is, and what it says.
const REAL: &[(&str, &str, &[&str], &str)] = &[
    ("bsdiff", "bsdiff", &[], "usage: "),
    ("bsdiff/bspatch", "bspatch", &[], "usage: "),
    ("byacc", "byacc", &["-V"], "yacc - 2.0 20221106"),
    ("bzip2", "bzip2", &["--help"], "1.0.8"),
    ("bzip2/bzip2recover", "bzip2recover", &[], "bzip2recover 1.0.8"),
    ("bzip2/bzcat", "bzcat", &["--help"], "1.0.8"),
    ("dash", "dash", &["-c", "echo hello from $((6 * 7))"], "hello from 42"),
    ("dos2unix", "dos2unix", &["--version"], "dos2unix 7.4.3"),
    ("games.figlet", "figlet", &["-I", "1"], "20205"),
    ("gnugrep", "grep", &["--version"], "GNU grep"),
    ("gnugrep/grep", "grep", &["--version"], "3.8"),
    ("hello", "hello", &[], "Hello, world!"),
    ("lua", "lua", &["-v"], "Lua 5.4.4"),
    ("luaPackages.lua", "lua", &["-v"], "Lua 5.4.4"),
    ("luaPackages.lua/luac", "luac", &["-v"], "Lua 5.4.4"),
    ("lz4", "lz4", &["--version"], "1.9.4"),
    ("lz4/unlz4", "unlz4", &["--version"], "1.9.4"),
    ("mawk", "mawk", &["-W", "version"], "mawk 1.3.4"),
    ("moreutils/errno", "errno", &["1"], "EPERM 1"),
    ("moreutils/sponge", "sponge", &["-h"], "sponge"),
    ("ncompress", "compress", &["-V"], "4.2.4.6"),
    ("nq", "nq", &["-?"], "usage: "),
    ("pv", "pv", &["--version"], "pv 1.6.20"),
    ("tree", "tree", &["--version"], "tree v2.1.0"),
    ("xxHash", "xxhsum", &["--version"], "0.8.1"),
    ("xxHash/xxh64sum", "xxh64sum", &["--version"], "0.8.1"),
];

/// The package's output in the Nix store that holds its programs.
fn nix_output(package: &str) -> String {
    let set = demo_set();
    let expression = format!("let p = (import {} {{ }}).pkgsStatic.{package}; in (p.bin or p).outPath", set.display());
    let out = Command::new("nix-instantiate").args(["--eval", "--json", "--expr", &expression]).output().expect("nix");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().trim_matches('"').to_owned()
}

pub(crate) fn root(command: &str) -> Command {
    let is_root = fs::metadata("/proc/self").is_ok_and(|about| std::os::unix::fs::MetadataExt::uid(&about) == 0);
    let mut run = Command::new(if is_root { command } else { "sudo" });
    if !is_root {
        run.arg(command);
    }
    run
}

#[test]
fn every_real_package_is_served_byte_for_byte_and_runs_in_an_empty_chroot() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(&demo_set(), data.path(), &["--build-time", "1200"]);
    // All at once, as their users would: the queue sorts it out.
    for (target, ..) in REAL {
        let asked = server.get(&format!("/{target}")).status;
        assert!(asked == 202 || asked == 302, "{target}: {asked}");
    }
    for (target, program, arguments, says) in REAL {
        let settled = server.settled(target);
        assert_eq!(settled.status, 302, "{target}: {}", settled.text());
        let package = target.split('/').next().expect("a package");
        assert_eq!(settled.header("x-binplz-package"), Some(package));
        let served = server.download(target);
        let built =
            fs::read(Path::new(&nix_output(package)).join("bin").join(program)).expect("the file in the Nix store");
        assert!(served == built, "{target} is not what Nix built");
        assert_eq!(settled.header("x-binplz-size"), Some(built.len().to_string().as_str()));
        runs_alone(target, program, &served, arguments, says);
    }
}

/// Puts one file into an empty directory, makes that the root, and runs it.
fn runs_alone(target: &str, name: &str, program: &[u8], arguments: &[&str], says: &str) {
    let empty = tempfile::tempdir().expect("a temporary directory");
    let file = empty.path().join(name);
    write_program(&file, program);
    let headers = Command::new("readelf").arg("-ld").arg(&file).output().expect("readelf");
    let headers = String::from_utf8_lossy(&headers.stdout).into_owned();
    assert!(
        headers.contains("LOAD") && !headers.contains("INTERP") && !headers.contains("NEEDED"),
        "{target}: {headers}"
    );
    let ran = root("chroot").arg(empty.path()).arg(format!("/{name}")).args(arguments).output().expect("chroot");
    let said = [ran.stdout, ran.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains(says), "{target} {arguments:?} said: {said}");
}

#[test]
fn a_restarted_server_serves_what_it_had_and_the_log_with_it() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let mut server = Server::start(&demo_set(), data.path(), &[]);
    assert_eq!(server.settled("tree").status, 302);
    let before = server.download("tree");
    server.kill();
    server.restart();
    assert_eq!(server.get("/tree").status, 302);
    assert!(server.download("tree") == before);
    let log = server.get("/-/log/tree");
    assert_eq!(log.status, 200);
    assert!(log.text().contains("tree-2.1.0.drv"), "{}", log.text());
    let status = server.status("tree");
    assert_eq!((status["state"].as_str(), status["attempt"].as_u64()), (Some("ready"), Some(1)));
    assert_eq!(status["artifact"]["size"].as_u64(), Some(before.len() as u64));
}

#[test]
fn a_moved_pin_never_makes_anyone_wait() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(&demo_set(), data.path(), &[]);
    let old = server.settled("tree").header("x-binplz-nixpkgs").expect("a commit").to_owned();
    drop(server);
    let set = fresh_set("");
    let server = Server::start(set.path(), data.path(), &[]);
    let first = server.get("/tree");
    assert_eq!((first.status, first.header("x-binplz-nixpkgs")), (302, Some(old.as_str())));
    // Behind it the new one is built, once, and served from then on. No request ever waits.
    let new = wait_for("the new commit's binary", || {
        let answer = server.get("/tree");
        assert_eq!(answer.status, 302);
        answer.header("x-binplz-nixpkgs").filter(|commit| *commit != old).map(str::to_owned)
    });
    let status = server.status("tree");
    assert_eq!((&status["nixpkgs"], &status["attempt"]), (&new.as_str().into(), &1.into()), "{status}");
    // Who names a commit gets that commit or nothing: the old one is not served any more.
    assert_eq!(server.get(&format!("/tree?nixpkgs-commit={new}")).status, 302);
    assert_eq!(server.get(&format!("/tree?nixpkgs-commit={old}")).status, 400);
}
