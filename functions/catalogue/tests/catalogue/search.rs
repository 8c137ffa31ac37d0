//! Search: the packages found, and their order.

use binplz_catalogue::Obstacle;
use binplz_core::ports::Catalogue;
use proptest::prelude::*;

use crate::set::{Set, X86};

fn found(set: Set, text: &str, most: usize) -> Vec<String> {
    set.lookup().search(text, X86, most).into_iter().map(|entry| entry.attr.to_string()).collect()
}

fn set() -> Set {
    let set = [
        "ripgrep",
        "gnugrep",
        "pgrep-all",
        "grepcidr",
        "grep",
        "python3Packages.grep",
        "xgrepx",
        "tree",
        "pcre.grep-tools",
    ];
    let set = set.into_iter().fold(Set::new(), |set, attr| set.package(attr, None));
    set.database("gnugrep", &["grep", "egrep", "fgrep"])
        .package("main", Some("grep"))
        .database("main", &["grep"])
        .database("tree", &["tree"])
        .database("xgrepx", &["zgrep"])
        .refused("ggrep", None, Obstacle::Broken, None)
        .refused("grepper", None, Obstacle::Throws, Some("gone"))
}

#[test]
fn exact_names_come_first_then_main_programs_then_beginnings_then_the_rest() {
    assert_eq!(
        found(set(), "grep", 20),
        [
            // The attribute; its main program; one of several programs; the last component.
            "grep",
            "main",
            "gnugrep",
            "python3Packages.grep",
            // It contains the text, and is among the most requested; it begins so; a word in it does; it contains the
            // text; refused packages come last.
            "ripgrep",
            "grepcidr",
            "pcre.grep-tools",
            "xgrepx",
            "pgrep-all",
            "ggrep",
        ]
    );
    assert_eq!(found(set(), "grep", 3), ["grep", "main", "gnugrep"]);
}

#[test]
fn of_many_packages_with_one_program_the_first_alone_precedes_names_that_begin_so() {
    let set = ["vi-tools", "vim", "busybox", "toybox", "aaa"]
        .into_iter()
        .fold(Set::new(), |set, attr| set.package(attr, None));
    let set = set.database("vim", &["vim", "vi"]).database("busybox", &["busybox", "vi"]);
    let set = set.database("toybox", &["toybox", "vi"]).database("aaa", &["aaa", "vi"]);
    assert_eq!(found(set, "vi", 9), ["vim", "vi-tools", "busybox", "toybox", "aaa"]);
}

#[test]
fn capitals_and_spaces_do_not_count_and_nothing_finds_nothing() {
    assert_eq!(found(set(), " PGREP all ", 9), ["pgrep-all"]);
    for (text, most) in [("", 9), (" ", 9), ("grep", 0), ("nosuchthing", 9), (&"x".repeat(1000), 9), ("\u{202e}<b>", 9)]
    {
        assert_eq!(found(set(), text, most), [""; 0], "{text:?}");
    }
}

#[test]
fn what_is_found_says_its_programs_and_why_it_can_not_be_had() {
    let lookup = set().lookup();
    let all = lookup.search("grep", X86, 20);
    let entry = |attr: &str| all.iter().find(|entry| entry.attr.as_str() == attr).expect("found");
    let programs: Vec<String> = entry("gnugrep").programs.iter().map(ToString::to_string).collect();
    assert_eq!(programs, ["egrep", "fgrep", "grep"]);
    assert!(entry("ggrep").refused.is_some() && entry("grep").refused.is_none());
    assert_eq!(Some(entry("main")), lookup.entry(&"main".parse().expect("a name"), X86).as_ref());
}

#[test]
fn of_a_package_the_details_say_what_it_says_of_itself() {
    let files = set().files();
    let lookup = binplz_catalogue::Lookup::open(files.lookup).expect("a catalogue");
    let attr = "tree".parse().expect("a name");
    let at = lookup.entry(&attr, X86).expect("an entry").details;
    let block = &files.details[usize::try_from(at.start).expect("small")..usize::try_from(at.end).expect("small")];
    assert_eq!(lookup.about(block, &attr).map(|about| about.pname), Some("tree".to_owned()));
    assert_eq!(lookup.about(&block[1..], &attr), None);
    assert_eq!(lookup.about(block, &"nosuch".parse().expect("a name")), None);
}

proptest! {
    /// By its definition: every attribute that contains the text, or whose main program does, and no other.
    #[test]
    fn what_is_found_is_every_package_that_holds_the_text(
        attrs in prop::collection::btree_map("[ab][ab]{0,3}(\\.[ab]{1,3})?", prop::option::of("[ab]{1,3}"), 0..40), text in "[abA]{1,3}",
    ) {
        let holds = |name: &str| name.to_ascii_lowercase().contains(&text.to_ascii_lowercase());
        let set = attrs.iter().fold(Set::new(), |set, (attr, main)| set.package(attr, main.as_deref()));
        let mut all = found(set, &text, 1000);
        let first = all.first().cloned();
        all.sort();
        let named = |(attr, main): &(&String, &Option<String>)| holds(attr) || main.as_deref().is_some_and(holds);
        let expected: Vec<String> = attrs.iter().filter(named).map(|(attr, _)| attr.clone()).collect();
        prop_assert_eq!(&all, &expected);
        // An exact name is never below another.
        if attrs.contains_key(&text) {
            prop_assert_eq!(first, Some(text));
        }
    }

    #[test]
    fn fewer_are_the_first_of_more(text in "[agrep]{1,3}", most in 0usize..9) {
        let (some, all) = (found(set(), &text, most), found(set(), &text, 1000));
        prop_assert_eq!(&some[..], &all[..most.min(all.len())]);
    }
}
