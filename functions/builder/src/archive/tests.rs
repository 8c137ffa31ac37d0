//! What an archive contains, as tar lists it.

use std::{fs::Permissions, os::unix::fs::symlink, process::Command};

use binplz_core::objects::artifact::{Program, Refusal};

use super::*;

const MOST: u64 = 1 << 20;

/// A store with a package of two installed outputs, one that is not installed, and a dependency.
struct Store {
    dir: tempfile::TempDir,
}

impl Store {
    fn new() -> Store {
        Store { dir: tempfile::tempdir().expect("a directory") }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join("store").join(below)
    }

    fn file(&self, below: &str, mode: u32, content: &[u8]) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(&path, content).expect("a file");
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("its mode");
    }

    fn link(&self, below: &str, target: impl AsRef<Path>) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        symlink(target, path).expect("a link");
    }

    fn pack(&self, programs: &[(&str, &str)], most: u64) -> Option<Vec<u8>> {
        let outputs = ["out", "man", "dev"].map(|name| (name.parse().expect("an output"), self.path(name)));
        let all = ["out", "man", "dev", "dependency"].map(|name| self.path(name).to_string_lossy().into_owned());
        let closure = Closure::new(&self.dir.path().join("store"), all.iter().map(String::as_str));
        let found: Vec<Found> = programs
            .iter()
            .map(|(output, bin)| {
                let Way::To(file) = closure.resolve(&self.path(output).join("bin").join(bin)) else { panic!("{bin}") };
                let content = fs::read(&file).expect("a program");
                let verdict = match content.starts_with(b"#!") {
                    true => Verdict::Refused { why: Refusal::Script },
                    false => Verdict::Static {
                        sha256: Sha256::of(&content),
                        size: 1,
                        leftovers: Vec::new(),
                        needs: None,
                        unwrapped: false,
                    },
                };
                let output = Some(output.parse().expect("an output"));
                Found { program: Program { bin: bin.parse().expect("a name"), output, verdict }, file: Some(file) }
            })
            .collect();
        let installed = ["out", "man"].map(|name| name.parse().expect("an output"));
        let (realised, to) = (Realised { outputs: outputs.to_vec(), closure }, self.dir.path().join("archive"));
        let content = pack(&top("tree", "2.1"), &realised, &installed, &found, most, &to).expect("it is written")?;
        let bytes = fs::read(to).expect("the archive");
        assert_eq!(content, Content { sha256: Sha256::of(&bytes), size: bytes.len() as u64 });
        Some(bytes)
    }
}

/// The lines of `tar tv`.
fn listed(archive: &[u8]) -> Vec<String> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), archive).expect("a file");
    let told = Command::new("tar").args(["tvzf"]).arg(file.path()).env("TZ", "UTC").output().expect("tar");
    assert!(told.status.success() && told.stderr.is_empty(), "{}", String::from_utf8_lossy(&told.stderr));
    let text = String::from_utf8(told.stdout).expect("text");
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// Everything that a package may contain.
fn package() -> (Store, Vec<(&'static str, &'static str)>) {
    let store = Store::new();
    let text = |path: &str| format!("see {}", store.path(path).display()).into_bytes();
    store.file("out/bin/zz", 0o555, b"\x7fELF one");
    store.link("out/bin/aa", "zz");
    store.link("out/bin/bb", store.path("out/bin/zz"));
    store.file("out/bin/other", 0o555, b"\x7fELF other");
    store.file("out/bin/script", 0o555, b"#!/bin/sh");
    store.file("dev/bin/config", 0o555, b"\x7fELF config");
    store.file("dev/share/man/man1/config.1", 0o444, b"config");
    store.file("out/share/bash-completion/completions/zz", 0o444, b"complete zz");
    store.file("out/share/zz/relocatable", 0o555, b"data");
    store.file("out/share/zz/fixed", 0o444, &text("dependency/share/x"));
    store.file("out/share/zz/late", 0o444, &[vec![b' '; (256 << 10) - 20], text("dependency/share/x")].concat());
    store.link("out/share/zz/passwd", "/etc/passwd");
    store.link("out/share/zz/borrowed", store.path("dependency/share/borrowed"));
    store.link("out/share/zz/data", "relocatable");
    store.link("out/share/man", store.path("man/share/man"));
    store.file("man/share/man/man1/zz.1", 0o444, &text("out"));
    store.link("man/share/man/man1/aa.1", "zz.1");
    store.link("man/share/man/man8/zz.8", store.path("man/share/man/man1/zz.1"));
    store.file("dependency/share/borrowed", 0o444, b"borrowed");
    store.file("out/LICENSE.txt", 0o444, b"MIT");
    store.file("out/share/doc/zz/copying", 0o444, &text("out"));
    (store, vec![("out", "aa"), ("out", "bb"), ("dev", "config"), ("out", "other"), ("out", "script"), ("out", "zz")])
}

#[test]
fn it_has_the_installed_programs_the_licences_and_every_file_of_share_that_needs_no_store_and_links_stay_links() {
    let (store, programs) = package();
    let listed = listed(&store.pack(&programs, MOST).expect("it is not too large"));
    let text = format!("see {}", store.path("out").display()).len();
    let expected = [
        "-rw-r--r-- 0/0 3 1980-01-01 00:00 tree-2.1/LICENSE.txt",
        "lrwxrwxrwx 0/0 0 1980-01-01 00:00 tree-2.1/bin/aa -> zz",
        "lrwxrwxrwx 0/0 0 1980-01-01 00:00 tree-2.1/bin/bb -> zz",
        "-rwxr-xr-x 0/0 10 1980-01-01 00:00 tree-2.1/bin/other",
        "-rwxr-xr-x 0/0 8 1980-01-01 00:00 tree-2.1/bin/zz",
        "-rw-r--r-- 0/0 11 1980-01-01 00:00 tree-2.1/share/bash-completion/completions/zz",
        &format!("-rw-r--r-- 0/0 {text} 1980-01-01 00:00 tree-2.1/share/doc/zz/copying"),
        "lrwxrwxrwx 0/0 0 1980-01-01 00:00 tree-2.1/share/man/man1/aa.1 -> zz.1",
        &format!("-rw-r--r-- 0/0 {text} 1980-01-01 00:00 tree-2.1/share/man/man1/zz.1"),
        "lrwxrwxrwx 0/0 0 1980-01-01 00:00 tree-2.1/share/man/man8/zz.8 -> ../man1/zz.1",
        "-rw-r--r-- 0/0 8 1980-01-01 00:00 tree-2.1/share/zz/borrowed",
        "lrwxrwxrwx 0/0 0 1980-01-01 00:00 tree-2.1/share/zz/data -> relocatable",
        "-rwxr-xr-x 0/0 4 1980-01-01 00:00 tree-2.1/share/zz/relocatable",
    ];
    assert_eq!(listed, expected);
}

#[test]
fn equal_outputs_make_equal_bytes() {
    let (store, programs) = package();
    let first = store.pack(&programs, MOST);
    assert!(first.is_some());
    // Other inodes, times and order of entries in the directories.
    let share = store.path("out/share");
    let copy = store.dir.path().join("copy");
    for (from, to) in [(&share, &copy), (&copy, &share)] {
        assert!(Command::new("cp").arg("-RP").arg(from).arg(to).status().expect("cp").success());
        fs::remove_dir_all(from).expect("removed");
    }
    assert_eq!(store.pack(&programs, MOST), first);
    let reversed: Vec<_> = programs.iter().rev().copied().collect();
    assert_eq!(store.pack(&reversed, MOST), first);
}

#[test]
fn one_that_is_too_large_is_not_made() {
    let (store, programs) = package();
    let size = store.pack(&programs, MOST).expect("an archive").len() as u64;
    assert!(store.pack(&programs, size).is_some());
    assert_eq!(store.pack(&programs, size - 1), None);
}

#[test]
fn directories_that_contain_themselves_end() {
    let store = Store::new();
    store.file("out/bin/x", 0o555, b"\x7fELF");
    store.link("out/share/x/again", ".");
    store.file("out/share/x/file", 0o444, b"x");
    let listed = listed(&store.pack(&[("out", "x")], MOST).expect("an archive"));
    assert_eq!(listed.len(), 2, "{listed:?}");
}

#[test]
fn the_top_directory_is_one_plain_name() {
    for (pname, version, name) in
        [("tree", "2.1", "tree-2.1"), ("a/b c", "", "a_b_c"), ("..", "", "_.."), ("-x", "1", "_-x-1"), ("", "", "_")]
    {
        assert_eq!(top(pname, version), name);
    }
}
