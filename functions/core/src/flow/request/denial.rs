//! Denials: the reasons why a request gets no program, or no information about one.

use std::{fmt, time::Duration};

use crate::{
    build::failure::{Failure, Kind},
    id::{
        key::{Attr, Bin, System},
        target::Wanted,
        time::{Day, Timestamp, seconds_up},
    },
    nixpkgs::{
        catalogue::NOT_MADE,
        pins::{Unserved, Withheld},
    },
    objects::artifact::Refusal,
    ports::Unavailable,
    quota::limits::{Paused, Why},
};

/// Why a request gets no program, or no information about one. Its text is a sentence for people, without a full stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The request names a nixpkgs that is not served.
    Unserved(Unserved),
    /// The operator has taken the package down.
    Withheld(Attr, Withheld),
    /// The catalogue has no package or program of that name.
    Unknown {
        /// The requested name.
        wanted: Wanted,
        /// Similar names.
        near: Vec<Wanted>,
    },
    /// The catalogue knows that the package cannot be built.
    Unbuildable(Attr, Box<Failure>),
    /// The package has several programs and no main one: their names.
    Ambiguous(Vec<Wanted>),
    /// The package has no such program.
    NoSuchProgram {
        /// The package.
        attr: Attr,
        /// The requested name.
        program: String,
        /// The package's programs.
        programs: Vec<Bin>,
    },
    /// The package declares a main program that it does not ship.
    MainMissing {
        /// The package.
        attr: Attr,
        /// The declared name.
        declared: String,
        /// The package's programs.
        programs: Vec<Bin>,
    },
    /// The package ships no programs.
    NoPrograms(Attr),
    /// The package was built, but no archive of it is stored.
    NoArchive(Attr),
    /// The program was built, but cannot be served.
    NotStatic(Attr, Bin, Refusal),
    /// The build failed.
    Failed {
        /// The package.
        attr: Attr,
        /// The failure.
        failure: Box<Failure>,
        /// The rest of the cool-down; `None` if the failure is permanent.
        rest: Option<Duration>,
        /// The nixpkgs has no catalogue yet, so the name was taken for an attribute.
        by_attribute: bool,
    },
    /// No build may start for the system.
    Paused {
        /// The system.
        system: System,
        /// Why, and since when.
        paused: Paused,
        /// Seconds after which to ask again.
        retry_after: u64,
    },
    /// The day's egress ceiling is reached.
    EgressCeiling {
        /// The start of the next day.
        until: Timestamp,
        /// The time until then.
        rest: Duration,
    },
    /// The client has reached its rate limit.
    RateLimited {
        /// The new builds that it may start in a day.
        most: u32,
        /// Whether the limit is that of an API key, not of an address.
        by_key: bool,
        /// The next day.
        until: Day,
        /// The time until then.
        rest: Duration,
    },
    /// The API key is not known.
    UnknownKey,
    /// A package's program cannot be served, and other packages have a program of that name.
    Instead {
        /// Why the package's program cannot be served.
        denial: Box<Denial>,
        /// The programs of the other packages.
        others: Vec<Wanted>,
    },
    /// A backend does not answer.
    Unavailable(Unavailable),
}

impl From<Unavailable> for Denial {
    fn from(error: Unavailable) -> Denial {
        Denial::Unavailable(error)
    }
}

impl Denial {
    /// The programs of a package to choose from.
    pub(crate) fn ambiguous(attr: &Attr, programs: impl IntoIterator<Item = Bin>) -> Denial {
        Denial::Ambiguous(programs.into_iter().map(|bin| Wanted::Program(attr.clone(), bin)).collect())
    }

    /// Whether the package's bundle may still work: there is permanently no static program.
    pub fn leaves_bundle(&self) -> bool {
        match self {
            Denial::NotStatic(_, _, why) => *why != Refusal::TooLarge,
            Denial::Unbuildable(_, failure) | Denial::Failed { failure, rest: None, .. } => {
                failure.kind.leaves_ordinary()
            }
            Denial::Instead { denial, .. } => denial.leaves_bundle(),
            _ => false,
        }
    }

    /// A permanent denial of one package, with the programs of other packages.
    pub(crate) fn instead(self, others: Vec<Wanted>) -> Denial {
        match self {
            Denial::Unbuildable(..)
            | Denial::NoSuchProgram { .. }
            | Denial::NotStatic(..)
            | Denial::Failed { rest: None, .. }
                if !others.is_empty() =>
            {
                Denial::Instead { denial: Box::new(self), others }
            }
            denial => denial,
        }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Denial::Unserved(unserved) => unserved.fmt(f),
            Denial::Withheld(attr, withheld) => write!(f, "{attr} is not served here any more: {}", withheld.why),
            Denial::Unknown { wanted, near } => {
                match wanted {
                    Wanted::Package(name) => write!(f, "there is no package or program {name}")?,
                    Wanted::Program(attr, _) | Wanted::Archive(attr) | Wanted::Bundle { attr, .. } => {
                        write!(f, "there is no package {attr}")?;
                    }
                }
                if near.is_empty() { Ok(()) } else { write!(f, "; did you mean {}?", listed(near, ", ")) }
            }
            Denial::Unbuildable(attr, failure) => write!(f, "{attr}: {}", failure.sentence()),
            Denial::Ambiguous(programs) => {
                write!(f, "this package has several programs; request one of: {}", listed(programs, " "))
            }
            Denial::NoSuchProgram { attr, program, programs } => {
                write!(f, "{attr} has no program {program}; it has {}", some(programs))
            }
            Denial::MainMissing { attr, declared, programs } => write!(
                f,
                "{attr}: {}: expected a program {declared}, found {}; request one of these as {attr}/NAME",
                Kind::NoProgram.sentence(),
                some(programs)
            ),
            Denial::NoPrograms(attr) => write!(f, "{attr}: {}", Kind::NoProgram.sentence()),
            Denial::NoArchive(attr) => write!(
                f,
                "no archive of {attr} is stored: an earlier version of this service built the package, or the archive is too \
                 large; the operator can build it again with binplz rebuild {attr}"
            ),
            Denial::NotStatic(attr, bin, why) => {
                write!(f, "{attr}: {}; {bin} {}", Kind::NotStatic.sentence(), why.sentence())
            }
            Denial::Failed { attr, failure, by_attribute, .. } if failure.kind == Kind::NoSuchPackage => {
                write!(f, "there is no package {attr}")?;
                if *by_attribute { write!(f, "; {NOT_MADE}") } else { Ok(()) }
            }
            Denial::Failed { attr, failure, rest: None, .. } => write!(f, "{attr}: {}", failure.sentence()),
            Denial::Failed { attr, failure, rest: Some(rest), .. } => {
                let seconds = seconds_up(*rest).max(1);
                write!(f, "{attr}: {}; try again in {seconds} s", failure.sentence())
            }
            Denial::Paused { paused, .. } if paused.why == Why::NoNixpkgs => {
                write!(f, "new builds of this commit wait: {}", paused.sentence())
            }
            Denial::Paused { system, paused, .. } => {
                write!(f, "new builds for {system} are paused: {}", paused.sentence())
            }
            Denial::EgressCeiling { until, .. } => {
                write!(f, "the daily download limit is reached; downloads resume on {} (UTC)", until.day())
            }
            Denial::RateLimited { most, by_key, until, .. } => {
                let builds = if *most == 1 { "one new build".to_owned() } else { format!("{most} new builds") };
                let whose = if *by_key { "with this API key" } else { "from your address" };
                write!(
                    f,
                    "the limit of {builds} a day {whose} is reached; you can start new builds again on {until} (UTC), and can still \
                     download built programs"
                )
            }
            Denial::UnknownKey => {
                f.write_str("this API key is unknown; leave it out to use the allowance of your address")
            }
            Denial::Instead { denial, others } => {
                write!(f, "{denial}; other packages have this program: {}", listed(others, ", "))
            }
            Denial::Unavailable(_) => f.write_str("the service has a problem; try again in a moment"),
        }
    }
}

fn listed(names: &[Wanted], separator: &str) -> String {
    names.iter().map(Wanted::to_string).collect::<Vec<_>>().join(separator)
}

/// The most programs in a sentence.
const NAMES_MAX: usize = 12;

fn some(programs: &[Bin]) -> String {
    let mut names: Vec<_> = programs.iter().take(NAMES_MAX).map(Bin::to_string).collect();
    if programs.len() > NAMES_MAX {
        names.push(format!("{} more", programs.len() - NAMES_MAX));
    }
    names.join(", ")
}
