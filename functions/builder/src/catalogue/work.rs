//! The catalogue as a job under a lease.

use std::{fs, num::NonZeroUsize, thread, time::Duration};

use binplz_catalogue::Lookup;
use binplz_core::{
    build::protocol::{Database, Job, Looked, Nixpkgs, Phase},
    id::key::{Attr, Sha256},
    nixpkgs::pins::PROGRAMS_FILE,
    objects::artifact::{Manifest, ObjectName},
};
use rustix::process::nice;

use crate::{
    catalogue::{
        ENTER, Recipe,
        checkpoint::Checkpoints,
        evaluator::{CATALOGUE, Limits},
        make,
    },
    context::{BuildContext, Ending},
    evaluate::DESCRIBE,
    lease::CallPriority,
    machine, nixpkgs, version,
};

/// Most attributes before the set counts as endless.
const MOST: usize = 1_000_000;
/// How many lost attributes the log lists.
const NAMED: usize = 1000;
/// The niceness of evaluation: builds that people wait for may run on the same machine.
const NICE: i32 = 10;

/// One process per processor, as far as memory suffices: an attribute whose process the kernel kills counts as lost.
fn jobs(memory: u64) -> usize {
    let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let fitting = machine::memory().map_or(1, |all| usize::try_from(all / memory.max(1)).unwrap_or(usize::MAX));
    fitting.clamp(1, processors)
}

/// The manifests of earlier builds, of any nixpkgs. For other packages only the database knows programs.
fn built(context: &BuildContext) -> Result<Vec<(Attr, Manifest)>, Ending> {
    let (mut built, mut looked) = (Vec::new(), Some(Looked::default()));
    while let Some(seen) = looked {
        let answer = context.lease.built(seen)?;
        built.extend(answer.packages);
        looked = answer.next;
    }
    context.log.say(&format!("programs: known from {} built packages", built.len()));
    Ok(built)
}

/// A hash of all that a record depends on. Another Nix, other limits or another version of this program may evaluate an
/// attribute to another one, so that a checkpoint of it is not used.
fn basis(nix_version: &str, job: &Job) -> String {
    let nixpkgs = match &job.nixpkgs {
        Nixpkgs::Path(place) | Nixpkgs::Tarball { nar_hash: Some(place), .. } => place,
        Nixpkgs::Tarball { url, nar_hash: None } => url,
    };
    let limits = (job.limits.attribute_seconds, job.limits.attribute_bytes);
    let program = (env!("CARGO_PKG_VERSION"), CATALOGUE, DESCRIBE, ENTER);
    let all = serde_json::json!((program, nix_version, &job.key, nixpkgs, limits));
    Sha256::of(all.to_string().as_bytes()).to_string()
}

/// Makes the catalogue, and stores its files.
pub(crate) fn catalogue(context: &BuildContext, job: &Job) -> Result<(), Ending> {
    // Applies to this thread and the threads and processes that it starts, not to the heartbeat's thread.
    nice(NICE).map_err(std::io::Error::from)?;
    context.progress_channel.update(|progress| progress.phase = Phase::Evaluating);
    let nix_version = version::ask(&context.nix)?;
    let interval = Duration::from_secs(job.limits.checkpoint_seconds);
    // First, since its URLs do not last.
    let (mut checkpoints, known) = Checkpoints::resume(context, &job.resume, basis(&nix_version, job), interval)?;
    let nixpkgs = nixpkgs::directory(context, job)?;
    let added = tempfile::NamedTempFile::new()?;
    let database = match &job.programs {
        Some(Database { url, content }) => {
            context.lease.fetch("the pin's database of programs", url, content, added.path())?;
            added.path().to_owned()
        }
        None => nixpkgs.join(PROGRAMS_FILE),
    };
    let recipe = Recipe {
        nixpkgs: nixpkgs.to_str().ok_or_else(|| Ending::ours("the path of nixpkgs is not valid UTF-8"))?.to_owned(),
        rev: job.key.rev.clone(),
        systems: vec![job.key.system],
        enter: ENTER.iter().filter_map(|attr| attr.parse().ok()).collect(),
        jobs: jobs(job.limits.attribute_bytes),
        most: MOST,
        limits: Limits {
            memory: job.limits.attribute_bytes,
            time: Duration::from_secs(job.limits.attribute_seconds),
            until: Some(context.lease.deadline()),
        },
        programs: fs::exists(&database)?.then_some(database),
        built: built(context)?,
    };
    let mut count =
        |attrs| context.progress_channel.update(|progress| progress.step = Some(format!("{attrs} packages")));
    let made = make(&recipe, &context.nix, &known, &mut checkpoints, &|said| context.log.say(said), &mut count);
    let files = made.inspect_err(|_| checkpoints.interrupted())?;

    context.progress_channel.update(|progress| (progress.phase, progress.step) = (Phase::Uploading, None));
    for (name, bytes) in [(ObjectName::Details, &files.details), (ObjectName::Lookup, &files.lookup)] {
        context.lease.store_bytes(CallPriority::Work, name, bytes)?;
    }
    let lookup = Lookup::open(files.lookup).map_err(Ending::ours)?;
    let lost = lookup.lost().count();
    context.log.say(&format!("{} attributes, {} names of programs; {lost} lost", lookup.attrs(), lookup.programs()));
    lookup.lost().take(NAMED).for_each(|lost| context.log.say(&format!("lost: {lost}")));
    Ok(())
}
