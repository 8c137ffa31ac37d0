//! Catalogues: no file makes the reader panic or loop, neither arbitrary bytes behind the fixed part nor a catalogue with some
//! bytes changed, and every answer is within its bounds. The checksum is corrected first, which accidents do not do.

use std::sync::LazyLock;

use binplz_catalogue::{About, Lookup, Obstacle, Record, Standing, Writer, details};
use binplz_core::{
    id::key::System,
    nixpkgs::catalogue::{ALTERNATIVES_MAX, NEAR_MAX, Resolution},
    ports::Catalogue,
};

use crate::input::changed;

/// The place of the checksum, and the start of the checked part.
const SUM: std::ops::Range<usize> = 16..20;

static FILES: LazyLock<binplz_catalogue::Files> = LazyLock::new(|| {
    let mut writer = Writer::new("ab".repeat(20).parse().expect("a revision"));
    let mut add = |attr: &str, main: Option<&str>, standing| {
        let (pname, description) = (attr.to_owned(), "A package with a shared program".to_owned());
        let about = About { pname, description, main_program: main.map(str::to_owned), ..About::default() };
        let attr = attr.parse().expect("an attribute");
        writer.evaluated(Record { attr, system: System::X86_64Linux, about, standing }).expect("once");
    };
    for number in 0..40 {
        add(&format!("set{}.package{number}", number % 3), None, Standing::Buildable { drv_path: None });
    }
    let drv_path = Some(format!("/nix/store/{}-drv.drv", "a".repeat(32)));
    add("derivation", Some("derive"), Standing::Buildable { drv_path });
    let refused = |why, detail: &str| Standing::Refused { why, detail: Some(detail.to_owned()) };
    add("exa", None, refused(Obstacle::Throws, "use eza"));
    add("old", Some("old"), refused(Obstacle::Insecure, "CVE"));
    for number in 0..40 {
        for bin in ["shared", &format!("program-{number}"), "["] {
            let attr = format!("set{}.package{number}", number % 3);
            writer.in_database(attr.parse().expect("an attribute"), bin.parse().expect("a program"));
        }
    }
    writer.finish().expect("small")
});

pub(crate) fn check(data: &[u8]) {
    let Some((&kind, data)) = data.split_first() else { return };
    let file = &FILES.lookup;
    let bytes = if kind % 2 == 0 { [&file[..SUM.end], data].concat() } else { changed(file.clone(), data) };
    let _ = Lookup::open(data);
    ask(&sealed(bytes));
}

/// The file with its checksum corrected.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = crc32fast::hash(&bytes[SUM.end..]).to_le_bytes();
    bytes[SUM].copy_from_slice(&sum);
    bytes
}

/// A range of the details file.
fn part(range: std::ops::Range<u64>) -> Option<&'static [u8]> {
    FILES.details.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
}

fn ask(bytes: &[u8]) {
    let Ok(lookup) = Lookup::open(bytes) else { return };
    // A block of words with a correct checksum, of any bytes.
    let any_block = [&crc32fast::hash(bytes).to_le_bytes(), bytes].concat();
    for path in
        ["set0.package3", "program-7", "shared", "exa", "old", "sharde", "derivation", "set1.package4/shared", "x/y"]
    {
        for system in System::ALL {
            match lookup.resolve(&path.parse().expect("a path"), system) {
                Resolution::Unknown { near } => assert!(near.len() <= NEAR_MAX),
                Resolution::Found { others, .. } | Resolution::Refused { others, .. } => {
                    assert!(others.len() <= ALTERNATIVES_MAX);
                }
                Resolution::Choice { .. } | Resolution::NoSuchProgram { .. } => {}
            }
        }
        let Ok(attr) = path.parse() else { continue };
        lookup.package(&attr);
        lookup.entry(&attr, System::X86_64Linux);
        if let Some(Ok(details)) = lookup.details(&attr).and_then(part).map(|block| details::read(block, &attr)) {
            assert_eq!(details.attr, attr);
        }
    }
    for text in ["p", "package", "program-1", "shared"] {
        assert!(lookup.search(text, System::X86_64Linux, 9).len() <= 9);
        let blocks = lookup.words(text).into_iter().filter_map(part).map(<[u8]>::to_vec);
        let blocks: Vec<_> = blocks.chain([any_block.clone()]).collect();
        assert!(lookup.search_words(text, &blocks, System::X86_64Linux, 9).len() <= 9);
    }
    lookup.lost().count();
}
