//! Downloads, as they are counted.

use std::ops::Add;

use serde::{Deserialize, Serialize};

use crate::id::key::Attr;

/// How often a package was served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The package.
    pub package: Attr,
    /// Hits.
    pub hits: u64,
}

impl Asked {
    /// Of counts, those with the most hits; of as many, those first that are first in the alphabet.
    pub fn most(counts: impl IntoIterator<Item = (Attr, u64)>, most: usize) -> Vec<Asked> {
        let mut all: Vec<_> = counts.into_iter().map(|(package, hits)| Asked { package, hits }).collect();
        all.sort_by(|a, b| b.hits.cmp(&a.hits).then_with(|| a.package.cmp(&b.package)));
        all.truncate(most);
        all
    }
}

/// What was served, by a deployment or of a package.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Hits.
    pub hits: u64,
    /// Bytes of the programs that they led to. Whether all of them were fetched, nobody knows.
    pub bytes: u64,
}

impl Traffic {
    /// A hit that led to so many bytes.
    pub fn hit(bytes: u64) -> Traffic {
        Traffic { hits: 1, bytes }
    }
}

impl Add for Traffic {
    type Output = Traffic;
    fn add(self, rhs: Traffic) -> Traffic {
        Traffic { hits: self.hits + rhs.hits, bytes: self.bytes.saturating_add(rhs.bytes) }
    }
}

impl std::iter::Sum for Traffic {
    fn sum<I: Iterator<Item = Traffic>>(iter: I) -> Traffic {
        iter.fold(Traffic::default(), Add::add)
    }
}
