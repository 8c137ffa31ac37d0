//! Foreign text: what is left of it is harmless, short, and the same when it is sanitised again.

use std::time::Duration;

use binplz_core::id::{
    shell,
    text::{bytes, clean_line, clean_lines, span, thousands, without_account, without_escapes, without_secrets},
};

use crate::input::{cleaned_once, is_line};

pub(crate) fn check(data: &[u8]) {
    let Some((&most, data)) = data.split_first() else { return };
    let (text, most) = (String::from_utf8_lossy(data), usize::from(most));

    let line = cleaned_once(text.to_string(), |text| clean_line(&text, most));
    assert!(is_line(&line) && line.chars().count() <= most + 1, "{line:?}");
    assert!(!line.contains("  ") && line.trim() == line, "{line:?}");
    let lines = cleaned_once(text.to_string(), |text| clean_lines(&text));
    assert!(lines.split('\n').all(|line| is_line(&line.replace('\t', ""))), "{lines:?}");
    assert_eq!(lines.matches('\n').count(), text.matches('\n').count(), "no line is lost");
    assert!(!without_escapes(&text).any(|c| c == '\x1b'));

    let told = cleaned_once(text.to_string(), |text| without_secrets(&text));
    let run = |text: &str| text.split(|c: char| !c.is_ascii_alphanumeric() && !"+=%".contains(c)).map(str::len).max();
    assert!(run(&told).is_none_or(|length| length <= 47), "{told:?}");
    let told = cleaned_once(text.to_string(), |text| without_account(&text));
    assert!(!told.contains("arn:"), "{told:?}");

    if !text.contains('\0') {
        for word in [shell::quote(&text), shell::word(&text)] {
            assert_eq!(shlex::split(&word), Some(vec![text.to_string()]), "{word}");
        }
    }
    if let Some(number) = data.first_chunk().map(|number| u64::from_le_bytes(*number)) {
        assert_eq!(thousands(number).replace(',', ""), number.to_string());
        assert!(bytes(number).len() <= 16 && bytes(number).ends_with('B'), "{}", bytes(number));
        assert!(!span(Duration::from_secs(number)).starts_with('0') || number == 0);
    }
}
