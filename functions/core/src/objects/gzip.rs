//! A finished log as one gzip file: one member per segment, in order. So `zcat` prints it, and a reader that has read
//! up to some segment continues behind that member.
//!
//! A builder made the file, so neither its form nor its length is trusted.

use std::iter;

use miniz_oxide::{
    DataFormat, MZFlush, MZStatus,
    deflate::{CompressionLevel, compress_to_vec},
    inflate::stream::{InflateState, inflate},
};
use thiserror::Error;

/// The most bytes of one segment that are read: far more than a builder puts into one.
const SEGMENT_MAX: usize = 4 << 20;
/// Unpacking even a short segment takes time: each counts as at least this many bytes.
const SEGMENT_MIN: usize = 1 << 10;
/// The header of a member (RFC 1952): DEFLATE, no name, no time, unknown operating system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// Why a log cannot be read further. The segments before are good.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Damaged {
    /// Not gzip, or cut off.
    #[error("the rest is not a gzip member")]
    Form,
    /// The checksum or the length does not match.
    #[error("the checksum of a segment is wrong")]
    Checksum,
    /// A segment, or all of them together, are longer than allowed.
    #[error("the log exceeds its size limit")]
    Length,
}

/// A segment as a member. The same segment makes the same bytes.
pub fn member(segment: &[u8]) -> Vec<u8> {
    let packed = compress_to_vec(segment, CompressionLevel::DefaultLevel as u8);
    [&HEADER, packed.as_slice(), &trailer(segment)].concat()
}

/// The segments of a whole log, unpacked one by one, at most `most` bytes of them. An error ends the iteration.
pub fn segments(whole: &[u8], most: usize) -> impl Iterator<Item = Result<Vec<u8>, Damaged>> {
    let (mut rest, mut left) = (whole, most);
    iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let unpacked = if left == 0 { Err(Damaged::Length) } else { unpack(rest, left.min(SEGMENT_MAX)) };
        Some(match unpacked {
            Ok((segment, behind)) => {
                (rest, left) = (behind, left.saturating_sub(segment.len().max(SEGMENT_MIN)));
                Ok(segment)
            }
            Err(damaged) => {
                rest = &[];
                Err(damaged)
            }
        })
    })
}

/// The first member's segment, and the bytes behind it.
fn unpack(whole: &[u8], most: usize) -> Result<(Vec<u8>, &[u8]), Damaged> {
    let mut rest = whole.strip_prefix(&HEADER).ok_or(Damaged::Form)?;
    let mut state = InflateState::new_boxed(DataFormat::Raw);
    let (mut segment, mut buffer) = (Vec::new(), [0; 8 << 10]);
    loop {
        let step = inflate(&mut state, rest, &mut buffer, MZFlush::None);
        rest = &rest[step.bytes_consumed..];
        if segment.len() + step.bytes_written > most {
            return Err(Damaged::Length);
        }
        segment.extend_from_slice(&buffer[..step.bytes_written]);
        match step.status {
            Ok(MZStatus::StreamEnd) => break,
            Ok(_) if step.bytes_consumed + step.bytes_written > 0 => {}
            _ => return Err(Damaged::Form),
        }
    }
    let (found, behind) = rest.split_at_checked(8).ok_or(Damaged::Form)?;
    if found == trailer(&segment) { Ok((segment, behind)) } else { Err(Damaged::Checksum) }
}

/// The end of a member: the segment's checksum, and its length modulo 2³².
fn trailer(segment: &[u8]) -> [u8; 8] {
    let length = segment.len() as u32;
    let both = u64::from(length) << 32 | u64::from(crc32fast::hash(segment));
    both.to_le_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// Text that compresses well, or does not.
    fn some_segments() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let dull = (any::<u8>(), 0usize..5000).prop_map(|(byte, length)| vec![byte; length]);
        vec(prop_oneof![dull, vec(any::<u8>(), 0..200)], 1..12)
    }

    fn whole(segments: &[Vec<u8>]) -> Vec<u8> {
        segments.iter().flat_map(|segment| member(segment)).collect()
    }

    fn read(whole: &[u8], most: usize) -> Vec<Result<Vec<u8>, Damaged>> {
        super::segments(whole, most).collect()
    }

    #[test]
    fn one_byte_is_unpacked_to_no_more_than_may_be() {
        let bomb = member(&vec![0; SEGMENT_MAX + 1]);
        assert!(bomb.len() < 10_000);
        assert_eq!(read(&bomb, usize::MAX), [Err(Damaged::Length)]);
        let three = member(&[1; 5000]).repeat(3);
        assert_eq!(read(&three, 14_999), [Ok(vec![1; 5000]), Ok(vec![1; 5000]), Err(Damaged::Length)]);
        assert_eq!(read(&three, 15_000), vec![Ok(vec![1; 5000]); 3]);
    }

    #[test]
    fn no_more_segments_are_unpacked_than_may_be_however_short_they_are() {
        for short in [b"x".as_slice(), b""] {
            let read = read(&member(short).repeat(100_000), 64 << 10);
            assert_eq!((read.len(), read.last()), (64 + 1, Some(&Err(Damaged::Length))));
        }
    }

    proptest! {
        #[test]
        fn each_segment_comes_back(segments in some_segments()) {
            let back: Result<Vec<_>, _> = super::segments(&whole(&segments), 1 << 20).collect();
            prop_assert_eq!(back, Ok(segments));
        }

        #[test]
        fn damage_loses_what_follows_and_nothing_before(
            segments in some_segments(), at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<bool>(),
        ) {
            let mut damaged = whole(&segments);
            let at = at.index(damaged.len());
            if cut { damaged.truncate(at) } else { damaged[at] ^= 1 << bit }
            // The members that end before the damage.
            let ends = segments.iter().scan(0, |end, segment| { *end += member(segment).len(); Some(*end) });
            let whole_ones = ends.take_while(|end| *end <= at).count();
            let read = read(&damaged, 1 << 20);
            prop_assert!(read.len() >= whole_ones);
            for (read, segment) in read.iter().zip(&segments).take(whole_ones) {
                prop_assert_eq!(read.as_ref(), Ok(segment));
            }
            // No other bytes are ever taken for a segment.
            for (number, read) in read.iter().enumerate() {
                prop_assert!(read.is_err() || read.as_ref() == Ok(&segments[number]), "{}: {:?}", number, read);
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic_and_within_bounds(
            bytes in vec(any::<u8>(), 0..300), real in some_segments(), most in 0usize..9000,
        ) {
            // Also behind bytes that look real.
            for bytes in [[whole(&real), bytes.clone()].concat(), [&HEADER, &bytes[..]].concat()] {
                let read = read(&bytes, most);
                let length: usize = read.iter().flatten().map(Vec::len).sum();
                prop_assert!(length <= most);
                prop_assert!(read.iter().rev().skip(1).all(Result::is_ok), "something follows an error");
            }
        }
    }
}
