//! The catalogue of a nixpkgs.

use std::{ops::Range, sync::Arc};

use crate::{
    id::{
        key::{Attr, System},
        target::Wanted,
    },
    nixpkgs::catalogue::{About, Census, Entry, Resolution},
    objects::stored::Integrity,
};

/// Why there is no catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Its file is missing or damaged.
    Flawed(Integrity),
    /// Another version of binplz wrote it, in another format.
    OtherFormat,
}

/// What is known of the names of one nixpkgs. It was read before: it answers without I/O, in microseconds.
pub trait Catalogue: Send + Sync {
    /// What a path means on a system.
    fn resolve(&self, wanted: &Wanted, system: System) -> Resolution;

    /// Up to `most` packages that have to do with a text, the best first: by what they, or their programs, are called.
    fn search(&self, text: &str, system: System, most: usize) -> Vec<Entry>;

    /// The ranges of the details file that [`Catalogue::search_words`] needs for a text; empty if there is nothing to search.
    fn words(&self, text: &str) -> Vec<Range<u64>>;

    /// Up to `most` packages with all words of a text in their names and descriptions, the best first. `blocks` is the content of
    /// the ranges of [`Catalogue::words`], as far as it could be read.
    fn search_words(&self, text: &str, blocks: &[Vec<u8>], system: System, most: usize) -> Vec<Entry>;

    /// What is known of a package on a system; `None`: there is no such attribute.
    fn entry(&self, attr: &Attr, system: System) -> Option<Entry>;

    /// What a package says of itself, from its block of the details file; `None`: it is not in there.
    fn about(&self, block: &[u8], attr: &Attr) -> Option<About>;

    /// All attributes on a system, counted.
    fn census(&self, system: System) -> Census;
}

impl<C: Catalogue> Catalogue for Arc<C> {
    fn resolve(&self, wanted: &Wanted, system: System) -> Resolution {
        self.as_ref().resolve(wanted, system)
    }
    fn search(&self, text: &str, system: System, most: usize) -> Vec<Entry> {
        self.as_ref().search(text, system, most)
    }
    fn words(&self, text: &str) -> Vec<Range<u64>> {
        self.as_ref().words(text)
    }
    fn search_words(&self, text: &str, blocks: &[Vec<u8>], system: System, most: usize) -> Vec<Entry> {
        self.as_ref().search_words(text, blocks, system, most)
    }
    fn entry(&self, attr: &Attr, system: System) -> Option<Entry> {
        self.as_ref().entry(attr, system)
    }
    fn about(&self, block: &[u8], attr: &Attr) -> Option<About> {
        self.as_ref().about(block, attr)
    }
    fn census(&self, system: System) -> Census {
        self.as_ref().census(system)
    }
}
