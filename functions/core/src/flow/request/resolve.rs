//! Resolves a target: the pins give its nixpkgs, the catalogue its package.

use crate::{
    build::{State, policy::Names},
    flow::{
        load_build,
        operator::pins,
        request::{
            catalogue::{self, Scope},
            denial::Denial,
            trust,
        },
    },
    id::{
        key::{Attr, Bin, BuildKey, DrvHash, PinName, Product},
        target::{Target, Wanted},
    },
    nixpkgs::{
        catalogue::Resolution,
        pins::{Pins, ResolvedPin},
    },
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
    /// The same program of other packages, the best first.
    pub(crate) others: Vec<Wanted>,
}

/// A package that a name may mean.
struct Candidate {
    attr: Attr,
    /// Its derivation, if that is known.
    known: Option<KnownDerivation>,
    /// The other packages that ship the program, the best first.
    others: Vec<Attr>,
}

impl Candidate {
    /// A package of which nothing else is known.
    fn named(attr: Attr) -> Candidate {
        Candidate { attr, known: None, others: Vec::new() }
    }
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

/// Resolves a client's target to a build.
///
/// # Errors
/// [`Denial`]: the target leads to no build, or a backend does not answer.
pub(crate) async fn of<D: HasLedger + HasCatalogues>(d: &D, target: &Target) -> Result<Resolved, Denial> {
    without(d, target, &[]).await
}

/// The same; these packages are known not to serve the program, and yield as if they had failed.
///
/// # Errors
/// [`Denial`]: the target leads to no build, or a backend does not answer.
pub(crate) async fn without<D: HasLedger + HasCatalogues>(
    d: &D,
    target: &Target,
    unfit: &[Attr],
) -> Result<Resolved, Denial> {
    // A client that names the package of a program gets that one.
    resolve(d, target, matches!(target.wanted, Wanted::Package(_)).then_some(unfit)).await
}

/// The build that a client waits for: of the packages with the program, the first whose build is under way, if there is one.
///
/// # Errors
/// [`Denial`]: the target leads to no build, or a backend does not answer.
pub(crate) async fn under_way<D: HasLedger + HasCatalogues>(
    d: &D,
    target: &Target,
) -> Result<Option<BuildKey>, Denial> {
    let Resolved { key, others, .. } = of(d, target).await?;
    let other = |other: Wanted| BuildKey { product: other.product(other.attr().clone()), ..key.clone() };
    for key in std::iter::once(key.clone()).chain(others.into_iter().map(other)) {
        if trust::is_under_way(d, &key).await? {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

/// Resolves an operator's target to a build: the same as for a client, but a package that has failed does not yield.
///
/// # Errors
/// [`Denial`]: the target leads to no build, or a backend does not answer.
pub(crate) async fn first<D: HasLedger + HasCatalogues>(d: &D, target: &Target) -> Result<Resolved, Denial> {
    resolve(d, target, None).await
}

/// `yields`: a package that has failed yields, and so do these.
async fn resolve<D: HasLedger + HasCatalogues>(
    d: &D,
    target: &Target,
    yields: Option<&[Attr]>,
) -> Result<Resolved, Denial> {
    let pins = pins::load(d).await?;
    let found = pins.resolve(target, d.system()).map_err(Denial::Unserved)?;
    let names = d.policy().names;
    let mut meaning = None;
    for opened in catalogue::open(d, &found).await? {
        meaning = match opened.scope {
            Scope::Whole => {
                let candidate = by_catalogue(&opened.catalogue, &target.wanted, &found, names)?;
                let candidate = match yields {
                    Some(unfit) => {
                        yielding(d, &pins, &opened.catalogue, &target.wanted, &found, candidate, unfit).await?
                    }
                    None => candidate,
                };
                Some((candidate, Basis::Complete))
            }
            scope => {
                let candidate = by_part(&opened.catalogue, &target.wanted, &found, scope)?;
                candidate.map(|candidate| (candidate, Basis::Catalogue(scope)))
            }
        };
        if meaning.is_some() {
            break;
        }
    }
    let by_rule = if names == Names::Attributes { Basis::Complete } else { Basis::Attribute };
    let (candidate, basis) = meaning.unwrap_or_else(|| (Candidate::named(target.wanted.attr().clone()), by_rule));
    let Candidate { attr, known, others } = candidate;
    if let Some(withheld) = pins.withheld().get(&attr) {
        return Err(Denial::Withheld(attr, withheld.clone()));
    }
    let key = found.build(target.wanted.product(attr.clone()));
    let others = others.into_iter().filter(|other| !pins.withheld().contains_key(other));
    let others = others.filter_map(|other| program_of(other, &target.wanted)).collect();
    Ok(Resolved { pin: found.pin, attr, key, known, basis, others })
}

/// The meaning of a name by a catalogue that does not have all of them; `None` for a name that it cannot decide.
fn by_part(
    catalogue: &impl Catalogue,
    wanted: &Wanted,
    found: &ResolvedPin,
    scope: Scope,
) -> Result<Option<Candidate>, Denial> {
    match (catalogue.resolve(wanted, found.system), scope) {
        (Resolution::Unknown { .. }, _) => Ok(None),
        // A nested package that can be built may have the program too.
        (Resolution::Refused { attr, .. }, Scope::TopLevel) if attr != *wanted.attr() => Ok(None),
        // A derivation of another commit is another one, and so may be what refuses it.
        (Resolution::Found { attr, .. }, Scope::Former) => Ok(Some(Candidate::named(attr))),
        (_, Scope::Former) => Ok(None),
        (resolution, _) => by_resolution(resolution, wanted).map(Some),
    }
}

/// The meaning of a name by a complete catalogue.
fn by_catalogue(
    catalogue: &impl Catalogue,
    wanted: &Wanted,
    found: &ResolvedPin,
    names: Names,
) -> Result<Candidate, Denial> {
    match catalogue.resolve(wanted, found.system) {
        Resolution::Unknown { .. } if names == Names::Open => Ok(Candidate::named(wanted.attr().clone())),
        resolution => by_resolution(resolution, wanted),
    }
}

fn by_resolution(resolution: Resolution, wanted: &Wanted) -> Result<Candidate, Denial> {
    match resolution {
        // The catalogue is of static packages. A bundle is of the ordinary one, as a rule: it may be had where the static
        // one is refused, has other programs, and is another derivation.
        Resolution::Found { attr, .. }
        | Resolution::Refused { attr, .. }
        | Resolution::Choice { attr, .. }
        | Resolution::NoSuchProgram { attr, .. }
            if wanted.is_bundle() =>
        {
            Ok(Candidate::named(attr))
        }
        Resolution::Found { attr, main, drv, others, .. } => {
            Ok(Candidate { attr, known: drv.map(|drv| KnownDerivation { drv, main }), others })
        }
        Resolution::Unknown { near } => Err(Denial::Unknown { wanted: wanted.clone(), near }),
        Resolution::Choice { attr, programs } => Err(Denial::ambiguous(&attr, programs)),
        Resolution::Refused { attr, failure, others } => {
            let others = others.into_iter().filter_map(|other| program_of(other, wanted)).collect();
            Err(Denial::Unbuildable(attr, Box::new(failure)).instead(others))
        }
        Resolution::NoSuchProgram { attr, programs } => {
            Err(Denial::NoSuchProgram { attr, program: wanted.file_name().into_owned(), programs })
        }
    }
}

/// The first of a name's packages that is not unfit and whose build has not failed for good, without those that are taken down. If
/// there is none, the first of them.
async fn yielding<D: HasLedger>(
    d: &D,
    pins: &Pins,
    catalogue: &impl Catalogue,
    wanted: &Wanted,
    found: &ResolvedPin,
    first: Candidate,
    unfit: &[Attr],
) -> Result<Candidate, Denial> {
    let yields = async |attr: &Attr| Ok::<_, Denial>(unfit.contains(attr) || has_failed(d, found, attr).await?);
    if first.others.is_empty() || !yields(&first.attr).await? {
        return Ok(first);
    }
    for (at, other) in first.others.iter().enumerate() {
        if pins.withheld().contains_key(other) || yields(other).await? {
            continue;
        }
        let Some(same) = program_of(other.clone(), wanted) else { continue };
        if let Ok(candidate) = by_resolution(catalogue.resolve(&same, found.system), &same) {
            return Ok(Candidate { others: first.others[at + 1..].to_vec(), ..candidate });
        }
    }
    Ok(Candidate { others: Vec::new(), ..first })
}

async fn has_failed<D: HasLedger>(d: &D, found: &ResolvedPin, attr: &Attr) -> Result<bool, Denial> {
    let (build, _) = load_build(d, &found.build(Product::Package(attr.clone()))).await?;
    Ok(matches!(build.state, State::Failed { until: None, .. }))
}

/// The requested program, of another package. An archive is a package's own.
fn program_of(attr: Attr, wanted: &Wanted) -> Option<Wanted> {
    wanted.with(attr, wanted.file_name().parse().ok()?)
}
