//! An index of the words in names and descriptions: for a search that few names match.
//!
//! The details file has the index behind its last package: blocks of words in order, each word with the packages that have it. The
//! lookup file has the first word of each block, so a search reads only the blocks that may have its words. A package's number in
//! the index is its place in the order of results ([`order`]), so a reader sorts without their names.
//!
//! A block is a checksum (CRC-32) and its entries. An entry is two bytes, a text and a list: the number of bytes that the word
//! shares with the word before, the length of the text, the text that is not shared, the length of the list, and the list: the
//! distances between ascending numbers. The length and the distances are LEB128.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use binplz_core::id::key::System;
use serde::{Deserialize, Serialize};

use crate::{
    bytes::{Body, Column, TooLarge, small},
    lookup::Lookup,
    names::Names,
    popular,
    record::Obstacle,
    writer::PackageRecord,
};

/// The size from which a block is full, in bytes.
const BLOCK: usize = 16 << 10;
/// The longest indexed word, in bytes.
const LONGEST: usize = 32;
/// The length from which a word of a search also finds words that begin with it.
const TELLING: usize = 3;
/// The most words of a search.
const WORDS_MAX: usize = 8;
/// The most blocks that a search reads, so that the beginning of very many words does not read the whole index.
const BLOCKS_MAX: usize = 24;
/// Words that say nothing about a package.
const COMMON: [&str; 18] = [
    "an", "and", "are", "as", "at", "by", "can", "for", "from", "in", "is", "it", "of", "on", "or", "that", "the", "to",
];

/// The place of the index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Words {
    /// The first word of each block.
    firsts: Names,
    /// The start of each block in the details file; and the end of the last one.
    blocks: Column,
    /// For each number of a package, the rank of its attribute.
    ranks: Column,
}

impl Words {
    /// Writes the index: its blocks behind the details, the rest into the lookup file. `packages` are in attribute order.
    pub(crate) fn write(packages: &[PackageRecord], details: &mut Vec<u8>, body: &mut Body) -> Result<Words, TooLarge> {
        let order = order(packages);
        let mut index: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for (number, rank) in (0..).zip(&order) {
            let package = &packages[*rank];
            let texts = [package.attr.as_str(), package.pname(), package.description()];
            for word in texts.into_iter().flat_map(words).collect::<BTreeSet<_>>() {
                index.entry(word).or_default().push(number);
            }
        }
        let (mut firsts, mut starts, mut block, mut before) = (Vec::new(), Vec::new(), Vec::new(), "");
        for (word, numbers) in &index {
            if block.is_empty() {
                (before, _) = ("", firsts.push(word.as_str()));
            }
            block.extend(entry(before, word, numbers)?);
            before = word;
            if block.len() >= BLOCK {
                starts.push(small(details.len())?);
                append(details, &std::mem::take(&mut block));
            }
        }
        if !block.is_empty() {
            starts.push(small(details.len())?);
            append(details, &block);
        }
        starts.push(small(details.len())?);
        let ranks = order.into_iter().map(small).collect::<Result<Vec<_>, _>>()?;
        Ok(Words {
            firsts: Names::write(firsts.into_iter(), body)?,
            blocks: body.column(&starts)?,
            ranks: body.column(&ranks)?,
        })
    }

    /// Whether the sections are long enough for the header.
    pub(crate) fn is_whole(&self, body: &[u8], attrs: usize) -> bool {
        self.firsts.is_whole(body)
            && self.blocks.is_whole(body)
            && self.ranks.is_whole(body)
            && self.blocks.count() == self.firsts.count() + 1
            && self.ranks.count() == attrs
    }

    /// The blocks that may have a word of a search.
    fn blocks_of(&self, body: &[u8], wanted: &str) -> Range<usize> {
        let from = self.firsts.place(body, wanted.as_bytes()).saturating_sub(1);
        let behind = match wanted.len() {
            // No word has this byte, so it is behind all words that begin so.
            TELLING.. => self.firsts.place(body, &[wanted.as_bytes(), &[0xff]].concat()),
            _ => self.firsts.place(body, wanted.as_bytes()),
        };
        from..behind
    }
}

/// The packages by rank, in the order of results: the most requested first, then the least nested, then by the shortest name.
fn order(packages: &[PackageRecord]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..packages.len()).collect();
    order.sort_by_cached_key(|rank| {
        let PackageRecord { attr, requested, .. } = &packages[*rank];
        (popular::place(attr.as_str()), !requested, attr.parts().count(), attr.as_str().len(), *rank)
    });
    order
}

/// The words of a text, as they are indexed and searched: in small letters, without the `s` of a plural.
fn words(text: &str) -> impl Iterator<Item = String> {
    let parts = text.split(|letter: char| !letter.is_alphanumeric()).map(str::to_lowercase);
    parts.filter(|word| (2..=LONGEST).contains(&word.len()) && !COMMON.contains(&word.as_str())).map(|mut word| {
        if word.len() > TELLING && word.ends_with('s') && !word.ends_with("ss") {
            word.pop();
        }
        word
    })
}

/// The words of a search, each once.
fn asked(text: &str) -> BTreeSet<String> {
    words(text).take(WORDS_MAX).collect()
}

fn entry(before: &str, word: &str, numbers: &[u32]) -> Result<Vec<u8>, TooLarge> {
    let shared = before.bytes().zip(word.bytes()).take_while(|(a, b)| a == b).count();
    let rest = &word.as_bytes()[shared..];
    let mut list = Vec::with_capacity(numbers.len() * 2);
    let mut last = 0;
    for number in numbers {
        leb128(number - last, &mut list);
        last = *number;
    }
    let lengths = [shared, rest.len()].map(|length| u8::try_from(length).map_err(|_| TooLarge));
    let mut entry = vec![lengths[0]?, lengths[1]?];
    entry.extend_from_slice(rest);
    leb128(small(list.len())?, &mut entry);
    entry.extend(list);
    Ok(entry)
}

fn append(details: &mut Vec<u8>, block: &[u8]) {
    details.extend(crc32fast::hash(block).to_le_bytes());
    details.extend_from_slice(block);
}

fn leb128(mut number: u32, to: &mut Vec<u8>) {
    while number >= 0x80 {
        to.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    to.push(number.to_le_bytes()[0]);
}

/// A number, and the bytes behind it.
fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let length = bytes.iter().take(5).position(|byte| byte & 0x80 == 0)? + 1;
    let (bytes, behind) = bytes.split_at(length);
    let number = bytes.iter().rev().fold(0_u64, |number, byte| number << 7 | u64::from(byte & 0x7f));
    Some((u32::try_from(number).ok()?, behind))
}

/// Calls `found` with each word of a block and its list. Ends at damage.
fn each(block: &[u8], mut found: impl FnMut(&[u8], &[u8])) -> Option<()> {
    let (sum, mut left) = block.split_first_chunk()?;
    if u32::from_le_bytes(*sum) != crc32fast::hash(left) {
        return None;
    }
    let mut word = Vec::with_capacity(LONGEST);
    while let Some((&[shared, length], behind)) = left.split_first_chunk() {
        let (rest, behind) = behind.split_at_checked(length.into())?;
        word.truncate(shared.into());
        word.extend_from_slice(rest);
        let (length, behind) = number(behind)?;
        let (list, behind) = behind.split_at_checked(usize::try_from(length).ok()?)?;
        found(&word, list);
        left = behind;
    }
    Some(())
}

/// The numbers of a list.
fn numbers(mut list: &[u8]) -> impl Iterator<Item = u32> {
    let mut last = 0_u32;
    std::iter::from_fn(move || {
        let (distance, behind) = number(list)?;
        (list, last) = (behind, last.checked_add(distance)?);
        Some(last)
    })
}

impl<B: AsRef<[u8]>> Lookup<B> {
    /// The ranges of the details file with the words of a text.
    pub(crate) fn blocks_with(&self, text: &str) -> Vec<Range<u64>> {
        let Some(index) = &self.header().words else { return Vec::new() };
        let blocks: BTreeSet<usize> =
            asked(text).iter().flat_map(|word| index.blocks_of(self.body(), word).take(BLOCKS_MAX)).collect();
        let range = |block| index.blocks.range(self.body(), block);
        let ranges = blocks.into_iter().take(BLOCKS_MAX).filter_map(range);
        ranges.map(|range| range.start as u64..range.end as u64).collect()
    }

    /// Up to `most` packages that have all words of a text, the best first, without lost attributes: those that can be built, then
    /// those that have the words themselves rather than longer words that begin so, then in the order of the index.
    pub(crate) fn with_words(&self, text: &str, blocks: &[Vec<u8>], system: System, most: usize) -> Vec<usize> {
        let Some(index) = &self.header().words else { return Vec::new() };
        // A package's number, and how many of its words are longer than the words of the text.
        let mut all: Option<Vec<(u32, usize)>> = None;
        for word in asked(text) {
            let mut with = Vec::new();
            for block in blocks {
                each(block, |found, list| {
                    let longer = usize::from(found != word.as_bytes());
                    if longer == 0 || word.len() >= TELLING && found.starts_with(word.as_bytes()) {
                        with.extend(numbers(list).map(|number| (number, longer)));
                    }
                });
            }
            with.sort_unstable();
            with.dedup_by_key(|(number, _)| *number);
            all = Some(match all {
                None => with,
                Some(all) => {
                    let both = |(number, longer)| {
                        let at = with.binary_search_by_key(&number, |(number, _)| *number).ok()?;
                        Some((number, longer + with[at].1))
                    };
                    all.into_iter().filter_map(both).collect()
                }
            });
        }
        let mut found: Vec<_> = all
            .into_iter()
            .flatten()
            .filter_map(|(number, longer)| {
                let rank = index.ranks.get(self.body(), usize::try_from(number).ok()?)? as usize;
                let obstacle = self.obstacle(rank, system);
                (!obstacle.is_some_and(Obstacle::is_no_package)).then_some((obstacle.is_some(), longer, number, rank))
            })
            .collect();
        found.sort_unstable();
        found.into_iter().take(most).map(|(.., rank)| rank).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Writer;

    #[test]
    fn a_catalogue_of_an_earlier_version_has_no_words_and_is_read() {
        let files = Writer::new("ab".repeat(20).parse().expect("a revision")).finish().expect("small");
        let lookup = Lookup::open(files.lookup).expect("a catalogue");
        let mut header = serde_json::json!(lookup.header());
        assert!(header.as_object_mut().expect("an object").remove("words").is_some());
        let header = serde_json::from_value(header).expect("a header");
        let earlier = Lookup::open(Lookup::<&[u8]>::file(&header, lookup.body())).expect("a catalogue");
        assert_eq!(
            (earlier.blocks_with("json"), earlier.with_words("json", &[], System::X86_64Linux, 9)),
            (vec![], vec![])
        );
    }
}
