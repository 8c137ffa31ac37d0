//! What people type by mistake, typed for real: they have the program all the same, or read what to type instead.

use super::{sh, text, with_tree};

/// What comes of a line.
#[derive(Clone, Copy)]
enum Then {
    /// The program is there: the line has run it, with `--version`.
    Runs,
    /// It says so; URL stands for the server's.
    Says(&'static str),
}
use Then::{Runs, Says};

/// The lines; URL stands for the server's, and `f` is what was saved. What was saved is run where a line says so.
const LINES: [(&str, Then); 56] = [
    ("curl -s URL/tree | sh && ./tree --version", Runs),
    ("curl -sL 'URL/tree?wait' > f; chmod +x f; ./f --version", Runs),
    ("curl -s URL/tree > f; sh f --version", Runs),
    ("curl -s URL/tree > f; bash ./f --version", Runs),
    ("curl -s URL/tree > f; chmod 777 f; ./f --version", Runs),
    ("curl -sk URL/tree > f; sh ./f --version", Runs),
    ("curl -s --compressed URL/tree > f; sh ./f --version", Runs),
    ("curl -sL --compressed URL/tree > f; chmod +x f; ./f --version", Runs),
    ("curl -sL --http1.0 URL/tree > f; chmod +x f; ./f --version", Runs),
    ("curl -sL --tcp-nodelay --tlsv1.2 URL/tree > f; chmod +x f; ./f --version", Runs),
    ("curl -sOL URL/tree; chmod +x tree; ./tree --version", Runs),
    ("curl -sOJL URL/tree; chmod +x tree; ./tree --version", Runs),
    ("curl -s URL/-/install/tree > f; BINPLZ_DIR=. sh f; ./tree --version", Runs),
    ("curl -s URL/-/install/tree | BINPLZ_DIR=. bash; ./tree --version", Runs),
    ("wget -qO- URL/tree > f; chmod +x f; ./f --version", Runs),
    ("wget -q URL/tree; chmod +x tree; ./tree --version", Runs),
    ("busybox wget -qO- URL/tree > f; chmod +x f; ./f --version", Runs),
    ("curl -s URL/tree?sys=$(uname -m)-linux > f; sh ./f --version", Runs),
    ("curl -s URL/tree/tree > f; sh ./f --version", Runs),
    ("curl -s URL/tree#readme > f; sh ./f --version", Runs),
    ("curl -s URL/tree > 'my tree'; sh './my tree' --version", Runs),
    ("curl -s -H 'Date: Tue, 01 Jan 1980 00:00:00 GMT' URL/tree > f; sh ./f --version", Runs),
    ("curl -s URL/tree/ > f; sh f", Says("try URL/tree\n")),
    ("curl -s --path-as-is URL//tree > f; sh f", Says("try URL/tree\n")),
    ("curl -s URL/tree.exe > f; sh f", Says("try URL/tree\n")),
    ("curl -s URL/TREE > f; sh f", Says("try URL/tree\n")),
    ("curl -s URL/bin/tree > f; sh f", Says("try URL/tree\n")),
    ("curl -s URL/usr/bin/tree > f; sh f", Says("try URL/tree\n")),
    ("curl -s URL/nix/store/0c8avx37rwvyk1s2x2v7x2hqkxbs3qd4-tree-2.1.0/bin/tree > f; sh f", Says("try URL/tree\n")),
    ("curl -s URL/tree@2.1 > f; sh f", Says("try URL/tree\n")),
    ("curl -s URL/tree:latest > f; sh f", Says("try URL/tree\n")),
    ("curl -s URL/tree==2.1 > f; sh f", Says("try URL/tree\n")),
    ("curl -s URL/tree-2.1.0 > f; sh f", Says("try URL/tree\n")),
    ("curl -s URL/python3.12 > f; sh f", Says("try URL/python312\n")),
    ("curl -s URL/tree.tar.gz > f; sh f", Says("try URL/-/archive/tree\n")),
    ("curl -s URL/tree.deb > f; sh f", Says("try URL/tree\n")),
    ("curl -s 'URL/%22tree%22' > f; sh f", Says("try URL/tree\n")),
    ("curl -s 'URL/tree%20' > f; sh f", Says("try URL/tree\n")),
    ("curl -s 'URL/tree%20jq' > f; sh f", Says("try URL/tree\n")),
    ("curl -s URL/tree,jq > f; sh f", Says("try URL/tree\n")),
    ("curl -s 'URL/tr%D0%B5%D0%B5' > f; sh f", Says("try URL/tree\n")),
    ("curl -s 'URL/tree%E2%80%8B' > f; sh f", Says("try URL/tree\n")),
    ("curl -s URL/nixpkgs.tree > f; sh f", Says("try URL/tree\n")),
    ("curl -s URL/packages/tree > f; sh f", Says("try URL/tree\n")),
    (
        "curl -s 'URL/tree?version=2.1' > f; sh f",
        Says("unknown parameter; expected sys, pin, nixpkgs-commit, bundle, full, wait, retry or status"),
    ),
    ("curl -s 'URL/tree?sys=arm64' > f; sh f", Says("expected x86_64-linux or aarch64-linux")),
    ("curl -s 'URL/tree?wait=60' > f; sh f", Says("the parameter wait is invalid: it takes no value")),
    ("curl -s 'URL/tree?pin=22.05' > f; sh f", Says("does not serve that pin or commit")),
    ("curl -s 'URL/tree?nixpkgs-commit=HEAD' > f; sh f", Says("expected 7 to 40 lower-case hex digits")),
    ("curl -sX POST URL/tree > f; sh f", Says("this path does not accept the method; use GET")),
    ("curl -s URL/-/build/tree > f; sh f", Says("this path does not accept the method; use POST")),
    ("curl -s URL/-/instal/tree > f; sh f", Says("there is no such page")),
    ("curl -fsSL URL/-/install/tree@2.1 | sh", Says("try URL/-/install/tree\n")),
    ("curl -fsSL URL/-/install/tree.exe | sh", Says("try URL/tree\n")),
    (
        "curl -fsSL URL/-/install/tree | sh -s -- --docs",
        Says("unknown option --docs; the options are --with-docs and --require-signature KEY"),
    ),
    ("curl -s URL/moreutils > f; sh f", Says("this package has several programs; request one of: ")),
];

#[test]
fn what_is_typed_by_mistake_works_or_says_what_to_type_instead() {
    let (server, _data) = with_tree();
    let url = server.origin();
    assert_eq!(server.settled("moreutils").status, 300);
    let home = tempfile::tempdir().expect("a directory");
    for (line, then) in LINES {
        let dir = tempfile::tempdir_in(home.path()).expect("a directory");
        let out = sh(dir.path(), &line.replace("URL", &url));
        let said = text(&out.stdout) + &text(&out.stderr);
        match then {
            Runs => assert!(out.status.success() && text(&out.stdout).contains("tree v2.1.0"), "{line}: {said}"),
            Says(words) => {
                assert_eq!(out.status.code(), Some(1), "{line}: {said}");
                assert!(said.starts_with("binplz: ") && said.contains(&words.replace("URL", &url)), "{line}: {said}");
            }
        }
    }
}

/// A proxy that keeps answers gets none to keep: all but the stub's second part and the pages' files are of now.
#[test]
fn a_caching_proxy_may_keep_no_answer_of_now_and_may_keep_what_its_url_names() {
    let (server, _data) = with_tree();
    for path in ["/tree", "/tree?status", "/-/status/tree", "/failing.nosuch", "/tree@2"] {
        assert_eq!(server.get(path).header("cache-control"), Some("no-store"), "{path}");
    }
    let stub = server.get("/tree").text();
    let sum = stub.split("sum=").nth(1).and_then(|rest| rest.split(' ').next()).expect("a sum");
    let second = server.get(&format!("/-/stub/{sum}"));
    assert_eq!(second.header("cache-control"), Some("public, max-age=31536000, immutable"));
    let other = server.get(&format!("/-/stub/{}", "0".repeat(64)));
    assert_eq!((other.status, other.header("cache-control")), (200, Some("no-store")));
    assert!(other.text().contains("another version of the service"), "{}", other.text());
}
