use binplz_core::objects::stored::Measured;
use proptest::{collection::vec, prelude::*};

use super::*;

fn pack(content: &[u8]) -> (Vec<u8>, Measured) {
    let mut file = Vec::new();
    let mut packer = Packer::new(&mut file, u64::MAX);
    packer.write_all(content).expect("memory");
    let (packed, nar) = packer.finish().expect("memory");
    (file, Measured { packed, unpacked: Some(nar) })
}

fn measure(file: &[u8], most: u64) -> Measured {
    let mut meter = Meter::new(most);
    meter.feed(file);
    meter.finish()
}

proptest! {
    #[test]
    fn what_was_packed_is_measured_as_it_was_in_pieces_of_any_size(content in vec(0u8..4, 0..5000), size in 1usize..300) {
        let (file, said) = pack(&content);
        let mut meter = Meter::new(content.len() as u64);
        file.chunks(size).for_each(|piece| meter.feed(piece));
        prop_assert_eq!(meter.finish(), said);
    }

    #[test]
    fn what_was_changed_in_any_place_is_another_file(content in vec(0u8..4, 1..500), at: prop::sample::Index, to: u8) {
        let (mut file, said) = pack(&content);
        let at = at.index(file.len());
        prop_assume!(file[at] != to);
        file[at] = to;
        let measured = measure(&file, u64::MAX);
        prop_assert_ne!(&measured.packed, &said.packed);
        // Some bits of a gzip file carry no meaning (its time, the padding of its last byte); its checksum covers all
        // others.
        prop_assert!(measured.unpacked.is_none() || measured.unpacked == said.unpacked, "{} of {}", at, file.len());
    }

    #[test]
    fn arbitrary_bytes_are_measured_and_unpack_to_nothing(file: Vec<u8>) {
        prop_assert_eq!(measure(&file, u64::MAX).packed.size, file.len() as u64);
        prop_assert_eq!(measure(&file, u64::MAX).unpacked, None);
    }
}

#[test]
fn a_file_that_is_cut_off_or_goes_on_unpacks_to_nothing() {
    let (file, said) = pack(b"content");
    assert_eq!(measure(&file, 7), said);
    for length in 0..file.len() {
        assert_eq!(measure(&file[..length], 7).unpacked, None, "{length}");
    }
    // Other readers would unpack both members, and the bytes after them.
    assert_eq!(measure(&[file.as_slice(), &file].concat(), 14).unpacked, None);
    assert_eq!(measure(&[file.as_slice(), b"\0"].concat(), 7).unpacked, None);
}

#[test]
fn no_more_is_unpacked_than_was_announced() {
    let bomb = pack(&vec![0; 100 << 20]).0;
    assert!(bomb.len() < 1 << 20);
    assert_eq!(measure(&bomb, (100 << 20) - 1).unpacked, None);
    assert!(measure(&bomb, 100 << 20).unpacked.is_some());
}

#[test]
fn what_would_come_to_more_than_it_may_is_not_packed() {
    let mut packer = Packer::new(Vec::new(), 20);
    let packed = packer.write_all(b"no more than twenty bytes, says the one that takes");
    let ended = packed.and_then(|()| packer.finish().map(drop));
    assert_eq!(ended.map_err(|error| error.kind()), Err(io::ErrorKind::FileTooLarge));
}

#[test]
fn a_signature_is_what_others_make_of_the_same_key() {
    let key = Key::of_seed(*b"0123456789abcdef0123456789abcdef");
    let (name, public) = key.public().split_once(':').map(|(a, b)| (a.to_owned(), b.to_owned())).expect("a name");
    assert_eq!((name.as_str(), public.as_str()), ("binplz-1", PUBLIC));
    assert_eq!(key.sign("1;/nix/store/x"), format!("binplz-1:{SIGNATURE}"));
    assert_ne!(Key::of_secret("a").public(), Key::of_secret("b").public());
    assert!(!format!("{key:?}").contains("0123456789"));
}

/// OpenSSL's result for that seed and that text.
const PUBLIC: &str = "I7xUkSwebpLEqGglyGfif/3FVb/71CRPF6Jqv//ull0=";
const SIGNATURE: &str = "MfSaDouKH2314Im4p0E649FCyx0tCfy3E+1UHEa5G4QtG2vvW5zC1GCW8WJYgAT0yl4yuvNwq0MesdAkNaUDAQ==";
