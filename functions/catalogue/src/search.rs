//! Search: packages by a part of their own name or of a program's name. `words.rs` finds them by their descriptions.

use binplz_core::{
    id::key::{Attr, NAME_MAX, System},
    nixpkgs::catalogue::{About, Entry},
};

use crate::{
    details,
    lookup::{Lookup, Tier},
    names::{BLOCK, Names},
    pairs::END,
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

/// A list of names.
#[derive(Clone, Copy)]
enum List {
    Attrs,
    Programs,
}

/// The order in which blocks of names are read: the best match that a block of the list can add, and the letters around the text
/// in such a name. A search stops reading where only worse matches than it has are left.
const STEPS: [(Fit, List, &[u8], &[u8]); 10] = [
    (Fit::Attribute, List::Attrs, &[END], &[]),
    (Fit::Main, List::Programs, &[END], &[END]),
    (Fit::Leaf, List::Attrs, b".", &[END]),
    (Fit::Start, List::Attrs, &[], &[]),
    (Fit::MainStart, List::Programs, &[END], &[]),
    (Fit::WordStart, List::Attrs, b".", &[]),
    (Fit::WordStart, List::Attrs, b"-", &[]),
    (Fit::WordStart, List::Attrs, b"_", &[]),
    (Fit::Within, List::Attrs, &[], &[]),
    (Fit::MainWithin, List::Programs, &[], &[]),
];

/// The order of results: by match, then buildable before others, the most requested, top level before nested, short
/// before long, then by name.
type Place<Name> = (Fit, bool, usize, usize, usize, Name);

/// The best results so far, each package once.
struct Best {
    most: usize,
    found: Vec<(Place<String>, usize)>,
}

impl Best {
    /// Whether a package that matches so may still enter the list.
    fn wants(&self, fit: Fit, refused: bool) -> bool {
        self.found.len() < self.most || self.found.last().is_some_and(|(last, _)| (fit, refused) <= (last.0, last.1))
    }

    fn offer(&mut self, place: Place<&str>, attr: usize) {
        let known = |(fit, refused, popular, dots, length, name): &Place<String>| {
            (*fit, *refused, *popular, *dots, *length, name.as_str()) <= place
        };
        if self.found.len() >= self.most && self.found.last().is_some_and(|(last, _)| known(last)) {
            return;
        }
        if let Some(at) = self.found.iter().position(|(_, one)| *one == attr) {
            if known(&self.found[at].0) {
                return;
            }
            self.found.remove(at);
        }
        let at = self.found.partition_point(|(before, _)| known(before));
        let (fit, refused, popular, dots, length, name) = place;
        self.found.insert(at, ((fit, refused, popular, dots, length, name.to_owned()), attr));
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
        let text = text.as_bytes();
        let mut best = Best { most, found: Vec::new() };
        let pairs = self.pairs();
        let mut unread = [pairs[0].unread(), pairs[1].unread()];
        for (fit, list, before, behind) in STEPS {
            let telling = fit != Fit::Start || text.len() >= TELLING;
            if !telling || !best.wants(fit, false) {
                continue;
            }
            let list_at = list as usize;
            for block in pairs[list_at].blocks(&[before, text, behind].concat(), &mut unread[list_at]) {
                match list {
                    List::Attrs => self.match_attrs(block, text, system, &mut best),
                    List::Programs => self.match_programs(block, text, system, &mut best),
                }
            }
        }
        best.found.into_iter().filter_map(|(_, attr)| self.entry_of(attr, system)).collect()
    }

    /// Takes the attributes of a block that contain the text.
    fn match_attrs(&self, block: usize, text: &[u8], system: System, best: &mut Best) {
        matches(&self.header().attrs, self.body(), block, text, |rank, name, lower, at| {
            let leaf = lower.rsplit(|byte| *byte == b'.').next().unwrap_or(lower);
            let fit = match at {
                0 if lower.len() == text.len() => Fit::Attribute,
                0 => Fit::Start,
                _ if leaf == text => Fit::Leaf,
                _ if text.len() >= TELLING && popular::is_listed(lower) => Fit::Start,
                _ if starts_word(lower, at) => Fit::WordStart,
                _ => Fit::Within,
            };
            self.take(best, fit, rank, str::from_utf8(name).ok(), system);
        });
    }

    /// Takes the packages of the programs of a block whose names contain the text.
    fn match_programs(&self, block: usize, text: &[u8], system: System, best: &mut Best) {
        matches(&self.header().programs, self.body(), block, text, |rank, name, _, at| {
            let whole = at == 0 && name.len() == text.len();
            let main = match at {
                0 if whole => Fit::Main,
                0 => Fit::MainStart,
                _ => Fit::MainWithin,
            };
            // Its main packages come first.
            let mut other = Fit::Program;
            for (attr, tier) in self.shippers(rank).take(best.most) {
                match (tier, whole) {
                    (Tier::Main | Tier::Namesake, _) => self.take(best, main, attr, None, system),
                    (Tier::Other, true) => {
                        self.take(best, std::mem::replace(&mut other, Fit::AlsoProgram), attr, None, system);
                    }
                    (Tier::Other | Tier::Useless, _) => break,
                }
            }
        });
    }

    /// Takes a package, whose name may be known.
    fn take(&self, best: &mut Best, fit: Fit, attr: usize, name: Option<&str>, system: System) {
        if !best.wants(fit, false) {
            return;
        }
        let obstacle = self.obstacle(attr, system);
        if obstacle.is_some_and(Obstacle::is_no_package) || !best.wants(fit, obstacle.is_some()) {
            return;
        }
        let decoded = if name.is_none() { self.header().attrs.name(self.body(), attr) } else { None };
        let Some(name) = name.or(decoded.as_deref()) else { return };
        let dots = name.bytes().filter(|byte| *byte == b'.').count();
        best.offer((fit, obstacle.is_some(), popular::place(name), dots, name.len(), name), attr);
    }

    /// Up to `most` packages with all words of a text, from these blocks of the index.
    pub(crate) fn find_by_words(&self, text: &str, blocks: &[Vec<u8>], system: System, most: usize) -> Vec<Entry> {
        let found = self.with_words(text, blocks, system, most).into_iter();
        found.filter_map(|attr| self.entry_of(attr, system)).collect()
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

/// The names of a block that contain a text, ignoring case: of each, its rank, the name as it is and in small letters, and the
/// position of the first match.
fn matches(names: &Names, body: &[u8], block: usize, text: &[u8], mut found: impl FnMut(usize, &[u8], &[u8], usize)) {
    let mut lower: Vec<u8> = Vec::with_capacity(NAME_MAX);
    let mut last = None;
    names.each(body, block, |place, kept, name| {
        lower.truncate(kept);
        lower.extend(name[kept..].iter().map(u8::to_ascii_lowercase));
        // A match in the shared prefix was found in the name before.
        last = last.filter(|at| at + text.len() <= kept).or_else(|| {
            let from = kept.saturating_sub(text.len() - 1);
            let fits = |part: &[u8]| part[0] == text[0] && part == text;
            Some(from + lower.get(from..)?.windows(text.len()).position(fits)?)
        });
        if let Some(at) = last {
            found(block * BLOCK + place, name, &lower, at);
        }
        true
    });
}
