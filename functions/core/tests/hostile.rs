//! Rows and manifests with hostile text: no answer for a terminal contains control sequences, and no header contains a line break.

use binplz_core::{
    answer::{
        asked::{Asked, Format},
        reply::{Answer, Body},
    },
    build::{
        continued::Continued,
        failure::{Failure, Kind},
        protocol::Progress,
    },
    flow::request::{denial::Denial, outcome::RequestOutcome, status::Status},
    id::{
        key::{Attr, Bin, System},
        target::{Query, Target},
    },
    nixpkgs::served::{Notes, Served, ServedKey},
    objects::stored::Location,
};
use proptest::prelude::*;

const ORIGIN: &str = "https://binplz.example";

fn target() -> Target {
    Query::parse("procps/ps", None).expect("a target").target
}

/// Text as the worst of packages would write it: markup, escapes, shell, marks of direction, a long line.
fn foreign() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => ".{0,80}",
        8 => "(\x1b\\[[0-9;]{0,4}[A-Za-z]?|\x1b\\]0;.{0,9}\x07?|\x1b[PX^_c7]|\r|\n|\u{9b}2J|\u{202e}|\u{200b}|\u{e0041}|<script>|['\"$`;|&(){}]|x){0,30}",
        1 => Just("long ".repeat(200_000)),
    ]
}

fn program(name: &str) -> Bin {
    name.parse().expect("a name")
}

fn served(version: &str) -> Served {
    let prefix = format!("builds/{}/x86_64-linux/procps/{}/bin/ps", "0".repeat(40), "1".repeat(32));
    Served {
        asked: ServedKey::of(&target(), System::X86_64Linux),
        pin: "unstable".parse().expect("a name"),
        rev: "0".repeat(40).parse().expect("hex"),
        attr: "procps".parse().expect("a name"),
        bin: "ps".parse().expect("a name"),
        version: version.to_owned(),
        sha256: "2".repeat(64).parse().expect("hex"),
        size: 7,
        object: prefix.parse().expect("a path"),
        notes: Notes::default(),
        stale: false,
        lost: false,
    }
}

fn building(step: &str, reason: &str) -> Status {
    Status {
        state: "building",
        package: "procps".parse().expect("a name"),
        system: "x86_64-linux".parse().expect("a system"),
        nixpkgs: "0".repeat(40).parse().expect("hex"),
        attempt: 2,
        ahead: None,
        paused: None,
        started: None,
        elapsed_seconds: None,
        progress: Some(Progress { step: Some(step.to_owned()), ..Progress::default() }),
        waits_for: None,
        failure: None,
        reason: Some(reason.to_owned()),
        estimate_seconds: None,
        plan: None,
        retry_after: 2,
        alternatives: Vec::new(),
        continued: Continued::default(),
        derivations_started: 0,
        cost: None,
        lease: None,
        by_attribute: false,
    }
}

/// Every reply that foreign text may be in.
fn replies(text: &str) -> Vec<RequestOutcome> {
    let failure = Failure {
        detail: Some(text.to_owned()),
        derivation: Some(text.to_owned()),
        lines: vec![text.to_owned()],
        ..Failure::new(Kind::BuildFailed, "")
    };
    let attr: Attr = "procps".parse().expect("a name");
    let failed = |rest| {
        let (attr, failure) = (attr.clone(), Box::new(failure.clone()));
        RequestOutcome::Denied(Denial::Failed { attr, failure, rest, by_attribute: false })
    };
    let queued = Status { state: "queued", progress: None, ..building(text, text) };
    vec![
        RequestOutcome::Hit { served: served(text), at: Location::Store(format!("{ORIGIN}/-/objects/x")) },
        RequestOutcome::Pending(building(text, text)),
        RequestOutcome::Pending(queued),
        failed(None),
        failed(Some(std::time::Duration::from_secs(9))),
        RequestOutcome::Denied(Denial::MainMissing {
            attr,
            declared: text.to_owned(),
            programs: vec![program("a"), program("b'[")],
        }),
    ]
}

fn can_be_seen(text: &str) -> bool {
    let hidden = |c| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{e0000}'..='\u{e007f}');
    text.chars().all(|c| !c.is_control() && !hidden(c))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_plain_answer_and_no_header_holds_what_a_terminal_obeys(text in foreign()) {
        let target = target();
        for reply in replies(&text) {
            for format in [Format::Shell, Format::Json, Format::Html] {
                let asked = Asked { origin: ORIGIN, target: Some(&target), format, retry: false };
                let Answer { headers, body, .. } = reply.answer(&asked);
                for (name, value) in headers {
                    prop_assert!(value.bytes().all(|b| (b' '..=b'~').contains(&b)), "{}: {:?}", name, value);
                }
                match body {
                    // The stub holds nothing foreign but the state, in a comment; all else is one line.
                    Body::Text(text) if text.starts_with("#!/bin/sh\n") => {
                        prop_assert!(text.is_ascii() && text.lines().all(can_be_seen), "{:?}", text);
                        prop_assert_eq!(text.lines().nth(4), Some("binplz() {"));
                    }
                    Body::Text(text) => {
                        let line = text.strip_suffix('\n').expect("a line");
                        prop_assert!(can_be_seen(line) && line.len() < 20_000, "{:?}", line);
                    }
                    Body::Json(_, json) => prop_assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok()),
                    // A template escapes what is markup; what hides, or turns the text around, is gone before.
                    Body::Page(page) => {
                        let facts = page.facts.iter().map(|(_, value)| value);
                        for shown in facts.chain(&page.choices).chain(&page.commands).chain([&page.title, &page.sentence]) {
                            prop_assert!(can_be_seen(shown), "{:?}", shown);
                        }
                    }
                }
                let line = reply.status_line(&asked);
                let line = line.strip_suffix('\n').expect("a line");
                prop_assert!(can_be_seen(line) && line.len() < 20_000, "{:?}", line);
                prop_assert!(line.split(' ').count() >= 5, "{:?}", line);
            }
        }
    }

    #[test]
    fn what_is_stored_is_clean_before(text in foreign()) {
        let step = Progress { step: Some(text.clone()), ..Progress::default() }.cleaned().step.expect("a step");
        prop_assert!(can_be_seen(&step) && step.chars().count() <= 201, "{:?}", step);
        let failure = Failure {
            detail: Some(text.clone()),
            derivation: Some(text.clone()),
            lines: vec![text],
            ..Failure::new(Kind::BuildFailed, "")
        }
        .cleaned();
        prop_assert!(can_be_seen(&failure.sentence()), "{:?}", failure);
    }
}
