//! What builds print, in any framing, read as Nix repeats it.

use binplz_core::{
    build::{
        failure::{Class, Failure},
        protocol::Progress,
    },
    id::key::DrvHash,
};
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};

use super::*;
use crate::{
    classify::{self, NixExit},
    evidence::Evidence,
    log::{Log, plain},
    nix::Exit,
    progress_channel::ProgressChannel,
    watch::Watch,
};

#[path = "../../tests/builder/support/printed.rs"]
mod printed;

use printed::line;

const APP: &str = "/nix/store/gf1na52965q15m4lzgmm4v17rw1361dz-app-1.0.drv";
const VICTIM: &str = "/nix/store/1xir28cpp9hbcp6gdfp6dadc918mmsjd-victim-1.0.drv";
const LIAR: &str = "/nix/store/50nvs1sjc59fj2bk6b7kfpiaf7kdxmz7-liar-1.0.drv";

const COUNTER: u64 = 100;
const OF_LIAR: u64 = 101;
const OF_VICTIM: u64 = 102;
/// The first id that Nix gives to a repeated download.
const REPEATED: u64 = 103;

/// How Nix relays one line that the build of `LIAR` printed: what `handleJSONLogMessage` of 2.8 and 2.26 does with it.
/// Checked against both by the recorded samples `forged` and `forged-daemon`, and against the Nix of this machine by
/// the builder's tests.
#[derive(Default)]
struct Repeats {
    downloads: Vec<(Value, u64)>,
    next: u64,
}

impl Repeats {
    fn line(&mut self, printed: &str) -> Vec<String> {
        let log = || vec![event(&json!({"action": "result", "id": OF_LIAR, "type": 101, "fields": [printed]}))];
        let Some(json) = printed.strip_prefix("@nix ").and_then(|json| serde_json::from_str::<Value>(json).ok()) else {
            return log();
        };
        let id = &json["id"];
        let known = self.downloads.iter().find(|(own, _)| own == id).map(|(_, given)| *given);
        match json["action"].as_str() {
            Some("start") if json["type"] == 101 && known.is_none() => {
                let given = REPEATED + self.next;
                self.next += 1;
                self.downloads.push((id.clone(), given));
                vec![event(&json!({"action": "start", "id": given, "level": json["level"], "text": json["text"],
                    "type": 101, "fields": json["fields"]}))]
            }
            Some("stop") => {
                self.downloads.retain(|(own, _)| own != id);
                known.map(|given| event(&json!({"action": "stop", "id": given}))).into_iter().collect()
            }
            Some("result") => known
                .map(|given| {
                    event(&json!({"action": "result", "id": given, "type": json["type"], "fields": json["fields"]}))
                })
                .into_iter()
                .collect(),
            Some("setPhase") => {
                vec![event(&json!({"action": "result", "id": OF_LIAR, "type": 104, "fields": [json["phase"]]}))]
            }
            Some("msg") => vec![event(&json!({"action": "msg", "level": json["level"], "msg": json["msg"]}))],
            _ => Vec::new(),
        }
    }
}

fn event(json: &Value) -> String {
    format!("@nix {json}")
}

fn error(of: &str, daemon: bool, what: &str, tail: &[String]) -> String {
    let text = format!("\u{1b}[31;1merror:\u{1b}[0m {what}");
    match daemon {
        false => event(&json!({"action": "msg", "level": 0, "msg": text, "raw_msg": what})),
        true => {
            let tail: String = tail.iter().rev().take(10).rev().map(|line| format!("\n       > {line}")).collect();
            event(&json!({"action": "msg", "level": 0,
                "msg": format!("{text};\n       last 10 log lines:{tail}\n       For full logs, run 'nix log {of}'")}))
        }
    }
}

/// A run of Nix that builds `LIAR` beside `VICTIM`, for `APP`; `LIAR` prints these lines and fails.
fn run(printed: &[String], daemon: bool) -> (Progress, Failure, String) {
    let start = |id: u64, drv: &str| {
        event(&json!({"action": "start", "id": id, "level": 3, "text": format!("building '{drv}'"), "type": 105,
            "fields": [drv, "", 1, 1]}))
    };
    let count = |fields: [u64; 4]| event(&json!({"action": "result", "id": COUNTER, "type": 105, "fields": fields}));
    let mut lines = vec![
        event(&json!({"action": "start", "id": COUNTER, "level": 0, "text": "", "type": 104})),
        start(OF_LIAR, LIAR),
        start(OF_VICTIM, VICTIM),
        count([0, 3, 2, 0]),
    ];
    let mut repeats = Repeats::default();
    lines.extend(printed.iter().flat_map(|line| repeats.line(line)));
    lines.push(count([0, 2, 1, 1]));
    lines.push(error(
        LIAR,
        daemon,
        &format!("builder for '\u{1b}[35;1m{LIAR}\u{1b}[0m' failed with exit code 1"),
        printed,
    ));
    lines.extend([OF_VICTIM, OF_LIAR].map(|id| event(&json!({"action": "stop", "id": id}))));
    lines.push(count([0, 0, 0, 1]));
    lines.push(error(APP, false, &format!("1 dependencies of derivation '{APP}' failed to build"), &[]));

    let (progress_channel, log) =
        (ProgressChannel::default(), Log::new(1 << 24, &"0".repeat(64).parse().expect("a token")));
    let mut watch = Watch::new(&progress_channel, &log);
    lines.iter().for_each(|line| watch.hear(line.as_bytes()));
    let evidence = Evidence {
        planned: [APP, VICTIM, LIAR].map(str::to_owned).into(),
        download: Some(false),
        daemon,
        ..watch.into_evidence()
    };
    let code = if daemon { 1 } else { 100 };
    let failure = classify::realisation(NixExit::Exit(Exit::Code(code)), &evidence, APP);
    (progress_channel.read(None, std::time::Instant::now()).progress, failure, log.text())
}

/// Asserts that lines change nothing but their own build's log and result.
fn assert_harmless(printed: &[String], daemon: bool) -> Result<(), TestCaseError> {
    let (quiet, _, _) = run(&[], daemon);
    let (progress, failure, log) = run(printed, daemon);
    prop_assert_eq!(failure.derivation.as_deref(), Some("liar-1.0"), "{:?}", failure);
    prop_assert_eq!(failure.drv.clone(), DrvHash::of_path(LIAR).ok());
    // What its own last lines say of its memory and its disk is its own.
    prop_assert!(!matches!(failure.kind.class(), Class::Operator), "{:?}", failure);
    prop_assert_eq!(
        (progress.done, progress.expected, progress.bytes_fetched),
        (quiet.done, quiet.expected, quiet.bytes_fetched)
    );
    let step = progress.step.unwrap_or_default();
    prop_assert!(step.starts_with("liar-1.0") || step == "victim-1.0", "{}", step);
    // A line with NULs is how Nix 2.8 itself says why a build's process could not be started.
    for text in printed.iter().filter(|line| !line.starts_with("@nix ") && !line.contains('\0')) {
        prop_assert!(log.contains(&plain(text)), "{} is lost", text);
    }
    Ok(())
}

proptest! {
    #[test]
    fn what_a_build_prints_changes_nothing_but_its_own_log_and_result(
        printed in vec(line([VICTIM, LIAR, APP]), 0..12), daemon: bool
    ) {
        assert_harmless(&printed, daemon)?;
    }
}

/// The same for 10,000 builds: `cargo test -p binplz-builder --release -- --ignored ten_thousand`.
#[test]
#[ignore = "it takes minutes"]
fn ten_thousand_builds_change_nothing_but_their_own_logs_and_results() {
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(10_000));
    let builds = (vec(line([VICTIM, LIAR, APP]), 0..12), any::<bool>());
    runner.run(&builds, |(printed, daemon)| assert_harmless(&printed, daemon)).expect("harmless");
}

#[test]
fn the_last_lines_that_a_daemon_appends_to_an_error_are_no_part_of_it() {
    let error =
        "error: builder for '/x.drv' failed;\n       last 2 log lines:\n       > out of memory\n       For full logs";
    assert_eq!(without_log_tail(error), "error: builder for '/x.drv' failed;");
    let newest = "error: Cannot build '/x.drv'.\n       Reason: builder failed.\n       Last 25 log lines:\n       > x";
    assert_eq!(without_log_tail(newest), "error: Cannot build '/x.drv'.\n       Reason: builder failed.");
}
