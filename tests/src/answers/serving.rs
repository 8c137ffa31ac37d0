//! What is there.

use std::{fs, process::Command};

use sha2::{Digest, Sha256};

use super::{Running, Start, quick};
use crate::{
    http::ask,
    server::{demo_set, fresh_set},
};

pub fn a_hit_is_a_redirect_that_says_what_it_leads_to(at: &impl Start) {
    let site = at.start(&demo_set(), &quick());
    let hit = site.settled("tree");
    let program = site.download("tree");
    let sha256: String = Sha256::digest(&program).iter().map(|byte| format!("{byte:02x}")).collect();
    let commit = site.status("tree")["nixpkgs"].as_str().expect("a commit").to_owned();
    assert_eq!(commit.len(), 40);
    for (name, value) in [
        ("x-binplz-sha256", sha256.as_str()),
        ("x-binplz-size", &program.len().to_string()),
        ("x-binplz-package", "tree"),
        ("x-binplz-version", "2.1.0"),
        ("x-binplz-nixpkgs", &commit),
        ("link", &["log", "source", "sbom"].map(|kind| format!("</-/{kind}/tree>; rel=\"describedby\"")).join(", ")),
        // The URL expires, so a cached redirect would lead to nothing.
        ("cache-control", "no-store"),
    ] {
        assert_eq!(hit.header(name), Some(value), "{name}");
    }
    assert_eq!((hit.status, hit.header("retry-after")), (302, None));
    assert!(hit.text().starts_with("#!/bin/sh\n"), "{}", hit.text());
    // A signed URL has a length of its own.
    let headers = hit.headers.iter().filter(|(name, _)| name != "location");
    let bytes = headers.map(|(name, value)| name.len() + value.len() + 4).sum::<usize>() + hit.body.len();
    assert!(bytes <= 2200, "{bytes} bytes: {hit:?}");
    assert!(site.get("/-/log/tree").text().contains("tree-2.1.0"));
}

pub fn a_hit_is_told_in_json_and_as_a_page_too(at: &impl Start) {
    let site = at.start(&demo_set(), &quick());
    let hit = site.settled("tree");
    let json = site.send("GET", "/tree", &[("accept", "application/json")], b"");
    assert_eq!((json.status, json.header("content-type")), (302, Some("application/json")));
    let (told, sha256) = (json.json(), hit.header("x-binplz-sha256").expect("a hash"));
    assert_eq!((&told["state"], &told["artifact"]["sha256"]), (&"ready".into(), &sha256.into()), "{told}");
    let page = site.send("GET", "/tree", &[("accept", "text/html")], b"");
    assert_eq!((page.status, page.header("content-type")), (302, Some("text/html; charset=utf-8")));
    let status = site.get("/-/status/tree").text();
    assert!(status.starts_with(&format!("ready 0 {sha256} ")) && status.lines().count() == 1, "{status}");
}

pub fn head_answers_like_get_and_starts_nothing(at: &impl Start) {
    let set = fresh_set("");
    let site = at.start(set.path(), &quick());
    let head = |path: &str| site.send("HEAD", path, &[], b"");
    let unbuilt = head("/tree");
    assert_eq!((unbuilt.status, unbuilt.header("x-binplz-state")), (404, Some("unasked")));
    assert_eq!(site.status("tree")["state"], "unasked");
    assert_eq!(site.settled("tree").status, 302);
    let (get, head) = (site.get("/tree"), head("/tree"));
    assert_eq!((head.status, head.header("x-binplz-sha256")), (302, get.header("x-binplz-sha256")));
    assert!(head.body.is_empty());
    // It leads to what answers HEAD: a URL that was signed for GET would not.
    let about = ask("HEAD", head.header("location").expect("a location"), &[], b"");
    assert_eq!((about.status, about.header("content-length")), (200, get.header("x-binplz-size")));
    assert_eq!(site.builders().len(), 1);
}

pub fn a_browser_that_looks_starts_nothing_and_its_button_does(at: &impl Start) {
    let set = fresh_set("");
    let site = at.start(set.path(), &quick());
    let page = site.send("GET", "/tree", &[("accept", "text/html,*/*")], b"");
    assert_eq!(page.status, 404);
    assert!(page.text().contains("action=\"/-/build/tree\""), "{}", page.text());
    let press =
        |from: &str| site.send("POST", "/-/build/tree", &[("accept", "text/html"), ("sec-fetch-site", from)], b"");
    assert_eq!(press("cross-site").status, 403);
    assert_eq!(site.status("tree")["state"], "unasked");
    let button = press("same-origin");
    assert_eq!((button.status, button.header("location")), (303, Some("/-/status/tree")));
    assert_eq!(site.settled("tree").status, 302);
}

pub fn no_request_that_another_sites_page_makes_starts_a_build(at: &impl Start) {
    let set = fresh_set("");
    let site = at.start(set.path(), &quick());
    let image = ("accept", "image/avif,image/webp,*/*;q=0.8");
    for headers in [
        &[image, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")][..],
        &[image, ("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")],
        &[("accept", "*/*"), ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")],
        // Browsers that say no more than this.
        &[("accept", "*/*"), ("origin", "https://evil.example")],
    ] {
        for path in ["/tree", "/tree?wait", "/tree?retry"] {
            let answer = site.send("GET", path, headers, b"");
            assert_eq!(answer.status, 404, "{path} {headers:?}: {answer:?}");
        }
    }
    assert_eq!(site.status("tree")["state"], "unasked");
    // A link leads to the page.
    let link = [("accept", "text/html,*/*"), ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
    let page = site.send("GET", "/tree", &link, b"");
    assert!(page.text().contains("action=\"/-/build/tree\""), "{}", page.text());
    assert_eq!(site.builders().len(), 0);
    // Who sends no such header is no browser; and what is there is there for all.
    assert_eq!(site.settled("tree").status, 302);
    assert_eq!(site.send("GET", "/tree", &[image, ("sec-fetch-site", "cross-site")], b"").status, 302);
}

pub fn a_binary_can_be_asked_for_in_part_and_only_if_it_is_new(at: &impl Start) {
    let site = at.start(&demo_set(), &quick());
    assert_eq!(site.settled("tree").status, 302);
    let whole = site.download("tree");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let curl = |arguments: &[&str]| {
        let url = format!("{}/tree", site.origin());
        let mut curl = Command::new("curl");
        curl.args(["-fsSL", "-o", "part"]).args(arguments).arg(url).current_dir(dir.path());
        assert!(curl.status().expect("curl").success(), "{arguments:?}");
        fs::read(dir.path().join("part")).expect("the file")
    };
    assert!(curl(&["-r", "-7"]) == whole[whole.len() - 7..]);
    assert!(curl(&["-r", "0-999"]) == whole[..1000]);
    // What broke off after a thousand bytes goes on from there.
    assert!(curl(&["-C", "-"]) == whole);
    let url = site.get("/tree").header("location").expect("a location").to_owned();
    let modified = ask("GET", &url, &[], b"").header("last-modified").expect("a date").to_owned();
    let again = ask("GET", &url, &[("if-modified-since", &modified)], b"");
    assert_eq!((again.status, again.body.len()), (304, 0));
}

pub fn a_package_of_many_programs_without_a_main_one_answers_300_with_those_that_can_be_served(at: &impl Start) {
    let site = at.start(&demo_set(), &quick());
    let choice = site.settled("moreutils");
    assert_eq!(choice.status, 300, "{}", choice.text());
    let text = choice.text();
    assert!(text.contains("moreutils/sponge") && !text.contains("moreutils/vipe"), "{text}");
    assert_eq!(text.lines().count(), 1);
    let json = site.send("GET", "/moreutils", &[("accept", "application/json")], b"").json();
    assert!(json["choices"].as_array().is_some_and(|all| all.contains(&"moreutils/errno".into())), "{json}");
    let script = site.get("/moreutils/vipe");
    assert_eq!(script.status, 422);
    assert!(script.text().contains("vipe is a script"), "{}", script.text());
    let missing = site.get("/moreutils/spnge");
    assert_eq!(missing.status, 404);
    assert!(missing.text().contains("it has") && missing.text().contains("errno"), "{}", missing.text());
}
