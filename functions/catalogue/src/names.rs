//! Sorted names, each identified by its rank. Sorted names share prefixes, so an entry stores only its difference from
//! the entry before. Every sixteenth name is stored whole, so that a name is found by binary search, and a rank by
//! counting.
//!
//! An entry is two bytes and a text: the number of bytes that it shares with the entry before, the text's length, and
//! the text that is not shared. The first entry of a block shares nothing.
//!
//! Measured against maps of the `fst` crate: as small (13 % less for the bench's names, 8 % more for Debian's), near
//! names in three quarters of the time and half of the worst one; and no byte of it causes a panic, as a damaged `fst`
//! map does.

use serde::{Deserialize, Serialize};

use crate::bytes::{Body, Column, Span, TooLarge, small};

/// Entries per block.
pub(crate) const BLOCK: usize = 16;

/// The place of the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Names {
    count: u32,
    text: Span,
    /// The start of each block in the text.
    blocks: Column,
}

/// One entry.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a> {
    /// The number of bytes that it shares with the entry before.
    pub(crate) shared: usize,
    /// The remaining bytes.
    pub(crate) rest: &'a [u8],
}

impl Names {
    /// Writes names, which must be ascending, distinct, and at most 255 bytes long.
    pub(crate) fn write<'n>(names: impl Iterator<Item = &'n str>, body: &mut Body) -> Result<Names, TooLarge> {
        let (mut text, mut blocks, mut before, mut count) = (Vec::new(), Vec::new(), "", 0);
        for name in names {
            let shared = before.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
            let whole = count % BLOCK == 0;
            if whole {
                blocks.push(small(text.len())?);
            }
            let told = if whole { name } else { name.get(shared..).ok_or(TooLarge)? };
            text.push(u8::try_from(shared).map_err(|_| TooLarge)?);
            text.push(u8::try_from(told.len()).map_err(|_| TooLarge)?);
            text.extend_from_slice(told.as_bytes());
            (before, count) = (name, count + 1);
        }
        Ok(Names { count: small(count)?, text: body.section(&text)?, blocks: body.column(&blocks)? })
    }

    /// The number of names.
    pub(crate) fn count(&self) -> usize {
        self.count as usize
    }

    /// The number of blocks.
    pub(crate) fn blocks(&self) -> usize {
        self.blocks.count()
    }

    /// Whether the sections are long enough for the header.
    pub(crate) fn is_whole(&self, body: &[u8]) -> bool {
        let blocks = self.blocks.count() == self.count().div_ceil(BLOCK) && self.blocks.is_whole(body);
        // An entry takes at least two bytes, which limits a false count.
        blocks && self.text.of(body).is_some_and(|text| text.len() / 2 >= self.count())
    }

    /// The last block whose first name is not behind a text.
    fn block(&self, body: &[u8], text: &[u8]) -> Option<usize> {
        let (mut low, mut high) = (0, self.blocks.count());
        while low < high {
            let middle = low + (high - low) / 2;
            let first = self.entries(body, middle).next()?.rest;
            if first <= text { low = middle + 1 } else { high = middle }
        }
        low.checked_sub(1)
    }

    /// The number of names that are not behind a text.
    pub(crate) fn place(&self, body: &[u8], text: &[u8]) -> usize {
        let Some(block) = self.block(body, text) else { return 0 };
        let mut before = block * BLOCK;
        self.each(body, block, |_, _, name| {
            let not_behind = name <= text;
            before += usize::from(not_behind);
            not_behind
        });
        before
    }

    /// The rank of a name.
    pub(crate) fn rank(&self, body: &[u8], name: &str) -> Option<usize> {
        let block = self.block(body, name.as_bytes())?;
        let mut found = None;
        self.each(body, block, |place, _, bytes| {
            if bytes == name.as_bytes() {
                found = Some(block * BLOCK + place);
            }
            found.is_none()
        });
        found
    }

    /// The name of a rank.
    pub(crate) fn name(&self, body: &[u8], rank: usize) -> Option<String> {
        let mut found = None;
        self.each(body, rank / BLOCK, |place, _, bytes| {
            if place == rank % BLOCK {
                found = str::from_utf8(bytes).ok().map(str::to_owned);
            }
            place < rank % BLOCK
        });
        found
    }

    /// Decodes the names of one block until `go_on` returns false. Its arguments are a name's place in the block, the length that
    /// the name shares with the one before, and the name.
    pub(crate) fn each(&self, body: &[u8], block: usize, mut go_on: impl FnMut(usize, usize, &[u8]) -> bool) {
        let mut name = Vec::with_capacity(64);
        for (place, entry) in self.entries(body, block).take(BLOCK).enumerate() {
            name.truncate(if place == 0 { 0 } else { entry.shared });
            let kept = name.len();
            name.extend_from_slice(entry.rest);
            if !go_on(place, kept, &name) {
                return;
            }
        }
    }

    /// The entries from the first of a block to the end. The rest of the first one is its whole name.
    fn entries<'a>(&self, body: &'a [u8], block: usize) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        let from = self.blocks.get(body, block).and_then(|from| self.text.of(body)?.get(from as usize..));
        let left = self.count().saturating_sub(block * BLOCK);
        let mut text = from.unwrap_or_default();
        std::iter::from_fn(move || {
            let (&[shared, length], behind) = text.split_first_chunk::<2>()?;
            let (rest, behind) = behind.split_at_checked(usize::from(length))?;
            text = behind;
            Some(Entry { shared: usize::from(shared), rest })
        })
        .take(left)
    }

    /// All entries, each with the length that it shares with the one before.
    pub(crate) fn all<'a>(&self, body: &'a [u8]) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        self.entries(body, 0).enumerate().map(|(rank, entry)| match rank % BLOCK {
            0 => Entry { rest: entry.rest.get(entry.shared..).unwrap_or_default(), ..entry },
            _ => entry,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_name_is_found_by_its_rank_and_every_rank_by_its_name(
            names in prop::collection::btree_set("[ab]{0,3}[a-c.+]{0,4}", 0..80), other in "[a-c]{0,5}",
        ) {
            let mut body = Body::default();
            let written = Names::write(names.iter().map(String::as_str), &mut body)?;
            let bytes = body.into_bytes();
            prop_assert!(written.is_whole(&bytes));
            for (rank, name) in names.iter().enumerate() {
                prop_assert_eq!(written.rank(&bytes, name), Some(rank));
                prop_assert_eq!(written.name(&bytes, rank), Some(name.clone()));
            }
            prop_assert_eq!(written.rank(&bytes, &other).is_some(), names.contains(&other));
            prop_assert_eq!(written.place(&bytes, other.as_bytes()), names.range(..=other.clone()).count());
            prop_assert_eq!(written.name(&bytes, names.len()), None);

            let mut name = Vec::new();
            let walked: BTreeSet<_> = written.all(&bytes).map(|entry| {
                name.truncate(entry.shared);
                name.extend_from_slice(entry.rest);
                String::from_utf8(name.clone()).expect("text")
            }).collect();
            prop_assert_eq!(walked, names);
        }
    }
}
