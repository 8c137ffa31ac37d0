//! What an operator does, with the same words wherever the service runs.

use std::{collections::BTreeSet, fs, time::Duration};

use binplz_core::{build::policy::Policy, id::money::Micros};
use rexpect::session::{Options, PtySession, spawn_with_options};
use serde_json::Value;

use super::{Running, Start, quick};
use crate::{
    gate::Gate,
    http::Answer,
    server::{demo_set, fresh_set},
    site::wait_for,
};

/// What a verb says on its standard output, where it ends well.
pub(super) fn said(site: &impl Running, arguments: &[&str]) -> String {
    let output = site.operator(arguments).output().expect("binplz");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// The same, as the JSON that it is with `--json`.
pub(super) fn json(site: &impl Running, arguments: &[&str]) -> Value {
    serde_json::from_str(&said(site, &[arguments, &["--json"]].concat())).expect("JSON")
}

/// What it says on its standard error, where it does not.
pub(super) fn refused(site: &impl Running, arguments: &[&str]) -> String {
    let output = site.operator(arguments).output().expect("binplz");
    assert!(!output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).expect("text")
}

pub(super) fn ends(site: &impl Running, target: &str, state: &str) {
    wait_for(state, || (site.status(target)["state"] == state).then_some(()));
}

const BAD: &str = "failing.compileError";
const ENDLESS: &str = "failing.endless";
const BUNDLE: &str = "-/bundle/failing.script";

pub fn every_verb_does_what_its_help_says(at: &impl Start) {
    let set = fresh_set(r#"endless = package "endless" { buildPhase = "echo it has begun; sleep 86400"; };"#);
    let site = at.start(set.path(), &quick());
    assert!(said(&site, &["status"]).starts_with("builds    0 of 4 slots taken\nqueue     0 waiting\nmonth "));
    assert_eq!(said(&site, &["list"]), "No builds.\n");
    assert!(said(&site, &["pin", "list"]).contains("the default"));

    // Before anybody asks.
    let list = set.path().join("list");
    fs::write(&list, format!("tree # a comment\n\n{BAD}\n")).expect("a list");
    let list = list.to_str().expect("a path");
    let warmed = said(&site, &["warm", list, "--wait"]);
    assert!(warmed.starts_with(&format!("1 failed, 1 ready\n{BAD}: the build failed")), "{warmed}");
    assert_eq!(site.get("/tree").status, 302);
    fs::write(list, "tree\nno name\n").expect("a list");
    assert!(refused(&site, &["warm", list]).contains("line 2 of the list"));

    // Which there are.
    let targets = |arguments: &[&str]| {
        let listed = json(&site, &[&["list"], arguments].concat());
        let target = |build: &Value| build["target"].as_str().expect("a target").to_owned();
        listed.as_array().expect("a list").iter().map(target).collect::<Vec<_>>()
    };
    assert_eq!(targets(&[]), [BAD, "tree"]);
    assert_eq!(
        (targets(&["--state", "ready"]), targets(&["--state", "failed"])),
        (vec!["tree".into()], vec![BAD.into()])
    );
    assert_eq!(targets(&["--reason", "build-failed", "--since", "1h"]), [BAD]);
    assert_eq!(targets(&["--reason", "test-failed"]), [""; 0]);
    assert_eq!(targets(&["--since", "0s"]), [""; 0]);
    let lines = said(&site, &["list"]);
    assert!(lines.lines().count() == 2 && lines.contains("the build failed: "), "{lines}");

    // What is known of one.
    let shown = said(&site, &["show", "tree"]);
    assert!(shown.contains("state     ready") && shown.contains("attempt 1 ready ("), "{shown}");
    let shown = json(&site, &["show", BAD]);
    let attempt = &shown["history"][0];
    assert_eq!((&shown["state"], &attempt["failure"]["kind"]), (&"failed".into(), &"build-failed".into()));
    assert!(attempt["task"].is_string() && attempt["stats"]["memory"].as_u64() > Some(1 << 20), "{attempt}");
    let whole = format!(
        "{}/{}/{BAD}",
        shown["key"]["rev"].as_str().expect("a commit"),
        shown["key"]["system"].as_str().expect("a system")
    );
    assert_eq!(json(&site, &["show", &whole]), shown);
    let why = said(&site, &["why", BAD]);
    assert!(
        why.contains("undeclared") && why.contains("A retry would fail again") && why.contains("binplz retry"),
        "{why}"
    );
    assert!(said(&site, &["why", "tree"]).starts_with("tree has not failed; its state is ready"));
    assert_eq!(said(&site, &["log", BAD]), site.get(&format!("/-/log/{BAD}")).text());
    assert_eq!(said(&site, &["log", "-f", BAD]), said(&site, &["log", BAD]));

    // How long it may take.
    assert!(said(&site, &["allow", "tree", "--hours", "8"]).starts_with("tree: each attempt may take 8 hours;"));
    assert!(said(&site, &["show", "tree"]).contains("limit     8 hours (binplz allow)\n"));
    assert_eq!(said(&site, &["allow", "tree", "--clear"]), "tree: the limit of all builds applies\n");

    // What is asked for most.
    assert_eq!(site.get("/tree").status, 302);
    let hits = || {
        late_lines(&site);
        json(&site, &["top"])[0]["hits"].as_u64()
    };
    wait_for("the hits", || (hits() >= Some(2)).then_some(()));
    assert!(said(&site, &["top", "--since", "1h", "--most", "1"]).ends_with("  tree\n"));
    // What people use, beside a list of one's own.
    fs::write(list, "hello\n").expect("a list");
    let seeded = json(&site, &["seed", "--list", list, "--top", "1", "--wait"]);
    let seeded: Vec<_> = seeded.as_array().expect("builds").iter().map(|build| &build["key"]["attr"]).collect();
    assert_eq!(seeded, ["hello", "tree"]);

    // A bundle is built and counted apart from its package, and what is printed of it is a list again.
    fs::write(list, format!("{BUNDLE}\n")).expect("a list");
    assert_eq!(said(&site, &["warm", list, "--wait"]), "1 ready\n");
    assert_eq!(site.get(&format!("/{BUNDLE}")).status, 302);
    let top = || {
        late_lines(&site);
        said(&site, &["top"])
    };
    let top = wait_for("the hit", || Some(top()).filter(|top| top.contains(&format!("1  {BUNDLE}\n"))));
    fs::write(list, &top).expect("a list");
    assert_eq!(said(&site, &["warm", list]), "2 ready\n", "{top}");
    assert_eq!(json(&site, &["seed", "--list", list, "--top", "2"]).as_array().map(Vec::len), Some(4));
    assert!(said(&site, &["cost"]).contains(&format!("   {BUNDLE}: 1 attempt")));

    // Garbage collection removes nothing that is served.
    let kept = json(&site, &["gc", "--dry-run"])["kept"]["objects"].as_u64();
    assert!(kept >= Some(4) && said(&site, &["gc", "--dry-run"]).contains("nothing was deleted"), "{kept:?}");
    assert!(said(&site, &["gc"]).starts_with("rows      0 builds, 0 served"));
    assert_eq!(site.get("/tree").status, 302);

    // Once more.
    assert_eq!(said(&site, &["retry", BAD]), format!("{BAD} is queued\n"));
    ends(&site, BAD, "failed");
    assert!(said(&site, &["retry", "--reason", "build-failed", "--yes"]).starts_with("1 build queued"));
    ends(&site, BAD, "failed");
    assert_eq!(json(&site, &["show", BAD])["history"].as_array().map(Vec::len), Some(3));
    assert_eq!(said(&site, &["retry", "--reason", "test-failed"]), "No build has failed for this reason.\n");
    assert!(refused(&site, &["retry", "tree"]).contains("the build has not failed"));

    // Without a terminal to confirm at, a destructive command does nothing.
    assert!(refused(&site, &["forget", BAD]).contains("confirm with --yes"));
    said(&site, &["forget", BAD, "--yes"]);
    assert_eq!(json(&site, &["show", BAD])["history"], Value::Array(vec![]));
    assert_eq!(site.get(&format!("/{ENDLESS}")).status, 202);
    wait_for("the build", || said(&site, &["log", ENDLESS]).contains("it has begun").then_some(()));
    assert_eq!(targets(&["--state", "building"]), [ENDLESS]);
    assert!(refused(&site, &["cancel", ENDLESS]).contains("confirm with --yes"));
    said(&site, &["cancel", ENDLESS, "--yes"]);
    assert_eq!(site.status(ENDLESS)["state"], "unasked");

    assert!(refused(&site, &["pause"]).contains("confirm with --yes"));
    assert!(said(&site, &["pause", "--yes"]).contains("the operator has paused builds"));
    assert_eq!((site.get(&format!("/{ENDLESS}")).status, site.get("/tree").status), (503, 302));
    // A stack may say by now that it lacks an image for other machines.
    let resumed = said(&site, &["resume"]);
    assert!(!resumed.contains("the operator"), "{resumed}");
}

pub fn a_package_that_is_taken_down_is_told_so_to_everybody(at: &impl Start) {
    let site = at.start(&demo_set(), &quick());
    assert_eq!(site.settled("tree").status, 302);
    let down = said(&site, &["takedown", "tree", "--why", "its authors ask for it", "--yes"]);
    assert!(down.contains("down      tree: its authors ask for it"), "{down}");
    for path in ["/tree", "/tree/tree", "/-/p/tree", "/-/status/tree", "/-/log/tree"] {
        let gone = site.send("GET", path, &[("accept", "application/json")], b"");
        assert_eq!(gone.status, 451, "{path}: {}", gone.text());
        assert_eq!(gone.json()["detail"], "tree is not served here any more: its authors ask for it", "{path}");
    }
    assert_eq!(site.get("/tree").status, 451);
    // The stub has asked for a line, and ends by it.
    assert!(site.get("/-/status/tree").text().starts_with("failed 0 - - - tree is not served"));
    assert_eq!(site.settled("dash").status, 302);
    assert!(!said(&site, &["reinstate", "tree"]).contains("down "));
    assert_eq!(site.get("/tree").status, 302);
    assert!(refused(&site, &["reinstate", "tree"]).contains("tree is not taken down"));
}

/// What is told of the cost of a build: by its status document, by `binplz show`, and by its page.
fn told_of<R: Running>(site: &R, target: &str) -> Option<u64> {
    let cost = json(site, &["show", target])["cost"].as_u64();
    assert_eq!(site.status(target)["cost"].as_u64(), cost, "{target}");
    let page = site.send("GET", &format!("/-/status/{target}"), &[("accept", "text/html")], b"").text();
    let told = cost.map(|cost| Micros(cost).to_string());
    let line =
        said(site, &["show", target]).lines().find_map(|line| line.strip_prefix("cost      ").map(str::to_owned));
    assert_eq!(line, told, "{target}");
    match told {
        Some(told) => assert!(page.contains(&format!("<dt>cost</dt><dd><bdi>{told}</bdi></dd>")), "{page}"),
        None => assert!(!page.contains("<dt>cost</dt>"), "{page}"),
    }
    cost
}

/// A line that a function wrote after its answer is in the bed's log when it is asked for the next time.
fn late_lines(site: &impl Running) {
    site.get("/-/health");
}

pub fn what_the_month_has_cost_is_the_sum_of_what_its_builds_have_cost_and_what_was_served<S: Start>(at: &S) {
    let site = at.start(&demo_set(), &quick());
    assert_eq!((told_of(&site, "tree"), told_of(&site, BAD)), (None, None));
    for (target, status) in [("tree", 302), (BAD, 422)] {
        assert_eq!(site.settled(target).status, status, "{target}");
    }
    let bytes = |hit: Answer| hit.header("x-binplz-size").and_then(|size| size.parse::<u64>().ok()).expect("a size");
    let size = bytes(site.get("/tree"));
    // The first of them was the one that found it ready.
    let traffic = |cost: &Value| (cost["traffic"]["hits"].as_u64(), cost["traffic"]["bytes"].as_u64());
    let cost = wait_for("the hits, and the money of what is over", || {
        late_lines(&site);
        let cost = json(&site, &["cost"]);
        let settled = cost["bill"].is_null() || cost["bill"]["reserved"] == 0;
        (traffic(&cost) == (Some(2), Some(2 * size)) && settled).then_some(cost)
    });

    let dearest = cost["dearest"].as_array().expect("a list");
    let packages: BTreeSet<_> = dearest.iter().map(|taken| taken["package"].as_str().expect("a name")).collect();
    assert_eq!((packages, &cost["looked_at"]), (["tree", BAD].into(), &2.into()));
    let costs = ["tree", BAD].map(|target| told_of(&site, target).unwrap_or_default());
    let sum: u64 = dearest.iter().map(|taken| taken["cost"].as_u64().expect("millionths")).sum();
    assert_eq!(sum, costs.iter().sum::<u64>());
    let text = said(&site, &["cost"]);
    if S::Running::PAID {
        assert!(costs.iter().all(|cost| *cost > 0), "{costs:?}");
        let bill = &cost["bill"];
        assert_eq!(bill["so_far"]["builds"], json(&site, &["status"])["spent"]);
        assert!(bill["so_far"]["builds"].as_u64() > Some(0), "{bill}");
        assert!(bill["forecast"]["total"].as_u64() > bill["so_far"]["total"].as_u64(), "{bill}");
        assert!(text.contains(" days, in dollars of us-east-1 as of 20") && text.contains("\nfixed "), "{text}");
        assert!(text.contains("\nThe packages that cost most, in the last 2 builds:\n"), "{text}");
    } else {
        assert_eq!((&cost["bill"], sum), (&Value::Null, 0));
        assert!(
            text.contains(": builds cost nothing on this deployment\nbuilding  0.0 hours, in the last 2 builds"),
            "{text}"
        );
        assert!(text.contains("\nThe packages that took most, in the last 2 builds:\n"), "{text}");
    }
}

/// A verb at a terminal.
fn at_a_terminal(site: &impl Running, arguments: &[&str]) -> PtySession {
    let options = Options::default().timeout_ms(Some(600_000)).strip_ansi_escape_codes(true);
    spawn_with_options(site.operator(arguments), options).expect("a terminal")
}

pub fn in_a_terminal_an_operator_finds_why_builds_failed_has_them_all_tried_again_and_watches(at: &impl Start) {
    let gates = ["one", "two"].map(Gate::absent);
    let set = fresh_set(&gates.iter().map(Gate::package).collect::<String>());
    let policy = Policy { attempts: 1, cool_down: Duration::from_secs(3600), ..quick() };
    let site = at.start(set.path(), &policy);
    for target in ["failing.one", "failing.two"] {
        assert_eq!(site.settled(target).status, 503, "{target}");
    }

    let mut list = at_a_terminal(&site, &["list", "--state", "failed"]);
    list.exp_regex("cooling-down +failing.(one|two) .*a source could not be downloaded").expect("a list");
    list.exp_eof().expect("its end");
    let mut why = at_a_terminal(&site, &["why", "failing.one"]);
    why.exp_string("failing.one: a source could not be downloaded").expect("a reason");
    why.exp_string("The failure may be temporary").expect("advice");
    why.exp_eof().expect("its end");

    // The network works again. An answer other than yes cancels.
    gates.iter().for_each(Gate::listen);
    let mut unsure = at_a_terminal(&site, &["retry", "--reason", "source-unavailable"]);
    unsure
        .exp_string("This retries 2 builds that failed with source-unavailable. Continue? [y/N]")
        .expect("a question");
    unsure.send_line("").expect("an answer");
    unsure.exp_string("nothing was changed").expect("the end");
    let mut retry = at_a_terminal(&site, &["retry", "--reason", "source-unavailable"]);
    retry.exp_string("Continue? [y/N]").expect("a question");
    retry.send_line("y").expect("an answer");
    retry.exp_string("2 builds queued").expect("the end");
    retry.exp_eof().expect("its end");

    let mut log = at_a_terminal(&site, &["log", "--follow", "failing.one"]);
    // That is there while the build still waits for its source.
    log.exp_string("binplz: derivation: ").expect("its beginning");
    gates.iter().for_each(Gate::open);
    log.exp_string("binplz: built: one").expect("its end");
    log.exp_eof().expect("its end");
    for target in ["failing.one", "failing.two"] {
        assert_eq!(site.settled(target).status, 302, "{target}");
    }
}
