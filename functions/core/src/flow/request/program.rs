//! A client requests a program.

use crate::{
    build::{Build, Event, Made, State},
    flow::{
        AdvanceError, advance_for, integrity, load_build, load_limits, load_row, manifest_of,
        operator::pins,
        request::{
            catalogue,
            charge::Charge,
            denial::Denial,
            outcome::RequestOutcome,
            resolve::{Basis, Resolved},
            serving::{self, File, file},
            status::{self, Status},
            trust,
        },
        ring,
        schedule::{egress, follow},
        startable,
    },
    id::target::{PinRef, Target, Wanted},
    nixpkgs::served::{Notes, Served, ServedKey},
    objects::{
        artifact::ObjectName,
        stored::{Integrity, Method},
    },
    ports::{HasBell, HasCatalogues, HasLedger, HasStore, Ledger, NotCommitted, Read, Store, Unavailable},
    quota::{
        client::Asker,
        limits::{LimitExceeded, Why},
    },
    row::{Row, RowKey, Swap, Version},
    telemetry::{About, Signal},
};

/// Answers a request for `target`. With `starts`, a miss may start a build, which is charged to that client. `None` is
/// for requests that must not: `HEAD`, pages, prefetches and crawlers.
pub async fn request<D: HasLedger + HasStore + HasBell + HasCatalogues>(
    d: &D,
    target: &Target,
    method: Method,
    starts: Option<&Asker<'_>>,
) -> RequestOutcome {
    let outcome = answer(d, target, method, starts).await;
    if let Err(Denial::Unavailable(error)) = &outcome {
        d.warn(About::Service, "a request was not answered", error);
    }
    outcome.unwrap_or_else(RequestOutcome::Denied)
}

async fn answer<D: HasLedger + HasStore + HasBell + HasCatalogues>(
    d: &D,
    target: &Target,
    method: Method,
    starts: Option<&Asker<'_>>,
) -> Result<RequestOutcome, Denial> {
    let asked = RowKey::Served(ServedKey::of(target, d.system()));
    let mut seen = (None, Version(0));
    // The single read of a hit. An eventually consistent read may miss the row, so a miss is read again consistently.
    for read in [Read::Eventual, Read::Consistent] {
        seen = match load_row::<D, Served>(d, &asked, read).await? {
            (Some(served), version) if served.is_listed() && served.is_of(target.pin.as_ref()) => {
                match hit(d, served.clone(), method).await? {
                    Some(hit) => return Ok(hit),
                    None => (Some(Served { lost: true, ..served }), version),
                }
            }
            row => row,
        };
    }
    let (old, version) = seen;
    let outcome = found(d, target, version, method, starts).await;
    match (outcome, old) {
        (Ok(hit @ RequestOutcome::Hit { .. }), _) => Ok(hit),
        (Err(denial @ (Denial::Unserved(_) | Denial::Withheld(..) | Denial::Unavailable(_))), _) => Err(denial),
        // The pin has moved, and its new commit has no such program yet: the last good one is served at once. A request
        // that names a commit gets only that commit, and a package that is taken down is not served.
        (outcome, Some(served)) if !served.lost && !matches!(target.pin, Some(PinRef::Commit(_))) => {
            match pins::load(d).await?.withheld().contains_key(&served.attr) {
                true => outcome,
                false => hit(d, served, method).await?.map_or(outcome, Ok),
            }
        }
        (outcome, _) => outcome,
    }
}

/// The outcome of the package that a target means. A build that turns out to have failed for good, or to have no such program to
/// serve, yields to the next package with that program.
async fn found<D: HasLedger + HasStore + HasBell + HasCatalogues>(
    d: &D,
    target: &Target,
    served: Version,
    method: Method,
    starts: Option<&Asker<'_>>,
) -> Result<RequestOutcome, Denial> {
    let mut tried = Vec::new();
    loop {
        let (resolved, build) = serving::next(d, target, &mut tried).await?;
        let yields = matches!(target.wanted, Wanted::Package(_)) && !resolved.others.is_empty();
        match look(d, target, &resolved, build, served, method, starts).await {
            Err(
                Denial::Failed { rest: None, attr, .. }
                | Denial::NotStatic(attr, ..)
                | Denial::NoSuchProgram { attr, .. }
                | Denial::MainMissing { attr, .. },
            ) if yields && !tried.contains(&attr) => tried.push(attr),
            outcome => return outcome.map_err(|denial| denial.instead(resolved.others)),
        }
    }
}

/// The outcome by the build's row.
async fn look<D: HasLedger + HasStore + HasBell + HasCatalogues>(
    d: &D,
    target: &Target,
    resolved: &Resolved,
    build: Build,
    served: Version,
    method: Method,
    starts: Option<&Asker<'_>>,
) -> Result<RequestOutcome, Denial> {
    let by_attribute = resolved.basis.is_guess();
    if resolved.basis != Basis::Complete && starts.is_some() {
        catalogue::ask_beside(d, &resolved.key).await;
    }
    let mut build = follow::follow(d, build).await?;
    if let Some(known) = &resolved.known {
        build = follow::adopt(d, build, known).await?;
    }
    if let Some(asker) = starts.filter(|_| startable(d, &build)) {
        build = start(d, build, asker).await?;
    }
    let pending = |status: Status| RequestOutcome::Pending(Status { alternatives: resolved.others.clone(), ..status });
    if trust::awaits_log(d, &build).await? {
        return Ok(pending(status::view(d, build, by_attribute).await?));
    }
    if let State::Ready(made) = &build.state {
        if let Some(hit) = serve(d, target, resolved, made, served, method).await? {
            return Ok(hit);
        }
        (build, _) = load_build(d, &resolved.key).await?;
    }
    match &build.state {
        // Its objects are missing, and it was made again meanwhile: the next request sees that.
        State::Ready(_) => Err(Unavailable::new("store", "an object was missing").into()),
        State::Failed { failure, until, .. } => {
            let rest = until.map(|until| until - d.now());
            let (attr, failure) = (resolved.attr.clone(), Box::new(failure.clone()));
            Err(Denial::Failed { attr, failure, rest, by_attribute })
        }
        State::Queued { .. } | State::Building(_) | State::Joined { .. } | State::Waiting(_) => {
            Ok(pending(status::view(d, build, by_attribute).await?))
        }
        State::Unasked => Ok(RequestOutcome::Unbuilt { by_attribute }),
    }
}

/// Queues a build, unless it would wait for long, its product would not be served, or the client has reached its rate
/// limit.
async fn start<D: HasLedger + HasBell>(d: &D, build: Build, asker: &Asker<'_>) -> Result<Build, Denial> {
    let (limits, _) = load_limits(d, Read::Eventual).await?;
    if let Some(paused) = limits.closed(build.key.system, d.policy(), d.now()) {
        let held = match paused.why {
            Why::Budget => Some(LimitExceeded::Budget { worst: d.policy().worst_price(d.policy().size) }),
            Why::Store => Some(LimitExceeded::Store),
            _ => None,
        };
        held.into_iter().for_each(|full| d.emit(About::Build(&build.key), Signal::Held(full)));
        let retry_after = status::paused_for(&paused, d.now());
        return Err(Denial::Paused { system: build.key.system, paused, retry_after });
    }
    if let Some(until) = limits.shut(d.policy(), d.now()) {
        return Err(Denial::EgressCeiling { until, rest: until - d.now() });
    }
    let charge = Charge::to(d, asker).await?;
    let asked = match advance_for(d, &build.key, &Event::Ask, charge.as_ref()).await {
        Ok(asked) => asked.after,
        Err(AdvanceError::Unavailable(error)) => return Err(error.into()),
        Err(AdvanceError::LimitExceeded(LimitExceeded::Client { most, until })) => {
            let rest = until.start() - d.now();
            return Err(Denial::RateLimited { most, by_key: asker.key.is_some(), until, rest });
        }
        Err(error) => return Err(Unavailable::new("ledger", error).into()),
    };
    ring(d).await;
    Ok(asked)
}

/// A ready build: the requested program, stored in a served row, so that the next request is a hit. `None`: an object is
/// missing or damaged, and the build is queued again.
async fn serve<D: HasLedger + HasStore + HasBell>(
    d: &D,
    target: &Target,
    resolved: &Resolved,
    made: &Made,
    version: Version,
    method: Method,
) -> Result<Option<RequestOutcome>, Denial> {
    let Resolved { pin, attr, key, .. } = resolved;
    let prefix = made.prefix(key);
    let (manifest, inventory) = match manifest_of(d, key, made).await? {
        Ok(found) => found,
        Err(integrity) => {
            integrity::withdraw(d, key, &integrity::Flaw { object: prefix.object(ObjectName::Manifest), integrity })
                .await?;
            return Ok(None);
        }
    };
    let File { name, sha256, size, notes } = file(&target.wanted, attr, &manifest)?;
    let served = Served {
        asked: ServedKey::of(target, d.system()),
        pin: pin.clone(),
        rev: key.rev.clone(),
        attr: attr.clone(),
        object: prefix.object(inventory.object(&name, &sha256)),
        bin: name,
        version: manifest.version.clone(),
        sha256,
        size,
        notes: Notes { others: resolved.others.clone(), ..notes },
        stale: false,
        lost: false,
    };
    // A row would keep the meaning of a name that is resolved anew until its catalogue is complete.
    if resolved.is_provisional(&target.wanted) {
        return hit(d, served, method).await;
    }
    match d.ledger().commit(vec![Swap { seen: version, row: Row::Served(served.clone()) }]).await {
        // Another request has written it; the program found stands either way.
        Ok(()) | Err(NotCommitted::Conflict) => {}
        Err(NotCommitted::Unavailable(error)) => {
            d.warn(About::Attempt(key, &made.lease), "a served row was not written", &error);
        }
    }
    hit(d, served, method).await
}

/// The only place that hands out a program. `None`: its object is missing or damaged, and out of service now.
async fn hit<D: HasLedger + HasStore + HasBell>(
    d: &D,
    served: Served,
    method: Method,
) -> Result<Option<RequestOutcome>, Denial> {
    if let Some(until) = egress::shut(d).await? {
        return Err(Denial::EgressCeiling { until, rest: until - d.now() });
    }
    match d.store().glance(&served.object, &served.content()).await? {
        Integrity::Intact => {
            let at = egress::counted(d.policy(), d.store().url(&served.object, &served.bin, method).await?);
            Ok(Some(RequestOutcome::Hit { served, at }))
        }
        flaw => {
            integrity::withdraw_served(d, &served, flaw).await?;
            Ok(None)
        }
    }
}
