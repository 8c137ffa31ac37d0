//! Builds what a package needs in rounds (single-flight for dependencies): of the derivations that can be built now, the
//! endpoint says which are this task's. Others are fetched when another task has offered them. If other tasks build all
//! that this one could build, it waits for a short time, and then ends: its build waits without a task.
//!
//! A plan without dependencies, other than downloads, is one run of Nix and no request.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    sync::mpsc::Sender,
    time::{Duration, Instant},
};

use binplz_core::{
    build::{
        learned::CHEAP,
        protocol::{
            Cache, DependencyBuilt, DependencyRequest, DependencyTurn, Job, Outcome, Phase, Ready, Stats, Turn,
        },
    },
    id::key::DrvHash,
};

use crate::{
    context::{BuildContext, Ending},
    evaluate::Package,
    offer::Built,
    plan::{self, Graph},
    realise::{self, Realised},
    scratch::Scratch,
    settings,
};

/// The longest time that a task spends with waiting.
const PATIENCE: Duration = Duration::from_secs(45);
/// The first pause before it asks again; it doubles each time (backoff).
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause.
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// How the rounds ended.
pub(crate) enum Rounds {
    /// The package is built.
    Made(Realised),
    /// Its build waits for what other tasks build.
    Waits(Outcome),
}

/// The state of the rounds of one task.
pub(crate) struct Task<'a> {
    pub(crate) context: &'a BuildContext,
    pub(crate) job: &'a Job,
    pub(crate) package: &'a Package,
    pub(crate) scratch: &'a Scratch,
    /// Receives what is built, to offer it to other builds.
    pub(crate) built: Sender<Built>,
}

impl Task<'_> {
    /// Builds the package.
    pub(crate) fn run(&self, to_build: Vec<String>, turn: Turn, stats: &mut Stats) -> Result<Rounds, Ending> {
        self.context.progress_channel.update(|progress| progress.phase = Phase::Building);
        let mut graph = Graph::new(&to_build, &self.package.drv);
        if turn == Turn::Go && !graph.has_dependencies() {
            return self.finish(&to_build, None, stats);
        }
        let most = settings::max_jobs(|name| self.context.nix.variable(name));
        let shares = self.job.cache.is_some();
        let (mut planned, mut built, mut missing) = (to_build, Vec::new(), BTreeSet::new());
        let (mut waited, mut pause) = (Duration::ZERO, FIRST_PAUSE);
        loop {
            let own = !graph.has_dependencies();
            let ready = match own && turn == Turn::Go {
                // It is claimed already.
                true => Vec::new(),
                false => graph.ready().map(|(hash, name)| ready(hash, name, &missing)).collect(),
            };
            if own && ready.is_empty() && built.is_empty() && !shares {
                return self.finish(&planned, None, stats);
            }
            let request = DependencyRequest { most, built: std::mem::take(&mut built), ready };
            let answer = self.context.lease.dependencies(&request)?;
            let cache = answer.cache.as_ref();
            if own && (request.ready.is_empty() || !answer.build.is_empty()) {
                return self.finish(&planned, Some(&answer), stats);
            }
            if !answer.build.is_empty() {
                let drvs = graph.paths(&answer.build);
                self.build(&drvs, &planned, cache, stats)?;
                let made = |drv: &DrvHash| DependencyBuilt { drv: drv.clone(), offered: false };
                built.extend(answer.build.iter().filter(|_| !shares).map(made));
                graph.made(&answer.build);
            }
            if !answer.fetch.is_empty() {
                planned = plan::foresee(self.context, self.package, &fresh(cache))?.to_build;
                graph = Graph::new(&planned, &self.package.drv);
                missing.extend(answer.fetch.iter().filter(|drv| graph.has(drv)).cloned());
            }
            if answer.build.is_empty() && answer.fetch.is_empty() {
                if !answer.soon || waited >= PATIENCE {
                    return Ok(Rounds::Waits(self.waits(&graph, &answer)?));
                }
                let step = graph.name(&answer.held).map(|name| format!("waits for {name}"));
                self.context.progress_channel.update(|progress| progress.step = step);
                let since = Instant::now();
                self.context.nix.stop().pause(pause, |_| true);
                if self.context.nix.stop().why().is_some() {
                    return Err(Ending::Stopped);
                }
                waited += since.elapsed();
                stats.waited = u32::try_from(waited.as_secs()).unwrap_or(u32::MAX);
                pause = (pause * 2).min(LAST_PAUSE);
            } else {
                pause = FIRST_PAUSE;
            }
        }
    }

    /// Builds dependencies, which the endpoint has given to this task.
    fn build(
        &self,
        drvs: &[String],
        planned: &[String],
        cache: Option<&Cache>,
        stats: &mut Stats,
    ) -> Result<(), Ending> {
        // Fails when nothing is offered, which does not matter.
        let _ = self.built.send(Built::Ours(drvs.to_vec()));
        let made = self.realise(drvs, planned, cache, stats);
        let _ = self.built.send(Built::Done);
        made.map(drop)
    }

    /// Builds the package itself, and what of its plan is left. It is offered if other builds need it; of one that takes
    /// little time, and is not part of several rounds, that is not asked.
    fn finish(&self, planned: &[String], answer: Option<&DependencyTurn>, stats: &mut Stats) -> Result<Rounds, Ending> {
        let since = Instant::now();
        let own = std::slice::from_ref(&self.package.drv);
        let cache = answer.and_then(|answer| answer.cache.as_ref());
        let printed = self.realise(own, planned, cache, stats)?;
        let asks = self.job.cache.is_some() && (answer.is_some() || since.elapsed() > CHEAP);
        if asks && self.context.lease.dependencies(&DependencyRequest::default()).is_ok_and(|answer| answer.wanted) {
            let _ = self.built.send(Built::Ours(own.to_vec()));
            let _ = self.built.send(Built::Done);
        }
        realise::outputs(self.context, &self.package.outputs, &self.scratch.root(), &printed).map(Rounds::Made)
    }

    fn realise(
        &self,
        drvs: &[String],
        planned: &[String],
        cache: Option<&Cache>,
        stats: &mut Stats,
    ) -> Result<Vec<u8>, Ending> {
        let run = realise::Run {
            drvs,
            planned,
            package: self.package,
            root: if *drvs == [self.package.drv.clone()] { self.scratch.root() } else { self.scratch.next_root() },
            options: fresh(cache),
            limits: &self.job.limits,
            built: self.built.clone(),
        };
        realise::realise(self.context, run, stats)
    }

    /// The end of a task that could only wait.
    fn waits(&self, graph: &Graph, answer: &DependencyTurn) -> Result<Outcome, Ending> {
        let first = answer.held.first().ok_or_else(|| Ending::ours("no derivation is left to wait for"))?;
        let (plan, first) = graph.plan(first, &answer.held);
        let name = plan.get(first).map_or("", |planned| planned.name.as_str());
        self.context.log.say(&format!("waits for {name}, which another build builds; this task ends"));
        Ok(Outcome::Waits { plan, first })
    }
}

fn ready(hash: &DrvHash, name: &str, missing: &BTreeSet<DrvHash>) -> Ready {
    Ready { drv: hash.clone(), name: name.to_owned(), missing: missing.contains(hash) }
}

/// Options with which Nix asks its caches again for what they did not have before.
fn fresh(cache: Option<&Cache>) -> Vec<OsString> {
    let mut options = vec!["--option", "narinfo-cache-negative-ttl", "0"];
    if let Some(Cache { url, public_key: Some(key) }) = cache {
        options.extend(["--option", "extra-substituters", url, "--option", "extra-trusted-public-keys", key]);
    }
    options.into_iter().map(OsString::from).collect()
}
