//! Search by the words of descriptions: the packages found, and their order.

use std::collections::BTreeSet;

use binplz_catalogue::{Files, Lookup, Obstacle};
use binplz_core::ports::Catalogue;
use proptest::prelude::*;

use crate::set::{Set, X86};

/// The blocks that a search reads.
fn blocks(files: &Files, lookup: &impl Catalogue, text: &str) -> Vec<Vec<u8>> {
    let place = |at| usize::try_from(at).expect("small");
    lookup.words(text).into_iter().map(|range| files.details[place(range.start)..place(range.end)].to_vec()).collect()
}

fn found(files: &Files, text: &str) -> Vec<String> {
    let lookup = Lookup::open(files.lookup.as_slice()).expect("a catalogue");
    let entries = lookup.search_words(text, &blocks(files, &lookup, text), X86, 1000);
    entries.into_iter().map(|entry| entry.attr.to_string()).collect()
}

fn set() -> Set {
    Set::new()
        .described("jq", "Lightweight and flexible command-line JSON processor")
        .described("a-json-tool", "Processes of JSON")
        .described("python3Packages.simplejson", "Extensible encoder and decoder for JSON")
        .described("tree", "List the contents of directories in a tree-like format")
        .described("jsonnet", "Configuration language")
        .refused("json-processor", None, Obstacle::Broken, None)
        .refused("json-processors", None, Obstacle::Throws, Some("gone"))
}

#[test]
fn a_package_is_found_by_all_words_of_its_name_and_description_in_any_order_and_by_beginnings_of_words() {
    let files = set().files();
    // The words themselves, the most requested first; longer words; packages that cannot be built. Lost ones are missing.
    assert_eq!(found(&files, "json"), ["jq", "a-json-tool", "python3Packages.simplejson", "jsonnet", "json-processor"]);
    for text in ["JSON processor", "processor, json!", "the processor for JSON", "json processors", "json proc"] {
        assert_eq!(found(&files, text)[0], "jq", "{text}");
        assert!(!found(&files, text).contains(&"tree".to_owned()), "{text}");
    }
    assert_eq!(found(&files, "directory contents"), [""; 0], "another word");
    assert_eq!(found(&files, "directories contents"), ["tree"]);
    for text in ["", " ", "of the", "!", "json nosuchword", "\u{202e}", &"x".repeat(1000)] {
        assert_eq!(found(&files, text), [""; 0], "{text:?}");
    }
}

#[test]
fn a_search_reads_the_blocks_that_may_have_its_words_and_ignores_damaged_ones() {
    let word = |number: usize| format!("word{}x{number}", "y".repeat(number % 9));
    let set = (0..4000).fold(Set::new(), |set, number| {
        set.described(&format!("package{number}"), &format!("{} {}", word(number), word(number / 2)))
    });
    let files = set.files();
    let lookup = Lookup::open(files.lookup.as_slice()).expect("a catalogue");
    for number in (0..2000).step_by(37) {
        let read = blocks(&files, &lookup, &word(number));
        assert!((1..=2).contains(&read.len()), "{number}: {} blocks", read.len());
        let found = lookup.search_words(&word(number), &read, X86, 1000);
        let all = found.iter().map(|entry| entry.attr.to_string()).collect::<BTreeSet<_>>();
        let expected = [number, number * 2, number * 2 + 1].map(|number| format!("package{number}"));
        assert!(expected.iter().all(|attr| all.contains(attr)), "{number}: {all:?}");
    }
    let read = blocks(&files, &lookup, &word(11));
    for at in (0..read[0].len()).step_by(97) {
        let mut changed = read[0].clone();
        changed[at] ^= 1;
        assert!(lookup.search_words(&word(11), &[changed], X86, 9).is_empty(), "byte {at}");
    }
    assert!(lookup.search_words(&word(11), &[vec![], vec![0; 3], vec![0; 100]], X86, 9).is_empty());
}

proptest! {
    /// By its definition: every package that has, for each word of the text, this word or one that begins so; and no other.
    #[test]
    fn what_is_found_is_every_package_with_all_words(
        packages in prop::collection::btree_map("[a-c]{2,6}", prop::collection::vec("[a-c]{2,5}", 0..6), 0..40),
        text in prop::collection::vec("[a-c]{2,5}", 1..4),
    ) {
        let set = packages.iter().fold(Set::new(), |set, (attr, words)| set.described(attr, &words.join(" ")));
        let has = |known: &str, word: &String| known == word || word.len() >= 3 && known.starts_with(word.as_str());
        let all = |(attr, words): &(&String, &Vec<String>)| {
            text.iter().all(|word| has(attr, word) || words.iter().any(|known| has(known, word)))
        };
        let expected: BTreeSet<String> = packages.iter().filter(all).map(|(attr, _)| attr.clone()).collect();
        prop_assert_eq!(found(&set.files(), &text.join(" ")).into_iter().collect::<BTreeSet<_>>(), expected);
    }
}
