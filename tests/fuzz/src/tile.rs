//! Bundles of entries: what is accepted is written back by a log that has these entries.

use std::collections::BTreeMap;

use binplz_core::trust::{
    merkle::leaf_hash,
    tile::{Edge, Kind, TileName, WIDTH, entries, hashes},
};

pub(crate) fn check(data: &[u8]) {
    let Some((&width, bytes)) = data.split_first() else { return };
    let width = u64::from(width) + 1;
    let bundle = TileName { kind: Kind::Entries, index: 0, width };
    let read = entries(&bundle, bytes);
    if let Some(read) = &read {
        assert_eq!(read.len() as u64, width);
        let mut edge = Edge::default();
        let written = edge.append(read.iter().cloned());
        assert_eq!(written.get(&bundle).map(Vec::as_slice), Some(bytes), "one form");
        assert_eq!(Edge::of(width, &written).as_ref(), Some(&edge));
        let tile = TileName { kind: Kind::Hashes(0), ..bundle };
        let of_leaves: Vec<_> = read.iter().map(|entry| leaf_hash(entry)).collect();
        assert_eq!(hashes(&tile, &written[&tile]), Some(of_leaves));
        // The bundle of the first entries is the beginning of a wider one.
        let first = TileName { width: width.div_ceil(2), ..bundle };
        assert_eq!(entries(&first, &first.cut(bytes.to_vec())).as_deref(), read.get(..first.width as usize));
    }
    for kind in [Kind::Entries, Kind::Hashes(0)] {
        let name = TileName { kind, ..bundle };
        assert!(name.cut(bytes.to_vec()).len() <= bytes.len());
        // A log continues from good objects, and from no others.
        let objects: BTreeMap<_, _> =
            Edge::needs(width % WIDTH).into_iter().map(|name| (name, bytes.to_vec())).collect();
        if let Some(edge) = Edge::of(width % WIDTH, &objects) {
            edge.root();
        }
    }
    let tile = TileName { kind: Kind::Hashes(0), ..bundle };
    assert_eq!(hashes(&tile, bytes).is_some(), bytes.len() as u64 == 32 * width);
}
