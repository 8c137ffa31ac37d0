//! The catalogues of the served nixpkgs: requested, and read.
//!
//! A catalogue is made like any build: it is queued, claimed, leased, retried, and paid for. No request waits for it.
//! Until it is complete, the previous one stays in use: names are resolved by what is known of the commit itself, else
//! by the catalogue of the commit that the pin stood for before, and else they are attributes ([`Scope`]).

use crate::{
    build::{Build, Event, partial::Published, policy::Names},
    flow::{AdvanceError, advance, integrity, load_build, ring, startable},
    id::key::{BuildKey, Product, Rev, System},
    nixpkgs::pins::{Pins, ResolvedPin},
    objects::artifact::{AttemptPrefix, ObjectName, ObjectPath},
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

/// Has the catalogues of a nixpkgs made again that were made without its new database of programs.
///
/// # Errors
/// [`Unavailable`]: run it again.
pub(crate) async fn renew<D: HasLedger + HasBell>(d: &D, rev: &Rev) -> Result<(), Unavailable> {
    for system in System::ALL {
        let key = BuildKey { rev: rev.clone(), system, product: Product::Catalogue };
        if let Some(prefix) = load_build(d, &key).await?.0.prefix() {
            integrity::anew(d, &key, &prefix).await?;
        }
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

/// The part of the requested nixpkgs that a catalogue is evidence of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All of it: a name that it does not have does not exist.
    Whole,
    /// Its top level. Nested sets may have any other name.
    TopLevel,
    /// Another commit, which the pin stood for before. It says which package a name probably means, and nothing more.
    Former,
}

/// An open catalogue.
pub(crate) struct Opened<C> {
    /// The catalogue.
    pub(crate) catalogue: C,
    /// Its details file.
    pub(crate) details: ObjectPath,
    /// What it is evidence of.
    pub(crate) scope: Scope,
}

/// The catalogues in which a target is resolved, the most telling first: either the complete one, or up to one of each
/// other scope. The first that has a name decides; none if the names are attributes.
pub(crate) async fn open<D: HasLedger + HasCatalogues>(
    d: &D,
    found: &ResolvedPin,
) -> Result<Vec<Opened<D::Catalogue>>, Unavailable> {
    let mut opened = Vec::new();
    if d.policy().names == Names::Attributes {
        return Ok(opened);
    }
    opened.extend(open_of(d, &found.build(Product::Catalogue)).await?);
    for rev in &found.former {
        if opened.iter().any(|opened| opened.scope == Scope::Whole) {
            break;
        }
        let key = BuildKey { rev: rev.clone(), ..found.build(Product::Catalogue) };
        let whole = open_of(d, &key).await?.filter(|former| former.scope == Scope::Whole);
        if let Some(former) = whole {
            opened.push(Opened { scope: Scope::Former, ..former });
            break;
        }
    }
    Ok(opened)
}

/// The catalogue of a build that is in use; `None` if there is none that can be read.
async fn open_of<D: HasLedger + HasCatalogues>(
    d: &D,
    key: &BuildKey,
) -> Result<Option<Opened<D::Catalogue>>, Unavailable> {
    let (build, _) = load_build(d, key).await?;
    let own = |lease| AttemptPrefix { key: key.clone(), lease };
    let (prefix, whole) = match (build.prefix(), build.partial.published) {
        (Some(prefix), _) => (prefix, true),
        (None, Some(Published { lease, whole })) => (own(lease), whole),
        (None, None) => return Ok(None),
    };
    let (lookup, details, scope) = match whole {
        true => (ObjectName::Lookup, ObjectName::Details, Scope::Whole),
        false => (ObjectName::PartialLookup, ObjectName::PartialDetails, Scope::TopLevel),
    };
    let catalogue = d.catalogue(&prefix.object(lookup)).await?;
    Ok(catalogue.ok().map(|catalogue| Opened { catalogue, details: prefix.object(details), scope }))
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
