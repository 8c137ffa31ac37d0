//! Download counts.

use std::ops::Add;

use serde::{Deserialize, Serialize};

use crate::id::key::Product;

/// How often a package, or its bundle, was downloaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The package, or its bundle.
    pub package: Product,
    /// Hits.
    pub hits: u64,
}

impl Asked {
    /// The packages with the most hits; ties are in alphabetical order.
    pub fn most(counts: impl IntoIterator<Item = (Product, u64)>, most: usize) -> Vec<Asked> {
        let mut all: Vec<_> = counts.into_iter().map(|(package, hits)| Asked { package, hits }).collect();
        all.sort_by(|a, b| b.hits.cmp(&a.hits).then_with(|| a.package.cmp(&b.package)));
        all.truncate(most);
        all
    }
}

/// Downloads of a deployment, or of a package.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Hits.
    pub hits: u64,
    /// Bytes of the programs that the redirects led to. Some downloads may not have completed.
    pub bytes: u64,
}

impl Traffic {
    /// One hit of `bytes` bytes.
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
