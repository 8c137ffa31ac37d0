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

/// Requests the catalogue of a program's nixpkgs where it is missing, or damaged. The program's request succeeds with or
/// without it.
pub(crate) async fn ask_beside<D: HasLedger + HasBell + HasCatalogues>(d: &D, program: &BuildKey) {
    let key = BuildKey { product: Product::Catalogue, ..program.clone() };
    let asked = async {
        let (build, _) = load_build(d, &key).await?;
        let Some(prefix) = build.prefix() else { return ask(d, &build).await };
        let lookup = prefix.object(ObjectName::Lookup);
        match d.catalogue(&lookup).await? {
            Err(Unreadable::Flawed(integrity)) => {
                integrity::withdraw(d, &key, &integrity::Flaw { object: lookup, integrity }).await
            }
            Ok(_) | Err(Unreadable::OtherFormat) => Ok(()),
        }
    };
    if let Err(error) = asked.await {
        d.warn(About::Build(&key), "a catalogue was not asked for", &error);
    }
}

/// The catalogue in which a target is resolved, and the prefix of its files; `None` if it does not exist.
pub(crate) async fn open<D: HasLedger + HasCatalogues>(
    d: &D,
    found: &ResolvedPin,
) -> Result<Option<(AttemptPrefix, D::Catalogue)>, Unavailable> {
    let key = found.build(Product::Catalogue);
    let (build, _) = load_build(d, &key).await?;
    let Some(prefix) = build.prefix() else { return Ok(None) };
    let catalogue = d.catalogue(&prefix.object(ObjectName::Lookup)).await?;
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
