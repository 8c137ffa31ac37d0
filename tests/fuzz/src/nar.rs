//! Packed files: two readers agree on what they unpack to, and neither unpacks more than it may.

use std::io::Write;

use binplz_core::objects::{content::Content, gzip};
use binplz_nar::{Meter, Packer};

/// The most bytes that are unpacked.
const MOST: u64 = 64 << 10;

fn measured(pieces: &[&[u8]]) -> binplz_core::objects::stored::Measured {
    let mut meter = Meter::new(MOST);
    pieces.iter().for_each(|piece| meter.feed(piece));
    meter.finish()
}

pub(crate) fn check(data: &[u8]) {
    let whole = measured(&[data]);
    let (first, rest) = data.split_at(data.first().map_or(0, |at| usize::from(*at) % data.len()));
    assert_eq!(measured(&[first, rest]), whole, "in pieces");
    assert_eq!(whole.packed, Content::of(data));
    assert!(whole.unpacked.as_ref().is_none_or(|content| content.size <= MOST));
    // Core's own reader takes a header without a name, as builders write it.
    let segments: Vec<_> = gzip::segments(data, MOST as usize).collect();
    if let [Ok(one)] = segments.as_slice() {
        assert_eq!(whole.unpacked, Some(Content::of(one)));
    }
    if segments.len() > 1 && segments.iter().all(Result::is_ok) {
        assert_eq!(whole.unpacked, None, "several members");
    }

    let mut packed = Vec::new();
    let mut packer = Packer::new(&mut packed, 1 << 20);
    packer.write_all(data).expect("there is room");
    let (file, content) = packer.finish().expect("there is room");
    assert_eq!((file, &content), (Content::of(&packed), &Content::of(data)));
    let unpacked = measured(&[&packed]).unpacked;
    assert_eq!(unpacked, (content.size <= MOST).then_some(content), "what was packed");
}
