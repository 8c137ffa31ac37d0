//! What a path means.
//!
//! `/{name}`: (1) the attribute of that name, if its main program is known; (2) the packages that ship a program of that
//! name: the one whose main program it is, then the one of the same name, then the most requested ([`crate::popular`]),
//! then the least nested, then the first by name. A package that cannot be built here, or whose file of that name is
//! known to be unservable, yields to the next one that can be served. Then an attribute of that name whose programs are
//! unknown: the client chooses, or a build finds out. (3) None, with the near names.

use std::ops::Range;

use binplz_core::{
    id::{
        key::{Attr, Bin, System},
        target::Wanted,
    },
    nixpkgs::catalogue::{ALTERNATIVES_MAX, About, Census, Entry, Lost, NEAR_MAX, Resolution},
    ports::Catalogue,
};

use crate::{
    lookup::{Lookup, Tier},
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
            Wanted::Archive(name) => match self.header().attrs.rank(self.body(), name.as_str()) {
                Some(attr) => self.offer(attr, None, Vec::new(), system),
                None => self.by_name(name, system),
            },
            Wanted::Bundle { .. } => self.resolve(&wanted.program(), system),
        }
    }

    fn search(&self, text: &str, system: System, most: usize) -> Vec<Entry> {
        self.find(text, system, most)
    }

    fn words(&self, text: &str) -> Vec<Range<u64>> {
        self.blocks_with(text)
    }

    fn search_words(&self, text: &str, blocks: &[Vec<u8>], system: System, most: usize) -> Vec<Entry> {
        self.find_by_words(text, blocks, system, most)
    }

    fn entry(&self, attr: &Attr, system: System) -> Option<Entry> {
        self.entry_named(attr, system)
    }

    fn about(&self, block: &[u8], attr: &Attr) -> Option<About> {
        search::about(block, attr)
    }

    fn census(&self, system: System) -> Census {
        let mut census = Census { attributes: self.attrs(), ..Census::default() };
        for rank in 0..self.attrs() {
            match (self.obstacle(rank, system), self.attr(rank)) {
                (Some(why), Some(attr)) if why.is_loss() => {
                    let error = why.failure(self.reason(rank, system)).detail.unwrap_or_else(|| why.to_string());
                    census.lost.push(Lost { attr, error });
                }
                (Some(_), _) => census.refused += 1,
                (None, _) => {}
            }
        }
        census
    }
}

impl<B: AsRef<[u8]>> Lookup<B> {
    fn by_name(&self, name: &Attr, system: System) -> Resolution {
        let namesake = self.header().attrs.rank(self.body(), name.as_str());
        let named = namesake.filter(|attr| self.main(*attr).is_some());
        let program = self.header().programs.rank(self.body(), name.as_str());
        let candidates = || named.into_iter().chain(self.rivals(program, named).map(|(attr, _)| attr));
        let bin =
            |attr| if Some(attr) == named { self.main(attr) } else { program.and_then(|rank| self.program(rank)) };
        let best = named.filter(|attr| self.may_serve_main(*attr, system));
        let best = best.or_else(|| self.servable(program, named, system).next());
        match (best, namesake, candidates().next()) {
            // (1) and (2)
            (Some(attr), ..) => self.offer(attr, bin(attr), self.others(program, attr, system), system),
            (None, Some(attr), _) if named.is_none() => self.whole_package(attr, name, system),
            (None, _, Some(attr)) => self.offer(attr, bin(attr), Vec::new(), system),
            // (3)
            (None, _, None) => Resolution::Unknown { near: self.near(name.as_str()) },
        }
    }

    fn by_program(&self, name: &Attr, bin: &Bin, system: System) -> Resolution {
        let Some(attr) = self.header().attrs.rank(self.body(), name.as_str()) else {
            return Resolution::Unknown { near: self.near(name.as_str()) };
        };
        let program = self.header().programs.rank(self.body(), bin.as_str());
        let ships = program.is_some_and(|program| self.ships(attr).any(|(one, _)| one == program));
        // A package whose programs are unknown may have any.
        if ships || self.ships(attr).next().is_none() {
            return self.offer(attr, Some(bin.clone()), self.others(program, attr, system), system);
        }
        Resolution::NoSuchProgram {
            attr: name.clone(),
            programs: self.ships(attr).filter_map(|(program, _)| self.program(program)).collect(),
        }
    }

    /// The packages that ship a program, the best first, without one of them.
    fn rivals(&self, program: Option<usize>, but: Option<usize>) -> impl Iterator<Item = (usize, Tier)> {
        let shippers = program.into_iter().flat_map(|program| self.shippers(program));
        shippers.filter(move |(attr, _)| Some(*attr) != but)
    }

    /// Those that may be served on a system.
    fn servable(&self, program: Option<usize>, but: Option<usize>, system: System) -> impl Iterator<Item = usize> {
        let useful = self.rivals(program, but).filter(|(_, tier)| *tier != Tier::Useless).map(|(attr, _)| attr);
        useful.filter(move |attr| self.obstacle(*attr, system).is_none())
    }

    /// The other packages that ship a program and may be served, without other names of the same derivation.
    fn others(&self, program: Option<usize>, but: usize, system: System) -> Vec<Attr> {
        let same = |attr| self.drv(attr, system).is_some_and(|drv| self.drv(but, system) == Some(drv));
        let others = self.servable(program, Some(but), system).filter(|attr| !same(*attr));
        others.filter_map(|attr| self.attr(attr)).take(ALTERNATIVES_MAX).collect()
    }

    /// Whether a package's main program may be served.
    fn may_serve_main(&self, attr: usize, system: System) -> bool {
        let main = self.header().mains.get(self.body(), attr).and_then(|rank| (rank as usize).checked_sub(1));
        let useless = self.ships(attr).any(|(program, useful)| Some(program) == main && !useful);
        !useless && self.obstacle(attr, system).is_none()
    }

    /// An attribute without a known main program.
    fn whole_package(&self, attr: usize, name: &Attr, system: System) -> Resolution {
        let (useful, useless): (Vec<_>, Vec<_>) = self.ships(attr).partition(|(_, useful)| *useful);
        let shown = if useful.is_empty() { useless } else { useful };
        if shown.is_empty() || self.obstacle(attr, system).is_some() {
            return self.offer(attr, None, Vec::new(), system);
        }
        let programs = shown.into_iter().filter_map(|(program, _)| self.program(program)).collect();
        Resolution::Choice { attr: name.clone(), programs }
    }

    /// A package, or its obstacle on this system.
    fn offer(&self, rank: usize, bin: Option<Bin>, others: Vec<Attr>, system: System) -> Resolution {
        match (self.attr(rank), self.obstacle(rank, system)) {
            (Some(attr), None) => {
                Resolution::Found { attr, bin, main: self.main(rank), drv: self.drv(rank, system), others }
            }
            (Some(attr), Some(why)) => {
                Resolution::Refused { attr, failure: why.failure(self.reason(rank, system)), others }
            }
            (None, _) => Resolution::Unknown { near: Vec::new() },
        }
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
