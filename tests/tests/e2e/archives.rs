//! Archives of packages of the demo set, from `curl` to what they unpack to.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use binplz_core::id::key::Sha256;
use binplz_tests::{
    http,
    server::{Server, demo_set, program},
    site::wait_for,
};

use crate::packages::root;

/// A package, a program that its archive has, and how to run it so that it says who it is.
const PACKAGES: [(&str, &str, &[&str], &str); 10] = [
    ("bzip2", "bzcat", &["--help"], "1.0.8"),
    ("dash", "dash", &["-c", "echo hello from $((6 * 7))"], "hello from 42"),
    ("games.figlet", "figlet", &["-I", "1"], "20205"),
    ("gnugrep", "grep", &["--version"], "GNU grep"),
    ("hello", "hello", &[], "Hello, world!"),
    ("luaPackages.lua", "luac", &["-v"], "Lua 5.4.4"),
    ("lz4", "unlz4", &["--version"], "1.9.4"),
    ("nq", "nq", &["-?"], "usage: "),
    ("tree", "tree", &["--version"], "tree v2.1.0"),
    ("xxHash", "xxh64sum", &["--version"], "0.8.1"),
];

/// Every file and link below a directory: its mode, and its content or where it leads.
fn tree(dir: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let (mut found, mut dirs) = (BTreeMap::new(), vec![dir.to_owned()]);
    while let Some(at) = dirs.pop() {
        for entry in fs::read_dir(&at).expect("a directory") {
            let path = entry.expect("an entry").path();
            let about = path.symlink_metadata().expect("a file");
            let below = path.strip_prefix(dir).expect("below it").to_owned();
            if about.is_dir() {
                dirs.push(path);
            } else if about.is_symlink() {
                assert!(path.exists(), "{} leads nowhere", below.display());
                let to = fs::read_link(&path).expect("a link");
                assert!(to.is_relative(), "{} leads to {}", below.display(), to.display());
                found.insert(below, (0, to.to_string_lossy().into_owned().into_bytes()));
            } else {
                found.insert(below, (about.permissions().mode() & 0o777, fs::read(&path).expect("a file")));
            }
        }
    }
    found
}

fn sh(dir: &Path, command: &str) -> String {
    let ran = Command::new("bash").args(["-o", "pipefail", "-c", command]).current_dir(dir).output().expect("bash");
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.success() && said.is_empty(), "{command}: {said}");
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

#[test]
fn archives_unpack_with_gnu_tar_and_busybox_and_their_programs_manual_pages_completions_and_links_work() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(&demo_set(), data.path(), &[]);
    // A miss behaves like that of a program; all at once.
    for (package, ..) in PACKAGES {
        let missed = server.get(&format!("/-/archive/{package}"));
        assert!([202, 302].contains(&missed.status) && missed.text().starts_with("#!/bin/sh\n"), "{package}");
    }
    let (mut pages, mut links, mut completions) = (0, 0, 0);
    for (package, bin, arguments, says) in PACKAGES {
        let hit = server.settled(&format!("-/archive/{package}"));
        assert_eq!((hit.status, hit.header("x-binplz-package")), (302, Some(package)), "{}", hit.text());
        let archive = http::ask("GET", hit.header("location").expect("a location"), &[], b"").body;
        assert_eq!(hit.header("x-binplz-sha256"), Some(Sha256::of(&archive).as_str()));
        assert_eq!(hit.header("x-binplz-size"), Some(archive.len().to_string().as_str()));
        let dir = tempfile::tempdir().expect("a temporary directory");
        let unpacked = ["gnu", "busybox"].map(|place| dir.path().join(place));
        for (place, tar) in unpacked.iter().zip(["tar", "busybox tar"]) {
            fs::create_dir(place).expect("a directory");
            let url = format!("{}/-/archive/{package}", server.origin());
            sh(place, &format!("curl -q -fsSL '{url}' | {tar} xz --strip 1"));
        }
        let files = tree(&unpacked[0]);
        assert_eq!(files, tree(&unpacked[1]), "{package}");
        // In a root with nothing else.
        let ran = root("chroot").arg(&unpacked[1]).arg(format!("/bin/{bin}")).args(arguments).output();
        let ran = ran.expect("chroot");
        let said = [ran.stdout, ran.stderr].concat();
        assert!(String::from_utf8_lossy(&said).contains(says), "{package}: {}", String::from_utf8_lossy(&said));
        for (path, (mode, content)) in &files {
            assert!(path.starts_with("bin") || path.starts_with("share"), "{}", path.display());
            match mode {
                0 => links += 1,
                mode => assert_eq!(*mode == 0o755, path.starts_with("bin"), "{}: {mode:o}", path.display()),
            }
            assert!(!content.is_empty(), "{}", path.display());
            if path.starts_with("share/zsh/site-functions") {
                completions += 1;
                // By this line zsh knows what it completes.
                assert!(content.starts_with(format!("#compdef {bin}").as_bytes()), "{}", path.display());
            }
            if path.starts_with("share/man") && *mode != 0 {
                pages += 1;
                let text = sh(&unpacked[0], &format!("zcat -f '{}'", path.display()));
                assert!(text.contains(".TH") || text.contains(".Dt"), "{} is no manual page", path.display());
            }
        }
    }
    assert!(pages >= 7 && links >= 7 && completions == 1, "{pages} manual pages, {links} links, {completions}");
}

#[test]
fn an_archive_is_the_same_when_it_is_built_again_and_what_has_none_says_so() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(&demo_set(), data.path(), &[]);
    let sha256 = |hit: &http::Answer| hit.header("x-binplz-sha256").map(str::to_owned);
    let first = server.settled("-/archive/xxHash");
    assert_eq!(first.status, 302, "{}", first.text());
    let lease = server.status("xxHash")["lease"].clone();
    let rebuilt = Command::new(program("binplz"))
        .args(["rebuild", "xxHash", "--data"])
        .arg(data.path())
        .output()
        .expect("binplz");
    assert!(rebuilt.status.success(), "{}", String::from_utf8_lossy(&rebuilt.stderr));
    wait_for("another attempt", || {
        let status = server.status("xxHash");
        (status["state"] == "ready" && status["lease"] != lease).then_some(())
    });
    assert_eq!(sha256(&server.settled("-/archive/xxHash")), sha256(&first));
    for (path, status) in [("-/archive/nothing-here", 404), ("-/archive/x/y", 400)] {
        let answer = server.get(&format!("/{path}"));
        let settled = if answer.status == 202 { server.settled(path).status } else { answer.status };
        assert_eq!(settled, status, "{path}");
    }
}
