//! Ranges of the log: a proof's ranges are all leaves but its own, each once, and each is made up of whole subtrees.

use binplz_core::trust::{
    merkle::{Hash, Range, consistency, extends, includes, inclusion},
    tile::{Edge, Kind, TileName, WIDTH},
};

pub(crate) fn check(data: &[u8]) {
    let (Some((one, rest)), tail) = (data.split_first_chunk(), data.get(16..).unwrap_or_default()) else { return };
    let Some(other) = rest.first_chunk() else { return };
    let (one, other) = (u64::from_le_bytes(*one), u64::from_le_bytes(*other));
    let (index, size) = (one.min(other), one.max(other));

    let ranges = inclusion(index, size);
    assert!(ranges.len() <= 64);
    if index < size {
        covers(ranges.iter().copied().chain([Range { from: index, to: index + 1 }]), size);
    }
    let hashes: Vec<Hash> = tail.as_chunks().0.to_vec();
    assert!(!includes(&[1; 32], size, index, &[2; 32], &hashes), "a proof of any hashes");
    let ranges = consistency(index, size);
    if 0 < index && index < size {
        // What the old tree has, the verifier knows, if it is whole in the new one.
        let known = index.is_power_of_two().then_some(Range { from: 0, to: index });
        covers(ranges.into_iter().chain(known), size);
    }
    assert!(!extends((index, &[1; 32]), (size, &[2; 32]), &hashes), "a proof of any hashes");

    for name in Edge::needs(size) {
        assert!((1..WIDTH).contains(&name.width), "{name} is full");
        assert_eq!(name.to_string().parse(), Ok(name));
    }
    if index < size {
        let (name, at) = TileName::of_entry(index, size);
        assert!(name.kind == Kind::Entries && (at as u64) < name.width, "{name}");
    }
}

fn covers(ranges: impl Iterator<Item = Range>, size: u64) {
    let mut ranges: Vec<Range> = ranges.collect();
    ranges.sort_by_key(|range| range.from);
    let mut end = 0;
    for range in ranges {
        assert!(range.from == end && range.to > range.from, "{range:?} of {size}");
        end = range.to;
        let mut at = range.from;
        for node in range.nodes() {
            assert_eq!(node.index << node.height, at, "{node:?}");
            at += 1 << node.height;
            let (name, from, to) = TileName::with(node, size);
            assert!(from < to && to as u64 <= name.width, "{node:?} in {name}");
        }
        assert_eq!(at, range.to);
    }
    assert_eq!(end, size);
}
