//! The names that people type, in two real trees (`tests/fixtures/trees`), with and without a database of programs.

use std::{collections::BTreeSet, fs::File, path::PathBuf};

use binplz_catalogue::{Lookup, Record, Standing};
use binplz_core::{
    id::key::System,
    nixpkgs::catalogue::{About, Resolution},
    ports::Catalogue,
};

use super::*;

const X86: System = System::X86_64Linux;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name)
}

/// The rows of a table of text, without its comments.
fn rows<const N: usize>(name: &str) -> Vec<[String; N]> {
    let text = fs::read_to_string(fixture(name)).expect(name);
    let rows = text.lines().filter(|line| !line.starts_with('#'));
    let columns = |line: &str| line.split('\t').map(str::to_owned).collect::<Vec<_>>().try_into();
    rows.map(|line| columns(line).expect(line)).collect()
}

/// One of the two trees: the name that tables give it, and its files.
struct Tree {
    name: &'static str,
    files: &'static str,
}

const TREES: [Tree; 2] =
    [Tree { name: "20.09", files: "trees/nixpkgs-20.09" }, Tree { name: "2026-08", files: "trees/corepkgs-2026-08" }];

impl Tree {
    /// Whether a row of a table is about this tree.
    fn is(&self, name: &str) -> bool {
        [self.name, "both"].contains(&name)
    }

    /// A catalogue of its attributes. All count as buildable.
    fn writer(&self) -> Writer {
        let unpacked = Command::new("gzip").arg("-dc").arg(fixture(&format!("{}.tsv.gz", self.files))).output();
        let text = String::from_utf8(unpacked.expect("gzip").stdout).expect("UTF-8");
        let mut writer = Writer::new("ab".repeat(20).parse().expect("a revision"));
        for line in text.lines() {
            let [attr, pname, main, derivation] =
                line.split('\t').collect::<Vec<_>>().try_into().expect("four columns");
            // Some attributes have names that cannot be requested.
            let Ok(attr) = attr.parse() else { continue };
            writer
                .evaluated(Record {
                    attr,
                    system: X86,
                    about: About {
                        pname: pname.to_owned(),
                        main_program: (!main.is_empty()).then(|| main.to_owned()),
                        ..About::default()
                    },
                    standing: Standing::Buildable {
                        drv_path: Some(format!("/nix/store/{derivation:0>32}-{pname}.drv")),
                    },
                })
                .expect("each attribute once");
        }
        writer
    }

    fn without_database(&self) -> Lookup<Vec<u8>> {
        Lookup::open(self.writer().finish().expect("a catalogue").lookup).expect("a catalogue")
    }

    /// A catalogue with a real SQLite database.
    fn with_database(&self) -> Lookup<Vec<u8>> {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("programs.sqlite");
        let sql = File::open(fixture(&format!("{}.sql", self.files))).expect("SQL");
        assert!(Command::new("sqlite3").arg("-bail").arg(&file).stdin(sql).status().expect("sqlite3").success());
        let mut writer = self.writer();
        let rows = from_database(&file, &mut writer).expect("a database");
        assert!(rows > 1000, "{rows}");
        Lookup::open(writer.finish().expect("a catalogue").lookup).expect("a catalogue")
    }
}

/// `package/program` that a name means; `package/?` if only a build can tell the program.
fn meaning(lookup: &Lookup<Vec<u8>>, name: &str) -> String {
    match lookup.resolve(&name.parse().expect(name), X86) {
        Resolution::Found { attr, bin: Some(bin), .. } => format!("{attr}/{bin}"),
        Resolution::Found { attr, bin: None, .. } => format!("{attr}/?"),
        other => format!("{other:?}"),
    }
}

#[test]
fn names_that_people_type_mean_the_packages_that_they_expect() {
    let (mut wrong, mut names, mut decided) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for tree in TREES {
        let (with, without) = (tree.with_database(), tree.without_database());
        for [name, package, program, of, reason] in
            rows("names.tsv").into_iter().filter(|row: &[String; 5]| tree.is(&row[3]))
        {
            let expected = format!("{package}/{program}");
            let (met, unaided) = (meaning(&with, &name), meaning(&without, &name));
            // Where nothing is known of its programs, an attribute's own name means its main program.
            let is_met = |met: &str| *met == expected || (reason == "attribute" && met == format!("{package}/?"));
            if !is_met(&met) || (reason == "database") == is_met(&unaided) {
                wrong
                    .push(format!("{of} {reason}: {name} is {met}, without a database {unaided}; expected {expected}"));
            }
            if reason == "database" {
                decided.insert(name.clone());
            }
            names.insert(name);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        names.len() >= 200 && decided.len() >= 60,
        "{} names, {} of them by a database",
        names.len(),
        decided.len()
    );
}

#[test]
fn a_search_has_the_expected_package_among_its_first_three() {
    let (mut wrong, mut terms) = (Vec::new(), BTreeSet::new());
    for tree in TREES {
        let lookup = tree.with_database();
        for [term, package, of] in rows("searches.tsv").into_iter().filter(|row: &[String; 3]| tree.is(&row[2])) {
            let found =
                lookup.search(&term, X86, 20).into_iter().map(|entry| entry.attr.to_string()).collect::<Vec<_>>();
            if !found.iter().take(3).any(|attr| *attr == package) {
                wrong.push(format!("{of}: {term} finds {found:?}; expected {package}"));
            }
            terms.insert(term);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(terms.len() >= 40, "{} terms", terms.len());
}

#[test]
fn a_search_finds_the_first_of_all_packages_that_hold_the_text() {
    let mut terms: BTreeSet<String> = rows("names.tsv").into_iter().map(|[name, ..]: [String; 5]| name).collect();
    terms.extend(rows("searches.tsv").into_iter().map(|[term, ..]: [String; 3]| term));
    // What is typed on the way to a name, its end, and the name without a letter.
    let parts = |term: &String| {
        let starts = (1..4).filter_map(|length| term.get(..length));
        let slip = term.get(2..).map(|end| format!("{}{end}", &term[..1]));
        starts.chain(term.get(2..)).map(str::to_owned).chain(slip).collect::<Vec<_>>()
    };
    terms.extend(terms.iter().flat_map(parts).collect::<Vec<_>>());
    terms.remove("");
    for tree in TREES {
        let lookup = tree.with_database();
        let found = |term: &str, most| {
            lookup.search(term, X86, most).into_iter().map(|entry| entry.attr.to_string()).collect::<Vec<_>>()
        };
        let packages: Vec<_> = lookup
            .standings(X86)
            .map(|(attr, _)| {
                let main = lookup.package(&attr).and_then(|package| package.main);
                let names = [attr.to_string(), main.map(|main| main.to_string()).unwrap_or_default()];
                (attr.to_string(), names.map(|name| name.to_ascii_lowercase()))
            })
            .collect();
        for term in &terms {
            let more = found(term, 300);
            for most in [1, 20] {
                assert_eq!(found(term, most), more[..most.min(more.len())], "{term}");
            }
            let text = term.to_ascii_lowercase();
            let holders = packages.iter().filter(|(_, names)| names.iter().any(|name| name.contains(&text)));
            let missing: Vec<_> = holders.filter(|(attr, _)| !more.contains(attr)).collect();
            assert!(missing.is_empty() || more.len() == 300, "{term} does not find {missing:?}");
        }
    }
}

/// Attributes of the list of popular programs that are younger than both trees, or not part of them. They were in Nixpkgs in 2025.
const TODAY: [&str; 30] = [
    "actionlint",
    "bottom",
    "btop",
    "choose",
    "crane",
    "delta",
    "difftastic",
    "doggo",
    "duf",
    "eza",
    "fastfetch",
    "ffuf",
    "fx",
    "gh",
    "gitui",
    "hadolint",
    "helix",
    "jless",
    "litestream",
    "magic-wormhole-rs",
    "mold",
    "oha",
    "pandoc",
    "ruff",
    "s5cmd",
    "shellcheck",
    "usql",
    "xh",
    "yt-dlp",
    "zellij",
];

#[test]
fn every_popular_single_file_is_an_attribute_of_a_real_tree() {
    let popular = include_str!("../../../../../infra/popular.txt");
    let trees = TREES.map(|tree| tree.without_database());
    let mut today = Vec::new();
    for attr in popular.lines().filter(|line| !line.contains('#')) {
        let attr = attr.parse::<binplz_core::id::key::Attr>().expect(attr);
        if trees.iter().all(|tree| tree.package(&attr).is_none()) {
            today.push(attr.to_string());
        }
    }
    today.sort();
    assert_eq!(today, TODAY);
}
