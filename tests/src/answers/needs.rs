//! What a program needs beyond its file is said wherever it is served.

use std::{fs, path::Path, process::Command};

use serde_json::json;

use super::{Running, Start, quick};
use crate::{server::demo_set, site::Site};

const REMEDY: &str = "TERMINFO_DIRS=/usr/share/terminfo:/lib/terminfo";

/// Runs a script and returns the last line that it has written to stderr.
fn last_line(home: &Path, script: &str) -> String {
    let mut sh = Command::new("sh");
    let ran = sh.args(["-c", script]).current_dir(home).env("BINPLZ_DIR", home.join("bin")).output().expect("sh");
    assert!(ran.status.success(), "{script}: {ran:?}");
    String::from_utf8_lossy(&ran.stderr).lines().next_back().unwrap_or_default().to_owned()
}

fn page(site: &Site, path: &str) -> String {
    site.send("GET", path, &[("accept", "text/html")], b"").text()
}

pub fn a_need_is_said_in_the_header_the_status_the_pages_the_stub_the_installer_and_to_the_operator(at: &impl Start) {
    let (site, home) = (at.start(&demo_set(), &quick()), tempfile::tempdir().expect("a temporary directory"));
    assert_eq!(site.settled("tree").header("x-binplz-needs"), Some("none"));
    let hit = site.settled("needs.terminal");
    assert_eq!(hit.status, 302, "{}", hit.text());
    let header = hit.header("x-binplz-needs").expect("a header").to_owned();
    assert!(header.starts_with("terminfo;path=\"") && header.ends_with(&format!(";set=\"{REMEDY}\"")), "{header}");
    let sentence = format!("it needs terminfo: set {REMEDY}");
    let need = &site.status("needs.terminal")["artifact"]["needs"][0];
    assert_eq!((&need["data"], &need["remedy"]), (&"terminfo".into(), &REMEDY.into()), "{need}");
    let line = site.get("/-/status/needs.terminal").text();
    // All that it needs is in its bundle.
    let bundle = |query: &str| {
        format!("available as one file with all that it needs: {}/-/bundle/needs.terminal{query}", site.origin())
    };
    assert!(line.ends_with(&format!(" {sentence}; {}\n", bundle(""))) && line.lines().count() == 1, "{line}");
    assert_eq!(hit.header("x-binplz-bundle"), Some(format!("{}/-/bundle/needs.terminal", site.origin()).as_str()));
    for path in ["/needs.terminal", "/-/p/needs.terminal"] {
        assert!(page(&site, path).contains(&sentence), "{path}");
    }
    let listed = site.send("GET", "/-/p/needs.terminal", &[("accept", "application/json")], b"").json();
    assert_eq!(listed["programs"][0]["needs"][0], *need);
    let said = format!("binplz: terminal: {sentence}; {}", bundle(&format!("?sys={}-linux", std::env::consts::ARCH)));
    let origin = site.origin();
    assert_eq!(last_line(home.path(), &format!("curl -s {origin}/needs.terminal > terminal; sh ./terminal")), said);
    assert_eq!(last_line(home.path(), &format!("curl -s {origin}/-/install/needs.terminal | sh")), said);
    // With the remedy it reads what the machine has.
    let ran = Command::new(home.path().join("terminal")).env_clear().envs(REMEDY.split_once('=')).output();
    assert_eq!(ran.expect("a program").stdout, b"/usr/share/terminfo:/lib/terminfo\n");
    let shown = site.operator(&["show", "needs.terminal"]).output().expect("binplz");
    assert!(String::from_utf8_lossy(&shown.stdout).contains(&format!("terminal: {sentence}")), "{shown:?}");
    // What has no remedy is named.
    let fonts = site.settled("games.figlet").header("x-binplz-needs").expect("a header").to_owned();
    assert!(fonts.starts_with("fonts;path=\"") && !fonts.contains("set="), "{fonts}");
}

pub fn a_wrapper_that_only_sets_variables_gives_way_to_its_program_and_any_other_is_refused(at: &impl Start) {
    let (site, home) = (at.start(&demo_set(), &quick()), tempfile::tempdir().expect("a temporary directory"));
    let hit = site.settled("needs.greeter");
    assert_eq!(hit.header("x-binplz-needs"), Some("variable;set=\"GREETING=good\""), "{}", hit.text());
    let artifact = &site.status("needs.greeter")["artifact"];
    assert_eq!(artifact["unwrapped"], json!(true), "{artifact}");
    assert!(page(&site, "/needs.greeter").contains("without the wrapper of its package"));
    let file = home.path().join("greeter");
    let said = last_line(home.path(), &format!("curl -s {}/needs.greeter > greeter; sh ./greeter", site.origin()));
    assert!(
        said.starts_with("binplz: greeter: its wrapper is not included: set GREETING=good; available as one file"),
        "{said}"
    );
    let greeted = Command::new(&file).env("GREETING", "good").output().expect("a program");
    assert_eq!(greeted.stdout, b"good\n");
    let refused = site.settled("needs.shouter");
    assert_eq!(refused.status, 422);
    assert!(refused.text().contains("`shouter` is a wrapper that runs .shouter-wrapped"), "{}", refused.text());
}

pub fn a_file_with_several_names_says_that_its_name_matters_unless_it_has_it(at: &impl Start) {
    let (site, home) = (at.start(&demo_set(), &quick()), tempfile::tempdir().expect("a temporary directory"));
    assert_eq!(site.settled("xxHash/xxh64sum").status, 302);
    let note = "keep the name xxh64sum: this file has several names, and its name decides what it does";
    assert_eq!(site.status("xxHash/xxh64sum")["artifact"]["name_matters"], json!(true));
    assert!(page(&site, "/xxHash/xxh64sum").contains(note));
    let run = |name: &str| {
        let script = format!("curl -s {}/xxHash/xxh64sum > {name}; sh ./{name} --version < /dev/null", site.origin());
        let ran = Command::new("sh").args(["-c", &script]).current_dir(home.path()).output().expect("sh");
        assert!(fs::read(home.path().join(name)).expect("a file").starts_with(b"\x7fELF"));
        String::from_utf8_lossy(&ran.stderr).into_owned()
    };
    assert!(run("renamed").contains(&format!("binplz: renamed: {note}\n")));
    assert!(!run("xxh64sum").contains("keep the name"));
}
