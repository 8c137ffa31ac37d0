//! Somebody asks for a program.

use crate::{
    artifact::{Main, Manifest, ObjectName, ObjectPath, Program, Verdict},
    build::{Build, Event, State},
    flow::{Halt, advance, load_build, load_limits, pins, ring, status},
    key::LeaseId,
    news::About,
    pins::Resolved,
    ports::{Deployment, Ledger, Method, NotCommitted, Read, Row, RowKey, Store, Swap, Unavailable, Version},
    reply::{Problem, Reply},
    served::{Served, ServedKey},
    target::{PinRef, Target, Wanted},
};

/// Answers a request for `target`. `may_start`: the request is one that a person meant (contract §2), so that a miss may start a
/// build.
pub async fn request<D: Deployment>(d: &D, target: &Target, method: Method, may_start: bool) -> Reply {
    answer(d, target, method, may_start).await.unwrap_or_else(|error| {
        d.note(About::Service, "a request was not answered", &error);
        Reply::Problem(Problem::down())
    })
}

async fn answer<D: Deployment>(d: &D, target: &Target, method: Method, may_start: bool) -> Result<Reply, Unavailable> {
    let mut old = None;
    // The one read of a hit. Where it shows none it may be late, and the row is read again.
    for read in [Read::Eventual, Read::Consistent] {
        old = match load_served(d, target, read).await? {
            Some((served, _)) if !served.stale && served.is_of(target.pin.as_ref()) => {
                return hit(d, served, method).await;
            }
            old => old,
        };
    }
    let resolved = match pins::load(d).await?.resolve(target, d.system()) {
        Ok(resolved) => resolved,
        Err(unserved) => return Ok(Reply::Problem(Problem::unserved(&unserved))),
    };
    let version = old.as_ref().map_or(Version(0), |(_, version)| *version);
    let reply = look(d, target, &resolved, version, method, may_start).await?;
    match (reply, old) {
        (reply @ Reply::Hit { .. }, _) => Ok(reply),
        // The pin has moved, and its new commit has no such program yet: the last good one, at once. A request that names a
        // commit gets that commit or nothing.
        (_, Some((served, _))) if !matches!(target.pin, Some(PinRef::Commit(_))) => hit(d, served, method).await,
        (reply, _) => Ok(reply),
    }
}

/// What the build's row says.
async fn look<D: Deployment>(
    d: &D,
    target: &Target,
    resolved: &Resolved,
    served: Version,
    method: Method,
    may_start: bool,
) -> Result<Reply, Unavailable> {
    let (mut build, _) = load_build(d, &resolved.key).await?;
    if may_start && startable(d, &build) {
        let (limits, _) = load_limits(d, Read::Eventual).await?;
        if let Some(paused) = limits.paused(build.key.system) {
            return Ok(Reply::Problem(Problem::paused(build.key.system, paused.why)));
        }
        match advance(d, &build.key, &Event::Ask).await {
            Ok(asked) => build = asked.after,
            Err(Halt::Unavailable(error)) => return Err(error),
            Err(Halt::Illegal(_) | Halt::Full(_)) => return Ok(Reply::Problem(Problem::down())),
        }
        ring(d).await;
    }
    match &build.state {
        State::Ready { lease, .. } => serve(d, target, resolved, lease, served, method).await,
        State::Failed { failure, until, .. } => {
            Ok(Reply::Problem(Problem::failed(target, failure, until.map(|until| until - d.now()))))
        }
        State::Queued { .. } | State::Building(_) => Ok(Reply::Pending(status::view(d, build).await?)),
        State::Unasked => Ok(Reply::Unbuilt),
    }
}

/// Whether nobody has asked for it, or it has cooled down; all else is as it is.
fn startable<D: Deployment>(d: &D, build: &Build) -> bool {
    match &build.state {
        State::Unasked => true,
        State::Failed { until: Some(until), .. } => d.now() >= *until,
        _ => false,
    }
}

/// A ready build: the program that the path means, remembered in a served row, so that the next one is a hit.
async fn serve<D: Deployment>(
    d: &D,
    target: &Target,
    resolved: &Resolved,
    lease: &LeaseId,
    version: Version,
    method: Method,
) -> Result<Reply, Unavailable> {
    let home = |name| ObjectPath { key: resolved.key.clone(), lease: lease.clone(), name };
    let manifest = d.store().read(&home(ObjectName::Manifest)).await?;
    let manifest = manifest.ok_or_else(|| Unavailable::new("store", format!("{} has no manifest", resolved.key)))?;
    let manifest: Manifest = serde_json::from_slice(&manifest).map_err(|error| Unavailable::new("store", error))?;
    let program = match choose(target, &manifest) {
        Ok(program) => program,
        Err(reply) => return Ok(*reply),
    };
    let (sha256, size) = match &program.verdict {
        Verdict::Static { sha256, size, .. } => (sha256.clone(), *size),
        Verdict::Refused { why } => return Ok(Reply::Problem(Problem::not_static(target, &program.bin, *why))),
    };
    let served = Served {
        asked: ServedKey::of(target, d.system()),
        pin: resolved.pin.clone(),
        rev: resolved.key.rev.clone(),
        attr: resolved.key.attr.clone(),
        bin: program.bin.clone(),
        version: manifest.version.clone(),
        sha256,
        size,
        object: home(ObjectName::Program(program.bin.clone())),
        stale: false,
    };
    match d.ledger().commit(vec![Swap { seen: version, row: Row::Served(served.clone()) }]).await {
        // Somebody else has remembered it; what was found stands either way.
        Ok(()) | Err(NotCommitted::Conflict) => {}
        Err(NotCommitted::Unavailable(error)) => {
            d.note(About::Attempt(&resolved.key, lease), "a served row was not written", &error);
        }
    }
    hit(d, served, method).await
}

fn choose<'a>(target: &Target, manifest: &'a Manifest) -> Result<&'a Program, Box<Reply>> {
    let problem = |problem| Box::new(Reply::Problem(problem));
    let programs = &manifest.programs;
    match &target.wanted {
        Wanted::Program(_, bin) => {
            manifest.program(bin.as_str()).ok_or_else(|| problem(Problem::no_such_program(target, bin, programs)))
        }
        Wanted::Package(attr) => match manifest.main(attr.leaf()) {
            Main::Program(program) => Ok(program),
            Main::Many => Err(Box::new(Reply::choice(target, programs))),
            Main::Missing(declared) => Err(problem(Problem::main_missing(target, declared, programs))),
            Main::None => Err(problem(Problem::no_programs(target))),
        },
    }
}

async fn hit<D: Deployment>(d: &D, served: Served, method: Method) -> Result<Reply, Unavailable> {
    let at = d.store().url(&served.object, method).await?;
    Ok(Reply::Hit { served, at })
}

async fn load_served<D: Deployment>(
    d: &D,
    target: &Target,
    read: Read,
) -> Result<Option<(Served, Version)>, Unavailable> {
    match d.ledger().load(&RowKey::Served(ServedKey::of(target, d.system())), read).await? {
        Some((Row::Served(served), version)) => Ok(Some((served, version))),
        Some(_) => Err(Unavailable::new("ledger", "another row lies where a served row should")),
        None => Ok(None),
    }
}
