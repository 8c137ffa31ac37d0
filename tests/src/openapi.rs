//! The OpenAPI document as a judge of answers: every answer that a test gets has to be one that the document describes.

use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::http::Answer;

/// The document, as the service gives it out.
pub const DOCUMENT: &str = include_str!("../../functions/web/assets/openapi.json");

/// What is for browsers, builders, crawlers and the stub, and not in the document.
const OTHERS: [&str; 7] =
    ["/-/lease/", "/-/stub/", "/-/objects/", "/-/assets/", "/robots.txt", "/favicon.ico", "/-/openapi.json"];

fn document() -> &'static Value {
    static PARSED: OnceLock<Value> = OnceLock::new();
    PARSED.get_or_init(|| serde_json::from_str(DOCUMENT).expect("JSON"))
}

/// What the document says of a path: its operations, by method.
fn operations(path: &str) -> Option<&'static Value> {
    let parts: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    let template = match parts.as_slice() {
        [""] => "/".to_owned(),
        ["-", page @ ("search" | "builds" | "health" | "keys" | "trust")] => format!("/-/{page}"),
        ["-", "p", _, ..] => "/-/p/{attr}".to_owned(),
        ["-", "wait", _, _, ..] => "/-/wait/{hop}/{target}".to_owned(),
        ["-", "archive", _] => "/-/archive/{package}".to_owned(),
        ["-", "bundle", _] | ["-", "bundle", _, _] => "/-/bundle/{target}".to_owned(),
        [
            "-",
            page @ ("status" | "log" | "build" | "install" | "sig" | "proof" | "provenance" | "sbom" | "source"),
            _,
            ..,
        ] => {
            format!("/-/{page}/{{target}}")
        }
        ["-", "tlog", page @ ("checkpoint" | "witnessed")] => format!("/-/tlog/{page}"),
        ["-", "tlog", "tile", _, _, ..] => "/-/tlog/tile/{name}".to_owned(),
        ["-", ..] => return None,
        [_] => "/{name}".to_owned(),
        [_, _] => "/{attr}/{bin}".to_owned(),
        _ => return None,
    };
    Some(&document()["paths"][template])
}

/// Makes sure that an answer is one that the document tells of: its status, its media type, and what is in it.
///
/// # Panics
/// Where it is not.
pub fn assert_told(method: &str, path: &str, answer: &Answer) {
    let path = path.split('?').next().unwrap_or_default();
    if OTHERS.iter().any(|other| path.starts_with(other)) {
        return;
    }
    let operation = operations(path).and_then(|operations| operations.get(method.to_ascii_lowercase()));
    let media_type = answer.header("content-type").and_then(|told| told.split(';').next()).unwrap_or_default();
    let schema = match operation {
        // What is no page, and what takes no such method: a problem all the same.
        None => {
            assert!(matches!(answer.status, 400 | 404 | 405), "{method} {path} is in no document: {answer:?}");
            json!({ "$ref": "#/components/schemas/Problem" })
        }
        Some(operation) => {
            let told = &operation["responses"][answer.status.to_string()];
            assert!(told.is_object(), "{method} {path}: the document knows no {}: {answer:?}", answer.status);
            if method == "HEAD" {
                return;
            }
            let content = &told["content"][media_type];
            assert!(content.is_object(), "{method} {path}: {} is never {media_type}: {answer:?}", answer.status);
            content["schema"].clone()
        }
    };
    if media_type.ends_with("json") {
        let mut schema = schema;
        schema["components"] = document()["components"].clone();
        let validator = jsonschema::validator_for(&schema).expect("a schema");
        let body = answer.json();
        let wrong: Vec<String> =
            validator.iter_errors(&body).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(wrong.is_empty(), "{method} {path}: {wrong:#?} in {body:#}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, media_type: &str, body: &str) -> Answer {
        let headers = vec![("content-type".to_owned(), media_type.to_owned())];
        Answer { status, headers, body: body.as_bytes().to_vec() }
    }

    fn is_told(path: &str, answer: Answer) -> bool {
        std::panic::catch_unwind(|| assert_told("GET", path, &answer)).is_ok()
    }

    #[test]
    fn an_answer_that_the_document_does_not_tell_of_is_found_out() {
        let problem = r#"{"type":"about:blank","status":404,"title":"Not Found","reason":"unknown","detail":"there is no such thing"}"#;
        assert!(is_told("/tree", answer(404, "application/problem+json", problem)));
        for (path, wrong) in [
            ("/tree", answer(500, "application/problem+json", problem)),
            ("/tree", answer(404, "application/json", problem)),
            ("/tree", answer(404, "application/problem+json", r#"{"status":404}"#)),
            ("/tree", answer(404, "application/problem+json", &problem.replace("}", r#","arn":"x"}"#))),
            ("/-/builds", answer(200, "application/json", r#"{"building":[]}"#)),
            ("/-/nothing", answer(200, "text/plain", "")),
        ] {
            assert!(!is_told(path, wrong.clone()), "{path}: {wrong:?}");
        }
    }
}
