//! Nix's stderr: no line of text is lost, and what a builder reports of any run is bounded and sanitised.

use binplz_builder::{
    internal_json::{Event, parse},
    replay::replay,
};
use binplz_core::build::{failure::LINES_MAX, protocol::CACHES_MAX};
use serde_json::Value;

use crate::input::{cleaned_once, is_line};

/// The limit of the log, and what the last line may add to it.
const LOG: u64 = 16 << 10;
/// The derivation that is realised.
const ASKED: &str = "/nix/store/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-asked.drv";

pub(crate) fn check(data: &[u8]) {
    data.split(|byte| *byte == b'\n').for_each(line);
    let token = "ab".repeat(32).parse().expect("a token");
    let code = [1, 100, 101, 102, 104][data.len() % 5];
    let told = replay(data, code, ASKED, &token, LOG);
    assert!(told.log.len() as u64 <= LOG, "{} bytes", told.log.len());
    let log = String::from_utf8(told.log).expect("text");
    assert!(log.is_empty() || log.ends_with('\n'));
    assert!(log.lines().all(|line| is_line(&line.replace('\t', ""))), "{log:?}");
    assert!(!log.contains(&"ab".repeat(32)), "the token");
    for failure in [told.realisation, told.evaluation] {
        assert!(is_line(&failure.sentence()) && failure.lines.len() <= LINES_MAX, "{failure:?}");
        let written = serde_json::to_string(&failure).expect("JSON can express it");
        assert_eq!(serde_json::from_str(&written).ok().as_ref(), Some(&failure));
        cleaned_once(failure, |failure| failure.cleaned());
    }
    assert!(told.progress.step.as_deref().is_none_or(|step| step.chars().count() <= 200));
    assert!(told.progress.fetched.len() <= CACHES_MAX);
}

fn line(line: &[u8]) {
    let json =
        line.strip_prefix(b"@nix ").and_then(|json| serde_json::from_slice::<Value>(json).ok()).unwrap_or_default();
    let says = match (json["action"].as_str(), json["type"].as_u64()) {
        (Some("msg"), _) => json["msg"].as_str(),
        (Some("result"), Some(101 | 107)) => json["fields"][0].as_str(),
        _ => None,
    };
    match parse(line) {
        Event::Text(text) => assert_eq!(text, String::from_utf8_lossy(line)),
        Event::Message { text, .. } | Event::Log { text, .. } => assert_eq!(Some(&*text), says),
        _ => assert_eq!(says, None),
    }
}
