//! `binplz-builder catalogue`: no lease and no store, but the files.

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
use binplz_core::id::key::{Attr, Rev, System};
use clap::Parser;

use crate::{
    catalogue::{DATABASE, ENTER, Recipe, make, programs::read_builds, survey::Plan, worker::Limits},
    context::Ending,
    nix::Nix,
    stop::Stop,
    version,
};

/// The verb, as `main` knows it.
pub(crate) const VERB: &str = "catalogue";

/// Makes the catalogue of a nixpkgs: the files `lookup` and `details`. What is lost is named on stdout.
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
    #[arg(long = "enter", value_name = "ATTR", default_values = ENTER)]
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
    let beside = nixpkgs.join(DATABASE);
    let recipe = Recipe {
        nixpkgs: nixpkgs.to_str().ok_or_else(|| Ending::ours("the nixpkgs has a path that is no text"))?.to_owned(),
        rev: options.rev.clone(),
        systems: options.systems.clone(),
        enter: options.enter.clone(),
        plan: Plan {
            jobs: options.jobs.or(thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get),
            shard: options.shard.get(),
            explain: options.explain,
            most: options.most,
        },
        limits: Limits { memory: options.memory << 20, time: Duration::from_secs(options.time), until: None },
        programs: options.programs.clone().or(beside.exists().then_some(beside)),
        built: options.built.as_deref().map_or(Ok(Vec::new()), read_builds).map_err(Ending::ours)?,
    };
    let files = make(&recipe, &nix, &|said| eprintln!("{said}"), &mut |_| ())?;
    put(&options.out.join("details"), &files.details)?;
    put(&options.out.join("lookup"), &files.lookup)?;

    let lookup = Lookup::open(files.lookup).map_err(Ending::ours)?;
    for lost in lookup.lost() {
        println!("{lost}");
    }
    let counts = (lookup.attrs(), lookup.programs(), lookup.lost().count());
    eprintln!("catalogue: {} attributes, {} names of programs; {} lost", counts.0, counts.1, counts.2);
    Ok(())
}

/// Writes a file, whole or not at all.
fn put(file: &Path, content: &[u8]) -> Result<(), Ending> {
    let new = file.with_extension("new");
    fs::write(&new, content).and_then(|()| fs::rename(&new, file)).map_err(|error| at(file, &error))
}

fn at(path: &Path, error: &std::io::Error) -> Ending {
    Ending::ours(format!("{}: {error}", path.display()))
}
