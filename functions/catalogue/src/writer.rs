//! Makes the two files. What is told may come in any order, and the same gives the same bytes.
//!
//! All of it is kept in memory until the end: texts are cut to a line each on their way in, so that a nixpkgs of 120,000
//! attributes takes about 100 MB.

use std::collections::{BTreeMap, BTreeSet, btree_map};

use binplz_core::{
    artifact::{Main, Manifest, Verdict},
    key::{Attr, Bin, DrvHash, Rev, System},
};
use thiserror::Error;

use crate::{
    bytes::TooLarge,
    details::Details,
    layout,
    record::{About, Record, Standing},
};

/// The catalogue's two files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// For [`crate::Lookup::open`].
    pub lookup: Vec<u8>,
    /// For [`crate::details::read`], block by block.
    pub details: Vec<u8>,
}

/// An attribute was told of twice for one system: which telling counts, nobody knows.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{attr} was told of twice on {system}")]
pub struct Twice {
    attr: Attr,
    system: System,
}

/// A package's programs, in their order, and whether each may be one that can be served.
pub(crate) type Programs = BTreeMap<Bin, bool>;

/// A catalogue in the making.
#[derive(Debug)]
pub struct Writer {
    rev: Rev,
    packages: BTreeMap<Attr, Details>,
    database: BTreeMap<Attr, BTreeSet<Bin>>,
    built: BTreeMap<Attr, Programs>,
}

/// A package, with everything that was told of it put together.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) details: Details,
    pub(crate) programs: Programs,
    pub(crate) main: Option<Bin>,
}

impl Writer {
    /// A catalogue of a nixpkgs, without anything in it.
    pub fn new(rev: Rev) -> Writer {
        Writer { rev, packages: BTreeMap::new(), database: BTreeMap::new(), built: BTreeMap::new() }
    }

    /// How many attributes there are so far.
    pub fn attrs(&self) -> usize {
        self.packages.len()
    }

    /// An attribute was evaluated, or lost.
    ///
    /// # Errors
    /// [`Twice`], if that was said before.
    pub fn evaluated(&mut self, record: Record) -> Result<(), Twice> {
        let Record { attr, system, about, standing } = record.cleaned();
        match self.packages.entry(attr.clone()) {
            btree_map::Entry::Vacant(new) => {
                new.insert(Details { attr, about, standings: BTreeMap::from([(system, standing)]) });
            }
            btree_map::Entry::Occupied(known) => {
                let known = known.into_mut();
                // One system's words will do: the first's that has any.
                let first = known.standings.first_key_value().is_none_or(|(first, _)| system < *first);
                if known.about == About::default() || (first && about != About::default()) {
                    known.about = about;
                }
                if known.standings.insert(system, standing).is_some() {
                    return Err(Twice { attr, system });
                }
            }
        }
        Ok(())
    }

    /// A row of the channel's database: the package has that program, where Hydra built it.
    pub fn in_database(&mut self, attr: Attr, bin: Bin) {
        self.database.entry(attr).or_default().insert(bin);
    }

    /// The package was built here: it has exactly these programs, whatever the database says.
    pub fn built(&mut self, attr: Attr, manifest: &Manifest) {
        let programs = manifest.programs.iter();
        let programs = programs.map(|one| (one.bin.clone(), matches!(one.verdict, Verdict::Static { .. })));
        self.built.insert(attr, programs.collect());
    }

    /// The files.
    ///
    /// # Errors
    /// [`TooLarge`], where there is more than the format can hold: 4 GiB, or half a billion attributes.
    pub fn finish(self) -> Result<Files, TooLarge> {
        let Writer { rev, packages, mut database, mut built } = self;
        let by_drv = programs_by_drv(&packages, &database, &built);
        let mut known = Vec::with_capacity(packages.len());
        for (attr, details) in packages {
            let listed = database.remove(&attr).map(from_database);
            let inherited = || drvs(&details).find_map(|drv| by_drv.get(&drv)).cloned();
            let programs = built.remove(&attr).or(listed).or_else(inherited).unwrap_or_default();
            let main = main(&details, &programs);
            known.push(Known { details, programs, main });
        }
        layout::files(rev, &known)
    }
}

fn from_database(programs: BTreeSet<Bin>) -> Programs {
    programs.into_iter().map(|bin| (bin, true)).collect()
}

/// The programs of each derivation, from those of its attributes that somebody knows them of: a database names one attribute of
/// a derivation only, the one with the shortest name.
fn programs_by_drv(
    packages: &BTreeMap<Attr, Details>,
    database: &BTreeMap<Attr, BTreeSet<Bin>>,
    built: &BTreeMap<Attr, Programs>,
) -> BTreeMap<DrvHash, Programs> {
    let mut by_drv = BTreeMap::new();
    for (attr, programs) in database {
        for drv in packages.get(attr).into_iter().flat_map(drvs) {
            by_drv.entry(drv).or_insert_with(|| from_database(programs.clone()));
        }
    }
    for (attr, programs) in built {
        by_drv.extend(packages.get(attr).into_iter().flat_map(drvs).map(|drv| (drv, programs.clone())));
    }
    by_drv
}

fn drvs(details: &Details) -> impl Iterator<Item = DrvHash> {
    details.standings.values().filter_map(drv)
}

/// The derivation of a standing, as far as it is known.
pub(crate) fn drv(standing: &Standing) -> Option<DrvHash> {
    match standing {
        Standing::Buildable { drv_path } => DrvHash::of_path(drv_path.as_deref()?).ok(),
        Standing::Refused { .. } => None,
    }
}

/// The main program. Where nobody knows the programs, the declared one is believed.
fn main(details: &Details, programs: &Programs) -> Option<Bin> {
    let bins: Vec<&Bin> = programs.keys().collect();
    let declared = details.about.main_program.as_deref();
    match Main::of(&bins, |bin| bin, declared, details.attr.leaf(), &details.about.pname) {
        Main::Program(bin) => Some((*bin).clone()),
        Main::None => declared?.parse().ok(),
        Main::Missing(_) | Main::Many => None,
    }
}
