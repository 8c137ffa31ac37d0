//! Has Nix build or fetch derivations' outputs, and protects them from garbage collection until the builder ends.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    sync::mpsc::Sender,
    time::Instant,
};

use binplz_core::{
    build::{
        failure::{Failure, Kind},
        protocol::{JobLimits, Stats},
    },
    id::key::OutputName,
};

use crate::{
    canary,
    classify::{self, NixExit},
    closure::Closure,
    context::{BuildContext, Ending, finished},
    drv,
    evaluate::{Outputs, Package},
    machine, measure,
    memory::Gauge,
    nix::Exit,
    offer::Built,
    watch::Watch,
};

/// The realised outputs of a derivation.
pub(crate) struct Realised {
    /// Each output with its store path. Those that Nix installs with the attribute come first.
    pub(crate) outputs: Vec<(OutputName, PathBuf)>,
    /// All store paths that they refer to.
    pub(crate) closure: Closure,
}

/// One run of Nix.
pub(crate) struct Run<'a> {
    /// What it realises.
    pub(crate) drvs: &'a [String],
    /// What is to be built for the package.
    pub(crate) planned: &'a [String],
    /// The package.
    pub(crate) package: &'a Package,
    /// The garbage collector root that protects the outputs.
    pub(crate) root: PathBuf,
    /// Nix's options.
    pub(crate) options: Vec<OsString>,
    /// The limits of the job.
    pub(crate) limits: &'a JobLimits,
    /// Receives a signal for each derivation that is built.
    pub(crate) built: Sender<Built>,
}

/// Realises all outputs of some derivations. Returns what Nix printed.
pub(crate) fn realise(context: &BuildContext, run: Run<'_>, stats: &mut Stats) -> Result<Vec<u8>, Ending> {
    let kills = machine::oom_kills();
    let (before, total) = (stats.derivations.into(), run.planned.len() as u64);
    let watch = Watch::new(&context.progress_channel, &context.log).telling(run.built);
    let watch = watch.with_cache(context.caches.own.as_deref());
    let mut watch =
        if before > 0 || run.drvs != [run.package.drv.as_str()] { watch.counting(before, total) } else { watch };
    let deadline = context.lease.deadline();
    let left = deadline.saturating_duration_since(Instant::now()).as_secs() + 1;
    let mut arguments: Vec<OsString> = vec!["--realise".into()];
    let installable = |drv: &String| if *drv == run.package.drv { run.package.installable() } else { drv.clone() };
    arguments.extend(run.drvs.iter().map(|drv| installable(drv).into()));
    arguments.extend(["--add-root".into(), run.root.into_os_string(), "--indirect".into()]);
    for (name, value) in [
        ("timeout", left),
        ("max-silent-time", run.limits.silent_seconds),
        ("max-build-log-size", run.limits.log_bytes),
    ] {
        arguments.extend(["--option".into(), name.into(), value.to_string().into()]);
    }
    arguments.extend(run.options);
    let gauge = Gauge::start();
    let ran = context.nix.run("nix-store", &arguments, deadline, |line| watch.hear(line));
    let mut evidence = watch.into_evidence();
    stats.derivations += evidence.builds.len() as u32;
    stats.memory = stats.memory.max(gauge.peak());
    measure::report(context, &evidence.timed, &gauge, &ran, stats);
    let ran = ran?;
    let ended = finished(ran.end)?;
    if ended == NixExit::Exit(Exit::Code(0)) {
        return Ok(ran.stdout);
    }
    evidence.planned = run.planned.to_vec();
    evidence.download = classify::failing_build(&evidence).and_then(|trace| drv::is_download(&trace.drv));
    evidence.daemon = context.nix.by_daemon();
    evidence.oom_killed = machine::oom_kills() > kills;
    let store = Path::new(&run.package.drv).parent().unwrap_or(Path::new("/"));
    evidence.disk_full = [store, &std::env::temp_dir()].into_iter().any(machine::disk_full);
    let mut failure = classify::realisation(ended, &evidence, &run.package.drv);
    if failure.kind == Kind::Sandbox && canary::starts(context)? {
        failure.kind = Kind::NoMachine;
    }
    Err(Ending::Failed(failure))
}

/// Nix prints the link of each root, which leads to the output: `ROOT` for the output `out`, `ROOT-NAME` for others.
pub(crate) fn outputs(
    context: &BuildContext,
    described: &Outputs,
    root: &Path,
    printed: &[u8],
) -> Result<Realised, Ending> {
    let root = root.to_string_lossy();
    let printed = String::from_utf8_lossy(printed);
    let mut outputs = Vec::new();
    for link in printed.lines() {
        let name = link.strip_prefix(&*root).map(|rest| rest.strip_prefix('-').unwrap_or("out"));
        let name = name.and_then(|name| name.parse::<OutputName>().ok());
        let path = fs::read_link(link);
        let (Some(name), Ok(path)) = (name, path) else { return Err(Ending::ours(format!("Nix printed {link}"))) };
        outputs.push((name, path));
    }
    let Some(store) = outputs.first().and_then(|(_, path)| path.parent()).map(Path::to_owned) else {
        return Err(Ending::ours("Nix named no output"));
    };
    let first = described.own.as_slice().iter().chain(&described.installed).chain(&described.all);
    outputs.sort_by_key(|(name, _)| first.clone().position(|one| one == name).unwrap_or(usize::MAX));
    let paths = outputs.iter().map(|(_, path)| path.as_os_str());
    let query: Vec<_> = ["-qR".as_ref()].into_iter().chain(paths).collect();
    let closure = context.nix.ask("nix-store", &query)?.map_err(|error| {
        Ending::Failed(Failure::new(Kind::BuilderError, format!("the closure of the outputs is not known: {error}")))
    })?;
    let closure = Closure::new(&store, closure.lines());
    Ok(Realised { outputs, closure })
}
