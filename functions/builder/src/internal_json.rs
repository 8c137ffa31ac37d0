//! Nix's `--log-format internal-json`: one event per line of stderr, `@nix {…}`.
//!
//! The format has no specification; the numbers are those of Nix's `logging.hh`, which are the same in 2.8 and 2.26.
//! Any other line is text for people: no input is an error, and no text is lost.

use serde_json::Value;

/// One parsed line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message of Nix.
    Message {
        /// Its level: 0 error, 1 warning, 2 notice, 3 information; higher ones are for debugging.
        level: u64,
        /// The message.
        text: String,
        /// Whether it has a `raw_msg`, which Nix's errors have.
        structured: bool,
    },
    /// An activity starts.
    Start {
        /// Its id, which later events refer to.
        id: u64,
        /// Its kind.
        activity: Activity,
        /// Its level, as for messages.
        level: u64,
        /// Nix's description; may be empty.
        text: String,
    },
    /// A line of a build's log.
    Log {
        /// The build's activity.
        id: u64,
        /// The line.
        text: String,
    },
    /// A build enters a phase.
    Phase {
        /// The build's activity.
        id: u64,
        /// `buildPhase`, for example.
        name: String,
    },
    /// The progress of an activity.
    Progress {
        /// The activity.
        id: u64,
        /// Units done: builds, or bytes.
        done: u64,
        /// Units in total, as far as known.
        expected: u64,
        /// Units that failed.
        failed: u64,
    },
    /// An activity ends.
    Stop {
        /// Its id.
        id: u64,
    },
    /// An event without use here.
    Other,
    /// Not an event: text.
    Text(String),
}

/// Kinds of activities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Activity {
    /// One build (105), of this derivation.
    Build(String),
    /// All builds (104).
    Builds,
    /// A download (101).
    Transfer,
    /// A path is copied from another store (100), the one of this URL.
    Copy(String),
    /// Any other kind.
    Other,
}

/// Parses a line.
pub fn parse(line: &[u8]) -> Event {
    let json = line.strip_prefix(b"@nix ").and_then(|json| serde_json::from_slice::<Value>(json).ok());
    json.and_then(|json| understand(&json)).unwrap_or_else(|| Event::Text(String::from_utf8_lossy(line).into_owned()))
}

/// `None` for JSON that Nix is not known to print, whose text must not be lost.
fn understand(json: &Value) -> Option<Event> {
    let number = |name: &str| json.get(name).and_then(Value::as_u64);
    let text = |name: &str| json.get(name).and_then(Value::as_str).map(str::to_owned);
    match json.get("action")?.as_str()? {
        "msg" => Some(Event::Message {
            level: number("level").unwrap_or(0),
            text: text("msg")?,
            structured: json.get("raw_msg").is_some(),
        }),
        "start" => Some(Event::Start {
            id: number("id")?,
            activity: match (number("type"), field(json, 0).and_then(Value::as_str)) {
                (Some(100), _) => Activity::Copy(field(json, 1).and_then(Value::as_str).unwrap_or_default().to_owned()),
                (Some(101), _) => Activity::Transfer,
                (Some(104), _) => Activity::Builds,
                (Some(105), Some(drv)) => Activity::Build(drv.to_owned()),
                _ => Activity::Other,
            },
            level: number("level").unwrap_or(0),
            text: text("text").unwrap_or_default(),
        }),
        "result" => {
            let id = number("id")?;
            let first = field(json, 0);
            match number("type")? {
                // A line of a build, or of the hook that runs after it.
                101 | 107 => Some(Event::Log { id, text: first?.as_str()?.to_owned() }),
                104 => Some(Event::Phase { id, name: first?.as_str()?.to_owned() }),
                105 => Some(Event::Progress {
                    id,
                    done: first?.as_u64()?,
                    expected: field(json, 1)?.as_u64()?,
                    failed: field(json, 3).and_then(Value::as_u64).unwrap_or(0),
                }),
                _ => Some(Event::Other),
            }
        }
        "stop" => Some(number("id").map_or(Event::Other, |id| Event::Stop { id })),
        _ => None,
    }
}

fn field(json: &Value, index: usize) -> Option<&Value> {
    json.get("fields")?.get(index)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_nix_says_is_understood() {
        for (line, event) in [
            (
                r#"@nix {"action":"msg","level":3,"msg":"this derivation will be built:"}"#,
                Event::Message { level: 3, text: "this derivation will be built:".into(), structured: false },
            ),
            (
                r#"@nix {"action":"msg","column":null,"level":0,"msg":"error: x","raw_msg":"x"}"#,
                Event::Message { level: 0, text: "error: x".into(), structured: true },
            ),
            (
                r#"@nix {"action":"start","fields":["/nix/store/x-ok-1.0.drv","",1,1],"id":7,"level":3,"text":"building","type":105}"#,
                Event::Start {
                    id: 7,
                    activity: Activity::Build("/nix/store/x-ok-1.0.drv".into()),
                    level: 3,
                    text: "building".into(),
                },
            ),
            (
                r#"@nix {"action":"start","id":20998095110146,"level":0,"text":"","type":104}"#,
                Event::Start { id: 20998095110146, activity: Activity::Builds, level: 0, text: String::new() },
            ),
            (
                r#"@nix {"action":"result","fields":[1,2,1,0],"id":5,"type":105}"#,
                Event::Progress { id: 5, done: 1, expected: 2, failed: 0 },
            ),
            (
                r#"@nix {"action":"result","fields":["buildPhase"],"id":5,"type":104}"#,
                Event::Phase { id: 5, name: "buildPhase".into() },
            ),
            (
                r#"@nix {"action":"result","fields":["x\"q\\"],"id":5,"type":101}"#,
                Event::Log { id: 5, text: "x\"q\\".into() },
            ),
            (r#"@nix {"action":"stop","id":5}"#, Event::Stop { id: 5 }),
            (r#"@nix {"action":"result","fields":[101,0],"id":5,"type":106}"#, Event::Other),
        ] {
            assert_eq!(parse(line.as_bytes()), event, "{line}");
        }
    }

    #[test]
    fn what_nix_is_not_known_to_say_is_text() {
        for line in [
            "",
            "@nix",
            "@nix {",
            "@nix []",
            r#"@nix {"action":"dance","text":"x"}"#,
            r#"@nix {"action":"msg"}"#,
            r#"@nix {"action":"result","fields":[1],"id":5,"type":101}"#,
            r#" @nix {"action":"stop","id":5}"#,
            "GC Warning: Repeated allocation",
        ] {
            assert_eq!(parse(line.as_bytes()), Event::Text(line.into()));
        }
        assert_eq!(parse(b"a\xffb"), Event::Text("a\u{fffd}b".into()));
    }

    fn json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            any::<i64>().prop_map(|n| n.to_string()),
            ".{0,8}".prop_map(|s| Value::from(s).to_string()),
            (98u64..110).prop_map(|n| n.to_string()),
        ];
        let action = prop_oneof!["msg", "start", "stop", "result", "x"].prop_map(|s| Value::from(s).to_string());
        (action, leaf.clone(), leaf.clone(), leaf.clone(), proptest::collection::vec(leaf, 0..5)).prop_map(
            |(action, id, kind, text, fields)| {
                format!(
                    r#"{{"action":{action},"id":{id},"type":{kind},"level":{id},"msg":{text},"text":{text},"fields":[{}]}}"#,
                    fields.join(",")
                )
            },
        )
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_kept_as_text(line: Vec<u8>) {
            prop_assert_eq!(parse(&line), Event::Text(String::from_utf8_lossy(&line).into_owned()));
        }

        #[test]
        fn arbitrary_bytes_behind_the_mark_never_panic_and_lose_no_text(rest: Vec<u8>) {
            let line = [b"@nix ", rest.as_slice()].concat();
            prop_assert_eq!(parse(&line), Event::Text(String::from_utf8_lossy(&line).into_owned()));
        }

        #[test]
        fn arbitrary_events_lose_no_line_of_a_log(json in json()) {
            let line = format!("@nix {json}");
            let value: Value = serde_json::from_str(&json).expect("made as JSON");
            let says = match (value["action"].as_str(), value["type"].as_u64()) {
                (Some("msg"), _) => value["msg"].as_str(),
                (Some("result"), Some(101 | 107)) => value["fields"][0].as_str(),
                _ => None,
            };
            match parse(line.as_bytes()) {
                Event::Text(text) => prop_assert_eq!(text, line),
                Event::Message { text, .. } | Event::Log { text, .. } => prop_assert_eq!(Some(&*text), says),
                _ => prop_assert_eq!(says, None),
            }
        }
    }
}
