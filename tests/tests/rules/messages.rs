//! Every message that a user reads, and the fault that produces it (`fixtures/messages.tsv`): a new message needs a line there, and no
//! message blames what is not at fault.

use std::{collections::BTreeSet, fs, path::Path};

/// The sources of messages, and the parts of names of those lines that have one.
const SOURCES: [&str; 10] = [
    "answer/stub/stub.sh",
    "answer/stub/become.sh",
    "answer/stub/steps.sh",
    "answer/stub/install.sh",
    "answer/problem.rs",
    "flow/request/denial.rs",
    "build/failure.rs",
    "quota/limits/pauses.rs",
    "id/target.rs",
    "objects/artifact.rs",
];

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The texts between double quotes of more than two words, without comments and tests.
fn literals(text: &str) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]").next().unwrap_or(text);
    let code: String = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//") && !line.trim_start().starts_with('#'))
        .chain(code.lines().filter(|line| line.trim_start().starts_with("#[error(")))
        .map(|line| format!("{line}\n"))
        .collect();
    let (mut found, mut literal) = (BTreeSet::new(), None::<String>);
    let mut chars = code.chars().peekable();
    while let Some(c) = chars.next() {
        match (&mut literal, c) {
            (None, '\'') if chars.clone().nth(1) == Some('\'') => {
                chars.next();
                chars.next();
            }
            (None, '"') => literal = Some(String::new()),
            (None, _) => {}
            (Some(text), '\\') => match chars.next() {
                Some('\n') => while chars.next_if(|c| c.is_whitespace()).is_some() {},
                Some(escaped) => text.push(escaped),
                None => {}
            },
            (Some(_), '"') => {
                let text = literal.take().unwrap_or_default();
                let words = text.split(' ').filter(|word| word.chars().all(char::is_alphabetic) && word.len() > 1);
                if words.count() >= 2 && !text.contains('\n') {
                    found.insert(text);
                }
            }
            (Some(text), c) => text.push(c),
        }
    }
    found
}

/// Which fault a message may name, by the words that blame it.
const BLAMES: [(&str, &[&str]); 4] = [
    ("machine", &["is full: ", "cannot write", "noexec", "HOME is not set", "PATH", "is required"]),
    ("package", &["marked broken", "own tests failed", "does not evaluate"]),
    ("client", &["is invalid", "unknown parameter", "unknown option", "given twice"]),
    ("service", &["the service has a problem", "internal error", "not running: "]),
];

#[test]
fn every_message_names_its_fault_and_blames_nothing_else() {
    let table = read("fixtures/messages.tsv");
    let mut told = BTreeSet::new();
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        let (fault, message) = line.split_once('\t').unwrap_or_else(|| panic!("{line:?} has no fault"));
        for (whose, words) in BLAMES {
            let blamed = words.iter().find(|word| message.contains(**word));
            assert!(blamed.is_none() || fault == whose, "{message:?} is produced by {fault} and blames {whose}");
        }
        told.insert(message.to_owned());
    }
    let sources = SOURCES.map(|source| literals(&read(&format!("../functions/core/src/{source}"))));
    let said: BTreeSet<String> = sources.into_iter().flatten().collect();
    let (new, gone): (Vec<_>, Vec<_>) = (said.difference(&told).collect(), told.difference(&said).collect());
    assert!(new.is_empty() && gone.is_empty(), "without a fault: {new:#?}\ngone: {gone:#?}");
}
