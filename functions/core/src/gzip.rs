//! A log that is over, as one gzip file: a member for each of its segments, in their order. So it is what `zcat` prints, and
//! whoever has read the log up to some segment goes on behind that member.
//!
//! A builder made it, so nothing of it is believed: neither its form nor its length.

use std::{
    io::{self, Read, Write},
    iter,
};

use flate2::{Compression, bufread::GzDecoder, write::GzEncoder};
use thiserror::Error;

/// Most bytes of one segment that are read: far more than a builder puts into one.
pub const SEGMENT_MAX: u64 = 4 << 20;
/// To unpack a segment takes time, however short it is: each counts for this many bytes at least.
const SEGMENT_MIN: u64 = 1 << 10;

/// It is not what a builder of ours made. What comes before is good.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Damaged {
    /// No gzip, cut off, or of another checksum.
    #[error("it is no gzip file from here on: {0}")]
    Form(String),
    /// A segment is longer than allowed, or all of them are.
    #[error("it is longer than a log may be")]
    Length,
}

/// A segment as a member. The same segment makes the same bytes.
pub fn member(segment: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let made = encoder.write_all(segment).and_then(|()| encoder.finish());
    made.unwrap_or_else(|_| unreachable!("a vector takes all bytes"))
}

/// The segments of a whole log from `from` (1 is the first) on, unpacked one by one; those before are read over. Of the log, `most` bytes
/// are unpacked at most. Nothing follows an error.
pub fn segments(whole: &[u8], from: u32, most: u64) -> impl Iterator<Item = Result<Vec<u8>, Damaged>> {
    let (mut rest, mut left, mut skip) = (whole, most, from.saturating_sub(1));
    iter::from_fn(move || {
        while !rest.is_empty() {
            let mut segment = Vec::new();
            let unpacked = match (left, skip) {
                (0, _) => Err(Damaged::Length),
                (_, 0) => unpack(rest, left, &mut segment),
                _ => unpack(rest, left, &mut io::sink()),
            };
            match unpacked {
                Ok((behind, length)) => (rest, left) = (behind, left.saturating_sub(length.max(SEGMENT_MIN))),
                Err(damaged) => {
                    rest = &[];
                    return Some(Err(damaged));
                }
            }
            match skip.checked_sub(1) {
                Some(fewer) => skip = fewer,
                None => return Some(Ok(segment)),
            }
        }
        None
    })
}

/// Unpacks the first member, and returns what lies behind it and how long it was.
fn unpack<'a>(whole: &'a [u8], most: u64, out: &mut impl Write) -> Result<(&'a [u8], u64), Damaged> {
    let most = most.min(SEGMENT_MAX);
    let mut decoder = GzDecoder::new(whole);
    // The checksum is looked at when the end is reached, so one byte more is asked for than may come.
    let length = io::copy(&mut decoder.by_ref().take(most + 1), out);
    match length.map_err(|error| Damaged::Form(error.to_string()))? {
        length if length > most => Err(Damaged::Length),
        length => Ok((decoder.into_inner(), length)),
    }
}

#[cfg(test)]
mod tests {
    use flate2::bufread::MultiGzDecoder;
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// Text that packs well, or does not.
    fn some_segments() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let dull = (any::<u8>(), 0usize..5000).prop_map(|(byte, length)| vec![byte; length]);
        vec(prop_oneof![dull, vec(any::<u8>(), 0..200)], 0..12)
    }

    fn whole(segments: &[Vec<u8>]) -> Vec<u8> {
        segments.iter().flat_map(|segment| member(segment)).collect()
    }

    fn read(whole: &[u8], from: u32, most: u64) -> Vec<Result<Vec<u8>, Damaged>> {
        super::segments(whole, from, most).collect()
    }

    #[test]
    fn one_byte_is_unpacked_to_no_more_than_may_be() {
        let bomb = member(&vec![0; usize::try_from(SEGMENT_MAX).expect("small") + 1]);
        assert!(bomb.len() < 10_000);
        for from in [1, 2] {
            assert_eq!(read(&bomb, from, u64::MAX - 1), [Err(Damaged::Length)]);
        }
        let three = member(&[1; 5000]).repeat(3);
        assert_eq!(read(&three, 1, 14_999), [Ok(vec![1; 5000]), Ok(vec![1; 5000]), Err(Damaged::Length)]);
        // Also where it is only read over.
        assert_eq!(read(&three, 9, 14_999), [Err(Damaged::Length)]);
        assert_eq!(read(&three, 9, 15_000), []);
    }

    #[test]
    fn no_more_segments_are_unpacked_than_may_be_however_short_they_are() {
        for short in [b"x".as_slice(), b""] {
            let read = read(&member(short).repeat(100_000), 1, 64 << 10);
            assert_eq!((read.len(), read.last()), (64 + 1, Some(&Err(Damaged::Length))));
        }
    }

    proptest! {
        #[test]
        fn each_segment_comes_back_and_all_of_them_are_one_gzip_file(segments in some_segments(), from in 0u32..15) {
            let whole = whole(&segments);
            let skipped = (from.max(1) as usize - 1).min(segments.len());
            let expected: Vec<_> = segments[skipped..].iter().cloned().map(Ok).collect();
            prop_assert_eq!(read(&whole, from, 1 << 20), expected);
            // No segments are no file.
            if !whole.is_empty() {
                let mut all = Vec::new();
                MultiGzDecoder::new(&whole[..]).read_to_end(&mut all).expect("gzip");
                prop_assert_eq!(all, segments.concat());
            }
        }

        #[test]
        fn damage_loses_what_follows_and_nothing_before(
            segments in some_segments(), at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<bool>(),
        ) {
            let mut damaged = whole(&segments);
            prop_assume!(!damaged.is_empty());
            let at = at.index(damaged.len());
            if cut { damaged.truncate(at) } else { damaged[at] ^= 1 << bit }
            // What ends before the damage.
            let ends = segments.iter().scan(0, |end, segment| { *end += member(segment).len(); Some(*end) });
            let whole_ones = ends.take_while(|end| *end <= at).count();
            let read = read(&damaged, 1, 1 << 20);
            prop_assert!(read.len() >= whole_ones);
            for (read, segment) in read.iter().zip(&segments).take(whole_ones) {
                prop_assert_eq!(read.as_ref(), Ok(segment));
            }
            // Nothing else is ever taken for a segment, whatever the header's idle bits say.
            for (number, read) in read.iter().enumerate() {
                prop_assert!(read.is_err() || read.as_ref() == Ok(&segments[number]), "{}: {:?}", number, read);
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic_and_within_bounds(
            bytes in vec(any::<u8>(), 0..300), real in some_segments(), from in any::<u32>(), most in 0u64..9000,
        ) {
            // Behind what looks real, too.
            for bytes in [[whole(&real), bytes.clone()].concat(), [&[0x1f, 0x8b, 8, bytes.len() as u8][..], &bytes].concat()] {
                let read = read(&bytes, from % 9, most);
                let length: usize = read.iter().flatten().map(Vec::len).sum();
                prop_assert!(length as u64 <= most);
                prop_assert!(read.iter().rev().skip(1).all(Result::is_ok), "something follows an error");
            }
        }
    }
}
