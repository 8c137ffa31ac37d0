//! Derivations: any text is read or refused, and one that is printed as Nix prints it is read as it was.

use binplz_builder::drv::{Output, parse, parse_inputs, source};
use binplz_core::objects::materials::HashMode;

use crate::input::{is_line, text};

pub(crate) fn check(data: &[u8]) {
    let Some(text) = text(data) else { return };
    // What is read of any text is a part of it.
    for output in parse(text).unwrap_or_default() {
        assert!(text.contains(&output.path));
    }
    for input in parse_inputs(text).unwrap_or_default() {
        assert!(text.contains(&input) && !input.contains('"'));
    }
    if let Some(source) = source(text) {
        assert!(!source.hash.is_empty() && text.contains(&source.hash) && text.contains(&source.algorithm));
    }
    printed(text);
}

/// A text as a string of a derivation.
fn string(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            other => quoted.push(other),
        }
    }
    quoted + "\""
}

/// A download whose variables are made of the text: pairs of a name and a value, between NULs.
fn printed(text: &str) {
    let mut words = text.split('\0');
    let (url, rev) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let own = ["url", "urls", "rev", "__json"];
    let others: Vec<(&str, &str)> = std::iter::from_fn(|| Some((words.next()?, words.next()?))).collect();
    let others = others.into_iter().filter(|(name, _)| !own.contains(name));
    let variables =
        others.chain([("rev", rev), ("url", url)]).map(|(name, value)| format!("({},{})", string(name), string(value)));
    let path = format!("/nix/store/{}-tree-2.1.tar.gz", "a".repeat(32));
    let drv = format!(
        "Derive([(\"out\",\"{path}\",\"r:sha256\",\"12ab\")],[(\"/nix/store/c.drv\",[\"out\"])],[\"/nix/store/b.sh\"],\"x\",{},[{}],[{}])",
        string(url),
        string(rev),
        variables.collect::<Vec<_>>().join(",")
    );
    assert_eq!(parse(&drv), Some(vec![Output { path, fixed: true }]), "{drv}");
    assert_eq!(parse_inputs(&drv), Some(vec!["/nix/store/c.drv".to_owned()]), "{drv}");
    let source = source(&drv).expect("a download");
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!((source.urls, source.rev), (words(url), words(rev).into_iter().next()), "{drv}");
    assert_eq!((&*source.name, source.mode, &*source.hash), ("tree-2.1.tar.gz", HashMode::Recursive, "12ab"));
    assert!(is_line(&source.name));
}
