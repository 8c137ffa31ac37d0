//! Binary wrappers: what is read is bounded, and read again when it is written as `makeBinaryWrapper` writes it.

use binplz_builder::wrapper::{Wrapper, parse};

pub(crate) fn check(data: &[u8]) {
    let Some(wrapper) = parse(data) else { return };
    assert!(wrapper.runs.starts_with('/'));
    let texts = wrapper.variables.iter().flat_map(|(name, value)| [name, value]).chain([&wrapper.runs]);
    assert!(texts.clone().map(String::len).sum::<usize>() <= 64 << 10);
    assert!(texts.clone().all(|text| !text.contains(['\n', '\0'])), "{wrapper:?}");
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
    let set = |(name, value): &(String, String)| format!(" \\\n    --set {} {}", quoted(name), quoted(value));
    let command = quoted(&wrapper.runs) + &wrapper.variables.iter().map(set).collect::<String>();
    let file =
        format!("\x7fELF\0# has been generated using the following command:\n\n\nmakeCWrapper {command}\n\n\n#\0more");
    if file.len() < 64 << 10 {
        assert_eq!(parse(file.as_bytes()), Some(Wrapper { only_variables: true, ..wrapper.clone() }), "{file}");
    }
}
