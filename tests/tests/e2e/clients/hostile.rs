//! A package that would like to be more than text: its log, its reasons, its version, its programs' names.

use std::fs;

use binplz_tests::{
    gate::Gate,
    server::{Server, fresh_set},
    site::wait_for,
};

use super::{
    machine::{Machine, find},
    sh, text,
};

/// The browser is shown them, too (`tests/browser`).
const PACKAGES: &str = include_str!("../../../fixtures/hostile/packages.nix");

/// A build whose phase is no better: it stays there until the test has seen it, and fails then, for its output is not what it said.
fn held(gate: &Gate) -> String {
    let wait = gate.wait();
    format!(
        r#"
  hostileHeld = package "hostileHeld" {{
    outputHash = builtins.hashString "sha256" "something else";
    outputHashMode = "recursive";
    outputHashAlgo = "sha256";
    buildPhase = ''
      echo '@nix {{ "action": "setPhase", "phase": "\u001b]0;owned\u0007\u001b[2J<b>phase\u202e\u009b31m" }}' >&2
      {wait}
    '';
    installPhase = "mkdir $out";
  }};
"#
    )
}

/// Whether a terminal shows it as it is.
fn shows_as_text(text: &str) -> bool {
    let hidden = |c| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().all(|c| c == '\n' || c == '\t' || !(c.is_control() || hidden(c)))
}

#[test]
fn every_plain_answer_about_a_hostile_package_shows_as_text_and_runs_as_nothing_else() {
    let (set, home) = (fresh_set(PACKAGES), tempfile::tempdir().expect("a temporary directory"));
    let server = Server::start(set.path(), &home.path().join("data"), &[]);
    for (target, status) in [("failing.hostile", 302), ("failing.hostileFails", 422), ("failing.hostileMain", 422)] {
        let settled = server.settled(target);
        assert_eq!(settled.status, status, "{}", settled.text());
        for path in [
            format!("/{target}"),
            format!("/-/status/{target}"),
            format!("/-/log/{target}"),
            format!("/-/install/{target}"),
            format!("/{target}/nosuch"),
        ] {
            let answer = server.get(&path);
            assert!(shows_as_text(&answer.text()), "{path}: {:?}", answer.text());
            for (name, value) in &answer.headers {
                assert!(value.bytes().all(|b| (b' '..=b'~').contains(&b)), "{path}: {name}: {value:?}");
                assert_ne!(name, "set-cookie");
            }
        }
        // Saved, and run.
        let url = format!("{}/{target}", server.origin());
        let out = sh(home.path(), &format!("curl -s {url} > saved; sh ./saved; sh ./saved; curl -s {url}/nosuch | sh"));
        assert!(shows_as_text(&text(&out.stderr)), "{target}: {:?}", text(&out.stderr));
        assert!(!home.path().join("pwned").exists(), "{target}");
    }
    let log = server.get("/-/log/failing.hostile").text();
    assert!(log.contains("<b>&amp;</b>hidden gnp.exe\n\nlast words\n"), "{}", &log[..log.len().min(900)]);
    assert!(log.lines().all(|line| line.len() < 20_000), "a line of the log is as long as it was");
    let reason = server.get("/failing.hostileFails").text().replace("'\\''", "'");
    assert!(reason.contains("the build failed: click $(touch pwned) `touch pwned` '; touch pwned; '"), "{reason}");
    let hit = server.get("/failing.hostile");
    assert_eq!(hit.header("x-binplz-version"), Some("1.0<b>Set-Cookie:a=b"), "{hit:?}");
}

#[test]
fn in_a_terminal_nothing_of_a_build_is_obeyed_while_it_runs_and_when_it_fails() {
    let (gate, data) = (Gate::new("hostileHeld"), tempfile::tempdir().expect("a temporary directory"));
    let set = fresh_set(&held(&gate));
    let server = Server::start(set.path(), data.path(), &[]);
    let machine = Machine::usual();
    machine.save("held", &server.get("/failing.hostileHeld").body);
    // A terminal of its own, whose content goes to a file.
    let line = format!("exec {} -qefc 'sh ./held' shown </dev/null >/dev/null", find("script").display());
    let run = machine.start(&line);
    let shown = || text(&fs::read(machine.home().join("shown")).unwrap_or_default());
    wait_for("the phase", || shown().contains("hostileHeld-1.0 <b>phase").then_some(()));
    for path in ["/-/status/failing.hostileHeld", "/-/log/failing.hostileHeld"] {
        let answer = server.get(path).text();
        assert!(shows_as_text(&answer), "{path}: {answer:?}");
    }
    gate.open();
    assert_eq!(run.end().0, Some(1));
    // What is ours: the line that is rewritten, and the terminal's ends of lines.
    let theirs = shown().replace("\r\x1b[K", "").replace("\r\n", "\n");
    assert!(shows_as_text(&theirs), "{theirs:?}");
    assert!(theirs.contains("; the log: "), "{theirs:?}");
}
