//! Parts of a catalogue's checkpoint, and blocks of its details: what is read is written back once it is cleaned. The first byte
//! says whether what follows is packed; the checksum is made.

use binplz_catalogue::{details, part};
use miniz_oxide::deflate::compress_to_vec;

pub(crate) fn check(data: &[u8]) {
    let Some((&kind, data)) = data.split_first() else { return };
    let packed = if kind % 2 == 0 { data.to_vec() } else { compress_to_vec(data, 1) };
    let sum = crc32fast::hash(&packed).to_le_bytes();
    let _ = part::read(data);
    if let Ok((basis, records)) = part::read(&[b"binplz part 1 ", sum.as_slice(), &packed].concat()) {
        let again = repacked(&basis, &records);
        assert_eq!(again.len(), records.len());
        assert!(again.iter().zip(&records).all(|(one, other)| (&one.attr, one.system) == (&other.attr, other.system)));
        assert_eq!(repacked(&basis, &again), again, "what is clean stays as it is");
    }
    let attr = "tree".parse().expect("an attribute");
    if let Ok(details) = details::read(&[sum.as_slice(), &packed].concat(), &attr) {
        assert_eq!(details.attr, attr);
        let json = serde_json::to_vec(&details).expect("JSON can express it");
        assert_eq!(serde_json::from_slice::<details::Details>(&json).ok(), Some(details));
    }
}

fn repacked(basis: &str, records: &[binplz_catalogue::Record]) -> Vec<binplz_catalogue::Record> {
    let parts = part::pack(basis, records, 1 << 20);
    let read = |part: &Vec<u8>| {
        let (again, records) = part::read(part).expect("what was packed");
        assert_eq!(again, basis);
        records
    };
    parts.iter().flat_map(read).collect()
}
