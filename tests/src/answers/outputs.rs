//! A package of several outputs is what Nix would install, and has the programs of all its outputs.

use std::process::Command;

use super::{Start, quick};
use crate::{
    server::{demo_set, write_program},
    site::Site,
};

/// What the program of a target prints: its output and its name.
fn printed(site: &Site, target: &str) -> String {
    let settled = site.settled(target);
    assert_eq!(settled.status, 302, "{target}: {}", settled.text());
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("program");
    write_program(&file, site.download(target));
    let ran = Command::new(file).output().expect("a program");
    String::from_utf8(ran.stdout).expect("text").trim_end().to_owned()
}

pub fn an_attribute_is_served_from_the_outputs_that_nix_installs_and_by_name_from_all_others(at: &impl Start) {
    let site = at.start(&demo_set(), &quick());
    for (target, is) in [
        ("outputs.digx", "dnsutils/digx"),
        ("outputs.digx/named", "out/named"),
        ("outputs.hosts", "host/hostx"),
        ("outputs.bindx/digx", "dnsutils/digx"),
        ("outputs.bindx/bindtest", "tests/bindtest"),
        ("outputs.inBin", "bin/inBin"),
        ("outputs.devFirst", "out/devFirst"),
        ("outputs.devFirst/devFirst-config", "dev/devFirst-config"),
        ("outputs.twice", "out/twice"),
        ("outputs.twiceTools", "tools/twice"),
    ] {
        assert_eq!(printed(&site, target), is, "{target}");
        let (output, program) = is.split_once('/').expect("both");
        let artifact = &site.status(target)["artifact"];
        assert_eq!((&artifact["output"], &artifact["program"]), (&output.into(), &program.into()), "{target}");
        let page = site.send("GET", &format!("/{target}"), &[("accept", "text/html")], b"").text();
        assert!(page.contains(&format!("<dt>output</dt><dd><bdi>{output}</bdi></dd>")), "{target}: {page}");
    }
    let choice = site.settled("outputs.bindx");
    assert_eq!(choice.status, 300, "{}", choice.text());
    for name in ["bindtest", "digx", "hostx", "named", "rndc"] {
        assert!(choice.text().contains(&format!("outputs.bindx/{name}")), "{}", choice.text());
    }
    let none = site.settled("outputs.nowhere");
    assert_eq!(none.status, 422, "{}", none.text());
    assert!(none.text().contains("no programs"), "{}", none.text());
}
