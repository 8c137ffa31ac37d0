//! What a path means. The first match wins.
//!
//! `/{name}`: (1) the attribute of that name, if its main program is known; (2) a package that ships a program of that
//! name: the one whose main program it is, else the one of the same name, else the first by name. Within each of these
//! three, a package that is buildable here comes before one that is not. Then an attribute of that name whose programs
//! are unknown: the client chooses, or a build finds out. (3) None, with the near names.

use binplz_core::{
    id::{
        key::{Attr, Bin, System},
        target::Wanted,
    },
    nixpkgs::catalogue::{About, Entry, NEAR_MAX, Resolution},
    ports::Catalogue,
};

use crate::{
    lookup::Lookup,
    near::{Near, Search},
    record::Obstacle,
    search,
};

/// The lists that near names come from.
const ATTRS: usize = 0;
const PROGRAMS: usize = 1;

impl<B: AsRef<[u8]> + Send + Sync> Catalogue for Lookup<B> {
    fn resolve(&self, wanted: &Wanted, system: System) -> Resolution {
        match wanted {
            Wanted::Package(name) => self.by_name(name, system),
            Wanted::Program(attr, bin) => self.by_program(attr, bin, system),
        }
    }

    fn search(&self, text: &str, system: System, most: usize) -> Vec<Entry> {
        self.find(text, system, most)
    }

    fn entry(&self, attr: &Attr, system: System) -> Option<Entry> {
        self.entry_named(attr, system)
    }

    fn about(&self, block: &[u8], attr: &Attr) -> Option<About> {
        search::about(block, attr)
    }
}

impl<B: AsRef<[u8]>> Lookup<B> {
    fn by_name(&self, name: &Attr, system: System) -> Resolution {
        let namesake = self.header().attrs.rank(self.body(), name.as_str());
        // (1)
        if let Some(attr) = namesake
            && let Some(main) = self.main(attr)
        {
            return self.offer(attr, Some(main), system);
        }
        // (2)
        if let Ok(bin) = name.as_str().parse::<Bin>()
            && let Some(attr) = self.best_shipper(&bin, system)
        {
            return self.offer(attr, Some(bin), system);
        }
        // (3)
        match namesake {
            Some(attr) => self.whole_package(attr, name, system),
            None => Resolution::Unknown { near: self.near(name.as_str()) },
        }
    }

    fn by_program(&self, name: &Attr, bin: &Bin, system: System) -> Resolution {
        let Some(attr) = self.header().attrs.rank(self.body(), name.as_str()) else {
            return Resolution::Unknown { near: self.near(name.as_str()) };
        };
        let ships = self.header().programs.rank(self.body(), bin.as_str());
        let ships = ships.is_some_and(|program| self.ships(attr).any(|(one, _)| one == program));
        // A package whose programs are unknown may have any.
        if ships || self.ships(attr).next().is_none() {
            return self.offer(attr, Some(bin.clone()), system);
        }
        Resolution::NoSuchProgram {
            attr: name.clone(),
            programs: self.ships(attr).filter_map(|(program, _)| self.program(program)).collect(),
        }
    }

    /// An attribute without a known main program.
    fn whole_package(&self, attr: usize, name: &Attr, system: System) -> Resolution {
        let (useful, useless): (Vec<_>, Vec<_>) = self.ships(attr).partition(|(_, useful)| *useful);
        let shown = if useful.is_empty() { useless } else { useful };
        if shown.is_empty() || self.obstacle(attr, system).is_some() {
            return self.offer(attr, None, system);
        }
        let programs = shown.into_iter().filter_map(|(program, _)| self.program(program)).collect();
        Resolution::Choice { attr: name.clone(), programs }
    }

    /// A package, or its obstacle on this system.
    fn offer(&self, rank: usize, bin: Option<Bin>, system: System) -> Resolution {
        match (self.attr(rank), self.obstacle(rank, system)) {
            (Some(attr), None) => Resolution::Found { attr, bin, main: self.main(rank), drv: self.drv(rank, system) },
            (Some(attr), Some(why)) => Resolution::Refused { attr, failure: why.failure(self.reason(rank, system)) },
            (None, _) => Resolution::Unknown { near: Vec::new() },
        }
    }

    /// The package that a program's name means.
    fn best_shipper(&self, bin: &Bin, system: System) -> Option<usize> {
        let program = self.header().programs.rank(self.body(), bin.as_str())?;
        let (first, best) = self.shippers(program).next()?;
        let mut equals = self.shippers(program).take_while(|(_, tier)| *tier == best);
        Some(equals.find(|(attr, _)| self.obstacle(*attr, system).is_none()).map_or(first, |(attr, _)| attr))
    }

    /// Suggestions for an unknown name: paths that resolve, the nearest first.
    fn near(&self, name: &str) -> Vec<Wanted> {
        let mut search = Search::new(name, NEAR_MAX);
        // An attribute without a package is no useful suggestion.
        let lost = |attr| {
            System::ALL.into_iter().any(|system| self.obstacle(attr, system).is_some_and(Obstacle::is_no_package))
        };
        search.walk(&self.header().attrs, self.body(), ATTRS, |attr| !lost(attr));
        search.walk(&self.header().programs, self.body(), PROGRAMS, |_| true);
        search.into_found().iter().filter_map(|near| self.path_of(near)).collect()
    }

    fn path_of(&self, near: &Near) -> Option<Wanted> {
        match near.name.parse() {
            Ok(attr) => Some(Wanted::Package(attr)),
            // A program such as `[`, which is not a valid package name.
            Err(_) if near.list == PROGRAMS => {
                let (attr, _) = self.shippers(near.rank).next()?;
                Some(Wanted::Program(self.attr(attr)?, self.program(near.rank)?))
            }
            Err(_) => None,
        }
    }
}
