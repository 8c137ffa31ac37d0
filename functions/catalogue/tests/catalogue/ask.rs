//! Every operation on a file of arbitrary bytes.

use binplz_catalogue::{Lookup, Obstacle};
use binplz_core::{id::key::System, ports::Catalogue};

use crate::set::Set;

/// The place of the checksum, and the start of the checked part.
const SUM: std::ops::Range<usize> = 16..20;

pub(crate) fn set() -> Set {
    let mut set = Set::new();
    for number in 0..40 {
        let attr = format!("set{}.package{number}", number % 3);
        set = set.package(&attr, None).database(&attr, &["shared", &format!("program-{number}"), "["]);
    }
    set.derivation("derivation", 'a').refused("exa", None, Obstacle::Throws, Some("use eza")).refused(
        "old",
        Some("old"),
        Obstacle::Insecure,
        Some("CVE"),
    )
}

/// Calls every function of a reader.
pub(crate) fn ask_all(bytes: &[u8]) {
    let Ok(lookup) = Lookup::open(bytes) else { return };
    let paths =
        ["set0.package3", "program-7", "shared", "exa", "old", "sharde", "derivation", "set1.package4/shared", "x/y"];
    for path in paths {
        for system in System::ALL {
            lookup.resolve(&path.parse().expect("a path"), system);
        }
        if let Ok(attr) = path.parse() {
            lookup.package(&attr);
            lookup.details(&attr);
            lookup.entry(&attr, System::X86_64Linux);
        }
    }
    for text in ["p", "package", "program-1", "shared"] {
        lookup.search(text, System::X86_64Linux, 9);
        lookup.words(text);
        lookup.search_words(text, &[bytes.to_vec()], System::X86_64Linux, 9);
    }
    lookup.lost().count();
}

/// The file with its checksum corrected.
pub(crate) fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.len() >= SUM.end {
        let sum = crc32fast::hash(&bytes[SUM.end..]).to_le_bytes();
        bytes[SUM].copy_from_slice(&sum);
    }
    bytes
}
