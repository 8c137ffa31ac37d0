//! A builder's task: it works through its job as the real one does, with virtual time in the place of work.

use std::{sync::Arc, time::Duration};

use binplz_core::{
    build::{
        Lease,
        failure::{Failure, Kind},
        protocol::{
            DependencyBuilt, DependencyRequest, Evaluated, Outcome, Progress, Ready, Report, Stats, Turn, Upload,
        },
        waiting::Planned,
    },
    flow::lease::{
        claim::claim,
        dependencies::dependencies,
        job::{self, Bearer, Denied},
        settle::{settle, stopped},
    },
    id::key::{BuildKey, DrvHash, LeaseId, Product},
    objects::{
        artifact::{Manifest, ObjectName, ObjectPath, Program, Verdict},
        content::Content,
    },
};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    Sabotage,
    objects::Object,
    packages::Nature,
    site::{Process, Site, Weather},
};

/// How long a function of the lease endpoint may take.
const REQUEST: Duration = Duration::from_secs(30);
/// Between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(20);
/// How long a task may take to end after it was told to stop.
const STOPS: Duration = Duration::from_secs(30);

/// A builder.
struct Builder {
    site: Arc<Site>,
    bearer: Bearer,
    lease: Lease,
}

/// Runs the task of a lease to its end, and reports that.
pub(crate) async fn task(site: Arc<Site>, key: BuildKey, lease: Lease) {
    let began = Instant::now();
    let (stop, calm) = {
        let state = site.state();
        (Arc::clone(&state.tasks[&lease.id].stop), state.weather == Weather::Calm)
    };
    let bearer = Bearer { key: key.clone(), lease: lease.id.clone(), token: lease.token.clone() };
    let builder = Builder { site: Arc::clone(&site), bearer, lease };
    // Its image is pulled first; some never start, some late.
    let dice = if calm { 99 } else { site.below(100) };
    let starts = match dice {
        0..2 => Duration::from_secs(120),
        2..5 => Duration::from_secs(300 + site.below(600) as u64),
        _ => Duration::from_secs(20 + site.below(30) as u64),
    };
    // Some die at any time: killed, or interrupted with Spot.
    let dies = match dice {
        10..15 => Duration::from_secs(site.below(400) as u64),
        _ => Duration::from_secs(30 * 86_400),
    };
    let interrupted = async {
        tokio::select! {
            () = stop.notified() => {}
            () = sleep(Duration::from_secs(site.below(600) as u64)), if dice == 16 && !builder.lease.is_on_demand() => {}
        }
    };
    let mut end = Kind::Killed;
    tokio::select! {
        biased;
        () = sleep(dies) => site.note(&key, "its task is killed"),
        () = interrupted => {
            site.note(&key, "its task is told to stop");
            let failure = Failure::new(Kind::Interrupted, "");
            let _ = timeout(STOPS, builder.settle(Outcome::Failed(failure))).await;
        }
        () = sleep(starts), if dice < 2 => {
            site.note(&key, "its task has never started");
            end = Kind::NotStarted;
        }
        () = async { sleep(starts).await; builder.works().await }, if dice >= 2 => {}
    }
    site.state().tasks.remove(&builder.bearer.lease);
    let ran = if end == Kind::NotStarted { Duration::ZERO } else { began.elapsed() };
    ended(&site, &key, &builder.bearer.lease, end, ran).await;
}

/// The launcher reports the end of a task: mostly once, sometimes late, twice or never.
async fn ended(site: &Arc<Site>, key: &BuildKey, lease: &LeaseId, kind: Kind, ran: Duration) {
    site.state().checks.ran(lease, ran);
    if let Some(meter) = &mut site.state().meter {
        meter.ran = (meter.ran.0 + ran, meter.ran.1 + 1);
    }
    let calm = site.state().weather == Weather::Calm;
    let times = match if calm { 99 } else { site.below(100) } {
        0..4 => return site.note(key, "the end of its task is not reported"),
        4..8 => 2,
        _ => 1,
    };
    for _ in 0..times {
        let late = if !calm && site.one_in(20) { site.below(900) as u64 } else { 1 };
        sleep(Duration::from_secs(late)).await;
        // An event whose function fails is delivered twice more.
        for _ in 0..3 {
            let reaper = site.process("reaper");
            let failure = Failure::new(kind, "");
            match reaper.run(REQUEST, stopped(&reaper, key, lease, failure, Some(ran))).await {
                Some(Ok(_)) => break,
                _ => sleep(Duration::from_secs(60)).await,
            }
        }
    }
}

impl Builder {
    /// A request to the lease endpoint, repeated while the lease may last.
    async fn ask<T>(&self, flow: impl AsyncFn(&Process) -> Result<T, Denied>) -> Result<T, Denied> {
        let mut pause = 1;
        let begun = Instant::now();
        loop {
            let process = self.site.process("lease");
            let lost = self.site.state().weather != Weather::Calm && self.site.one_in(300);
            match process.run(REQUEST, flow(&process)).await {
                Some(Err(Denied::Unavailable(_))) | None => {}
                Some(_) if lost => self.site.note(&self.bearer.key, "an answer of the lease endpoint is lost"),
                Some(Err(denied @ (Denied::Token | Denied::Forbidden(_) | Denied::Nonsense(_)))) => {
                    self.site.violated(Some(&self.bearer.key), format_args!("its builder is refused: {denied:?}"));
                    return Err(denied);
                }
                Some(answer) => return answer,
            }
            if begun.elapsed() > self.site.policy.lease * 2 {
                return Err(Denied::NotLive);
            }
            sleep(Duration::from_secs(pause)).await;
            pause = (2 * pause).min(16);
        }
    }

    async fn works(&self) {
        // A partition of the network: heartbeats stop, and the work goes on.
        let silent = self.site.state().weather != Weather::Calm && self.site.one_in(60);
        let heart = async {
            let deaf = Duration::from_secs(if silent { 200 } else { 0 });
            sleep(deaf).await;
            loop {
                sleep(HEARTBEAT).await;
                let progress = Progress::default();
                if self.ask(async |p| job::heartbeat(p, &self.bearer, &progress).await).await.is_err() {
                    return self.site.note(&self.bearer.key, "its builder stops, as its lease is not live");
                }
            }
        };
        tokio::select! {
            biased;
            () = heart => {}
            done = self.work() => drop(done),
        }
    }

    async fn work(&self) -> Result<(), Denied> {
        self.ask(async |p| job::job(p, &self.bearer).await).await?;
        match &self.bearer.key.product {
            Product::Catalogue => self.catalogue().await,
            Product::Package(attr) => {
                let package = self.site.packages.of(attr);
                sleep(self.site.around(Duration::from_secs(6))).await;
                match package {
                    Some(package) => self.package(package).await,
                    // A name that was taken for an attribute.
                    None => self.settle(Outcome::Failed(Failure::new(Kind::NoSuchPackage, ""))).await,
                }
            }
            Product::Bundle { .. } => Ok(()),
        }
    }

    async fn catalogue(&self) -> Result<(), Denied> {
        sleep(self.site.around(Duration::from_secs(300))).await;
        let files = self.site.packages.catalogue(&self.bearer.key.rev, self.bearer.key.system);
        for (name, bytes) in [(ObjectName::Details, files.details), (ObjectName::Lookup, files.lookup)] {
            self.upload(name, Object::of(bytes)).await?;
        }
        self.settle(Outcome::Catalogued).await
    }

    async fn package(&self, package: usize) -> Result<(), Denied> {
        let packages = self.site.packages;
        let nature = packages.nature(package);
        if nature == Nature::Refused {
            return self.settle(Outcome::Failed(Failure::new(Kind::Broken, ""))).await;
        }
        let drv = packages.drv(package, &self.bearer.key.rev);
        let drv_path = format!("/nix/store/{drv}-p{package}-1.drv");
        let needs = packages.dependencies(package);
        let to_build: Vec<_> = needs.iter().map(|(drv, _)| drv.clone()).chain([drv.clone()]).collect();
        let found = Evaluated {
            drv_path: drv_path.clone(),
            to_build,
            to_offer: Vec::new(),
            dry_run: None,
            asks: true,
            declared: Default::default(),
        };
        let turn = self.ask(async |p| claim(p, &self.bearer, found.clone()).await).await?;
        if turn == Turn::Elsewhere {
            return Ok(());
        }
        let mut left = needs;
        if turn == Turn::Ask {
            left.push((drv.clone(), packages.seconds(package)));
        }
        if let Some(end) = self.dependencies(left).await? {
            return self.settle(end).await;
        }
        if turn == Turn::Go {
            sleep(self.site.around(packages.seconds(package))).await;
        }
        let failure = match nature {
            Nature::Fails(kind) => Some(kind),
            Nature::Flaky(kind) if self.site.one_in(3) => Some(kind),
            _ => None,
        };
        if let Some(kind) = failure {
            return self.settle(Outcome::Failed(Failure::new(kind, ""))).await;
        }
        let program = packages.program(&drv);
        let object = Object { content: program.clone(), bytes: None };
        self.upload(ObjectName::Program(format!("p{package}").parse().expect("a name")), object).await?;
        let log = format!("the log of {}", self.bearer.lease).into_bytes();
        self.upload(ObjectName::WholeLog, Object::of(log)).await?;
        self.settle(Outcome::Built(manifest(package, drv_path, program))).await
    }

    /// Builds the dependencies that no other task builds, and waits for those that others have begun lately. Returns an
    /// end of the attempt, if this is one.
    async fn dependencies(&self, mut left: Vec<(DrvHash, Duration)>) -> Result<Option<Outcome>, Denied> {
        let mut built = Vec::new();
        loop {
            let ready =
                left.iter().map(|(drv, _)| Ready { drv: drv.clone(), name: format!("d-{drv}"), missing: false });
            let request = DependencyRequest { ready: ready.collect(), most: 1, built: std::mem::take(&mut built) };
            let turn = self.ask(async |p| dependencies(p, &self.bearer, request.clone()).await).await?;
            if left.is_empty() {
                return Ok(None);
            }
            left.retain(|(drv, _)| !turn.fetch.contains(drv));
            for drv in &turn.build {
                let Some(at) = left.iter().position(|(other, _)| other == drv) else { continue };
                let (drv, time) = left.remove(at);
                sleep(self.site.around(time)).await;
                if self.site.packages.fails(&drv) {
                    let failure = Failure { drv: Some(drv), ..Failure::new(Kind::BuildFailed, "a dependency") };
                    return Ok(Some(Outcome::Failed(failure)));
                }
                built.push(DependencyBuilt { drv, offered: false });
            }
            if built.is_empty() && !left.is_empty() && turn.fetch.is_empty() {
                if !turn.soon {
                    let planned = |(drv, _): &(DrvHash, _)| Planned {
                        drv: drv.clone(),
                        name: format!("d-{drv}"),
                        needs: Vec::new(),
                    };
                    return Ok(Some(Outcome::Waits { plan: left.iter().map(planned).collect(), first: 0 }));
                }
                sleep(Duration::from_secs(10)).await;
            }
        }
    }

    /// Stores an object by a presigned upload.
    async fn upload(&self, name: ObjectName, object: Object) -> Result<(), Denied> {
        let upload = Upload { name, size: object.content.size, sha256: object.content.sha256.clone() };
        let grants = self.ask(async |p| job::uploads(p, &self.bearer, std::slice::from_ref(&upload)).await).await?;
        for grant in grants.iter().filter(|grant| !grant.stored) {
            let path = grant.url.split('?').next().unwrap_or_default().parse::<ObjectPath>().expect("an object");
            sleep(self.site.around(Duration::from_millis(800))).await;
            let mut state = self.site.state();
            if state.sabotage != Some(Sabotage::LosesUploads) {
                state.objects.put(&path, object.clone());
            }
        }
        Ok(())
    }

    async fn settle(&self, outcome: Outcome) -> Result<(), Denied> {
        let stats = Stats { derivations: 1, ..Stats::default() };
        let report = Report { outcome, stats, materials: None };
        self.ask(async |p| settle(p, &self.bearer, report.clone()).await).await
    }
}

fn manifest(package: usize, drv_path: String, Content { sha256, size }: Content) -> Manifest {
    let verdict = Verdict::Static { sha256, size, leftovers: Vec::new(), needs: None, unwrapped: false };
    // Other names of a derivation have the program, too.
    let bin = format!("p{}", if package % 8 == 7 { package - 1 } else { package }).parse().expect("a name");
    Manifest {
        pname: format!("p{package}"),
        version: "1".to_owned(),
        declared: Default::default(),
        drv_path,
        outputs: Vec::new(),
        installed: Vec::new(),
        archive: None,
        bundle: None,
        programs: vec![Program { bin, output: None, verdict }],
    }
}
