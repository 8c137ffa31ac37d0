//! `binplz-builder catalogue`: makes the files without a lease or a store.

use std::{
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    thread,
    time::Duration,
};

use binplz_catalogue::Lookup;
use binplz_core::{
    build::protocol::JobLimits,
    id::key::{Attr, Rev, System},
    nixpkgs::pins::PROGRAMS_FILE,
};
use clap::Parser;

use crate::{
    catalogue::{ENTER, Recipe, evaluator::Limits, make, programs::read_builds},
    context::Ending,
    nix::Nix,
    stop::Stop,
    version,
};

/// The verb's name for `main`.
pub(crate) const VERB: &str = "catalogue";

/// Make the catalogue of a nixpkgs: the files `lookup` and `details`. Lost attributes are listed on stdout.
#[derive(Debug, Parser)]
#[command(name = "binplz-builder catalogue")]
struct Options {
    /// Directory of the nixpkgs, with a `default.nix`.
    #[arg(long, value_name = "DIR")]
    nixpkgs: PathBuf,
    /// Revision of the nixpkgs: 40 hex digits.
    #[arg(long)]
    rev: Rev,
    /// Directory for the two files.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// System to evaluate for; may be repeated.
    #[arg(long = "system", value_name = "SYSTEM", default_values_t = [System::X86_64Linux])]
    systems: Vec<System>,
    /// Database of packages and their programs, as in channels [default: programs.sqlite in the nixpkgs, if present].
    #[arg(long, value_name = "FILE")]
    programs: Option<PathBuf>,
    /// File of earlier builds: JSON lines of `attr` and `manifest`.
    #[arg(long, value_name = "FILE")]
    built: Option<PathBuf>,
    /// Set of packages to enter, even if it is not marked for recursion; may be repeated.
    #[arg(long = "enter", value_name = "ATTR", default_values = ENTER)]
    enter: Vec<Attr>,
    /// Concurrent processes [default: one per processor].
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Memory limit of each process, in MiB of address space.
    #[arg(long, value_name = "MIB", default_value_t = JobLimits::default().attribute_bytes >> 20)]
    memory: u64,
    /// Time limit of each attribute, in seconds of processor time.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    time: u64,
    /// Number of attributes above which the set counts as endless.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    most: usize,
}

/// Runs the verb with its arguments.
pub(crate) fn main(args: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    match run(&Options::parse_from(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(ending) => {
            let why = match ending {
                Ending::Failed(failure) => failure.detail.unwrap_or_default(),
                Ending::Stopped => "it was stopped".to_owned(),
            };
            eprintln!("binplz-builder catalogue: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Ending> {
    fs::create_dir_all(&options.out).map_err(|error| at(&options.out, &error))?;
    let nix = Nix::new(std::env::vars_os(), Arc::new(Stop::default()));
    version::ask(&nix)?;
    let nixpkgs = fs::canonicalize(&options.nixpkgs).map_err(|error| at(&options.nixpkgs, &error))?;
    version::ask_for_nixpkgs(&nix, &nixpkgs)?;
    let beside = nixpkgs.join(PROGRAMS_FILE);
    let recipe = Recipe {
        nixpkgs: nixpkgs.to_str().ok_or_else(|| Ending::ours("the path of nixpkgs is not valid UTF-8"))?.to_owned(),
        rev: options.rev.clone(),
        systems: options.systems.clone(),
        enter: options.enter.clone(),
        jobs: options.jobs.or(thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get),
        most: options.most,
        limits: Limits { memory: options.memory << 20, time: Duration::from_secs(options.time), until: None },
        programs: options.programs.clone().or(beside.exists().then_some(beside)),
        built: options.built.as_deref().map_or(Ok(Vec::new()), read_builds).map_err(Ending::ours)?,
    };
    let files = make(&recipe, &nix, &[], &mut (), &|said| eprintln!("{said}"), &mut |_| ())?;
    put(&options.out.join("details"), &files.details)?;
    put(&options.out.join("lookup"), &files.lookup)?;

    let lookup = Lookup::open(files.lookup).map_err(Ending::ours)?;
    #[expect(clippy::disallowed_macros, reason = "the command's result")]
    for lost in lookup.lost() {
        println!("{lost}");
    }
    let counts = (lookup.attrs(), lookup.programs(), lookup.lost().count());
    eprintln!("catalogue: {} attributes, {} names of programs; {} lost", counts.0, counts.1, counts.2);
    Ok(())
}

/// Writes a file atomically.
fn put(file: &Path, content: &[u8]) -> Result<(), Ending> {
    let new = file.with_extension("new");
    fs::write(&new, content).and_then(|()| fs::rename(&new, file)).map_err(|error| at(file, &error))
}

fn at(path: &Path, error: &std::io::Error) -> Ending {
    Ending::ours(format!("{}: {error}", path.display()))
}
