//! What the parser accepts is what a writer can have meant, and is written in one way only.

#[path = "../fuzz/accepted.rs"]
mod accepted;

use std::fs;

use accepted::{check, input, sample};
use proptest::{collection::vec, prelude::*, sample::Index};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn arbitrary_bytes_are_refused_or_safe(bytes in vec(any::<u8>(), 0..400)) {
        check(&bytes);
    }

    #[test]
    fn a_manifest_with_some_bytes_changed_is_refused_or_safe(changes in vec((any::<Index>(), any::<u8>()), 1..6), cut in any::<Index>()) {
        let mut bytes = sample().encode();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        check(&bytes);
        check(&bytes[..cut.index(bytes.len())]);
    }
}

#[test]
fn a_manifest_is_read_as_it_was_written() {
    let sample = sample();
    assert_eq!(binplz_launcher::manifest::Manifest::decode(&sample.encode()).expect("a manifest"), sample);
}

#[test]
fn what_the_fuzzer_has_found_worth_keeping_is_refused_or_safe() {
    let seeds = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds")).expect("the seeds");
    let count = seeds.map(|seed| input(&fs::read(seed.expect("a seed").path()).expect("a file"))).count();
    assert!(count > 50, "{count}");
}
