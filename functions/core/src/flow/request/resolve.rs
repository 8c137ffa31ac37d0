//! Resolves a target: the pins give its nixpkgs, the catalogue its package.

use crate::{
    build::policy::Names,
    flow::{
        operator::pins,
        request::{catalogue, denial::Denial},
    },
    id::{
        key::{Attr, Bin, BuildKey, DrvHash, PinName, Product},
        target::Target,
    },
    nixpkgs::{catalogue::Resolution, pins::ResolvedPin},
    ports::{Catalogue, HasCatalogues, HasLedger},
};

/// The build that a target means.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    /// Under which pin.
    pub(crate) pin: PinName,
    /// Which package.
    pub(crate) attr: Attr,
    /// Its build.
    pub(crate) key: BuildKey,
    /// What is known of it before it is built.
    pub(crate) known: Option<KnownDerivation>,
    /// There should be a catalogue, and there is none: the name was taken for an attribute.
    pub(crate) by_attribute: bool,
}

/// What a catalogue knows of a package that it has evaluated.
#[derive(Clone, Debug)]
pub(crate) struct KnownDerivation {
    /// Its derivation.
    pub(crate) drv: DrvHash,
    /// Its main program.
    pub(crate) main: Option<Bin>,
}

/// Resolves a target to a build.
///
/// # Errors
/// [`Denial`]: the target leads to no build, or a backend does not answer.
pub(crate) async fn of<D: HasLedger + HasCatalogues>(d: &D, target: &Target) -> Result<Resolved, Denial> {
    let pins = pins::load(d).await?;
    let found = pins.resolve(target, d.system()).map_err(Denial::Unserved)?;
    let names = d.policy().names;
    let catalogue = match names {
        Names::Attributes => None,
        Names::Known | Names::Open => catalogue::open(d, &found).await?,
    };
    let (attr, known) = match &catalogue {
        Some((_, catalogue)) => by_catalogue(catalogue, target, &found, names)?,
        None => (target.wanted.attr().clone(), None),
    };
    if let Some(withheld) = pins.withheld().get(&attr) {
        return Err(Denial::Withheld(attr, withheld.clone()));
    }
    let by_attribute = catalogue.is_none() && names != Names::Attributes;
    let key = found.build(Product::Package(attr.clone()));
    Ok(Resolved { pin: found.pin, attr, key, known, by_attribute })
}

fn by_catalogue(
    catalogue: &impl Catalogue,
    target: &Target,
    found: &ResolvedPin,
    names: Names,
) -> Result<(Attr, Option<KnownDerivation>), Denial> {
    let wanted = &target.wanted;
    match catalogue.resolve(wanted, found.system) {
        Resolution::Found { attr, main, drv, .. } => Ok((attr, drv.map(|drv| KnownDerivation { drv, main }))),
        Resolution::Unknown { .. } if names == Names::Open => Ok((wanted.attr().clone(), None)),
        Resolution::Unknown { near } => Err(Denial::Unknown { wanted: wanted.clone(), near }),
        Resolution::Choice { attr, programs } => Err(Denial::ambiguous(&attr, programs)),
        Resolution::Refused { attr, failure, .. } => Err(Denial::Unbuildable(attr, Box::new(failure))),
        Resolution::NoSuchProgram { attr, programs } => {
            Err(Denial::NoSuchProgram { attr, program: wanted.file_name().to_owned(), programs })
        }
    }
}
