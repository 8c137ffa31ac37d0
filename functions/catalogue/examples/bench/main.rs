//! Measures the catalogue at the size of nixpkgs: `cargo run --release --example bench` prints a table for the
//! benchmark page.
//!
//! Each figure of an opened catalogue comes from a process of its own (`open`, `lookups`, `near`, `search`, `words`); the files
//! are read from the disk cache.

#![expect(clippy::disallowed_macros, reason = "a benchmark prints its table")]

mod synthetic;

use std::{
    error::Error,
    fs,
    hint::black_box,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use binplz_catalogue::{About, Lookup, Obstacle, Record, Standing, Writer};
use binplz_core::{
    flow::request::search::MOST,
    id::{key::System, target::Wanted},
    nixpkgs::catalogue::Resolution,
    ports::Catalogue,
};

use synthetic::{Package, Random};

const SEED: u64 = 26_05;
const ATTRIBUTES: usize = 120_000;
const PROGRAMS: usize = 250_000;
/// How many processes measure a first call.
const LIVES: usize = 21;
/// How often each name is looked up; the median counts, which leaves out the machine's other work.
const REPEATS: usize = 5;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[1..] {
        [] => table(),
        ["make", dir] => make(Path::new(dir)),
        ["open", dir] => open(Path::new(dir)),
        ["lookups", dir] => lookups(Path::new(dir)),
        ["near", dir] => near(Path::new(dir)),
        ["search", dir] => search(Path::new(dir)),
        ["words", dir] => words(Path::new(dir)),
        _ => Err("bench takes no arguments".into()),
    }
}

/// The table; each row's figures come from processes of their own.
fn table() -> Outcome<()> {
    let dir = std::env::temp_dir().join(format!("binplz-catalogue-bench.{}", std::process::id()));
    fs::create_dir_all(&dir)?;
    let told = rows(&dir);
    fs::remove_dir_all(&dir)?;
    print!("{}", told?);
    Ok(())
}

fn rows(dir: &Path) -> Outcome<String> {
    let made = run("make", dir)?;
    let mut lives: Vec<Vec<u64>> = (0..LIVES).map(|_| run("open", dir)).collect::<Outcome<_>>()?;
    lives.sort();
    let open = &lives[LIVES / 2];
    let (lookups, near) = (run("lookups", dir)?, run("near", dir)?);
    let (search, words) = (run("search", dir)?, run("words", dir)?);
    let mb = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
    let kb = |bytes: u64| format!("{:.0} kB", bytes as f64 / 1e3);
    let ms = |ns: u64| format!("{:.2} ms", ns as f64 / 1e6);
    let us = |ns: u64| format!("{:.1} µs", ns as f64 / 1e3);
    let size = |name| fs::metadata(dir.join(name)).map(|file| file.len());
    let row = |what: &str, figure: String, aim: &str| format!("| {what} | {figure} | {aim} |\n");
    Ok([
        format!("| a catalogue of {ATTRIBUTES} attributes and {PROGRAMS} programs' names | | aim |\n|---|---|---|\n"),
        row("lookup file", mb(size("lookup")?), "12 MB"),
        row("details file", mb(size("details")?), ""),
        row(&format!("read, open, first lookup (median of {LIVES} processes)"), ms(open[0]), "10 ms"),
        row("memory of that process", mb(open[1]), "40 MB"),
        row("lookup p50, p99", format!("{}, {}", us(lookups[0]), us(lookups[1])), "5 µs, 50 µs"),
        row("near names of a typing error p50, p99", format!("{}, {}", ms(near[0]), ms(near[1])), "2 ms"),
        row("near names of a random name p50, p99", format!("{}, {}", ms(near[2]), ms(near[3])), "2 ms"),
        row("search p50, p99", format!("{}, {}", ms(search[0]), ms(search[1])), "5 ms"),
        row("first search of a process", ms(search[2]), ""),
        row("search by words p50, p99", format!("{}, {}", ms(words[0]), ms(words[1])), "5 ms"),
        row("its index in the details file", mb(words[2]), "6 MB"),
        row("– what a search reads of it p50, p99", format!("{}, {}", kb(words[3]), kb(words[4])), ""),
        row("making it", format!("{}, {}", ms(made[0]), mb(made[1])), ""),
    ]
    .concat())
}

/// Runs another mode in a process of its own; returns the numbers that it prints.
fn run(mode: &str, dir: &Path) -> Outcome<Vec<u64>> {
    let out = Command::new(std::env::current_exe()?).arg(mode).arg(dir).output()?;
    if !out.status.success() {
        return Err(String::from_utf8_lossy(&out.stderr).into());
    }
    Ok(String::from_utf8(out.stdout)?.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)
}

/// Writes the files: nanoseconds, bytes of memory.
fn make(dir: &Path) -> Outcome<()> {
    let packages = synthetic::set(SEED, ATTRIBUTES, PROGRAMS);
    let before = peak_memory()?;
    let began = Instant::now();
    let mut writer = Writer::new("26".repeat(20).parse()?);
    for package in packages {
        for system in System::ALL {
            writer.evaluated(record(&package, system)?)?;
        }
        for bin in &package.programs {
            writer.in_database(package.attr.parse()?, bin.parse()?);
        }
    }
    let files = writer.finish()?;
    let took = began.elapsed();
    fs::write(dir.join("lookup"), files.lookup)?;
    fs::write(dir.join("details"), files.details)?;
    println!("{} {}", took.as_nanos(), peak_memory()? - before);
    Ok(())
}

/// Two of three are buildable on both systems, each from its own derivation; the others have the obstacles that
/// packages have.
fn record(package: &Package, system: System) -> Outcome<Record> {
    let leaf = package.attr.rsplit('.').next().unwrap_or_default();
    let mut random = Random(package.luck ^ (system as u64 + 1));
    let refused = |why, detail: String| Standing::Refused { why, detail: (!detail.is_empty()).then_some(detail) };
    let standing = match package.luck % 24 {
        0..=3 => refused(Obstacle::Unsupported, String::new()),
        4 => refused(Obstacle::Broken, String::new()),
        5 => refused(Obstacle::Unfree, "Unfree redistributable".to_owned()),
        6 => refused(Obstacle::Insecure, format!("CVE-20{}-{}", 10 + package.luck % 16, package.luck % 60_000)),
        7 => refused(Obstacle::Throws, format!("'{leaf}' has been removed, as it was not maintained upstream")),
        _ => {
            let digits = b"0123456789abcdfghijklmnpqrsvwxyz";
            let hash: String = (0..32).map(|_| char::from(digits[random.below(32)])).collect();
            Standing::Buildable { drv_path: Some(format!("/nix/store/{hash}-{leaf}-1.{}.drv", package.luck % 30)) }
        }
    };
    let description = synthetic::description(&mut Random(package.luck));
    let about = About {
        pname: leaf.to_owned(),
        version: format!("{}.{}.{}", package.luck % 9, package.luck % 40, package.luck % 13),
        description,
        homepage: format!("https://github.com/{leaf}/{leaf}"),
        license: vec![random.one(&["MIT", "GPL-3.0-or-later", "Apache-2.0", "BSD-3-Clause"]).to_owned()],
        main_program: package.programs.first().filter(|_| package.declares).cloned(),
    };
    Ok(Record { attr: package.attr.parse()?, system, about, standing })
}

fn catalogue(dir: &Path) -> Outcome<Lookup<Vec<u8>>> {
    Ok(Lookup::open(fs::read(dir.join("lookup"))?)?)
}

/// From the file to the first answer: nanoseconds, bytes of memory of the whole process.
fn open(dir: &Path) -> Outcome<()> {
    let wanted: Wanted = "ripgrep".parse()?;
    let began = Instant::now();
    let catalogue = catalogue(dir)?;
    black_box(catalogue.resolve(&wanted, System::X86_64Linux));
    println!("{} {}", began.elapsed().as_nanos(), peak_memory()?);
    Ok(())
}

/// Existing names: p50 and p99 in nanoseconds.
fn lookups(dir: &Path) -> Outcome<()> {
    let names: Vec<Wanted> = names(20_000).iter().filter_map(|name| name.parse().ok()).collect();
    let catalogue = catalogue(dir)?;
    let took = each(&names, |name| drop(black_box(catalogue.resolve(name, System::X86_64Linux))))?;
    println!("{} {}", took[took.len() / 2].as_nanos(), took[took.len() * 99 / 100].as_nanos());
    Ok(())
}

/// Missing names: first one typing error away from an existing one, then random: p50 and p99 of both in nanoseconds.
fn near(dir: &Path) -> Outcome<()> {
    let catalogue = catalogue(dir)?;
    let mut random = Random(SEED + 1);
    let names = names(4000);
    let slips: Vec<String> = names.iter().map(|name| slip(name, &mut random)).collect();
    let noise: Vec<String> = names.iter().map(|name| name.chars().map(|_| letter(&mut random)).collect()).collect();
    for names in [slips, noise] {
        let unknown =
            |path: &Wanted| matches!(catalogue.resolve(path, System::X86_64Linux), Resolution::Unknown { .. });
        let paths: Vec<Wanted> = names.iter().filter_map(|name| name.parse().ok()).filter(unknown).take(1000).collect();
        let took = each(&paths, |path| drop(black_box(catalogue.resolve(path, System::X86_64Linux))))?;
        println!("{} {}", took[took.len() / 2].as_nanos(), took[took.len() * 99 / 100].as_nanos());
    }
    Ok(())
}

/// The texts at the moment when a page searches: the first one to six letters of names. Where fewer than 20 names match, words are
/// searched too. p50, p99, and the first search of this process, in nanoseconds.
fn search(dir: &Path) -> Outcome<()> {
    let catalogue = catalogue(dir)?;
    let starts: Vec<String> =
        names(300).iter().enumerate().map(|(at, name)| name.chars().take(1 + at % 6).collect()).collect();
    let details = fs::read(dir.join("details"))?;
    let search = |text: &String| {
        let found = black_box(catalogue.search(text, System::X86_64Linux, MOST));
        if found.len() < MOST {
            by_words(&catalogue, &details, text);
        }
    };
    let began = Instant::now();
    search(&starts[0]);
    let first = began.elapsed();
    let took = each(&starts, search)?;
    println!("{} {} {}", took[took.len() / 2].as_nanos(), took[took.len() * 99 / 100].as_nanos(), first.as_nanos());
    Ok(())
}

/// One to three words of descriptions: p50 and p99 in nanoseconds; the size of their index; p50 and p99 of what a search reads, in bytes.
fn words(dir: &Path) -> Outcome<()> {
    let (catalogue, details) = (catalogue(dir)?, fs::read(dir.join("details"))?);
    let mut random = Random(SEED + 3);
    let texts: Vec<String> = (0..600)
        .map(|at| {
            let description = synthetic::description(&mut random);
            description.split(' ').take(1 + at % 3).collect::<Vec<_>>().join(" ")
        })
        .collect();
    let took = each(&texts, |text| by_words(&catalogue, &details, text))?;
    let mut read: Vec<u64> =
        texts.iter().map(|text| catalogue.words(text).iter().map(|range| range.end - range.start).sum()).collect();
    read.sort_unstable();
    let packages = catalogue.standings(System::X86_64Linux).filter_map(|(attr, _)| catalogue.details(&attr));
    let index = details.len() as u64 - packages.map(|range| range.end).max().unwrap_or(0);
    let of = |percent: usize| (took[took.len() * percent / 100].as_nanos(), read[read.len() * percent / 100]);
    println!("{} {} {index} {} {}", of(50).0, of(99).0, of(50).1, of(99).1);
    Ok(())
}

/// A search by words, with the blocks that a page would read from the details file.
fn by_words(catalogue: &Lookup<Vec<u8>>, details: &[u8], text: &str) {
    let part = |at: std::ops::Range<u64>| {
        details.get(usize::try_from(at.start).ok()?..usize::try_from(at.end).ok()?).map(<[u8]>::to_vec)
    };
    let blocks: Vec<Vec<u8>> = catalogue.words(text).into_iter().filter_map(part).collect();
    drop(black_box(catalogue.search_words(text, &blocks, System::X86_64Linux, MOST)));
}

/// The duration of each call, sorted.
fn each<T>(names: &[T], what: impl Fn(&T)) -> Outcome<Vec<Duration>> {
    let ask = |name: &T| {
        let began = Instant::now();
        what(name);
        began.elapsed()
    };
    let median = |name| {
        let mut took: Vec<Duration> = (0..REPEATS).map(|_| ask(name)).collect();
        took.sort();
        took[REPEATS / 2]
    };
    let mut took: Vec<Duration> = names.iter().map(median).collect();
    took.sort();
    if took.is_empty() { Err("no names to ask for".into()) } else { Ok(took) }
}

/// Attributes and programs of the set, in equal parts.
fn names(count: usize) -> Vec<String> {
    let packages = synthetic::set(SEED, ATTRIBUTES, PROGRAMS);
    let with_programs: Vec<&Package> = packages.iter().filter(|package| !package.programs.is_empty()).collect();
    let mut random = Random(SEED + 2);
    let one = |number: usize| match number % 2 {
        0 => packages[random.below(packages.len())].attr.clone(),
        _ => {
            let package = with_programs[random.below(with_programs.len())];
            package.programs[random.below(package.programs.len())].clone()
        }
    };
    (0..count).map(one).collect()
}

/// One typing error.
fn slip(name: &str, random: &mut Random) -> String {
    let mut letters: Vec<char> = name.chars().collect();
    let at = random.below(letters.len());
    match random.below(4) {
        0 => drop(letters.remove(at)),
        1 => letters.insert(at, letter(random)),
        2 => letters[at] = letter(random),
        _ => letters.swap(at, (at + 1) % name.len()),
    }
    letters.into_iter().collect()
}

fn letter(random: &mut Random) -> char {
    char::from(b'a' + u8::try_from(random.below(26)).unwrap_or(0))
}

/// The peak memory of this process, in bytes.
fn peak_memory() -> Outcome<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}
