//! What is no package's name never reaches Nix.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use binplz_tests::{
    http,
    server::{Server, demo_set, program},
};

/// A builder that only writes down that it was started: it stands where a process would be born that could reach Nix.
fn tripwire(dir: &Path) -> std::path::PathBuf {
    let script = dir.join("builder");
    let real = program("binplz-builder");
    fs::write(
        &script,
        format!("#!/bin/sh\necho \"$BINPLZ_LEASE_URL\" >> {}/started\nexec {} \"$@\"\n", dir.display(), real.display()),
    )
    .expect("a script");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("its owner may");
    script
}

fn targets() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = [
        "/",
        "//",
        "//tree",
        "/tree/",
        "/tree//tree",
        "/tree/tree/tree",
        "/.",
        "/..",
        "/../tree",
        "/tree/..",
        "/tree/.",
        "/./tree",
        "/%2e%2e",
        "/%2e%2e/tree",
        "/tree/%2e%2e",
        "/tree%2f..",
        "/%2ftree",
        "/..%2f..%2fetc%2fpasswd",
        "/....",
        "/tree..",
        "/.tree",
        "/tree.",
        "/a..b",
        "/a.b.c.d.e",
        "/%00",
        "/tree%00",
        "/tree%00.nix",
        "/tree/%00",
        "/%0a",
        "/tree%0aX-Evil:%201",
        "/tree%0d%0aX-Evil:%201",
        "/tree%20",
        "/%20tree",
        "/tree%09",
        "/tree%1b[31m",
        "/tree%7f",
        "/\"tree\"",
        "/tree\"",
        "/tree'$(id)'",
        "/%22",
        "/hello%22.name+%2b+%22",
        "/hello%22.name%20+%20builtins.readFile%20%22/etc/hostname%22%20+%20%22",
        "/${tree}",
        "/$%7btree%7d",
        "/%24%7Bbuiltins.currentTime%7D",
        "/$(id)",
        "/`id`",
        "/%60id%60",
        "/tree;id",
        "/tree|id",
        "/tree&id",
        "/tree>x",
        "/tree<x",
        "/tree*",
        "/tree^out",
        "/tree%5Eout",
        "/tree!out",
        "/tree@out",
        "/tree=1",
        "/tree,ls",
        "/tree:x",
        "/tree~",
        "/tree\\x",
        "/tree%5c..",
        "/{tree}",
        "/[tree]",
        "/%5B",
        "/(tree)",
        "/-tree",
        "/--help",
        "/--argstr",
        "/-E",
        "/+tree",
        "/'tree",
        "/%E2%80%AEtree",
        "/tr%C3%A9e",
        "/%F0%9F%8C%B3",
        "/%ff",
        "/%fe%ff",
        "/%c0%ae%c0%ae",
        "/%ed%a0%80",
        "/tree%",
        "/tree%2",
        "/tree%zz",
        "/%2574ree",
        "/tree%252e",
        "/builtins",
        "/builtins.readFile",
        "/tree.builtins",
        "/pkgsStatic",
        "/pkgsStatic.tree",
        "/pkgsStatic.pkgsStatic",
        "/pkgsStatic.pkgsStatic.tree",
        "/pkgs.tree",
        "/tree.pkgs",
        "/pkgsCross.mingw32.tree",
        "/buildPackages.tree",
        "/a.buildPackages",
        "/targetPackages.tree",
        "/__splicedPackages.tree",
        "/tree.__toString",
        "/tree?sys=vax",
        "/tree?sys=",
        "/tree?sys=x86_64-linux%00",
        "/tree?sys=x86_64-linux;id",
        "/tree?pin=..",
        "/tree?pin=../../etc",
        "/tree?pin=unstable",
        "/tree?pin=",
        "/tree?nixpkgs-commit=deadbeef",
        "/tree?nixpkgs-commit=deadbee..",
        "/tree?nixpkgs-commit=HEAD",
        "/tree?nixpkgs-commit=%00%00%00%00%00%00%00",
        "/tree?x=1",
        "/tree?sys=x86_64-linux&sys=x86_64-linux",
        "/tree?retry=maybe",
        "/-",
        "/-/",
        "/-/nothing",
        "/-/../tree",
        "/-/status/../tree",
        "/-/status/",
        "/-/log/%00",
        "/-/log/tree?from=-1",
        "/-/status/pkgsStatic.tree",
        "/-/objects/../ledger.redb",
        "/-/objects/builds/../../secret",
        "/-/objects/%2e%2e/secret",
        "/-/objects//etc/passwd",
        "/-/lease/a/b/c/d",
    ]
    .iter()
    .map(|target| target.as_bytes().to_vec())
    .collect();
    all.push(b"/tree\xff".to_vec());
    all.push(b"/\xc3\x28".to_vec());
    all.push(b"/\x80\x81\x82".to_vec());
    all.push([b"/".as_slice(), &[b'a'; 10_240]].concat());
    all.push([b"/tree/".as_slice(), &[b'a'; 10_240]].concat());
    all.push([b"/tree?sys=".as_slice(), &[b'a'; 10_240]].concat());
    all.push(["/", &"a.".repeat(5_000)].concat().into_bytes());
    all.push(["/", &"%41".repeat(3_000)].concat().into_bytes());
    all.push([b"/".as_slice(), &[b'a'; 129]].concat());
    all
}

#[test]
fn hostile_targets_are_refused_and_no_process_is_started_for_any_of_them() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let builder = tripwire(dir.path());
    let data = dir.path().join("data");
    let server = Server::start(&demo_set(), &data, &["--builder", builder.to_str().expect("a path")]);
    let targets = targets();
    assert!(targets.len() >= 80);
    for target in &targets {
        // The home page is no target, and "." of a client's own making is "/" for nobody here.
        if target == b"/" {
            continue;
        }
        for method in ["GET", "POST"] {
            let shown = String::from_utf8_lossy(target);
            let answer = http::send(&server.address, method, target, &[("accept", "*/*")], b"")
                .unwrap_or_else(|e| panic!("{method} {shown}: {e}"));
            let fine: &[u16] = match method {
                "GET" => &[400, 401, 404],
                // The builders' endpoint and the button take POST; nothing else does.
                _ => &[400, 401, 404, 405],
            };
            assert!(fine.contains(&answer.status), "{method} {shown}: {} {}", answer.status, answer.text());
            assert!(!answer.headers.iter().any(|(name, _)| name == "x-evil"));
            let told = answer.text();
            assert!(!told.contains("panicked") && !told.contains("/nix/") && !told.contains(".rs:"), "{told}");
        }
    }
    // The wire is live: a good target trips it. By then the bell has been answered for all of the above.
    assert_eq!(server.settled("tree").status, 302);
    let started = fs::read_to_string(dir.path().join("started")).expect("the good target's builder");
    let started: Vec<_> = started.lines().collect();
    assert!(
        started.len() == 1 && started[0].contains("/x86_64-linux/tree/") || started[0].contains("/aarch64-linux/tree/"),
        "{started:?}"
    );
}
