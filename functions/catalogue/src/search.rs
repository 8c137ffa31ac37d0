//! Search: packages by a part of their own name or of a program's name. Both lists of names are walked once.
//!
//! Descriptions are not searched: they are compressed in the other file, and a search would have to read all of it.

use binplz_core::{
    id::key::{Attr, NAME_MAX, System},
    nixpkgs::catalogue::{About, Entry},
};

use crate::{
    details,
    lookup::{Lookup, Tier},
    names::Names,
    popular,
    record::Obstacle,
};

/// The length from which a text inside of a name says something: `ls` is in all `utils`.
const TELLING: usize = 3;

/// How well a name matches, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    /// The attribute equals the text.
    Attribute,
    /// Its main program does.
    Main,
    /// Another of its programs does, and of all such packages this one is the first to be served.
    Program,
    /// The last component of its attribute does.
    Leaf,
    /// The attribute begins with the text; or it contains the text, and is among the most requested.
    Start,
    /// Its main program does.
    MainStart,
    /// The last component of its attribute does, or a word behind a `-` in it.
    WordStart,
    /// One of its programs equals the text, as of packages before it.
    AlsoProgram,
    /// The attribute contains the text.
    Within,
    /// Its main program's name contains the text.
    MainWithin,
}

/// The order of results: by match, then buildable before others, the most requested, top level before nested, short
/// before long, then by name.
type Place = (Fit, bool, usize, usize, usize, String);

/// The best results so far, each package once.
struct Best {
    most: usize,
    found: Vec<(Place, usize)>,
}

impl Best {
    /// Whether a package that matches so may still enter the list.
    fn wants(&self, fit: Fit) -> bool {
        self.found.len() < self.most || self.found.last().is_some_and(|(place, _)| fit <= place.0)
    }

    fn offer(&mut self, place: Place, attr: usize) {
        if let Some(at) = self.found.iter().position(|(_, known)| *known == attr) {
            if self.found[at].0 <= place {
                return;
            }
            self.found.remove(at);
        }
        let at = self.found.partition_point(|(before, _)| *before < place);
        self.found.insert(at, (place, attr));
        self.found.truncate(self.most);
    }
}

impl<B: AsRef<[u8]>> Lookup<B> {
    /// Up to `most` packages, the best first, without lost attributes.
    pub(crate) fn find(&self, text: &str, system: System, most: usize) -> Vec<Entry> {
        let text = text.split_whitespace().collect::<Vec<_>>().join("-").to_ascii_lowercase();
        if text.is_empty() || text.len() > NAME_MAX || most == 0 {
            return Vec::new();
        }
        let mut best = Best { most, found: Vec::new() };
        self.each(&self.header().attrs, text.as_bytes(), |rank, name, at| {
            let leaf = name.rsplit(|byte| *byte == b'.').next().unwrap_or(name);
            let fit = match at {
                0 if name.len() == text.len() => Fit::Attribute,
                0 => Fit::Start,
                _ if leaf == text.as_bytes() => Fit::Leaf,
                _ if text.len() >= TELLING && popular::is_listed(name) => Fit::Start,
                _ if starts_word(name, at) => Fit::WordStart,
                _ => Fit::Within,
            };
            self.take(&mut best, fit, rank, system);
        });
        self.each(&self.header().programs, text.as_bytes(), |rank, name, at| {
            let whole = at == 0 && name.len() == text.len();
            let main = match at {
                0 if whole => Fit::Main,
                0 => Fit::MainStart,
                _ => Fit::MainWithin,
            };
            // Its main packages come first.
            let mut other = Fit::Program;
            for (attr, tier) in self.shippers(rank).take(most) {
                match (tier, whole) {
                    (Tier::Main | Tier::Namesake, _) => self.take(&mut best, main, attr, system),
                    (Tier::Other, true) => {
                        self.take(&mut best, std::mem::replace(&mut other, Fit::AlsoProgram), attr, system);
                    }
                    (Tier::Other | Tier::Useless, _) => break,
                }
            }
        });
        best.found.into_iter().filter_map(|(_, attr)| self.entry_of(attr, system)).collect()
    }

    /// The names that contain a text, ignoring case, each with the position of the match.
    fn each(&self, names: &Names, text: &[u8], mut found: impl FnMut(usize, &[u8], usize)) {
        let mut name: Vec<u8> = Vec::with_capacity(NAME_MAX);
        let mut last = None;
        for (rank, entry) in names.all(self.body()).enumerate() {
            name.truncate(entry.shared);
            let kept = name.len();
            name.extend(entry.rest.iter().map(u8::to_ascii_lowercase));
            // A match in the shared prefix was found in the name before.
            last = last.filter(|at| at + text.len() <= kept).or_else(|| {
                let from = kept.saturating_sub(text.len() - 1);
                let fits = |part: &[u8]| part[0] == text[0] && part == text;
                Some(from + name.get(from..)?.windows(text.len()).position(fits)?)
            });
            if let Some(at) = last {
                found(rank, &name, at);
            }
        }
    }

    fn take(&self, best: &mut Best, fit: Fit, attr: usize, system: System) {
        if !best.wants(fit) {
            return;
        }
        let obstacle = self.obstacle(attr, system);
        if obstacle.is_some_and(Obstacle::is_no_package) {
            return;
        }
        let Some(name) = self.attr(attr) else { return };
        let popular = popular::place(&name);
        let name = name.as_str();
        let place = (fit, obstacle.is_some(), popular, name.matches('.').count(), name.len(), name.to_owned());
        best.offer(place, attr);
    }

    /// The entry of the attribute of a rank.
    pub(crate) fn entry_of(&self, rank: usize, system: System) -> Option<Entry> {
        let block = self.header().blocks.range(self.body(), rank / details::BLOCK)?;
        Some(Entry {
            attr: self.attr(rank)?,
            main: self.main(rank),
            programs: self.ships(rank).filter(|(_, useful)| *useful).filter_map(|(bin, _)| self.program(bin)).collect(),
            refused: self.obstacle(rank, system).map(|why| why.failure(self.reason(rank, system))),
            details: block.start as u64..block.end as u64,
        })
    }

    /// The entry of an attribute.
    pub(crate) fn entry_named(&self, attr: &Attr, system: System) -> Option<Entry> {
        self.entry_of(self.header().attrs.rank(self.body(), attr.as_str())?, system)
    }
}

/// A package's description, read from its block.
pub(crate) fn about(block: &[u8], attr: &Attr) -> Option<About> {
    // The file's writer is not trusted.
    Some(details::read(block, attr).ok()?.about.cleaned())
}

/// Whether a word begins at that position.
fn starts_word(name: &[u8], at: usize) -> bool {
    at.checked_sub(1).and_then(|before| name.get(before)).is_some_and(|byte| b".-_".contains(byte))
}
