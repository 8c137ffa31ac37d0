//! The catalogues of the served nixpkgs: requested, and read.
//!
//! A catalogue is made like any build: it is queued, claimed, leased, retried, and paid for. No request waits for it:
//! until it exists, names are attributes.

use crate::{
    build::{Build, Event, policy::Names},
    flow::{AdvanceError, advance, integrity, load_build, ring, startable},
    id::key::{BuildKey, Product},
    nixpkgs::pins::{Pins, ResolvedPin},
    objects::artifact::{AttemptPrefix, ObjectName},
    ports::{HasBell, HasCatalogues, HasLedger, Unavailable, Unreadable},
    telemetry::About,
};

/// Requests the catalogue of every pin for the deployment's own system, unless it exists or is under way. The first
/// request that would read another system's catalogue requests that.
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

/// The catalogue in which a target is resolved; `None` if it does not exist. With `may_start`, it is then requested.
pub(crate) async fn load<D: HasLedger + HasBell + HasCatalogues>(
    d: &D,
    found: &ResolvedPin,
    may_start: bool,
) -> Result<Option<D::Catalogue>, Unavailable> {
    let key = found.build(Product::Catalogue);
    let (build, _) = load_build(d, &key).await?;
    if let Some(prefix) = build.prefix() {
        let lookup = prefix.object(ObjectName::Lookup);
        return match d.catalogue(&lookup).await? {
            Ok(catalogue) => Ok(Some(catalogue)),
            Err(Unreadable::Flawed(flaw)) if may_start => {
                integrity::withdraw(d, &key, &lookup, flaw).await.map(|()| None)
            }
            // A request that may start something has it made again; another format's is made again with its pin.
            Err(Unreadable::Flawed(_) | Unreadable::OtherFormat) => Ok(None),
        };
    }
    // The request for the program succeeds with or without a catalogue.
    if may_start && let Err(error) = ask(d, &build).await {
        d.warn(About::Build(&key), "a catalogue was not asked for", &error);
    }
    Ok(None)
}

/// The catalogue and the prefix of its files, for flows that only read.
pub(crate) async fn open<D: HasLedger + HasCatalogues>(
    d: &D,
    found: &ResolvedPin,
) -> Result<Option<(AttemptPrefix, D::Catalogue)>, Unavailable> {
    let key = found.build(Product::Catalogue);
    let (build, _) = load_build(d, &key).await?;
    let Some(prefix) = build.prefix() else { return Ok(None) };
    let catalogue = d.catalogue(&prefix.object(ObjectName::Lookup)).await?;
    // One that is missing or damaged is found by the first request, and made again.
    Ok(catalogue.ok().map(|catalogue| (prefix, catalogue)))
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
