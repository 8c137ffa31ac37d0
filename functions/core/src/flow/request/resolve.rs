//! Resolves a target: the pins give its nixpkgs, the catalogue its package.

use crate::{
    build::policy::Names,
    flow::{
        operator::pins,
        request::{
            catalogue::{self, Scope},
            denial::Denial,
        },
    },
    id::{
        key::{Attr, Bin, BuildKey, DrvHash, PinName, Product},
        target::{Target, Wanted},
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
    /// By what the name was resolved.
    pub(crate) basis: Basis,
}

/// By what a name was resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Basis {
    /// By the complete catalogue of its commit, or by the rule that all names are attributes.
    Complete,
    /// By a catalogue of that scope, since its commit has no complete one yet.
    Catalogue(Scope),
    /// By nothing: the name was taken for an attribute, since its commit has no complete catalogue yet.
    Attribute,
}

impl Basis {
    /// Whether the commit itself does not tell yet that there is such a name.
    pub(crate) fn is_guess(self) -> bool {
        matches!(self, Basis::Attribute | Basis::Catalogue(Scope::Former))
    }
}

impl Resolved {
    /// Whether the complete catalogue may give the name to another package: a nested package may come before the one
    /// that has such a program at the top level, or had it in another commit. An attribute's own name stays its own.
    pub(crate) fn is_provisional(&self, wanted: &Wanted) -> bool {
        matches!(self.basis, Basis::Catalogue(_)) && *wanted.attr() != self.attr
    }
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
    let mut meaning = None;
    for opened in catalogue::open(d, &found).await? {
        meaning = match opened.scope {
            Scope::Whole => Some((by_catalogue(&opened.catalogue, target, &found, names)?, Basis::Complete)),
            scope => by_part(&opened.catalogue, target, &found, scope)?.map(|known| (known, Basis::Catalogue(scope))),
        };
        if meaning.is_some() {
            break;
        }
    }
    let by_rule = if names == Names::Attributes { Basis::Complete } else { Basis::Attribute };
    let ((attr, known), basis) = meaning.unwrap_or_else(|| ((target.wanted.attr().clone(), None), by_rule));
    if let Some(withheld) = pins.withheld().get(&attr) {
        return Err(Denial::Withheld(attr, withheld.clone()));
    }
    let key = found.build(Product::Package(attr.clone()));
    Ok(Resolved { pin: found.pin, attr, key, known, basis })
}

/// A package, and its derivation if that is known.
type Meaning = (Attr, Option<KnownDerivation>);

/// The meaning of a name by a catalogue that does not have all of them; `None` for a name that it cannot decide.
fn by_part(
    catalogue: &impl Catalogue,
    target: &Target,
    found: &ResolvedPin,
    scope: Scope,
) -> Result<Option<Meaning>, Denial> {
    match (catalogue.resolve(&target.wanted, found.system), scope) {
        (Resolution::Unknown { .. }, _) => Ok(None),
        // A nested package that can be built may have the program too.
        (Resolution::Refused { attr, .. }, Scope::TopLevel) if attr != *target.wanted.attr() => Ok(None),
        // A derivation of another commit is another one, and so may be what refuses it.
        (Resolution::Found { attr, .. }, Scope::Former) => Ok(Some((attr, None))),
        (_, Scope::Former) => Ok(None),
        (resolution, _) => by_resolution(resolution, target).map(Some),
    }
}

/// The meaning of a name by a complete catalogue.
fn by_catalogue(
    catalogue: &impl Catalogue,
    target: &Target,
    found: &ResolvedPin,
    names: Names,
) -> Result<Meaning, Denial> {
    match catalogue.resolve(&target.wanted, found.system) {
        Resolution::Unknown { .. } if names == Names::Open => Ok((target.wanted.attr().clone(), None)),
        resolution => by_resolution(resolution, target),
    }
}

fn by_resolution(resolution: Resolution, Target { wanted, .. }: &Target) -> Result<Meaning, Denial> {
    match resolution {
        Resolution::Found { attr, main, drv, .. } => Ok((attr, drv.map(|drv| KnownDerivation { drv, main }))),
        Resolution::Unknown { near } => Err(Denial::Unknown { wanted: wanted.clone(), near }),
        Resolution::Choice { attr, programs } => Err(Denial::ambiguous(&attr, programs)),
        Resolution::Refused { attr, failure, .. } => Err(Denial::Unbuildable(attr, Box::new(failure))),
        Resolution::NoSuchProgram { attr, programs } => {
            Err(Denial::NoSuchProgram { attr, program: wanted.file_name().into_owned(), programs })
        }
    }
}
