//! Has Nix build or fetch the derivation's output, and protects it from garbage collection until it was uploaded.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    sync::mpsc::Sender,
    time::Instant,
};

use binplz_core::build::{
    failure::{Failure, Kind},
    protocol::{JobLimits, Phase, Stats},
};

use crate::{
    canary,
    classify::{self, NixExit},
    closure::Closure,
    context::{BuildContext, Ending, finished},
    drv,
    evaluate::Package,
    machine,
    memory::Gauge,
    nix::Exit,
    scratch::Scratch,
    watch::Watch,
};

/// A realised output.
pub(crate) struct Output {
    /// The output's store path.
    pub(crate) path: PathBuf,
    /// All store paths that it refers to.
    pub(crate) closure: Closure,
}

/// Realises the output that contains the programs, by building those derivations as far as Nix needs them. The root that protects it is in `scratch`. `built` receives a signal
/// for each derivation that is built, and is dropped at the end.
pub(crate) fn realise(
    context: &BuildContext,
    package: &Package,
    to_build: &[String],
    limits: &JobLimits,
    scratch: &Scratch,
    built: Sender<()>,
    stats: &mut Stats,
) -> Result<Output, Ending> {
    context.progress_channel.update(|progress| progress.phase = Phase::Building);
    let kills = machine::oom_kills();
    let mut watch = Watch::new(&context.progress_channel, &context.log).telling(built);
    let deadline = context.lease.deadline();
    let left = deadline.saturating_duration_since(Instant::now()).as_secs() + 1;
    let arguments: Vec<OsString> = [
        "--realise".into(),
        format!("{}!{}", package.drv, package.output).into(),
        "--add-root".into(),
        scratch.root().into_os_string(),
        "--indirect".into(),
        "--option".into(),
        "timeout".into(),
        left.to_string().into(),
        "--option".into(),
        "max-silent-time".into(),
        limits.silent_seconds.to_string().into(),
        "--option".into(),
        "max-build-log-size".into(),
        limits.log_bytes.to_string().into(),
    ]
    .into();
    let gauge = Gauge::start();
    let ran = context.nix.run("nix-store", &arguments, deadline, |line| watch.hear(line));
    let mut evidence = watch.into_evidence();
    stats.derivations += evidence.builds.len() as u32;
    stats.memory = gauge.peak();
    let ran = ran?;
    let ended = finished(ran.end)?;
    if ended == NixExit::Exit(Exit::Code(0)) {
        return output(context, &ran.stdout);
    }
    evidence.planned = to_build.to_vec();
    evidence.download = classify::failing_build(&evidence).and_then(|trace| drv::is_download(&trace.drv));
    evidence.daemon = context.nix.by_daemon();
    evidence.oom_killed = machine::oom_kills() > kills;
    let store = Path::new(&package.drv).parent().unwrap_or(Path::new("/"));
    evidence.disk_full = [store, &std::env::temp_dir()].into_iter().any(machine::disk_full);
    let mut failure = classify::realisation(ended, &evidence, &package.drv);
    if failure.kind == Kind::Sandbox && canary::starts(context)? {
        failure.kind = Kind::NoMachine;
    }
    Err(Ending::Failed(failure))
}

/// Nix prints the root's link, which leads to the output.
fn output(context: &BuildContext, stdout: &[u8]) -> Result<Output, Ending> {
    let printed = String::from_utf8_lossy(stdout);
    let link = printed.lines().next_back().unwrap_or_default();
    let path = fs::read_link(link).map_err(|error| Ending::ours(format!("Nix named no output ({link}): {error}")))?;
    let Some(store) = path.parent() else { return Err(Ending::ours("an output is outside the Nix store")) };
    let query = ["-qR".as_ref(), path.as_os_str()];
    let closure = context.nix.ask("nix-store", &query)?.map_err(|error| {
        Ending::Failed(Failure::new(Kind::BuilderError, format!("the output's closure is not known: {error}")))
    })?;
    let closure = Closure::new(store, closure.lines());
    Ok(Output { closure, path })
}
