//! Reports on the catalogue of a real nixpkgs as rows of a Markdown table, for `scripts/nixpkgs-trial`:
//!
//!     trial DIR NAMES     what is in the files `lookup` and `details` of DIR, and what the names of NAMES resolve to
//!     trial --paths DIR   the paths of all attributes and of the sets that hold them, as lists of the Nix language
//!
//! NAMES has the columns of `tests/fixtures/names.tsv`; a name may have several rows, and each of its packages is as expected.

#![expect(clippy::disallowed_macros, reason = "it prints its report")]

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fs,
    hint::black_box,
    path::Path,
    time::{Duration, Instant},
};

use binplz_catalogue::{Lookup, Obstacle};
use binplz_core::{
    flow::{
        operator::census::{LossGroup, grouped},
        request::search::MOST,
    },
    id::{
        key::{Attr, System},
        target::Wanted,
        text::thousands,
    },
    nixpkgs::catalogue::Resolution,
    ports::Catalogue,
};

const SYSTEM: System = System::X86_64Linux;
/// How many of the most frequent errors are shown.
const ERRORS: usize = 10;
/// The longest error in the table, in characters.
const ERROR_MAX: usize = 90;
/// How often each name is asked for.
const REPEATS: usize = 5;
type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--paths", dir] => paths(&open(Path::new(dir))?),
        [dir, names] => report(Path::new(dir), Path::new(names)),
        _ => Err("usage: trial DIR NAMES | trial --paths DIR".into()),
    }
}

fn open(dir: &Path) -> Outcome<Lookup<Vec<u8>>> {
    Ok(Lookup::open(fs::read(dir.join("lookup"))?)?)
}

/// The sets first, by name, then the attributes.
fn paths(lookup: &Lookup<Vec<u8>>) -> Outcome<()> {
    let attrs: Vec<Attr> = lookup.standings(SYSTEM).map(|(attr, _)| attr).collect();
    let sets: BTreeSet<&str> = attrs.iter().filter_map(|attr| Some(attr.as_str().rsplit_once('.')?.0)).collect();
    for path in std::iter::once("").chain(sets).chain(attrs.iter().map(Attr::as_str)) {
        let parts: Vec<String> =
            path.split('.').filter(|part| !part.is_empty()).map(|part| format!("\"{part}\"")).collect();
        println!("[ {} ]", parts.join(" "));
    }
    Ok(())
}

fn report(dir: &Path, names: &Path) -> Outcome<()> {
    let lookup = open(dir)?;
    let mut outcomes = BTreeMap::<String, usize>::new();
    lookup.standings(SYSTEM).for_each(|(_, obstacle)| *outcomes.entry(outcome(obstacle)).or_default() += 1);
    row("attributes", &number(lookup.attrs()));
    outcomes.iter().for_each(|(outcome, count)| row(&format!("– {outcome}"), &number(*count)));
    row("names of programs", &number(lookup.programs()));
    for file in ["lookup", "details"] {
        row(&format!("file `{file}`"), &format!("{:.1} MB", fs::metadata(dir.join(file))?.len() as f64 / 1e6));
    }
    latencies(&lookup)?;
    let is_here = |name: &String| name.parse::<Attr>().is_ok_and(|attr| lookup.package(&attr).is_some());
    let mut expected = expected(&fs::read_to_string(names)?)?;
    expected.retain(|_, packages| packages.iter().any(is_here));
    let found = expected.iter().map(|(name, packages)| resolved(&lookup, name, packages));
    let others: Vec<String> = found.filter_map(Result::err).collect();
    row(
        "names whose package is here, and as expected",
        &format!("{}, {}", expected.len(), expected.len() - others.len()),
    );
    errors(&lookup);
    println!(
        "\nNames that resolve to another package than expected: {}",
        if others.is_empty() { "none".to_owned() } else { others.join("; ") }
    );
    Ok(())
}

fn outcome(obstacle: Option<Obstacle>) -> String {
    match obstacle {
        None => "buildable".to_owned(),
        Some(why) if why.is_loss() => format!("lost: {why}"),
        Some(why) => format!("refused: {why}"),
    }
}

fn row(what: &str, figure: &str) {
    println!("| {what} | {figure} |");
}

fn number(count: usize) -> String {
    thousands(count as u64)
}

/// Every attribute is looked up once, and the beginnings of its name are searched in turn, as a page does while someone types.
fn latencies(lookup: &Lookup<Vec<u8>>) -> Outcome<()> {
    let names: Vec<Wanted> = lookup.standings(SYSTEM).filter_map(|(attr, _)| attr.as_str().parse().ok()).collect();
    let looked = each(names.iter(), |name| drop(black_box(lookup.resolve(name, SYSTEM))))?;
    let text = |(at, name): (usize, &Wanted)| name.to_string().chars().take(1 + at % 6).collect::<String>();
    let texts: BTreeSet<String> = names.iter().enumerate().map(text).collect();
    let searched = each(texts.iter(), |text| drop(black_box(lookup.search(text, SYSTEM, MOST))))?;
    let us = |time: Duration| format!("{:.1} µs", time.as_secs_f64() * 1e6);
    let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
    row("lookup p50, p99", &format!("{}, {}", us(looked.0), us(looked.1)));
    row("search p50, p99", &format!("{}, {}", ms(searched.0), ms(searched.1)));
    Ok(())
}

/// The median and the 99th percentile of the calls' durations.
fn each<T: Copy>(all: impl Iterator<Item = T>, what: impl Fn(T)) -> Outcome<(Duration, Duration)> {
    let ask = |one: T| {
        let began = Instant::now();
        what(one);
        began.elapsed()
    };
    // The median of several calls leaves out the machine's other work.
    let median = |one: T| {
        let mut took = [(); REPEATS].map(|()| ask(one));
        took.sort();
        took[REPEATS / 2]
    };
    let mut took: Vec<Duration> = all.map(median).collect();
    took.sort();
    let at = |percent: usize| took.get(took.len() * percent / 100).copied().ok_or("the catalogue is empty");
    Ok((at(50)?, at(99)?))
}

/// The expected packages of each name.
fn expected(table: &str) -> Outcome<BTreeMap<String, BTreeSet<String>>> {
    let mut names = BTreeMap::<String, BTreeSet<String>>::new();
    for line in table.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut columns = line.split('\t');
        let (Some(name), Some(package)) = (columns.next(), columns.next()) else {
            return Err(format!("no package in the line {line:?}").into());
        };
        names.entry(name.to_owned()).or_default().insert(package.to_owned());
    }
    Ok(names)
}

/// Whether a name resolves to one of its packages; `Err`: what it resolves to instead.
fn resolved(lookup: &Lookup<Vec<u8>>, name: &str, packages: &BTreeSet<String>) -> Result<(), String> {
    let wanted: Wanted = name.parse().map_err(|error| format!("{name} ({error})"))?;
    let got = match lookup.resolve(&wanted, SYSTEM) {
        Resolution::Found { attr, .. } | Resolution::Choice { attr, .. } if packages.contains(attr.as_str()) => {
            return Ok(());
        }
        Resolution::Found { attr, .. } | Resolution::Choice { attr, .. } => attr.to_string(),
        Resolution::Refused { attr, failure, .. } => format!("{attr}, but {}", failure.kind.sentence()),
        Resolution::NoSuchProgram { attr, .. } => format!("{attr}, without that program"),
        Resolution::Unknown { .. } => "unknown".to_owned(),
    };
    Err(format!("`{name}`: {got}"))
}

/// The most frequent errors of lost attributes.
fn errors(lookup: &Lookup<Vec<u8>>) {
    println!("\n| the most frequent errors of lost attributes | attributes |\n|---|---|");
    for LossGroup { error, count, .. } in grouped(lookup.census(SYSTEM).lost).into_iter().take(ERRORS) {
        let error: String = error.replace(['`', '|'], "'").chars().take(ERROR_MAX).collect();
        row(&format!("`{error}`"), &number(count));
    }
}
