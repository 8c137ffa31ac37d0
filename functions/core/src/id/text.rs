//! Sanitises foreign text: people read the output of Nix, packages and builders in terminals, headers and pages.

use std::{any::Any, time::Duration};

/// Foreign text for one line of a terminal, a header or a page: ANSI escape sequences are dropped, control characters
/// and Unicode's hidden marks become spaces, runs of spaces become one, and the text is cut at `max` characters.
pub fn clean_line(text: &str, max: usize) -> String {
    let mut out = String::new();
    let mut count = 0;
    let mut space = false;
    for c in without_escapes(text) {
        if c.is_control() || is_hidden(c) || c.is_whitespace() {
            space = !out.is_empty();
        } else if count + usize::from(space) >= max {
            out.push('…');
            break;
        } else {
            count += 1 + usize::from(space);
            if std::mem::take(&mut space) {
                out.push(' ');
            }
            out.push(c);
        }
    }
    out
}

/// Foreign text for a terminal, line by line: without ANSI escape sequences, hidden marks and control characters, but
/// with its tabs and newlines, and uncut.
pub fn clean_lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        // An unterminated escape sequence takes the rest of its line, and no more.
        let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
        out.extend(without_escapes(line).filter(|c| *c == '\t' || !(c.is_control() || is_hidden(*c))));
        out.push_str(end);
    }
    out
}

/// A cloud provider's message without what names its account: each word with an ARN or an account's number becomes `…`.
///
/// ```
/// use binplz_core::id::text::without_account;
///
/// let text = "User: arn:aws:sts::123456789012:assumed-role/r/f is not authorized to perform: ecs:RunTask";
/// assert_eq!(without_account(text), "User: … is not authorized to perform: ecs:RunTask");
/// ```
pub fn without_account(text: &str) -> String {
    let is_number = |word: &str| word.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() == 12);
    let shown = text.split_whitespace().map(|word| if word.contains("arn:") || is_number(word) { "…" } else { word });
    shown.collect::<Vec<_>>().join(" ")
}

/// The message of a panic, from the payload that `catch_unwind` returns.
pub fn panic_message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message")
}

/// A number of bytes for people, in decimal units: "51.3 kB".
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 3] = ["kB", "MB", "GB"];
    if count < 1000 {
        return format!("{count} B");
    }
    // Tenths, rounded; a value that rounds up to a thousand becomes one of the next unit.
    let mut tenths = count.saturating_add(50) / 100;
    let mut unit = 0;
    while tenths >= 10_000 && unit + 1 < UNITS.len() {
        tenths = (tenths + 500) / 1000;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// A number with separators: "12,345".
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().filter_map(|group| str::from_utf8(group).ok()).collect();
    groups.join(",")
}

/// A duration in its largest unit: "3 minutes".
pub fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1)];
    let (name, length) = units.into_iter().find(|(_, length)| seconds >= *length).unwrap_or(("second", 1));
    match seconds / length {
        1 => format!("1 {name}"),
        count => format!("{count} {name}s"),
    }
}

/// The longest run of such characters that cannot be a secret: a commit has 40. A lease's token and a URL's signature
/// have 64.
const PLAIN_MAX: usize = 47;

/// Text for a log, without tokens and signatures: of each text that may be one, only the beginning is left, to
/// recognise it by.
pub fn without_secrets(text: &str) -> String {
    let encoded = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '=' | '%');
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let run = rest.find(|c| !encoded(c)).unwrap_or(rest.len());
        let (told, end) = match run {
            0 => (c.len_utf8(), c.len_utf8()),
            1..=PLAIN_MAX => (run, run),
            _ => (8, run),
        };
        out.push_str(&rest[..told]);
        if told < end {
            out.push('…');
        }
        rest = &rest[end..];
    }
    out
}

/// The text without ANSI escape sequences, complete or cut off.
pub fn without_escapes(text: &str) -> impl Iterator<Item = char> {
    let mut chars = text.chars().peekable();
    std::iter::from_fn(move || {
        while let Some(c) = chars.next() {
            if c != '\x1b' {
                return Some(c);
            }
            skip_escape(&mut chars);
        }
        None
    })
}

/// Skips the rest of an ANSI escape sequence: CSI up to its final byte, OSC up to BEL or ST, otherwise one character.
fn skip_escape(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match chars.next() {
        Some('[') => while chars.next().is_some_and(|c| !('\x40'..='\x7e').contains(&c)) {},
        Some(']') => {
            while let Some(c) = chars.next() {
                if c == '\x07' || (c == '\x1b' && chars.next_if_eq(&'\\').is_some()) {
                    break;
                }
            }
        }
        _ => {}
    }
}

/// Characters that are invisible or reorder visible text: marks of direction and of joining, spaces without width, line
/// separators, annotations, tags.
fn is_hidden(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{61c}' | '\u{feff}'
        | '\u{ad}' | '\u{180e}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Text from a hostile package.
    fn hostile() -> impl Strategy<Value = String> {
        prop_oneof![
            ".{0,60}",
            "[\\x00-\\x1f\\x7f-\\x9f\\[\\]a-c;m\u{202e}\u{200b}\u{feff}\u{e0041}\\\\]{0,60}",
            "(\x1b\\[[0-9;]{0,4}[A-Za-z]?|\x1b\\]0;.{0,9}\x07?|\r|\n|x){0,30}"
        ]
    }

    proptest! {
        #[test]
        fn a_cleaned_line_is_one_line_of_what_can_be_seen_and_stays_as_it_is(text in hostile(), max in 0usize..80) {
            let line = clean_line(&text, max);
            prop_assert!(!line.chars().any(|c| c.is_control() || is_hidden(c)), "{:?}", line);
            prop_assert!(line.chars().count() <= max + 1);
            prop_assert_eq!(clean_line(&line, max + 1), line);
        }

        #[test]
        fn cleaned_lines_are_as_many_as_they_were_and_hold_what_can_be_seen(text in hostile()) {
            let lines = clean_lines(&text);
            prop_assert!(!lines.chars().any(|c| (c.is_control() && !"\n\t".contains(c)) || is_hidden(c)), "{:?}", lines);
            prop_assert_eq!(lines.matches('\n').count(), text.matches('\n').count());
            prop_assert_eq!(clean_lines(&lines), lines.clone());
        }

        #[test]
        fn plain_lines_stay_as_they_are(text in "([ -~\t\u{e0}-\u{17f}]{0,40}\n){0,5}") {
            prop_assert_eq!(clean_lines(&text), text);
        }

        #[test]
        fn no_token_is_told_wherever_it_stands(before in ".*", token in "[0-9a-f]{64}|[A-Za-z0-9+=%]{48,300}", after in ".*") {
            let told = without_secrets(&format!("{before}{token}{after}"));
            prop_assert!(!told.contains(&token), "{told}");
        }

        #[test]
        fn what_is_short_enough_is_told(text in "([a-z0-9:/. -]{0,40}[^a-z0-9])*") {
            prop_assume!(text.split(|c: char| !c.is_ascii_alphanumeric()).all(|word| word.len() <= PLAIN_MAX));
            prop_assert_eq!(without_secrets(&text), text);
        }
    }

    #[test]
    fn of_a_presigned_url_the_object_is_told_and_the_signature_is_not() {
        let key = format!("{}/x86_64-linux/tree/{}", "ab".repeat(20), "c".repeat(32));
        let object =
            format!("https://b.s3.amazonaws.com/builds/{key}/bin/tree?X-Amz-Date=20261122T000000Z&X-Amz-Signatur");
        assert_eq!(without_secrets(&format!("{object}e={}", "d".repeat(64))), format!("{object}…"));
    }

    #[test]
    fn sizes_and_times_are_told_in_their_largest_unit() {
        for (count, told) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (51_349, "51.3 kB"),
            (999_949, "999.9 kB"),
            (999_950, "1.0 MB"),
            (12_345_678, "12.3 MB"),
            (5_000_000_000_000, "5000.0 GB"),
        ] {
            assert_eq!(bytes(count), told, "{count}");
        }
        for (seconds, told) in
            [(0, "0 seconds"), (1, "1 second"), (119, "1 minute"), (7200, "2 hours"), (90_000, "1 day")]
        {
            assert_eq!(span(Duration::from_secs(seconds)), told);
        }
    }

    #[test]
    fn hostile_text_becomes_one_harmless_line() {
        assert_eq!(clean_line("\x1b[31;1merror:\x1b[0m  a\n\tb\x07", 99), "error: a b");
        assert_eq!(clean_line("\x1b]0;title\x07x\x1b]8;;u\x1b\\y", 99), "xy");
        assert_eq!(clean_line("a\u{202e}b\u{2066}c", 99), "a b c");
        assert_eq!(clean_line(&"x".repeat(1_000_000), 3), "xxx…");
        assert_eq!(clean_line("ab   ", 2), "ab");
    }
}
