//! The files that the guides name exist, and the map of the code (`functions/README.md`) answers a newcomer's ten questions.

use std::{
    fs,
    path::{Path, PathBuf},
};

const GUIDES: &[&str] = &[
    "README.md",
    "functions/README.md",
    "infra/README.md",
    "infra/outcomes.md",
    "tests/README.md",
    "tests/bed/README.md",
    "tests/bench/README.md",
    "tests/proof/README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The texts between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The rows of the map's table: the question, the term, and the files.
fn questions(map: &str) -> Vec<(&str, &str, Vec<&str>)> {
    let (_, section) = map.split_once("\n## Ten questions\n").expect("the section");
    let section = section.split("\n## ").next().unwrap_or(section);
    let rows = section.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| question "));
    rows.map(|row| {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [question, term, files] = cells[..] else { panic!("three cells: {row}") };
        (question, quoted(term).next().expect("a term"), quoted(files).collect())
    })
    .collect()
}

#[test]
fn each_of_ten_questions_is_answered_by_at_most_two_files_that_contain_its_term() {
    let dir = root().join("functions");
    let map = read(&dir.join("README.md"));
    let questions = questions(&map);
    assert_eq!(questions.len(), 10);
    for (question, term, files) in questions {
        assert!((1..=2).contains(&files.len()), "{question} names {files:?}");
        for file in files {
            // Comments wrap.
            let text = read(&dir.join(file)).replace('\n', " ").replace("//!", "").replace("///", "");
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
            assert!(text.contains(&term.to_lowercase()), "{file} does not contain {term:?}");
        }
    }
}

/// Whether a word is meant as a file or directory of this repository. (Paths on other machines, in data directories and
/// in URLs begin with other characters, or with other names.)
fn is_path(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    let first = word.trim_start_matches("../").split('/').next().unwrap_or("");
    let below = word.contains('/')
        && (root().join(first).is_dir() || root().join("functions").join(first).join("Cargo.toml").exists());
    word.chars().all(plain) && !["", ".", "target"].contains(&first) && (below || word.ends_with(".rs"))
}

/// All files below a directory, without build results and hidden ones.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path());
    let wanted = entries.filter(|path| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name != "target" && !name.starts_with('.'))
    });
    wanted.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Words between backticks that are meant as paths, and link targets, relative to the guide's
/// directory, or the root, or, for a short path, any directory.
#[test]
fn every_path_in_a_guide_exists() {
    let (mut missing, all) = (Vec::new(), files(&root()));
    for guide in GUIDES {
        let path = root().join(guide);
        let (text, dir) = (read(&path), path.parent().expect("a directory").to_owned());
        let exists = |word: &str| {
            [&dir, &root()].iter().any(|base| base.join(word).exists()) || all.iter().any(|file| file.ends_with(word))
        };
        let words = text.split("\n\n").flat_map(quoted).flat_map(str::split_whitespace).filter(|word| is_path(word));
        missing.extend(words.filter(|word| !exists(word)).map(|word| format!("{guide}: {word}")));
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let files = targets.filter_map(|target| target.split('#').next());
        let files = files.filter(|file| !file.is_empty() && !file.contains("://"));
        missing.extend(files.filter(|file| !dir.join(file).exists()).map(|file| format!("{guide}: {file}")));
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
