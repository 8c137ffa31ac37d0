//! The log as static objects (c2sp.org/tlog-tiles): tiles of 256 hashes, bundles of 256 entries, and how they grow.
//!
//! A level-0 tile has the hashes of leaves. Each full tile is one hash of the level above. A tile that is not full is
//! named by its width as well, so no object is ever written with another content.

use std::{collections::BTreeMap, fmt, str::FromStr};

use crate::{
    id::key::{BadName, serde_as_text},
    trust::merkle::{Hash, Node, empty_root, leaf_hash, node_hash, root_of},
};

/// The hashes of a full tile, and the entries of a full bundle.
pub const WIDTH: u64 = 256;
/// Most levels: 256^8 leaves.
const LEVELS: u8 = 8;
/// Longest entry, in bytes: its length has 16 bits.
pub const ENTRY_MAX: usize = u16::MAX as usize;

/// What an object of the log has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Hashes of that level, from 0.
    Hashes(u8),
    /// Entries.
    Entries,
}

/// An object of the log: `tile/0/x001/234.p/5`, `tile/entries/000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TileName {
    /// What it has.
    pub kind: Kind,
    /// How many of its kind lie left of it.
    pub index: u64,
    /// How many hashes or entries it has, from 1 to [`WIDTH`].
    pub width: u64,
}

impl fmt::Display for TileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Hashes(level) => write!(f, "tile/{level}/")?,
            Kind::Entries => f.write_str("tile/entries/")?,
        }
        let mut groups = Vec::new();
        let mut rest = self.index;
        while groups.is_empty() || rest > 0 {
            groups.push(rest % 1000);
            rest /= 1000;
        }
        for group in groups[1..].iter().rev() {
            write!(f, "x{group:03}/")?;
        }
        write!(f, "{:03}", groups[0])?;
        if self.width == WIDTH { Ok(()) } else { write!(f, ".p/{}", self.width) }
    }
}

impl FromStr for TileName {
    type Err = BadName;
    fn from_str(s: &str) -> Result<Self, BadName> {
        let number = |digits: &str| digits.parse::<u64>().map_err(|_| BadName::Form);
        let (kind, rest) = s.strip_prefix("tile/").and_then(|rest| rest.split_once('/')).ok_or(BadName::Form)?;
        let kind = match kind {
            "entries" => Kind::Entries,
            level => Kind::Hashes(level.parse().ok().filter(|level| *level < LEVELS).ok_or(BadName::Form)?),
        };
        let (path, width) = match rest.split_once(".p/") {
            Some((path, width)) => (path, number(width)?),
            None => (rest, WIDTH),
        };
        let index = path.split('/').try_fold(0_u64, |index, group| {
            let group = number(group.strip_prefix('x').unwrap_or(group))?;
            index.checked_mul(1000).and_then(|index| index.checked_add(group)).ok_or(BadName::Form)
        })?;
        let name = TileName { kind, index, width };
        // Each name has one form; any other is refused.
        if (1..=WIDTH).contains(&width) && name.to_string() == s { Ok(name) } else { Err(BadName::Form) }
    }
}

serde_as_text!(TileName, BadName);

impl TileName {
    /// Whether it has all that it can have.
    pub fn is_full(&self) -> bool {
        self.width == WIDTH
    }

    /// The full one in its place.
    pub fn full(self) -> TileName {
        TileName { width: WIDTH, ..self }
    }

    /// The first part of a wider version's bytes that is this one's.
    pub fn cut(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        let end = match self.kind {
            Kind::Hashes(_) => self.width as usize * size_of::<Hash>(),
            Kind::Entries => (0..self.width).fold(0, |end, _| {
                let length =
                    bytes.get(end..end + 2).and_then(|length| length.try_into().ok()).map_or(0, u16::from_be_bytes);
                end + 2 + usize::from(length)
            }),
        };
        bytes.truncate(end);
        bytes
    }

    /// The one that a tree of `size` leaves has in that place.
    pub fn of(kind: Kind, index: u64, size: u64) -> TileName {
        let level = match kind {
            Kind::Hashes(level) => u32::from(level),
            Kind::Entries => 0,
        };
        let hashes = size.checked_shr(8 * level).unwrap_or(0);
        TileName { kind, index, width: hashes.saturating_sub(index.saturating_mul(WIDTH)).min(WIDTH) }
    }

    /// The bundle of a tree of `size` leaves that has an entry, and its place in it.
    pub fn of_entry(index: u64, size: u64) -> (TileName, usize) {
        (TileName::of(Kind::Entries, index / WIDTH, size), (index % WIDTH) as usize)
    }

    /// The tile of a tree of `size` leaves that has the node, and where in it: hashes `from..to` below the node.
    pub fn with(node: Node, size: u64) -> (TileName, usize, usize) {
        let (level, below) = (node.height / 8, node.height % 8);
        let from = node.index << below;
        let start = from % WIDTH;
        let name = TileName::of(Kind::Hashes(level as u8), from / WIDTH, size);
        (name, start as usize, (start + (1 << below)) as usize)
    }
}

/// The hashes of a tile's bytes; `None` if they are not of that width.
pub fn hashes(name: &TileName, bytes: &[u8]) -> Option<Vec<Hash>> {
    let hashes: Vec<Hash> = bytes.chunks(32).map(Hash::try_from).collect::<Result<_, _>>().ok()?;
    (hashes.len() as u64 == name.width).then_some(hashes)
}

/// The entries of a bundle's bytes; `None` if it is malformed, or has another number of entries.
pub fn entries(name: &TileName, mut bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut entries = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let (entry, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
        entries.push(entry.to_vec());
        bytes = rest;
    }
    (bytes.is_empty() && entries.len() as u64 == name.width).then_some(entries)
}

/// The right edge of a tree: all that it takes to append to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edge {
    size: u64,
    /// The hashes of each level that are in no full tile yet.
    levels: Vec<Vec<Hash>>,
    /// The entries that are in no full bundle yet.
    entries: Vec<Vec<u8>>,
}

impl Edge {
    /// The objects that a tree of `size` leaves is continued from: those that are not full.
    pub fn needs(size: u64) -> Vec<TileName> {
        let last = |kind, level: u8| TileName::of(kind, size >> (8 * u32::from(level)) >> WIDTH.trailing_zeros(), size);
        let of_levels = (0..LEVELS).map(|level| last(Kind::Hashes(level), level));
        of_levels.chain([last(Kind::Entries, 0)]).filter(|name| name.width > 0).collect()
    }

    /// The edge of a tree of `size` leaves, of the objects that it [needs](Edge::needs); `None` if one is malformed or missing.
    pub fn of(size: u64, objects: &BTreeMap<TileName, Vec<u8>>) -> Option<Edge> {
        let mut edge = Edge { size, ..Edge::default() };
        for name in Edge::needs(size) {
            let bytes = objects.get(&name)?;
            match name.kind {
                Kind::Hashes(level) => *edge.level(level.into()) = hashes(&name, bytes)?,
                Kind::Entries => edge.entries = entries(&name, bytes)?,
            }
        }
        Some(edge)
    }

    fn level(&mut self, level: usize) -> &mut Vec<Hash> {
        if self.levels.len() <= level {
            self.levels.resize(level + 1, Vec::new());
        }
        &mut self.levels[level]
    }

    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The tree's root.
    pub fn root(&self) -> Hash {
        let mut root: Option<Hash> = None;
        for hashes in &self.levels {
            // The complete subtrees of a level, from the smallest and rightmost on.
            let mut end = hashes.len();
            while end > 0 {
                let start = end - (1 << end.trailing_zeros());
                let left = root_of(&hashes[start..end]).unwrap_or_else(empty_root);
                root = Some(root.map_or(left, |right| node_hash(&left, &right)));
                end = start;
            }
        }
        root.unwrap_or_else(empty_root)
    }

    /// Appends entries. Returns the objects to write, before any checkpoint of the new tree is published.
    ///
    /// # Panics
    /// If an entry is longer than [`ENTRY_MAX`].
    pub fn append(&mut self, new: impl IntoIterator<Item = Vec<u8>>) -> BTreeMap<TileName, Vec<u8>> {
        let (mut objects, mut grown) = (BTreeMap::new(), Vec::new());
        for entry in new {
            let hash = leaf_hash(&entry);
            self.entries.push(entry);
            self.size += 1;
            if self.entries.len() as u64 == WIDTH {
                let name = TileName { kind: Kind::Entries, index: self.size / WIDTH - 1, width: WIDTH };
                objects.insert(name, bundle(&std::mem::take(&mut self.entries)));
            }
            let (mut level, mut hash) = (0, hash);
            loop {
                if grown.len() <= level {
                    grown.resize(level + 1, false);
                }
                grown[level] = true;
                let hashes = self.level(level);
                hashes.push(hash);
                if hashes.len() as u64 != WIDTH {
                    break;
                }
                let full = std::mem::take(hashes);
                let index = (self.size >> (8 * (level + 1))) - 1;
                objects.insert(TileName { kind: Kind::Hashes(level as u8), index, width: WIDTH }, full.concat());
                hash = root_of(&full).unwrap_or_else(empty_root);
                level += 1;
            }
        }
        let grown = |kind| match kind {
            Kind::Hashes(level) => grown.get(usize::from(level)) == Some(&true),
            Kind::Entries => grown.first() == Some(&true),
        };
        for name in Edge::needs(self.size).into_iter().filter(|name| grown(name.kind)) {
            let bytes = match name.kind {
                Kind::Hashes(level) => self.levels[usize::from(level)].concat(),
                Kind::Entries => bundle(&self.entries),
            };
            objects.insert(name, bytes);
        }
        objects
    }
}

fn bundle(entries: &[Vec<u8>]) -> Vec<u8> {
    let length = |entry: &Vec<u8>| u16::try_from(entry.len()).expect("an entry has at most ENTRY_MAX bytes");
    entries.iter().flat_map(|entry| [&length(entry).to_be_bytes(), entry.as_slice()].concat()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::trust::merkle::{Range, includes, inclusion};

    #[test]
    fn names_are_those_of_the_specification() {
        let name = |kind, index, width| TileName { kind, index, width }.to_string();
        assert_eq!(name(Kind::Entries, 1_234_067, 256), "tile/entries/x001/x234/067");
        assert_eq!(name(Kind::Hashes(0), 273, 112), "tile/0/273.p/112");
        for text in ["tile/0/000", "tile/entries/x001/000.p/1", "tile/7/999.p/255"] {
            assert_eq!(text.parse::<TileName>().map(|name| name.to_string()), Ok(text.to_owned()));
        }
        for text in [
            "tile/8/000",
            "tile/0/0",
            "tile/0/x000/000",
            "tile/0/001.p/256",
            "tile/0/001.p/0",
            "tile/0/001.p/01",
            "tile/entries/1000",
            "tile/0/x18446744073709551615/000",
            "tile/0/../000",
        ] {
            assert!(text.parse::<TileName>().is_err(), "{text}");
        }
        let needs: Vec<_> = Edge::needs(70_000).iter().map(TileName::to_string).collect();
        assert_eq!(needs, ["tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1", "tile/entries/273.p/112"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn a_tree_that_grows_in_any_steps_has_the_same_objects_and_proofs(steps in proptest::collection::vec(1usize..700, 1..8), at in 0u64..1_000_000) {
            let entry = |n: u64| format!("entry {n}").into_bytes();
            let mut all: BTreeMap<TileName, Vec<u8>> = BTreeMap::new();
            let mut edge = Edge::default();
            for step in steps {
                let from = edge.size();
                for (name, bytes) in edge.append((from..from + step as u64).map(entry)) {
                    prop_assert!(all.insert(name, bytes).is_none(), "{name} is written twice");
                }
                prop_assert_eq!(Edge::of(edge.size(), &all).expect("its objects are there"), edge.clone());
            }
            let size = edge.size();
            let leaves: Vec<_> = (0..size).map(|n| leaf_hash(&entry(n))).collect();
            let root = root_of(&leaves).expect("a root");
            prop_assert_eq!(edge.root(), root);
            // A proof from the objects alone.
            let index = at % size;
            let hash = |range: &Range| {
                let of = |node: &Node| {
                    let (name, from, to) = TileName::with(*node, size);
                    root_of(&hashes(&name, &all[&name]).expect("a tile")[from..to]).expect("a hash")
                };
                Range::hash(&range.nodes().iter().map(of).collect::<Vec<_>>())
            };
            let proof: Vec<_> = inclusion(index, size).iter().map(hash).collect();
            prop_assert!(includes(&root, size, index, &leaves[index as usize], &proof));
        }

        #[test]
        fn any_bytes_are_entries_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400), width in 1u64..=256) {
            let name = TileName { kind: Kind::Entries, index: 0, width };
            if let Some(entries) = entries(&name, &bytes) {
                prop_assert_eq!(bundle(&entries), bytes);
            }
        }
    }
}
