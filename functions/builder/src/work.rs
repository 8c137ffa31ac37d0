//! The work from the job to the report.

use std::{
    io::{Write, stderr},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc},
    thread,
};

use binplz_core::{
    build::{
        failure::{Failure, Kind},
        plan::DryRun,
        protocol::{Cache, Evaluated, Job, Nixpkgs, Outcome, Phase, Report, Stats, TO_BUILD_MAX, Turn},
    },
    id::key::{Attr, DrvHash, Product, Token},
    objects::{
        artifact::{Manifest, Verdict},
        materials::Materials,
    },
};

use crate::{
    archive, bundle,
    caches::Caches,
    catalogue::work::catalogue,
    context::{BuildContext, Ending},
    evaluate::{Package, evaluate},
    hand_over::hand_over,
    heartbeat,
    lease::{CallError, Lease},
    log::{self, Log},
    materials,
    nix::Nix,
    offer, plan,
    programs::{self, failure_of},
    progress_channel::ProgressChannel,
    realise::Realised,
    rounds::{Rounds, Task},
    scratch::Scratch,
    settings,
    stop::{Stop, Why},
};

/// How the work ended.
pub(crate) enum Done {
    /// The endpoint knows the outcome.
    Settled,
    /// The lease was lost.
    Lost,
}

/// Does the whole job. `Err` is a failure of the builder that could not be settled.
pub(crate) fn run(lease: Arc<Lease>, token: &Token, stop: Arc<Stop>) -> Result<Done, String> {
    let job = match lease.job() {
        Ok(job) => job,
        Err(CallError::Stopped) => return interrupted_early(&lease, &stop),
        Err(error) => return Err(error.to_string()),
    };
    let progress_channel = Arc::new(ProgressChannel::default());
    let log = Arc::new(Log::new(job.limits.log_bytes, token));
    let shipping = {
        let (lease, progress_channel, log) = (Arc::clone(&lease), Arc::clone(&progress_channel), Arc::clone(&log));
        thread::spawn(move || log::ship(&log, &lease, &progress_channel))
    };
    {
        let (lease, progress_channel, stop) = (Arc::clone(&lease), Arc::clone(&progress_channel), Arc::clone(&stop));
        thread::spawn(move || heartbeat::run(&lease, &progress_channel, &stop, job.lease_seconds));
    }
    let (nix, caches) = nix_for(&job, &log, &stop);
    let context = BuildContext { lease: Arc::clone(&lease), progress_channel, log, caches, nix };

    let (mut stats, mut materials) = (Stats::default(), None);
    let made = catch_unwind(AssertUnwindSafe(|| make(&context, &job, &mut stats, &mut materials)));
    let outcome = match made.unwrap_or_else(|_| Err(Ending::ours("it panicked"))) {
        Ok(Some(outcome)) => outcome,
        // The lease is lost: nothing more can be reported.
        Ok(None) => return Ok(Done::Settled),
        Err(Ending::Failed(failure)) => Outcome::Failed(failure),
        Err(Ending::Stopped) if stop.lease_lost() => return Ok(Done::Lost),
        Err(Ending::Stopped) => Outcome::Failed(Failure::new(Kind::Interrupted, "")),
    };
    if let Some(fetched) = context.progress_channel.now().fetched_from() {
        context.log.say(&fetched);
    }
    context.log.say(&sentence(&outcome));
    context.log.close();
    let (segments, trouble) = shipping.join().unwrap_or((0, None));
    if let Some(trouble) = trouble {
        // A build is valid without its log.
        let _ = writeln!(stderr(), "binplz-builder: {trouble}");
    }
    stats.log_segments = segments;
    let settled = lease.settle(&Report { outcome, stats, materials });
    context.progress_channel.close();
    match settled {
        Ok(()) => Ok(Done::Settled),
        Err(_) if stop.lease_lost() => Ok(Done::Lost),
        Err(error) => Err(format!("the build could not be settled: {error}")),
    }
}

/// Nix with the settings of a job, and the caches that it reads.
fn nix_for(job: &Job, log: &Log, stop: &Arc<Stop>) -> (Nix, Caches) {
    let mut nix = Nix::new(std::env::vars_os(), Arc::clone(stop));
    if !settings::mention("sandbox-fallback", |name| nix.variable(name)) {
        nix.set_option("sandbox-fallback", "false");
    }
    let mut caches = Caches::prepare(&mut nix, log);
    caches.own = job.cache.as_ref().map(|cache| cache.url.clone());
    if let Some(Cache { url, public_key: Some(key) }) = &job.cache {
        nix.set_option("extra-substituters", url);
        nix.set_option("extra-trusted-public-keys", key);
    }
    (nix, caches)
}

/// What Nix would do for a job's package, without a lease: only evaluates, and writes derivations to this machine's store.
pub(crate) fn dry_run(job: &Job) -> Result<DryRun, Ending> {
    let Some(attr) = job.key.product.attr() else { return Err(Ending::ours("a catalogue has no plan")) };
    let (stop, token) = (Arc::new(Stop::default()), "0".repeat(64).parse::<Token>().map_err(Ending::ours)?);
    let log = Arc::new(Log::new(job.limits.log_bytes, &token));
    let (nix, caches) = nix_for(job, &log, &stop);
    let context = BuildContext {
        lease: Arc::new(Lease::without_endpoint(token.clone(), Arc::clone(&stop), job.limits.seconds)),
        progress_channel: Arc::new(ProgressChannel::default()),
        nix,
        log,
        caches,
    };
    let package = evaluate(&context, job, attr)?;
    Ok(plan::first(&context, &package)?.dry_run())
}

/// Makes the job's product; `None` if another build does it, which the endpoint knows.
fn make(
    context: &BuildContext,
    job: &Job,
    stats: &mut Stats,
    materials: &mut Option<Materials>,
) -> Result<Option<Outcome>, Ending> {
    let name = match &job.key.product {
        Product::Package(attr) => attr.to_string(),
        Product::Bundle { attr, full: false } => format!("bundle of {attr}"),
        Product::Bundle { attr, full: true } => format!("bundle of {attr} with all files"),
        Product::Catalogue => "the catalogue".to_owned(),
    };
    context.log.say(&format!("{name} for {}", job.key.system));
    context.log.say(&match &job.nixpkgs {
        Nixpkgs::Path(path) => format!("nixpkgs: {path}"),
        Nixpkgs::Tarball { url, .. } => format!("nixpkgs: {url}"),
    });
    match &job.key.product {
        Product::Package(attr) | Product::Bundle { attr, .. } => build(context, job, attr, stats, materials),
        Product::Catalogue => catalogue(context, job).map(|()| Some(Outcome::Catalogued)),
    }
}

/// From a package's name to its manifest, unless another build has its derivation, or its dependencies.
fn build(
    context: &BuildContext,
    job: &Job,
    attr: &Attr,
    stats: &mut Stats,
    materials: &mut Option<Materials>,
) -> Result<Option<Outcome>, Ending> {
    let launcher = bundle::launcher(&job.key)?;
    let package = evaluate(context, job, attr)?;
    context.log.say(&format!("derivation: {}, by Nix {}", package.drv, package.nix));

    let planned = plan::first(context, &package)?;
    let dry_run = planned.dry_run();
    let to_build = planned.to_build;
    let needed = offer::needed_by_others(&to_build, &package.drv);
    let to_offer: Vec<_> = match &job.cache {
        Some(_) => needed.iter().cloned().chain(offer::paths_of(&package.drv)).collect(),
        None => Vec::new(),
    };
    let found = Evaluated {
        drv_path: package.drv.clone(),
        to_build: to_build.iter().filter_map(|drv| DrvHash::of_path(drv).ok()).take(TO_BUILD_MAX).collect(),
        to_offer: to_offer.iter().map(|made| made.path.hash.clone()).collect(),
        dry_run: Some(dry_run),
        asks: true,
        declared: package.declared(),
    };
    let turn = context.lease.claim(&found)?;
    if turn == Turn::Elsewhere {
        return Ok(None);
    }

    let scratch = Scratch::new()?;
    let (built, more) = mpsc::channel();
    let (to_offer, scratch) = (&to_offer, &scratch);
    thread::scope(|scope| {
        let offering = scope.spawn(move || offer::offer(context, job, to_offer, scratch, more));
        let task = Task { context, job, package: &package, scratch, built };
        let made = task.run(to_build, turn, stats);
        drop(task);
        let made = made.and_then(|rounds| match rounds {
            Rounds::Made(outputs) => {
                let bundled: Vec<_> = launcher.iter().flat_map(|_| outputs.closure.paths()).collect();
                *materials = materials::of(context, &package, &bundled);
                match &launcher {
                    Some(launcher) => bundle::of(context, job, package, &outputs, launcher, scratch),
                    None => programs_of(context, job, attr, package, &outputs, scratch),
                }
                .map(Outcome::Built)
            }
            Rounds::Waits(outcome) => Ok(outcome),
        });
        // Dependencies were built even if the package was not.
        stats.offers = offering.join().unwrap_or(0);
        if made.is_err() {
            stats.built = offer::built(context, &needed);
        }
        made.map(Some)
    })
}

/// From a realised package to its programs in the store.
fn programs_of(
    context: &BuildContext,
    job: &Job,
    attr: &Attr,
    package: Package,
    outputs: &Realised,
    scratch: &Scratch,
) -> Result<Manifest, Ending> {
    context.progress_channel.update(|progress| (progress.phase, progress.step) = (Phase::Inspecting, None));
    let main: Vec<&str> =
        package.main_program.iter().map(String::as_str).chain([attr.leaf(), &package.pname]).collect();
    let found = programs::inspect(outputs, job.key.system, &job.limits, &main)?;
    if let Some(failure) = failure_of(&found) {
        return Err(Ending::Failed(failure));
    }
    let (top, file) = (archive::top(&package.pname, &package.version), scratch.archive());
    let installed = &package.outputs.installed;
    let archive = archive::pack(&top, outputs, installed, &found, job.limits.package_bytes, &file)?;
    hand_over(context, package, found, archive.map(|content| (content, file)))
}

/// The log's last line.
fn sentence(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Catalogued => "made".to_owned(),
        Outcome::Waits { .. } => "ended without using an attempt".to_owned(),
        Outcome::Failed(failure) => match &failure.derivation {
            Some(derivation) => format!("failed in {derivation}: {}", failure.sentence()),
            None => format!("failed: {}", failure.sentence()),
        },
        Outcome::Built(manifest) => {
            let names = |served: bool| {
                let served = move |verdict: &Verdict| matches!(verdict, Verdict::Static { .. }) == served;
                let programs = manifest.programs.iter().filter(move |program| served(&program.verdict));
                programs.map(|program| program.bin.to_string()).collect::<Vec<_>>().join(" ")
            };
            let (served, refused) = (names(true), names(false));
            if refused.is_empty() {
                format!("built: {served}")
            } else {
                format!("built: {served}; not static: {refused}")
            }
        }
    }
}

/// The stop came before the job was known: nothing else can be reported.
fn interrupted_early(lease: &Lease, stop: &Stop) -> Result<Done, String> {
    if !matches!(stop.why(), Some((Why::Interrupted, _))) {
        return Ok(Done::Lost);
    }
    let outcome = Outcome::Failed(Failure::new(Kind::Interrupted, ""));
    match lease.settle(&Report { outcome, stats: Stats::default(), materials: None }) {
        Ok(()) => Ok(Done::Settled),
        Err(_) if stop.lease_lost() => Ok(Done::Lost),
        Err(error) => Err(error.to_string()),
    }
}
