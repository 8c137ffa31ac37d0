//! Targets of requests, and searches: what is accepted has one spelling, which is harmless in a shell, a header and a URL.

use binplz_core::{
    id::{
        key::{Attr, Bin, NAME_MAX, System},
        shell,
        target::{Query, Search, Target, Wanted},
        text::clean_line,
        wait::hop_path,
    },
    nixpkgs::served::ServedKey,
};
use percent_encoding::percent_decode_str;

use crate::input::{is_line, one_form_in_json, text};

pub(crate) fn check(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let (path, query) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
    search(Some(text));
    search(query);
    one_form_in_json::<ServedKey>(text);
    let Ok(parsed) = Query::parse(path, query) else { return };

    let target = &parsed.target;
    let printed = target.to_string();
    assert!(printed.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%/?=&".contains(&b)), "{printed}");
    assert_eq!(printed.parse(), Ok(target.clone()), "{printed}");
    assert_eq!(one_form_in_json::<Target>(&printed).as_ref(), Some(target));
    assert_eq!(one_form_in_json::<Wanted>(&target.wanted.to_string()).as_ref(), Some(&target.wanted));
    let hop = hop_path(7, &parsed);
    let (path_again, query_again) = hop.split_once('?').map_or((&*hop, None), |(path, query)| (path, Some(query)));
    let again = Query::parse(path_again.trim_start_matches("/-/wait/7/"), query_again);
    assert_eq!(again, Ok(Query { wait: false, status: false, ..parsed.clone() }), "{hop}");
    // As a gateway hands it on.
    if let Ok(decoded) = percent_decode_str(path).decode_utf8() {
        assert_eq!(Query::parse(&decoded, query).as_ref(), Ok(&parsed), "{decoded}");
    }

    bounded(&target.wanted);
    for system in System::ALL {
        let key = ServedKey::of(target, system);
        assert_eq!(one_form_in_json(&key.to_string()), Some(key.clone()));
        assert_eq!(ServedKey::of(&key.target(), system), key, "a key is the key of its target");
    }
    for command in [shell::fetch("https://h", target, true), shell::install("https://h", target)] {
        assert!(command.is_ascii() && is_line(&command), "{command}");
        let words = shlex::split(&command).expect("the shell reads it");
        let url = words.iter().find(|word| word.starts_with("https://h/")).expect("a URL");
        assert!(url.contains(&printed), "{command}");
        let options = ["-L", "-o", "-fL", "-fsSL", "-p", "--strip", "-C"];
        assert!(words.iter().all(|word| !word.starts_with('-') || options.contains(&&**word)), "{command}");
    }
}

fn bounded(wanted: &Wanted) {
    let attr = wanted.attr().as_str();
    assert!(attr.len() <= NAME_MAX && attr.parse::<Attr>().is_ok());
    assert!(!wanted.file_name().contains(['/', '\0', ' ']));
    let bundle = wanted.bundle();
    assert_eq!(bundle.is_none(), wanted.is_archive() || wanted.is_bundle());
    assert!(bundle.is_none_or(|bundle| bundle.program() == *wanted && bundle.is_bundle()));
    if let Wanted::Program(attr, bin) = wanted {
        assert!(bin.as_str().parse::<Bin>().is_ok());
        assert_eq!(Wanted::Package(attr.clone()).with(attr.clone(), bin.clone()).as_ref(), Some(wanted));
    }
}

fn search(query: Option<&str>) {
    let Ok(search) = Search::parse(query) else { return };
    assert!(search.text.chars().count() <= NAME_MAX + 1, "{search:?}");
    assert_eq!(clean_line(&search.text, NAME_MAX + 1), search.text);
}
