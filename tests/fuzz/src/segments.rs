//! Whole logs: bounded, and what is read is what was written; nothing follows an error.

use binplz_core::objects::gzip::{member, segments};

/// The most bytes that are unpacked.
const MOST: usize = 64 << 10;

pub(crate) fn check(data: &[u8]) {
    let read: Vec<_> = segments(data, MOST).collect();
    assert!(read.iter().flatten().map(Vec::len).sum::<usize>() <= MOST);
    assert!(read.len() <= MOST / 1024 + 1, "empty segments cost time as well");
    assert!(read.iter().rev().skip(1).all(Result::is_ok), "something follows an error");
    let good: Vec<Vec<u8>> = read.into_iter().flatten().collect();
    let written: Vec<u8> = good.iter().flat_map(|segment| member(segment)).collect();
    let again: Result<Vec<_>, _> = segments(&written, MOST).collect();
    assert_eq!(again, Ok(good.clone()));
    // Behind good segments, any bytes leave those as they are.
    let behind: Vec<_> = segments(&[written.as_slice(), data].concat(), MOST).take(good.len()).flatten().collect();
    assert_eq!(behind, good);
}
