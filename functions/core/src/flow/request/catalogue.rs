//! The catalogues of the nixpkgs that are served: asked for, and read.
//!
//! A catalogue is made like any build: it is queued, claimed, leased, tried again, paid for. Nobody waits for it: until it is there,
//! names are attributes.

use crate::{
    build::{Build, Event, policy::Names},
    flow::{AdvanceError, advance, load_build, ring, startable},
    id::key::{BuildKey, Product},
    nixpkgs::pins::{Pins, ResolvedPin},
    objects::artifact::{AttemptPrefix, ObjectName},
    ports::{HasBell, HasCatalogues, HasLedger, Unavailable},
    telemetry::About,
};

/// Asks for the catalogue of every pin, for the deployment's own system, where it is neither made nor on its way. Those for other
/// systems are asked for by the first request that would read them.
///
/// # Errors
/// [`Unavailable`]: run it again.
pub(crate) async fn ask_for_all<D: HasLedger + HasBell>(d: &D, pins: &Pins) -> Result<(), Unavailable> {
    if d.policy().names == Names::Attributes {
        return Ok(());
    }
    for pin in pins.all().values() {
        let key = BuildKey { rev: pin.rev.clone(), system: d.system(), product: Product::Catalogue };
        let (build, _) = load_build(d, &key).await?;
        ask(d, &build).await?;
    }
    Ok(())
}

/// The catalogue of what a target is looked for in; `None`: it is not made. `may_start`: then it is asked for.
pub(crate) async fn load<D: HasLedger + HasBell + HasCatalogues>(
    d: &D,
    found: &ResolvedPin,
    may_start: bool,
) -> Result<Option<D::Catalogue>, Unavailable> {
    let key = found.build(Product::Catalogue);
    let (build, _) = load_build(d, &key).await?;
    if let Some(prefix) = build.prefix() {
        return read(d, &prefix).await;
    }
    // Whoever asks for a program gets it with or without one.
    if may_start && let Err(error) = ask(d, &build).await {
        d.warn(About::Build(&key), "a catalogue was not asked for", &error);
    }
    Ok(None)
}

/// The catalogue with where its files lie, for those who only look.
pub(crate) async fn open<D: HasLedger + HasCatalogues>(
    d: &D,
    found: &ResolvedPin,
) -> Result<Option<(AttemptPrefix, D::Catalogue)>, Unavailable> {
    let key = found.build(Product::Catalogue);
    let (build, _) = load_build(d, &key).await?;
    let Some(prefix) = build.prefix() else { return Ok(None) };
    Ok(read(d, &prefix).await?.map(|catalogue| (prefix, catalogue)))
}

async fn read<D: HasCatalogues>(d: &D, prefix: &AttemptPrefix) -> Result<Option<D::Catalogue>, Unavailable> {
    d.catalogue(&prefix.object(ObjectName::Lookup)).await
}

async fn ask<D: HasLedger + HasBell>(d: &D, build: &Build) -> Result<(), Unavailable> {
    if !startable(d, build) {
        return Ok(());
    }
    match advance(d, &build.key, &Event::Ask).await {
        Ok(_) => ring(d).await,
        Err(AdvanceError::Unavailable(error)) => return Err(error),
        Err(AdvanceError::Illegal(_) | AdvanceError::LimitExceeded(_)) => {}
    }
    Ok(())
}
