//! What is stored: each content once.

use std::{collections::BTreeSet, fs, process::Command};

use super::{Running, Start, quick};
use crate::server::{fresh_set, write_program};

/// One program with 301 names, in two packages.
const PACKAGES: &str = r#"
  many = package "many" { buildPhase = multicall; installPhase = "install -D program $out/bin/many; for n in $(seq 300); do ln -s many $out/bin/n$n; done"; };
  alike = package "alike" { buildPhase = multicall; };
"#;
const MULTICALL: &str = r#"
  multicall = "$CC -O1 -o program ${builtins.toFile "multicall.c" ''
    #include <stdio.h>
    #include <string.h>
    int main(int argc, char **argv) { char *name = strrchr(argv[0], '/'); puts(name ? name + 1 : argv[0]); return argc != 1; }
  ''}";
"#;

pub fn three_hundred_names_of_a_program_are_one_object_and_each_name_works(at: &impl Start) {
    let set = fresh_set(PACKAGES);
    let file = set.path().join("failing.nix");
    let text = fs::read_to_string(&file).expect("the set");
    fs::write(&file, text.replacen("\nin\n", &format!("{MULTICALL}in\n"), 1)).expect("the set");
    let site = at.start(set.path(), &quick());
    let blobs = || -> BTreeSet<String> {
        site.objects().into_iter().map(|(path, _)| path).filter(|path| path.starts_with("blobs/")).collect()
    };
    let sha256 = |target: &str| {
        let hit = site.settled(target);
        assert_eq!(hit.status, 302, "{target}: {}", hit.text());
        format!("blobs/{}", hit.header("x-binplz-sha256").expect("a hash"))
    };
    let mut stored: BTreeSet<_> = ["failing.many", "-/archive/failing.many"].map(sha256).into();
    assert_eq!((stored.len(), blobs()), (2, stored.clone()));
    let first = site.get("/failing.many");
    let dir = tempfile::tempdir().expect("a temporary directory");
    for name in (1..=300).map(|n| format!("n{n}")) {
        let target = format!("failing.many/{name}");
        let hit = site.get(&format!("/{target}"));
        assert_eq!((hit.status, hit.header("x-binplz-sha256")), (302, first.header("x-binplz-sha256")), "{name}");
        let path = dir.path().join(&name);
        write_program(&path, site.download(&target));
        let ran = Command::new(&path).output().expect("it runs");
        assert_eq!((ran.status.success(), ran.stdout), (true, format!("{name}\n").into_bytes()));
    }
    // Another package has the same content.
    stored.extend(["failing.alike", "-/archive/failing.alike"].map(sha256));
    assert_eq!((stored.len(), blobs()), (3, stored.clone()));
}

pub fn a_download_is_saved_under_its_programs_name(at: &impl Start) {
    let set = fresh_set("");
    let site = at.start(set.path(), &quick());
    assert_eq!(site.settled("tree").status, 302);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let url = site.get("/tree").header("location").expect("a location").to_owned();
    // As a browser does it, which sees nothing but this URL.
    let saved = Command::new("curl").args(["-q", "-fsSOJ", &url]).current_dir(dir.path()).status();
    assert!(saved.expect("curl").success());
    assert_eq!(fs::read(dir.path().join("tree")).expect("it is called so"), site.download("tree"));
}
