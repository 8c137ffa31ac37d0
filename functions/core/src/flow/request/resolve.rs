//! Resolves a target: the pins give its nixpkgs, the catalogue its package.

use std::fmt;

use crate::{
    answer::reply::{Problem, Reply},
    build::policy::Names,
    flow::{operator::pins, request::catalogue},
    id::{
        key::{Attr, Bin, BuildKey, DrvHash, PinName, Product},
        target::Target,
    },
    nixpkgs::{
        catalogue::Resolution,
        pins::{ResolvedPin, Unserved, Withheld},
    },
    ports::{Catalogue, HasBell, HasCatalogues, HasLedger, Unavailable},
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

/// Why a target does not lead to a build.
#[derive(Clone, Debug)]
pub(crate) enum ResolveError {
    /// It names a nixpkgs that is not served.
    Unserved(Unserved),
    /// The nixpkgs has no such package or program; with the answer.
    There(Box<Reply>),
    /// It is a package that is taken down.
    Withheld(Attr, Withheld),
}

/// A sentence for people, without a full stop.
impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ResolveError::Unserved(unserved) => unserved.fmt(f),
            ResolveError::Withheld(attr, withheld) => f.write_str(&Problem::withheld(attr, withheld).sentence),
            ResolveError::There(reply) => match &**reply {
                Reply::Problem(problem) => f.write_str(&problem.told()),
                // What can be chosen from are programs of a package, which is named by each.
                _ => f.write_str("it has several programs: name one of them"),
            },
        }
    }
}

impl From<ResolveError> for Reply {
    fn from(nothing: ResolveError) -> Reply {
        match nothing {
            ResolveError::Unserved(unserved) => Reply::Problem(Problem::unserved(&unserved)),
            ResolveError::There(reply) => *reply,
            ResolveError::Withheld(attr, withheld) => Reply::Problem(Problem::withheld(&attr, &withheld)),
        }
    }
}

/// What a target means. `may_start`: as for [`super::request::request`].
///
/// # Errors
/// [`Unavailable`].
pub(crate) async fn of<D: HasLedger + HasBell + HasCatalogues>(
    d: &D,
    target: &Target,
    may_start: bool,
) -> Result<Result<Resolved, ResolveError>, Unavailable> {
    let pins = pins::load(d).await?;
    let found = match pins.resolve(target, d.system()) {
        Ok(found) => found,
        Err(unserved) => return Ok(Err(ResolveError::Unserved(unserved))),
    };
    let names = d.policy().names;
    let catalogue = match names {
        Names::Attributes => None,
        Names::Known | Names::Open => catalogue::load(d, &found, may_start).await?,
    };
    let package = match &catalogue {
        Some(catalogue) => by_catalogue(catalogue, target, &found, names),
        None => Ok((target.wanted.attr().clone(), None)),
    };
    let by_attribute = catalogue.is_none() && names != Names::Attributes;
    Ok(match package {
        Ok((attr, known)) => match pins.withheld().get(&attr) {
            Some(withheld) => Err(ResolveError::Withheld(attr, withheld.clone())),
            None => {
                let key = found.build(Product::Package(attr.clone()));
                Ok(Resolved { pin: found.pin, attr, key, known, by_attribute })
            }
        },
        Err(reply) => Err(ResolveError::There(reply)),
    })
}

fn by_catalogue(
    catalogue: &impl Catalogue,
    target: &Target,
    found: &ResolvedPin,
    names: Names,
) -> Result<(Attr, Option<KnownDerivation>), Box<Reply>> {
    let wanted = &target.wanted;
    let reply = match catalogue.resolve(wanted, found.system) {
        Resolution::Found { attr, main, drv, .. } => return Ok((attr, drv.map(|drv| KnownDerivation { drv, main }))),
        Resolution::Unknown { .. } if names == Names::Open => return Ok((wanted.attr().clone(), None)),
        Resolution::Unknown { near } => Reply::Problem(Problem::unknown(wanted, near)),
        Resolution::Choice { attr, programs } => Reply::choice(&attr, &programs),
        Resolution::Refused { attr, failure } => Reply::Problem(Problem::refused(&attr, &failure)),
        Resolution::NoSuchProgram { attr, programs } => {
            Reply::Problem(Problem::no_such_program(&attr, wanted.file_name(), &programs))
        }
    };
    Err(Box::new(reply))
}
