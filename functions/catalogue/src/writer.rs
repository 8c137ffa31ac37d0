//! Writes the two files. The input may come in any order; the same input gives the same bytes.
//!
//! All of it is kept in memory until the end, with every text cut to a line: about a kilobyte per attribute.

use std::collections::{BTreeMap, BTreeSet};

use binplz_core::{
    id::key::{Attr, Bin, DrvHash, Rev, System},
    nixpkgs::catalogue::About,
    objects::artifact::{Main, Manifest, Verdict},
};
use thiserror::Error;

use crate::{
    bytes::TooLarge,
    details::Details,
    layout,
    record::{Record, Standing},
};

/// The catalogue's two files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// For [`crate::Lookup::open`].
    pub lookup: Vec<u8>,
    /// For [`crate::details::read`], block by block.
    pub details: Vec<u8>,
}

/// An attribute was added twice for one system, so it is unknown which record counts.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("duplicate attribute {attr} on {system}")]
pub struct Twice {
    attr: Attr,
    system: System,
}

/// A package's programs in order, and whether each may be servable.
pub(crate) type Programs = BTreeMap<Bin, bool>;

/// A catalogue under construction.
#[derive(Clone, Debug)]
pub struct Writer {
    rev: Rev,
    packages: BTreeMap<Attr, Told>,
    database: BTreeMap<Attr, BTreeSet<Bin>>,
    /// With the main program, if it has one.
    built: BTreeMap<Attr, (Programs, Option<Bin>)>,
}

/// The evaluations of an attribute.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    about: About,
    /// In the order of [`System::ALL`].
    standings: [Option<Standing>; System::ALL.len()],
}

impl Told {
    /// Its standing on a system.
    pub(crate) fn on(&self, system: System) -> Option<&Standing> {
        self.standings.get(place(system))?.as_ref()
    }

    /// Its derivations, as far as they are known.
    fn drvs(&self) -> impl Iterator<Item = DrvHash> {
        self.standings.iter().flatten().filter_map(drv)
    }
}

/// A package, with all that was added about it.
#[derive(Debug)]
pub(crate) struct PackageRecord {
    pub(crate) attr: Attr,
    pub(crate) told: Told,
    pub(crate) programs: Programs,
    pub(crate) main: Option<Bin>,
    /// It was built here, so it was requested.
    pub(crate) requested: bool,
}

impl PackageRecord {
    /// Its name without its version.
    pub(crate) fn pname(&self) -> &str {
        &self.told.about.pname
    }

    /// Its description.
    pub(crate) fn description(&self) -> &str {
        &self.told.about.description
    }

    /// The details that pages show.
    pub(crate) fn details(&self) -> Details {
        let standings = System::ALL.into_iter().filter_map(|system| Some((system, self.told.on(system)?.clone())));
        Details { attr: self.attr.clone(), about: self.told.about.clone(), standings: standings.collect() }
    }
}

/// A system's number.
pub(crate) fn place(system: System) -> usize {
    System::ALL.iter().position(|one| *one == system).unwrap_or_default()
}

impl Writer {
    /// An empty catalogue of a nixpkgs.
    pub fn new(rev: Rev) -> Writer {
        Writer { rev, packages: BTreeMap::new(), database: BTreeMap::new(), built: BTreeMap::new() }
    }

    /// The number of attributes so far.
    pub fn attrs(&self) -> usize {
        self.packages.len()
    }

    /// Adds an attribute that was evaluated or lost.
    ///
    /// # Errors
    /// [`Twice`], if it was added before.
    pub fn evaluated(&mut self, record: Record) -> Result<(), Twice> {
        let Record { attr, system, about, standing } = record.cleaned();
        let told = self.packages.entry(attr.clone()).or_default();
        // The description of one system suffices: the first that has any.
        let others_first = told.standings.iter().position(Option::is_some).is_some_and(|first| first < place(system));
        if told.about == About::default() || (!others_first && about != About::default()) {
            told.about = about;
        }
        match told.standings.get_mut(place(system)) {
            Some(new @ None) => {
                *new = Some(standing);
                Ok(())
            }
            _ => Err(Twice { attr, system }),
        }
    }

    /// Adds a row of the channel's database: the package ships that program, according to Hydra's build.
    pub fn in_database(&mut self, attr: Attr, bin: Bin) {
        self.database.entry(attr).or_default().insert(bin);
    }

    /// Adds a build made here: the package has exactly these programs, which overrides the database.
    pub fn built(&mut self, attr: Attr, manifest: &Manifest) {
        let programs = manifest.by_name().into_iter();
        let programs = programs.map(|one| (one.bin.clone(), matches!(one.verdict, Verdict::Static { .. })));
        let main = match manifest.main(attr.leaf()) {
            Main::Program(program) => Some(program.bin.clone()),
            Main::Many | Main::Missing(_) | Main::None => None,
        };
        self.built.insert(attr, (programs.collect(), main));
    }

    /// The files.
    ///
    /// # Errors
    /// [`TooLarge`], if the content exceeds the format's limits: 4 GiB, or half a billion attributes.
    pub fn finish(self) -> Result<Files, TooLarge> {
        let Writer { rev, packages, mut database, mut built } = self;
        let by_drv = programs_by_drv(&packages, &database, &built);
        let mut known = Vec::with_capacity(packages.len());
        for (attr, told) in packages {
            let listed = database.remove(&attr).map(from_database);
            let inherited = || told.drvs().find_map(|drv| by_drv.get(&drv)).cloned();
            let built = built.remove(&attr);
            let requested = built.is_some();
            // A build knows which outputs Nix installs, and so which program is the only one of these.
            let (built, main_of_build) = built.unzip();
            let programs = built.or(listed).or_else(inherited).unwrap_or_default();
            let main = main(&attr, &told.about, &programs).or(main_of_build.flatten());
            known.push(PackageRecord { attr, told, programs, main, requested });
        }
        layout::files(rev, &known)
    }
}

fn from_database(programs: BTreeSet<Bin>) -> Programs {
    programs.into_iter().map(|bin| (bin, true)).collect()
}

/// The programs of each derivation, from those of its attributes whose programs are known: a database names only one
/// attribute of a derivation, the one with the shortest name.
fn programs_by_drv(
    packages: &BTreeMap<Attr, Told>,
    database: &BTreeMap<Attr, BTreeSet<Bin>>,
    built: &BTreeMap<Attr, (Programs, Option<Bin>)>,
) -> BTreeMap<DrvHash, Programs> {
    let mut by_drv = BTreeMap::new();
    for (attr, programs) in database {
        for drv in packages.get(attr).into_iter().flat_map(Told::drvs) {
            by_drv.entry(drv).or_insert_with(|| from_database(programs.clone()));
        }
    }
    for (attr, (programs, _)) in built {
        by_drv.extend(packages.get(attr).into_iter().flat_map(Told::drvs).map(|drv| (drv, programs.clone())));
    }
    by_drv
}

/// The derivation of a standing, if it is known.
pub(crate) fn drv(standing: &Standing) -> Option<DrvHash> {
    match standing {
        Standing::Buildable { drv_path } => DrvHash::of_path(drv_path.as_deref()?).ok(),
        Standing::Refused { .. } => None,
    }
}

/// The main program. If the programs are unknown, the declared one counts.
fn main(attr: &Attr, about: &About, programs: &Programs) -> Option<Bin> {
    let bins: Vec<&Bin> = programs.keys().collect();
    let declared = about.main_program.as_deref();
    match Main::of(&bins, &[], |bin| bin, declared, attr.leaf(), &about.pname) {
        Main::Program(bin) => Some(bin.clone()),
        Main::None => declared?.parse().ok(),
        Main::Missing(_) | Main::Many => None,
    }
}
