//! The hash of a derivation's path in 20 bytes: each of its 32 characters carries five bits.

use binplz_core::id::key::{BASE32, DrvHash};

/// Bytes of a packed hash.
pub(crate) const DRV_BYTES: usize = 20;

/// Zeros mean "no hash": one in 2^160 hashes would be mistaken for that.
pub(crate) fn pack(hash: Option<&DrvHash>) -> [u8; DRV_BYTES] {
    let mut packed = [0; DRV_BYTES];
    for (group, bytes) in hash.map_or(&[][..], |hash| hash.as_str().as_bytes()).chunks(8).zip(packed.chunks_mut(5)) {
        let digit = |byte: &u8| BASE32.iter().position(|digit| digit == byte).unwrap_or(0) as u64;
        let bits = group.iter().fold(0, |bits, byte| bits << 5 | digit(byte));
        bytes.copy_from_slice(&bits.to_be_bytes()[3..]);
    }
    packed
}

/// The hash, if there is one.
pub(crate) fn unpack(packed: &[u8; DRV_BYTES]) -> Option<DrvHash> {
    if packed.iter().all(|byte| *byte == 0) {
        return None;
    }
    let mut hash = String::with_capacity(32);
    for bytes in packed.chunks(5) {
        let bits = bytes.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        hash.extend((0..8).rev().map(|place| char::from(BASE32[(bits >> (5 * place)) as usize % 32])));
    }
    hash.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_hash_comes_back_as_it_was(text in "[0-9abcdfghijklmnpqrsvwxyz]{32}") {
            let hash: DrvHash = text.parse().expect("32 digits");
            prop_assert_eq!(unpack(&pack(Some(&hash))), Some(hash));
        }
    }

    #[test]
    fn no_hash_comes_back_as_none() {
        assert_eq!(unpack(&pack(None)), None);
    }
}
