//! How bytes of a fuzzer are taken apart.

use std::{fmt, str::FromStr};

use serde::{Serialize, de::DeserializeOwned};

/// A text.
pub(crate) fn text(data: &[u8]) -> Option<&str> {
    str::from_utf8(data).ok()
}

/// The bytes with changes: each has its place in two bytes, and the new byte.
pub(crate) fn changed(mut bytes: Vec<u8>, changes: &[u8]) -> Vec<u8> {
    for change in changes.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % bytes.len();
        bytes[at] = change[2];
    }
    bytes
}

/// What is read from a text is printed as that text, and serde reads and writes it the same.
pub(crate) fn one_form<T>(text: &str) -> Option<T>
where
    T: FromStr + fmt::Display + fmt::Debug + PartialEq,
{
    let value: T = text.parse().ok()?;
    assert_eq!(value.to_string(), text, "{value:?}");
    Some(value)
}

/// The same of a type that serde has as text.
pub(crate) fn one_form_in_json<T>(text: &str) -> Option<T>
where
    T: FromStr + fmt::Display + fmt::Debug + PartialEq + Serialize + DeserializeOwned,
{
    let json = serde_json::Value::from(text);
    let value = one_form(text);
    assert_eq!(serde_json::from_value(json.clone()).ok(), value, "serde has another rule for {text:?}");
    if let Some(value) = &value {
        assert_eq!(serde_json::to_value(value).ok(), Some(json));
    }
    value
}

/// What is read from JSON is written and read back as the same value.
pub(crate) fn written_back<T>(json: &[u8]) -> Option<T>
where
    T: fmt::Debug + PartialEq + Serialize + DeserializeOwned,
{
    let value: T = serde_json::from_slice(json).ok()?;
    let written = serde_json::to_string(&value).expect("JSON can express it");
    let again: T = serde_json::from_str(&written).expect("what was written");
    assert_eq!(again, value, "{written}");
    Some(value)
}

/// A function that cleans has nothing to do the second time.
pub(crate) fn cleaned_once<T: Clone + fmt::Debug + PartialEq>(value: T, clean: impl Fn(T) -> T) -> T {
    let cleaned = clean(value);
    assert_eq!(clean(cleaned.clone()), cleaned);
    cleaned
}

/// Whether a text is one line that changes no terminal.
pub(crate) fn is_line(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
}
