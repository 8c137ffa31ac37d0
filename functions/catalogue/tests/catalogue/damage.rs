//! Damaged files: refused, or read without a panic and in bounded time.

use binplz_catalogue::{About, BadCatalogue, Lookup, Record, Standing, details, part};
use binplz_core::ports::Catalogue;
use proptest::prelude::*;

use crate::{
    ask::{ask_all, sealed, set},
    set::X86,
};

#[test]
fn a_file_of_another_kind_format_or_length_is_refused() {
    let file = set().files().lookup;
    assert!(Lookup::open(file.as_slice()).is_ok());
    assert_eq!(Lookup::open(&[][..]).err(), Some(BadCatalogue::Foreign));
    assert_eq!(Lookup::open(&b"SQLite format 3\0 and more"[..]).err(), Some(BadCatalogue::Foreign));
    let mut other = file.clone();
    other[14] = 9;
    assert_eq!(Lookup::open(other).err(), Some(BadCatalogue::Format(9)));
    for length in 14..file.len() {
        assert_eq!(Lookup::open(&file[..length]).err(), Some(BadCatalogue::Damaged), "{length} bytes");
    }
    let mut longer = file;
    longer.push(0);
    assert_eq!(Lookup::open(longer).err(), Some(BadCatalogue::Damaged));
}

#[test]
fn every_single_changed_byte_is_found() {
    let file = set().files().lookup;
    for at in 0..file.len() {
        let mut changed = file.clone();
        changed[at] ^= 0x10;
        assert!(Lookup::open(changed).is_err(), "byte {at}");
    }
}

#[test]
fn details_of_another_block_or_another_making_are_refused() {
    let files = set().files();
    let lookup = Lookup::open(files.lookup).expect("a catalogue");
    let attr = "exa".parse().expect("an attribute");
    let range = lookup.details(&attr).expect("details");
    let range = usize::try_from(range.start).expect("small")..usize::try_from(range.end).expect("small");
    let block = &files.details[range];
    assert_eq!(details::read(block, &attr).expect("details").standings.len(), 1);
    assert_eq!(details::read(block, &"missing".parse().expect("a name")), Err(details::BadBlock::Other));
    for at in 0..block.len() {
        let mut changed = block.to_vec();
        changed[at] ^= 1;
        assert_eq!(details::read(&changed, &attr), Err(details::BadBlock::Damaged), "byte {at}");
        assert!(details::read(&block[..at], &attr).is_err());
    }
}

fn records(count: usize) -> Vec<Record> {
    let record = |number| Record {
        attr: format!("package{number}").parse().expect("an attribute"),
        system: X86,
        about: About { description: "x".repeat(number), ..About::default() },
        standing: Standing::Buildable { drv_path: None },
    };
    (0..count).map(record).collect()
}

#[test]
fn a_part_that_is_damaged_gives_no_records() {
    let parts = part::pack("basis", &records(9), 1 << 20);
    let [part] = parts.as_slice() else { panic!("{} parts", parts.len()) };
    assert_eq!(part::read(part), Ok(("basis".to_owned(), records(9))));
    for at in 0..part.len() {
        let mut changed = part.clone();
        changed[at] ^= 0x10;
        assert_eq!(part::read(&changed), Err(part::Damaged), "byte {at}");
        assert_eq!(part::read(&part[..at]), Err(part::Damaged), "{at} bytes");
    }
}

#[test]
fn a_record_that_fits_no_part_is_left_out() {
    let parts = part::pack("this", &records(9), 10);
    assert_eq!(parts, Vec::<Vec<u8>>::new());
}

proptest! {
    // A complete file with a few bytes changed and a matching checksum, as only a bug of ours could write.
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn what_the_checksum_does_not_find_makes_no_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8), cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        thread_local!(static FILE: Vec<u8> = set().files().lookup);
        let mut file = FILE.with(Clone::clone);
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        if let Some(cut) = cut {
            file.truncate(cut.index(file.len()));
        }
        ask_all(&sealed(file));
    }

    #[test]
    fn a_header_that_lies_makes_no_panic(number in any::<u32>(), which in any::<prop::sample::Index>()) {
        thread_local!(static FILE: Vec<u8> = set().files().lookup);
        let file = FILE.with(Clone::clone);
        let length = u32::from_le_bytes(file[20..24].try_into()?) as usize;
        let header = std::str::from_utf8(&file[24..24 + length])?;
        // Replaces one of the numbers in the header.
        let digits: Vec<&str> = header.split(|c: char| !c.is_ascii_digit()).filter(|run| !run.is_empty() && run.len() < 9).collect();
        let old = digits[which.index(digits.len())];
        let header = header.replacen(old, &number.to_string(), 1);
        let length = u32::try_from(header.len())?.to_le_bytes();
        ask_all(&sealed([&file[..20], &length, header.as_bytes(), &file[24 + digits_end(&file)..]].concat()));
    }

    #[test]
    fn no_bytes_at_all_make_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        ask_all(&bytes);
        ask_all(&sealed([&b"binplz lookup \x01\0"[..], &bytes].concat()));
        let _ = details::read(&bytes, &"x".parse().expect("a name"));
    }
}

fn digits_end(file: &[u8]) -> usize {
    file[20..24].first_chunk().map_or(0, |length| u32::from_le_bytes(*length) as usize)
}

#[test]
fn a_whole_file_answers() {
    let lookup = set().lookup();
    assert_eq!(lookup.attrs(), 43);
    assert!(matches!(
        lookup.resolve(&"program-7".parse().expect("a path"), X86),
        binplz_core::nixpkgs::catalogue::Resolution::Found { .. }
    ));
}
