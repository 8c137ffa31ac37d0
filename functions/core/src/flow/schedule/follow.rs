//! Followers: a build whose derivation another build has follows that one (single-flight). It is not notified; every
//! read of it reads the other one too, and so does every dispatcher, which each end of a build wakes.

use crate::{
    build::{
        Build, Event, State,
        derivation::{Derivation, Realisation},
    },
    flow::{
        AdvanceError, advance, load_build, load_row,
        request::resolve::KnownDerivation,
        ring,
        schedule::{
            status_index::Walk,
            wait::{Claims, wake},
        },
    },
    id::key::{BuildKey, DrvHash, System},
    objects::artifact::{AttemptPrefix, Declared},
    ports::{HasBell, HasLedger, Read, Unavailable},
    row::{RowKey, StatusIndex, Version},
    telemetry::About,
};

/// A derivation's row.
pub(crate) async fn load<D: HasLedger>(
    d: &D,
    system: System,
    drv: &DrvHash,
) -> Result<(Option<Derivation>, Version), Unavailable> {
    load_row(d, &RowKey::Derivation(system, drv.clone()), Read::Consistent).await
}

/// How the realisation of a derivation stands, for a build that has nothing of its own to wait for.
pub(crate) async fn stands<D: HasLedger>(
    d: &D,
    row: Option<&Derivation>,
    of: &BuildKey,
) -> Result<Realisation, Unavailable> {
    match row {
        Some(row) if row.prefix.key != *of => Ok(row.stands(&load_build(d, &row.prefix.key).await?.0)),
        _ => Ok(Realisation::Free),
    }
}

/// The build, which goes on if it has followed another one so far, and that one is not under way any more.
///
/// # Errors
/// [`Unavailable`].
pub(crate) async fn follow<D: HasLedger + HasBell>(d: &D, build: Build) -> Result<Build, Unavailable> {
    let State::Joined { derivation, .. } = &build.state else { return Ok(build) };
    let (row, _) = load(d, build.key.system, derivation).await?;
    let realisation = stands(d, row.as_ref(), &build.key).await?;
    if realisation == Realisation::UnderWay {
        return Ok(build);
    }
    let event = Event::Follow { derivation: derivation.clone(), realisation };
    let build = applied(d, build, &event).await?;
    if matches!(build.state, State::Queued { .. }) {
        ring(d).await;
    }
    Ok(build)
}

/// The same for all that follow another one, and for all that wait for dependencies. One that can not be looked at now is looked at again: the queue does not wait for it.
///
/// # Errors
/// [`Unavailable`]: run it again.
pub(crate) async fn follow_all<D: HasLedger + HasBell>(d: &D) -> Result<(), Unavailable> {
    let (mut walk, mut claims) = (Walk::along(StatusIndex::Joined), Claims::new(d));
    while let Some(page) = walk.next(d).await? {
        for listed in &page {
            let followed = async {
                let (build, seen) = load_build(d, &listed.key).await?;
                match &build.state {
                    State::Waiting(_) => wake(d, &mut claims, build, seen).await,
                    _ => follow(d, build).await.map(drop),
                }
            };
            if let Err(error) = followed.await {
                d.warn(About::Build(&listed.key), "the build that it follows was not read", &error);
            }
        }
    }
    Ok(())
}

/// The build, ready if what its catalogue knows of it was made by another one. It needs no task then. A catalogue knows the
/// derivations of attributes that stand for a whole package.
///
/// # Errors
/// [`Unavailable`].
pub(crate) async fn adopt<D: HasLedger>(d: &D, build: Build, known: &KnownDerivation) -> Result<Build, Unavailable> {
    if !build.may_adopt() {
        return Ok(build);
    }
    let (row, _) = load(d, build.key.system, &known.drv).await?;
    match stands(d, row.as_ref(), &build.key).await? {
        Realisation::Made(prefix) => {
            let declared = Declared { main_program: known.main.as_ref().map(ToString::to_string), output: None };
            applied(d, build, &Event::Adopt { prefix, declared }).await
        }
        _ => Ok(build),
    }
}

async fn applied<D: HasLedger>(d: &D, build: Build, event: &Event) -> Result<Build, Unavailable> {
    match advance(d, &build.key, event).await {
        Ok(advanced) => Ok(advanced.after),
        Err(AdvanceError::Unavailable(error)) => Err(error),
        Err(AdvanceError::Illegal(_) | AdvanceError::LimitExceeded(_)) => Ok(build),
    }
}

/// The build whose attempt does a build's work (the leader): itself, or the one that it follows.
///
/// # Errors
/// [`Unavailable`].
pub(crate) async fn leader<D: HasLedger>(d: &D, build: &Build) -> Result<Build, Unavailable> {
    if let State::Joined { derivation, .. } = &build.state
        && let (Some(row), _) = load(d, build.key.system, derivation).await?
    {
        return load_build(d, &row.prefix.key).await.map(|(leader, _)| leader);
    }
    Ok(build.clone())
}

/// The attempt whose log tells of a build: its newest one, or, where that was left to another build, the one that has taken the
/// derivation on.
///
/// # Errors
/// [`Unavailable`].
pub(crate) async fn log_source<D: HasLedger>(d: &D, build: &Build) -> Result<Option<AttemptPrefix>, Unavailable> {
    if let Some(prefix) = build.prefix() {
        return Ok(Some(prefix));
    }
    if let Some(drv) = build.left()
        && let (Some(row), _) = load(d, build.key.system, drv).await?
    {
        return Ok(Some(row.prefix));
    }
    if let (None, Some(seen_in)) = (build.lease(), build.history.last().and_then(|last| last.seen_in.as_ref())) {
        return Ok(Some(seen_in.clone()));
    }
    Ok(build.newest_lease().map(|lease| AttemptPrefix { key: build.key.clone(), lease: lease.clone() }))
}
