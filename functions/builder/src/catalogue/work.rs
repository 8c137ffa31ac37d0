//! The catalogue as a lease's work.

use std::{fs, num::NonZeroUsize, thread, time::Duration};

use binplz_catalogue::Lookup;
use binplz_core::{
    build::protocol::{Job, Looked, Phase, Upload},
    id::key::Attr,
    objects::artifact::{Manifest, ObjectName},
};
use rustix::process::nice;

use crate::{
    catalogue::{DATABASE, ENTER, Recipe, make, survey::Plan, worker::Limits},
    context::{BuildContext, Ending},
    lease::{Body, CallPriority},
    log::sha256,
    machine, nixpkgs, version,
};

/// Attributes for each process.
const SHARD: usize = 500;
/// Attributes that throw, and are asked for what they say.
const EXPLAIN: usize = 3000;
/// Most attributes of a set that is still a set of packages.
const MOST: usize = 1_000_000;
/// Most lost attributes that the log names.
const NAMED: usize = 1000;
/// How much more than others this gives way: builds, for which people wait, may run on the same machine.
const NICE: i32 = 10;

/// As many processes as there are processors, if there is memory for that: what the kernel ends for want of it counts as lost.
fn jobs(memory: u64) -> usize {
    let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let fitting = machine::memory().map_or(1, |all| usize::try_from(all / memory.max(1)).unwrap_or(usize::MAX));
    fitting.clamp(1, processors)
}

/// What was built before, of whatever nixpkgs. Its programs are known, and all others as far as somebody has written them down.
fn built(context: &BuildContext) -> Result<Vec<(Attr, Manifest)>, Ending> {
    let (mut built, mut looked) = (Vec::new(), Some(Looked::default()));
    while let Some(seen) = looked {
        let answer = context.lease.built(seen)?;
        built.extend(answer.packages);
        looked = answer.next;
    }
    context.log.say(&format!("programs: of {} packages that were built", built.len()));
    Ok(built)
}

/// Makes the catalogue, and stores its files.
pub(crate) fn catalogue(context: &BuildContext, job: &Job) -> Result<(), Ending> {
    // Of this thread, and of those and the processes that it starts; the pulse is another.
    nice(NICE).map_err(std::io::Error::from)?;
    context.progress_channel.update(|progress| progress.phase = Phase::Evaluating);
    version::ask(&context.nix)?;
    let nixpkgs = nixpkgs::directory(context, &job.nixpkgs)?;
    let database = nixpkgs.join(DATABASE);
    let recipe = Recipe {
        nixpkgs: nixpkgs.to_str().ok_or_else(|| Ending::ours("the nixpkgs has a path that is no text"))?.to_owned(),
        rev: job.key.rev.clone(),
        systems: vec![job.key.system],
        enter: ENTER.iter().filter_map(|attr| attr.parse().ok()).collect(),
        plan: Plan { jobs: jobs(job.limits.attribute_bytes), shard: SHARD, explain: EXPLAIN, most: MOST },
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
    let files = make(&recipe, &context.nix, &|said| context.log.say(said), &mut count)?;

    context.progress_channel.update(|progress| (progress.phase, progress.step) = (Phase::Uploading, None));
    for (name, bytes) in [(ObjectName::Details, &files.details), (ObjectName::Lookup, &files.lookup)] {
        let upload = Upload { name, size: bytes.len() as u64, sha256: sha256(bytes) };
        context.lease.store(CallPriority::Work, &upload, Body::Bytes(bytes))?;
    }
    let lookup = Lookup::open(files.lookup).map_err(Ending::ours)?;
    let lost = lookup.lost().count();
    context.log.say(&format!("{} attributes, {} names of programs; {lost} lost", lookup.attrs(), lookup.programs()));
    lookup.lost().take(NAMED).for_each(|lost| context.log.say(&format!("lost: {lost}")));
    Ok(())
}
