//! No file makes the reader panic or loop: neither arbitrary bytes, nor a catalogue with some bytes changed. The
//! checksum is corrected first, which accidents do not do.
#![no_main]

#[path = "../tests/catalogue/ask.rs"]
mod ask;
#[path = "../tests/catalogue/set.rs"]
#[allow(dead_code)]
mod set;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static FILE: LazyLock<Vec<u8>> = LazyLock::new(|| ask::set().files().lookup);

fuzz_target!(|data: &[u8]| {
    let Some((&kind, data)) = data.split_first() else { return };
    if kind % 2 == 0 {
        return ask::ask_all(&ask::sealed([&FILE[..20], data].concat()));
    }
    let mut file = FILE.clone();
    for change in data.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % file.len();
        file[at] = change[2];
    }
    ask::ask_all(&ask::sealed(file));
});
