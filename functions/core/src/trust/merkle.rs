//! The Merkle tree of the transparency log (RFC 6962, section 2.1): its hashes and its proofs.
//!
//! A proof is first a list of [`Range`]s of leaves; a reader of the log turns each into a hash, by the [`Node`]s that make
//! it up, which [tiles](super::tile) have.

use sha2::{Digest, Sha256};

/// A hash of the tree: SHA-256.
pub type Hash = [u8; 32];

/// The hash of an entry.
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(entry).finalize().into()
}

/// The hash of two neighbours.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The root of an empty tree.
pub fn empty_root() -> Hash {
    Sha256::new().finalize().into()
}

/// The hash above hashes of one height, from left to right; `None` if there are none.
pub fn root_of(hashes: &[Hash]) -> Option<Hash> {
    match hashes {
        [] => None,
        [hash] => Some(*hash),
        _ => {
            let (left, right) = hashes.split_at(split(hashes.len() as u64) as usize);
            Some(node_hash(&root_of(left)?, &root_of(right)?))
        }
    }
}

/// The largest power of two below `size`, which is at least 2: the leaves of the left side.
fn split(size: u64) -> u64 {
    1 << (63 - (size - 1).leading_zeros())
}

/// Leaves `from..to` of a tree, which have one hash in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first.
    pub from: u64,
    /// Behind the last.
    pub to: u64,
}

/// A hash above 2^`height` leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// 0 for a leaf's.
    pub height: u32,
    /// How many of that height lie left of it.
    pub index: u64,
}

impl Range {
    /// The complete subtrees that it consists of, from left to right. Their hashes give its own by [`Range::hash`].
    pub fn nodes(self) -> Vec<Node> {
        let (mut nodes, mut from) = (Vec::new(), self.from);
        while from < self.to {
            let height = 63 - (self.to - from).leading_zeros();
            nodes.push(Node { height, index: from >> height });
            from += 1 << height;
        }
        nodes
    }

    /// The range's hash, of the hashes of its [nodes](Range::nodes).
    pub fn hash(nodes: &[Hash]) -> Hash {
        let above = |right: Option<Hash>, left: &Hash| Some(right.map_or(*left, |right| node_hash(left, &right)));
        nodes.iter().rev().fold(None, above).unwrap_or_else(empty_root)
    }
}

/// The ranges whose hashes prove that a tree of `size` leaves has the leaf `index`, in the order of the proof. Empty if it
/// has no such leaf.
pub fn inclusion(index: u64, size: u64) -> Vec<Range> {
    let mut path = Vec::new();
    if index < size {
        descend(index, Range { from: 0, to: size }, &mut path);
    }
    path
}

fn descend(index: u64, Range { from, to }: Range, path: &mut Vec<Range>) {
    if to - from <= 1 {
        return;
    }
    let middle = from + split(to - from);
    let (left, right) = (Range { from, to: middle }, Range { from: middle, to });
    let (own, other) = if index < middle { (left, right) } else { (right, left) };
    descend(index, own, path);
    path.push(other);
}

/// The ranges whose hashes prove that a tree of `size` leaves begins with the tree of its first `old` leaves.
pub fn consistency(old: u64, size: u64) -> Vec<Range> {
    let mut path = Vec::new();
    if 0 < old && old < size {
        descend_to(old, Range { from: 0, to: size }, true, &mut path);
    }
    path
}

/// `known`: the range's hash is the old tree's root, which the verifier has.
fn descend_to(old: u64, range @ Range { from, to }: Range, known: bool, path: &mut Vec<Range>) {
    if old == to {
        if !known {
            path.push(range);
        }
        return;
    }
    let middle = from + split(to - from);
    let (left, right) = (Range { from, to: middle }, Range { from: middle, to });
    if old <= middle {
        descend_to(old, left, known, path);
        path.push(right);
    } else {
        descend_to(old, right, false, path);
        path.push(left);
    }
}

/// Whether a proof shows that the tree with this root has the leaf hash at `index` (RFC 9162, section 2.1.3.2).
pub fn includes(root: &Hash, size: u64, index: u64, leaf: &Hash, proof: &[Hash]) -> bool {
    let ranges = inclusion(index, size);
    if index >= size || ranges.len() != proof.len() {
        return false;
    }
    let above = |own: Hash, (range, other): (&Range, &Hash)| {
        if range.from > index { node_hash(&own, other) } else { node_hash(other, &own) }
    };
    ranges.iter().zip(proof).fold(*leaf, above) == *root
}

/// Whether a proof shows that the tree `(size, root)` begins with the tree `old` (RFC 9162, section 2.1.4.2). Of an empty
/// tree there is no proof.
pub fn extends(old: (u64, &Hash), (size, root): (u64, &Hash), proof: &[Hash]) -> bool {
    let (old_size, old_root) = old;
    if old_size == 0 || old_size >= size {
        let same = old_size == size && old_root == root;
        return proof.is_empty() && same && (size > 0 || *root == empty_root());
    }
    let ranges = consistency(old_size, size);
    if ranges.len() != proof.len() {
        return false;
    }
    // Where the old tree is complete, it is the first hash itself, which the proof leaves out.
    let complete = old_size.is_power_of_two();
    let (mut hashes, first) = (ranges.iter().zip(proof), if complete { Some(*old_root) } else { None });
    let Some(first) = first.or_else(|| hashes.next().map(|(_, hash)| *hash)) else { return false };
    let (mut of_old, mut of_new) = (first, first);
    for (range, hash) in hashes {
        if range.from < old_size {
            (of_old, of_new) = (node_hash(hash, &of_old), node_hash(hash, &of_new));
        } else {
            of_new = node_hash(&of_new, hash);
        }
    }
    of_old == *old_root && of_new == *root
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count).map(|n| leaf_hash(&n.to_be_bytes())).collect()
    }

    fn hash(leaves: &[Hash], range: Range) -> Hash {
        let of = |node: &Node| {
            let from = (node.index << node.height) as usize;
            root_of(&leaves[from..from + (1 << node.height)]).expect("it has leaves")
        };
        Range::hash(&range.nodes().iter().map(of).collect::<Vec<_>>())
    }

    fn proof(leaves: &[Hash], ranges: &[Range]) -> Vec<Hash> {
        ranges.iter().map(|range| hash(leaves, *range)).collect()
    }

    #[test]
    fn a_range_has_the_hash_of_its_leaves() {
        let all = leaves(70);
        for to in 1..=70 {
            assert_eq!(hash(&all, Range { from: 0, to }), root_of(&all[..to as usize]).expect("a root"), "{to}");
        }
        assert_eq!(Range::hash(&[]), empty_root());
    }

    proptest! {
        #[test]
        fn proofs_hold_for_what_they_are_of_and_for_nothing_else(size in 1u64..200, a in 0u64..200, b in 0u64..200, bit in 0usize..256) {
            let all = leaves(size);
            let root = root_of(&all).expect("a root");
            let index = a % size;
            let path = proof(&all, &inclusion(index, size));
            let leaf = all[index as usize];
            prop_assert!(includes(&root, size, index, &leaf, &path));
            let other = b % size;
            if other != index {
                prop_assert!(!includes(&root, size, other, &leaf, &path));
            }
            prop_assert!(!includes(&root, size, index + size, &leaf, &path));
            let mut bent = path.clone();
            if let Some(last) = bent.last_mut() {
                last[bit / 8] ^= 1 << (bit % 8);
                prop_assert!(!includes(&root, size, index, &leaf, &bent));
            }

            let old = b % size + 1;
            let old_root = root_of(&all[..old as usize]).expect("a root");
            let path = proof(&all, &consistency(old, size));
            prop_assert!(extends((old, &old_root), (size, &root), &path));
            let mut forged = old_root;
            forged[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!extends((old, &forged), (size, &root), &path));
            prop_assert!(!extends((old, &old_root), (size, &forged), &path));
            let mut bent = path.clone();
            if let Some(last) = bent.last_mut() {
                last[bit / 8] ^= 1 << (bit % 8);
                prop_assert!(!extends((old, &old_root), (size, &root), &bent));
                bent.pop();
                prop_assert!(!extends((old, &old_root), (size, &root), &bent));
            }
        }
    }
}
