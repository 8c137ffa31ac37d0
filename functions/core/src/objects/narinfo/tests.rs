use proptest::{collection::btree_set, option, prelude::*};

use super::*;

/// The result of `nix-hash --type sha256 --to-base32` (2.8) for the sha256 of "abc".
const HASH: &str = "1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s";

#[test]
fn a_hash_is_written_as_nix_does() {
    let abc: Sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".parse().expect("hex");
    assert_eq!(base32(&abc), HASH);
    assert_eq!(from_base32(HASH), Some(abc));
    // Only one bit of the first digit counts.
    assert_eq!(from_base32(&HASH.replacen('1', "2", 1)), None);
    assert_eq!(from_base32(&HASH.replacen('b', "e", 1)), None);
    assert_eq!(from_base32(&HASH[1..]), None);
}

fn dir() -> StoreDir {
    StoreDir::default()
}

fn names() -> impl Strategy<Value = StoreName> {
    let parsed = |text: String| text.parse().expect("a store path's name");
    "[0-9a-df-np-sv-z]{32}-[a-zA-Z0-9+_?=-][a-zA-Z0-9+._?=-]{0,20}".prop_map(parsed)
}

fn contents() -> impl Strategy<Value = Content> {
    (any::<[u8; 32]>(), any::<u64>()).prop_map(|(bytes, size)| Content { sha256: bytes.into(), size })
}

fn narinfos() -> impl Strategy<Value = Narinfo> {
    (names(), contents(), contents(), btree_set(names(), 0..5), option::of(names())).prop_map(
        |(path, packed, nar, references, deriver)| Narinfo {
            path,
            packed,
            nar,
            references: references.into_iter().collect(),
            deriver,
        },
    )
}

proptest! {
    #[test]
    fn every_hash_comes_back(bytes: [u8; 32]) {
        let sha256 = Sha256::from(bytes);
        prop_assert_eq!(sha256.bytes(), bytes);
        prop_assert_eq!(from_base32(&base32(&sha256)), Some(sha256));
    }

    #[test]
    fn what_is_written_is_read_and_signatures_are_passed_over(narinfo in narinfos(), signature in "[^\n\r]{0,90}") {
        let read = Narinfo::parse(&narinfo.text(&dir()), &dir());
        prop_assert_eq!(read.as_ref(), Ok(&narinfo));
        prop_assert_eq!(Narinfo::parse(&narinfo.signed(&dir(), &signature), &dir()), Ok(narinfo));
    }

    #[test]
    fn nothing_else_is_read(narinfo in narinfos(), at: prop::sample::Index, with in ".{0,3}") {
        // Any replaced character gives another well-formed narinfo, or none.
        let text = narinfo.text(&dir());
        let at = at.index(text.len());
        let changed = format!("{}{with}{}", &text[..at], &text[at + 1..]);
        if let Ok(read) = Narinfo::parse(&changed, &dir()) {
            prop_assert_eq!(read.text(&dir()), changed);
        }
    }

    #[test]
    fn anything_is_an_answer_and_no_panic(text in any::<String>(), bytes: Vec<u8>) {
        prop_assert!(Narinfo::parse(&text, &dir()).is_err());
        prop_assert!(Narinfo::parse(&String::from_utf8_lossy(&bytes), &dir()).is_err());
    }
}

#[test]
fn what_leads_elsewhere_or_stands_there_twice_is_refused() {
    let hash = "0c8avx37rwvyk1s2x2v7x2hqkxbs3qd4";
    let text = format!(
        "StorePath: /nix/store/{hash}-dep\nURL: nar/{abc}.nar.gz\nCompression: gzip\nFileHash: sha256:{HASH}\nFileSize: 5\n\
         NarHash: sha256:{HASH}\nNarSize: 9\nReferences: {hash}-a {hash}-dep\nDeriver: {hash}-dep.drv\n",
        abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    );
    let narinfo = Narinfo::parse(&text, &dir()).expect("a narinfo");
    assert_eq!(
        narinfo.fingerprint(&dir()),
        format!("1;/nix/store/{hash}-dep;sha256:{HASH};9;/nix/store/{hash}-a,/nix/store/{hash}-dep")
    );
    for (part, instead) in [
        ("/nix/store/", "/gnu/store/"),
        ("/nix/store/", "/nix/store/../"),
        ("URL: nar/", "URL: ../nar/"),
        ("URL: nar/ba", "URL: nar/bb"),
        ("gzip", "none"),
        ("FileSize: 5", "FileSize: 05"),
        ("FileSize: 5", "FileSize: +5"),
        ("NarSize: 9\n", "NarSize: 9\nNarSize: 9\n"),
        ("NarSize: 9\n", ""),
        ("NarSize: 9\n", "NarSize: 9\nCA: fixed\n"),
        ("-a ", "-a  "),
        ("-a ", "-z "),
        ("-a ", "-dep "),
        ("-a ", "-a/b "),
        ("-dep.drv\n", "-dep.drv"),
        ("-dep.drv\n", "-dep.drv\r\n"),
    ] {
        let changed = text.replace(part, instead);
        assert_ne!(changed, text);
        assert!(Narinfo::parse(&changed, &dir()).is_err(), "{part} → {instead}");
    }
}
