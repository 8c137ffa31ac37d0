//! `binplz-builder catalogue`: evaluates a whole nixpkgs, and writes its catalogue.
//!
//! The set is evaluated attribute by attribute into `evaluation.jsonl` ([`survey`]), one record a line, whatever some of them do to
//! the processes that evaluate them ([`worker`]). Of those records, and of what is known of programs ([`programs`]), the two
//! files are made. What is lost is named on stdout.

mod found;
mod programs;
mod survey;
mod worker;

use std::{
    fs,
    io::{BufRead, BufReader, BufWriter, Write},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    thread,
    time::Duration,
};

use binplz_catalogue::{Lookup, Record, Writer};
use binplz_core::key::{Attr, Rev, System};
use clap::Parser;

use crate::{nix::Nix, shop::Ending, stop::Stop, version};
use survey::{Plan, Tally, survey};
use worker::Worker;

/// The verb, as `main` knows it.
pub(crate) const VERB: &str = "catalogue";
/// One in so many attributes may take too much time or memory. More of them mean that the limits are wrong, or the machine.
const EXHAUSTING: usize = 10;

/// Makes the catalogue of a nixpkgs: the files `lookup` and `details`, from `evaluation.jsonl` beside them.
#[derive(Debug, Parser)]
#[command(name = "binplz-builder catalogue")]
struct Options {
    /// The nixpkgs: a directory with a `default.nix`.
    #[arg(long, value_name = "DIR")]
    nixpkgs: PathBuf,
    /// Its revision: 40 hex digits.
    #[arg(long)]
    rev: Rev,
    /// Where the files go.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The systems to evaluate it for.
    #[arg(long = "system", value_name = "SYSTEM", default_values_t = [System::X86_64Linux])]
    systems: Vec<System>,
    /// Which package has which program, as channels have it [default: programs.sqlite in the nixpkgs, if it is there].
    #[arg(long, value_name = "FILE")]
    programs: Option<PathBuf>,
    /// What was built before: JSON lines of `attr` and `manifest`.
    #[arg(long, value_name = "FILE")]
    built: Option<PathBuf>,
    /// Sets of packages to enter though they do not ask for it: nixpkgs' aliases of other sets.
    #[arg(long = "enter", value_name = "ATTR", default_values = ["python3Packages", "haskellPackages", "rubyPackages"])]
    enter: Vec<Attr>,
    /// Processes at once [default: one for each processor].
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Memory of each process, in MiB of address space.
    #[arg(long, value_name = "MIB", default_value_t = 4096)]
    memory: u64,
    /// Time for each attribute, in seconds of a processor.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    time: u64,
    /// Attributes for each process.
    #[arg(long, value_name = "N", default_value = "500")]
    shard: NonZeroUsize,
    /// Attributes that throw, and are asked for what they say.
    #[arg(long, value_name = "N", default_value_t = 3000)]
    explain: usize,
    /// Most attributes of a set that is still a set of packages.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    most: usize,
}

/// The verb, with the arguments behind it.
pub(crate) fn main(args: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    match run(&Options::parse_from(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("binplz-builder catalogue: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let evaluation = options.out.join("evaluation.jsonl");
    fs::create_dir_all(&options.out).map_err(|error| format!("{}: {error}", options.out.display()))?;
    evaluate(options, &evaluation)?;

    let mut writer = Writer::new(options.rev.clone());
    read(&evaluation, &mut writer)?;
    let beside = options.nixpkgs.join("programs.sqlite");
    if let Some(database) = options.programs.clone().or(beside.exists().then_some(beside)) {
        let rows = programs::from_database(&database, &mut writer)?;
        eprintln!("programs: {rows} rows of {}", database.display());
    }
    if let Some(built) = &options.built {
        programs::from_builds(built, &mut writer)?;
    }
    let files = writer.finish().map_err(|error| error.to_string())?;
    put(&options.out.join("details"), &files.details)?;
    put(&options.out.join("lookup"), &files.lookup)?;

    let lookup = Lookup::open(files.lookup).map_err(|error| error.to_string())?;
    for lost in lookup.lost() {
        let why = lost.why.failure(lost.detail.as_deref()).detail.unwrap_or_default();
        println!("{} {} {}: {why}", lost.attr, lost.system, lost.why);
    }
    let counts = (lookup.attrs(), lookup.programs(), lookup.lost().count());
    eprintln!("catalogue: {} attributes, {} names of programs; {} lost", counts.0, counts.1, counts.2);
    Ok(())
}

/// Evaluates the set for all systems, into records.
fn evaluate(options: &Options, file: &Path) -> Result<(), String> {
    let nixpkgs =
        fs::canonicalize(&options.nixpkgs).map_err(|error| format!("{}: {error}", options.nixpkgs.display()))?;
    let nixpkgs = nixpkgs.to_str().ok_or("the nixpkgs has a path that is no text")?;
    let nix = Nix::new(std::env::vars_os(), Arc::new(Stop::default()));
    if let Err(Ending::Failed(failure)) = version::ask(&nix) {
        return Err(failure.detail.unwrap_or_default());
    }
    let enter: Vec<worker::Path> = options.enter.iter().map(|attr| attr.parts().map(str::to_owned).collect()).collect();
    let jobs = options.jobs.or(thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    let plan = Plan { jobs, shard: options.shard.get(), explain: options.explain, most: options.most };

    let failed = |error: std::io::Error| format!("{}: {error}", file.display());
    let mut records = BufWriter::new(fs::File::create(file).map_err(failed)?);
    for &system in &options.systems {
        let (memory, time) = (options.memory << 20, Duration::from_secs(options.time));
        let worker = Worker { nix: &nix, nixpkgs, system, enter: &enter, memory, time };
        let tally = survey(&worker, plan, &mut |record| {
            serde_json::to_writer(&mut records, &record).map_err(|error| failed(error.into()))?;
            records.write_all(b"\n").map_err(failed)
        })?;
        check(&tally)?;
        let Tally { attrs, exhausting, unaskable } = tally;
        eprintln!(
            "{system}: {attrs} attributes, {exhausting} of them took too much time or memory; {unaskable} names that nobody can ask for"
        );
    }
    records.flush().map_err(failed)
}

/// A catalogue refuses what it has lost, so one that lost a good part is worse than none.
fn check(tally: &Tally) -> Result<(), String> {
    if tally.attrs == 0 {
        return Err("the set has no packages".to_owned());
    }
    if tally.exhausting > tally.attrs / EXHAUSTING {
        let Tally { attrs, exhausting, .. } = tally;
        return Err(format!(
            "{exhausting} of {attrs} attributes took too much time or memory: raise --time or --memory"
        ));
    }
    Ok(())
}

/// Reads the records back.
fn read(file: &Path, writer: &mut Writer) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let records = fs::File::open(file).map_err(|error| failed(&error))?;
    for line in BufReader::new(records).lines() {
        let line = line.map_err(|error| failed(&error))?;
        let record: Record = serde_json::from_str(&line).map_err(|error| failed(&error))?;
        writer.evaluated(record).map_err(|error| failed(&error))?;
    }
    Ok(())
}

/// Writes a file, whole or not at all.
fn put(file: &Path, content: &[u8]) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", file.display());
    let new = file.with_extension("new");
    fs::write(&new, content).map_err(failed)?;
    fs::rename(&new, file).map_err(failed)
}
