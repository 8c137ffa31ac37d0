//! What is no package's name never reaches Nix.

use super::{Running, Start, quick};
use crate::{
    http,
    server::{demo_set, fresh_set},
};

pub fn what_is_no_request_is_told_which_part_of_it_and_why(at: &impl Start) {
    let site = at.start(&demo_set(), &quick());
    for (path, part) in [
        ("/a..b", "name has an empty part"),
        ("/tree?sys=vax", "sys"),
        ("/tree?pin=absent", "does not serve that pin or commit"),
        ("/tree?nixpkgs-commit=deadbeef", "does not serve that pin or commit"),
        ("/tree?speed=9", "unknown parameter"),
    ] {
        let refused = site.get(path);
        assert_eq!(refused.status, 400, "{path}: {}", refused.text());
        assert!(refused.text().contains(part) && refused.text().lines().count() == 1, "{path}: {}", refused.text());
        let problem = site.send("GET", path, &[("accept", "application/json")], b"");
        assert_eq!((problem.status, problem.header("content-type")), (400, Some("application/problem+json")));
        assert_eq!(problem.json()["status"], 400);
    }
    assert_eq!(site.get("/-/nothing").status, 404);
    assert_eq!(site.send("POST", "/tree", &[], b"").status, 405);
    assert_eq!(site.builders(), [""; 0]);
}

pub fn hostile_targets_are_refused_and_no_builder_is_started_for_any_of_them(at: &impl Start) {
    let set = fresh_set("");
    let site = at.start(set.path(), &quick());
    let targets = targets();
    assert!(targets.len() >= 80);
    for target in &targets {
        for method in ["GET", "POST"] {
            let shown = String::from_utf8_lossy(target);
            let answer = http::send(None, &site.address, method, target, &[("accept", "*/*")], b"")
                .unwrap_or_else(|e| panic!("{method} {shown}: {e}"));
            let fine: &[u16] = match method {
                "GET" => &[400, 401, 404],
                // The builders' endpoint and the button take POST; nothing else does.
                _ => &[400, 401, 404, 405],
            };
            // A status line has the status 200, and says that it is a refusal.
            let line = answer.status == 200 && answer.text().starts_with("failed 0 - - - ");
            assert!(line || fine.contains(&answer.status), "{method} {shown}: {} {}", answer.status, answer.text());
            assert!(!answer.headers.iter().any(|(name, _)| name == "x-evil"));
            let told = answer.text();
            assert!(!told.contains("panicked") && !told.contains("/nix/") && !told.contains(".rs:"), "{told}");
        }
    }
    // A good target does start one. By then the bell has been answered for all of the above.
    assert_eq!(site.settled("tree").status, 302);
    let builders = site.builders();
    assert!(builders.len() == 1 && builders[0].contains("-linux/tree/"), "{builders:?}");
}

fn targets() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = [
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
