//! The pairs of letters in each block of names, so that a search decodes only blocks that may contain its text.
//!
//! For each pair there is one bit per block. Pairs share bits by a hash, so a block may seem to have a pair that it has not, but
//! never the reverse. The bits are made at a process's first search, by one walk of all names, and take 1.5 MB for 120,000
//! attributes and 250,000 programs.

use crate::names::Names;

/// The end of a name, at both sides. No name contains it.
pub(crate) const END: u8 = 0;

/// The number of different pairs.
const PAIRS: usize = 512;

/// The blocks of one list of names.
#[derive(Debug)]
pub(crate) struct Pairs {
    /// 64 blocks each.
    words: usize,
    /// For each pair, its blocks.
    bits: Vec<u64>,
}

impl Pairs {
    /// The pairs of all names.
    pub(crate) fn of(names: &Names, body: &[u8]) -> Pairs {
        let words = names.blocks().div_ceil(64);
        let mut bits = vec![0; PAIRS * words];
        for block in 0..names.blocks() {
            names.each(body, block, |_, kept, name| {
                let mut one = kept.checked_sub(1).map_or(END, |last| name[last]);
                for &next in name[kept..].iter().chain(&[END]) {
                    bits[pair(one, next) * words + block / 64] |= 1 << (block % 64);
                    one = next;
                }
                true
            });
        }
        Pairs { words, bits }
    }

    /// Marks no block as read.
    pub(crate) fn unread(&self) -> Vec<u64> {
        vec![u64::MAX; self.words]
    }

    /// The unread blocks that may have a name with this text, which may begin and end with [`END`]. They count as read then.
    pub(crate) fn blocks(&self, text: &[u8], unread: &mut [u64]) -> Vec<usize> {
        let mut wanted = unread.to_vec();
        for ends in text.windows(2) {
            let has = &self.bits[pair(ends[0], ends[1]) * self.words..];
            wanted.iter_mut().zip(has).for_each(|(wanted, has)| *wanted &= has);
        }
        unread.iter_mut().zip(&wanted).for_each(|(unread, wanted)| *unread &= !wanted);
        let of_word = |(at, word): (usize, &u64)| {
            let word = *word;
            (0..64).filter(move |bit| (word >> bit) & 1 == 1).map(move |bit| at * 64 + bit)
        };
        wanted.iter().enumerate().filter(|(_, word)| **word != 0).flat_map(of_word).collect()
    }
}

/// A pair's number, ignoring case.
fn pair(one: u8, next: u8) -> usize {
    let pair = u16::from_be_bytes([one.to_ascii_lowercase(), next.to_ascii_lowercase()]);
    (usize::from(pair.wrapping_mul(0x9e37)) * PAIRS) >> 16
}
