//! The processes: each runs flows of `core` as the programs of a deployment do.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use binplz_core::{
    build::{
        failure::{Failure, Kind as Why},
        protocol::{
            DependencyBuilt, DependencyRequest, DependencyTurn, Evaluated, Nixpkgs, Outcome, Progress, Ready, Report,
            Stats, Turn, Upload,
        },
        waiting::Planned,
    },
    flow::{
        lease::{
            claim::claim,
            dependencies::dependencies,
            job::{Bearer, Denied, heartbeat, job, uploads},
            settle::{settle, stopped},
        },
        operator::{gc::gc, pins, stop},
        request::{denial::Denial, outcome::RequestOutcome, program::request},
        schedule::{dispatch::dispatch, promote::promote, sweep::sweep},
    },
    id::key::{BuildKey, DrvHash, LeaseId, Sha256},
    nixpkgs::pins::Change,
    objects::{
        artifact::{AttemptPrefix, Declared, Manifest, ObjectName, Program, Verdict},
        content::Content,
        narinfo::{Narinfo, StoreDir},
        stored::Method,
    },
    ports::Unavailable,
    quota::client::Asker,
};

use crate::{
    call::Call,
    port::{Port, token},
    scenario::{Order, RAN, attr, key, letter, pin, rev, target},
};

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Client(&'static str),
    Dispatcher(u32),
    Sweep(u32),
    Collector(u32),
    Operator(u32, Vec<Order>),
    /// The builder of a lease.
    Task(BuildKey, LeaseId),
    /// What handles the launcher's word that a task has ended.
    Reaper(BuildKey, LeaseId),
    Promoter(AttemptPrefix, u32),
    /// A heartbeat of the builder of a lease.
    Heartbeat(BuildKey, LeaseId),
}

/// How a process has ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum End {
    Nothing,
    /// A client is redirected to that object, of that revision, which must have this content.
    Hit {
        place: String,
        rev: String,
        sha256: Sha256,
    },
    Pending,
    Withheld,
    Denied,
}

/// The running flow of a process.
pub(crate) type Running = Pin<Box<dyn Future<Output = End> + Send>>;

/// Starts a process.
pub(crate) fn run(kind: &Kind, port: Arc<Port>) -> Running {
    match kind.clone() {
        Kind::Client(path) => Box::pin(async move { client(&port, path).await }),
        Kind::Dispatcher(_) => over(async move { drop(dispatch(&*port).await) }),
        Kind::Sweep(_) => over(async move { drop(sweep(&*port).await) }),
        Kind::Collector(_) => over(async move { drop(gc(&*port, false).await) }),
        Kind::Operator(_, orders) => over(async move {
            for order in &orders {
                // An operator repeats what has failed.
                if obey(&port, order).await.is_err() {
                    drop(obey(&port, order).await);
                }
            }
        }),
        Kind::Task(key, lease) => over(async move { drop(task(&port, key, lease).await) }),
        Kind::Reaper(key, lease) => over(async move {
            drop(stopped(&*port, &key, &lease, Failure::new(Why::Killed, ""), Some(RAN)).await);
        }),
        Kind::Heartbeat(key, lease) => over(async move {
            let token = token(lease.as_str());
            drop(heartbeat(&*port, &Bearer { key, lease, token }, &Progress::default()).await);
        }),
        Kind::Promoter(prefix, _) => over(async move { drop(promote(&*port, &*port, &prefix).await) }),
    }
}

fn over(future: impl Future<Output = ()> + Send + 'static) -> Running {
    Box::pin(async move {
        future.await;
        End::Nothing
    })
}

async fn client(port: &Port, path: &str) -> End {
    match request(port, &target(path), Method::Get, Some(&Asker::default())).await {
        RequestOutcome::Hit { served, at } => {
            End::Hit { place: at.url().to_owned(), rev: served.rev.to_string(), sha256: served.sha256 }
        }
        RequestOutcome::Pending(_) => End::Pending,
        RequestOutcome::Denied(Denial::Withheld(..)) => End::Withheld,
        RequestOutcome::Denied(_) | RequestOutcome::Unbuilt { .. } => End::Denied,
    }
}

async fn obey(port: &Port, order: &Order) -> Result<(), Unavailable> {
    let change = async |change| match pins::change(port, &change).await {
        Err(pins::NotChanged::Unavailable(error)) => Err(error),
        Ok(_) | Err(pins::NotChanged::Refused(_)) => Ok(()),
    };
    match order {
        Order::Move(digit) => {
            change(Change::Move(pin(), rev(*digit), Nixpkgs::Path("/set".to_owned()).into(), None)).await
        }
        Order::Keep(seconds) => change(Change::Keep(pin(), Duration::from_secs(*seconds))).await,
        Order::Withhold(name) => change(Change::Withhold(attr(name), "because".to_owned())).await,
        Order::Cancel(name) => {
            let pins = pins::load(port).await?;
            let now = &pins.all()[&pin()].rev;
            match stop::cancel(port, &key(name, now)).await {
                Err(binplz_core::flow::AdvanceError::Unavailable(error)) => Err(error),
                _ => Ok(()),
            }
        }
        Order::Pause => stop::pause(port, false).await,
        Order::Resume => stop::resume(port).await,
    }
}

/// How often a builder repeats a request that has no reply.
const TRIES: u32 = 3;

/// A builder's request, repeated as it does.
async fn again<T, F: Future<Output = Result<T, Denied>>>(request: impl Fn() -> F) -> Result<T, Denied> {
    let mut tries = 1;
    loop {
        match request().await {
            Err(Denied::Unavailable(_)) if tries < TRIES => tries += 1,
            answer => return answer,
        }
    }
}

/// The builder of a lease, with evaluation, build and inspection left out.
async fn task(port: &Port, key: BuildKey, lease: LeaseId) -> Result<(), Denied> {
    let token = token(lease.as_str());
    let bearer = &Bearer { key, lease, token };
    let setup = port.setup();
    let own = setup.derivation(&bearer.key.product);
    let drv_path = format!("/nix/store/{own}-x.drv");
    again(|| job(port, bearer)).await?;
    let found = Evaluated {
        drv_path: drv_path.clone(),
        to_build: Vec::new(),
        asks: true,
        to_offer: if setup.cache { vec![hash('1')] } else { Vec::new() },
        dry_run: None,
        declared: Declared::default(),
    };
    if again(|| claim(port, bearer, found.clone())).await? == Turn::Elsewhere {
        return Ok(());
    }
    if setup.scenario.dependency && !dependency(port, bearer).await? {
        return Ok(());
    }
    port.ask(Call::Build(own, bearer.lease.clone())).await;
    let mut stats = Stats { derivations: 1, ..Stats::default() };
    if setup.cache {
        offer(port, bearer).await?;
        stats.offers = 2;
    }
    let manifest = store(port, bearer, drv_path).await?;
    let report = Report { outcome: Outcome::Built(manifest), stats, materials: None };
    again(|| settle(port, bearer, report.clone())).await
}

/// The one dependency.
pub(crate) fn needed() -> DrvHash {
    String::from_iter(['n'; 32]).parse().expect("base 32")
}

/// Sees to the dependency; false: its build waits for it.
async fn dependency(port: &Port, bearer: &Bearer) -> Result<bool, Denied> {
    let ask = |request: DependencyRequest| async move { dependencies(port, bearer, request).await };
    let ready = Ready { drv: needed(), name: "needed-1".to_owned(), missing: false };
    let request = DependencyRequest { ready: vec![ready], most: 1, built: Vec::new() };
    let DependencyTurn { build, fetch, .. } = again(|| ask(request.clone())).await?;
    if !build.is_empty() {
        port.ask(Call::Build(needed(), bearer.lease.clone())).await;
        let built = vec![DependencyBuilt { drv: needed(), offered: false }];
        let request = DependencyRequest { built, ..DependencyRequest::default() };
        again(|| ask(request.clone())).await?;
    } else if fetch.is_empty() {
        let plan = vec![Planned { drv: needed(), name: "needed-1".to_owned(), needs: Vec::new() }];
        let report = Report { outcome: Outcome::Waits { plan, first: 0 }, stats: Stats::default(), materials: None };
        again(|| settle(port, bearer, report.clone())).await?;
        return Ok(false);
    }
    Ok(true)
}

/// A store path's hash: this digit.
pub(crate) fn hash(digit: char) -> binplz_core::id::key::StoreHash {
    String::from_iter([digit; 32]).parse().expect("base 32")
}

/// What a packed file holds, in this world.
pub(crate) fn unpacked(packed: &[u8]) -> Vec<u8> {
    [b"what is in ", packed].concat()
}

/// Offers a path that was planned, and one that was not.
async fn offer(port: &Port, bearer: &Bearer) -> Result<(), Denied> {
    for digit in ['1', '2'] {
        let path = hash(digit);
        let file = path.to_string().into_bytes();
        let (packed, nar) = (Content::of(&file), Content::of(&unpacked(&file)));
        let name = format!("{path}-dep").parse().expect("a name");
        let narinfo = Narinfo { path: name, packed: packed.clone(), nar, references: Vec::new(), deriver: None };
        let text = narinfo.text(&StoreDir::default());
        let (nar, narinfo) = (ObjectName::Nar(packed.sha256), ObjectName::Narinfo(path));
        for (name, bytes) in [(nar, file), (narinfo, text.into_bytes())] {
            let upload = Upload { name: name.clone(), size: bytes.len() as u64, sha256: Sha256::of(&bytes) };
            again(|| uploads(port, bearer, std::slice::from_ref(&upload))).await?;
            again(|| async { Ok(port.put(&bearer.prefix().object(name.clone()), bytes.clone()).await?) }).await?;
        }
    }
    Ok(())
}

/// Stores a program, and returns the manifest that lists it.
async fn store(port: &Port, bearer: &Bearer, drv_path: String) -> Result<Manifest, Denied> {
    let bytes = format!("\x7fELF {drv_path}").into_bytes();
    let bin = letter(&bearer.key.product).to_string();
    let (sha256, size) = (Sha256::of(&bytes), bytes.len() as u64);
    let bin: binplz_core::id::key::Bin = bin.parse().expect("a name");
    let upload = Upload { name: ObjectName::Program(bin.clone()), size, sha256: sha256.clone() };
    let grants = again(|| uploads(port, bearer, std::slice::from_ref(&upload))).await?;
    if !grants[0].stored {
        let path = grants[0].url.parse().expect("a path");
        again(|| async { Ok(port.put(&path, bytes.clone()).await?) }).await?;
    }
    let verdict = Verdict::Static { sha256, size, leftovers: Vec::new(), needs: None, unwrapped: false };
    Ok(Manifest {
        pname: bin.to_string(),
        version: "1".to_owned(),
        declared: Declared::default(),
        drv_path,
        outputs: Vec::new(),
        installed: Vec::new(),
        archive: None,
        bundle: None,
        programs: vec![Program { bin, output: None, verdict }],
    })
}
