//! The smallest parts of the file: the place of a section, and columns of small numbers. Every read is checked: damage
//! gives `None`, never a panic.

use serde::{Deserialize, Serialize};

/// The place of a section, in bytes from the start of the sections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Span {
    at: u32,
    len: u32,
}

impl Span {
    /// The section.
    pub(crate) fn of<'a>(&self, body: &'a [u8]) -> Option<&'a [u8]> {
        let at = usize::try_from(self.at).ok()?;
        body.get(at..)?.get(..usize::try_from(self.len).ok()?)
    }
}

/// Numbers of up to 32 bits, each in as few bits as the largest needs, the lowest bits first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Column {
    span: Span,
    bits: u8,
    count: u32,
}

impl Column {
    /// The count of numbers.
    pub(crate) fn count(&self) -> usize {
        self.count as usize
    }

    /// Whether the section is long enough for all numbers.
    pub(crate) fn is_whole(&self, body: &[u8]) -> bool {
        let need = u64::from(self.count) * u64::from(self.bits);
        self.bits <= 32 && self.span.of(body).is_some_and(|bytes| bytes.len() as u64 * 8 >= need)
    }

    /// The number at an index.
    pub(crate) fn get(&self, body: &[u8], index: usize) -> Option<u32> {
        if index >= self.count() {
            return None;
        }
        let bit = index * usize::from(self.bits);
        let from = self.span.of(body)?.get(bit / 8..)?;
        let mut window = [0; 8];
        let there = from.len().min(8);
        window[..there].copy_from_slice(&from[..there]);
        let mask = (1_u64 << self.bits.min(32)) - 1;
        u32::try_from((u64::from_le_bytes(window) >> (bit % 8)) & mask).ok()
    }

    /// The numbers at an index and behind it: the range of that index's entries in another column.
    pub(crate) fn range(&self, body: &[u8], index: usize) -> Option<std::ops::Range<usize>> {
        Some(self.get(body, index)? as usize..self.get(body, index + 1)? as usize)
    }

    /// The index of a number in an ascending column.
    pub(crate) fn search(&self, body: &[u8], wanted: u32) -> Option<usize> {
        let (mut low, mut high) = (0, self.count());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.get(body, middle)?.cmp(&wanted) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }
}

/// The content exceeds the format's limits.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("too large for a catalogue")]
pub struct TooLarge;

/// Converts a number to the format's width.
pub(crate) fn small(number: usize) -> Result<u32, TooLarge> {
    u32::try_from(number).map_err(|_| TooLarge)
}

/// The sections, written one behind the other.
#[derive(Default)]
pub(crate) struct Body {
    bytes: Vec<u8>,
}

impl Body {
    /// Appends a section.
    pub(crate) fn section(&mut self, bytes: &[u8]) -> Result<Span, TooLarge> {
        let span = Span { at: small(self.bytes.len())?, len: small(bytes.len())? };
        self.bytes.extend_from_slice(bytes);
        Ok(span)
    }

    /// Appends a column.
    pub(crate) fn column(&mut self, numbers: &[u32]) -> Result<Column, TooLarge> {
        let bits = 32 - numbers.iter().max().map_or(32, |largest| largest.leading_zeros());
        let mut packed = Vec::with_capacity(numbers.len() * bits as usize / 8 + 1);
        let (mut window, mut filled) = (0_u64, 0);
        for number in numbers {
            window |= u64::from(*number) << filled;
            filled += bits;
            while filled >= 8 {
                packed.push(window.to_le_bytes()[0]);
                window >>= 8;
                filled -= 8;
            }
        }
        if filled > 0 {
            packed.push(window.to_le_bytes()[0]);
        }
        let count = small(numbers.len())?;
        Ok(Column { span: self.section(&packed)?, bits: bits.to_le_bytes()[0], count })
    }

    /// The bytes of all sections.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_column_gives_back_what_was_put_into_it(numbers in prop::collection::vec(0_u32.., 0..50), bits in 0_u32..=32) {
            let numbers: Vec<u32> = numbers.iter().map(|n| n.checked_shr(32 - bits).unwrap_or(0)).collect();
            let mut body = Body::default();
            let column = body.column(&numbers)?;
            let bytes = body.into_bytes();
            prop_assert!(column.is_whole(&bytes));
            let back: Vec<u32> = (0..numbers.len()).filter_map(|index| column.get(&bytes, index)).collect();
            prop_assert_eq!(&back, &numbers);
            prop_assert_eq!(column.get(&bytes, numbers.len()), None);
        }

        #[test]
        fn a_rising_column_is_searched(numbers in prop::collection::btree_set(0_u32.., 0..50), other in 0_u32..) {
            let numbers: Vec<u32> = numbers.into_iter().collect();
            let mut body = Body::default();
            let column = body.column(&numbers)?;
            let bytes = body.into_bytes();
            for (index, number) in numbers.iter().enumerate() {
                prop_assert_eq!(column.search(&bytes, *number), Some(index));
            }
            prop_assert_eq!(column.search(&bytes, other), numbers.binary_search(&other).ok());
        }
    }
}
