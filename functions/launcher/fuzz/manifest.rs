//! No manifest makes the parser panic, or is accepted with a path that leads out of its directory: neither arbitrary bytes,
//! nor a proper one with some bytes changed.
#![no_main]

mod accepted;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&kind, data)) = data.split_first() else { return };
    if kind % 2 == 0 {
        return accepted::check(data);
    }
    let mut bytes = accepted::sample().encode();
    for change in data.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % bytes.len();
        bytes[at] = change[2];
    }
    accepted::check(&bytes);
});
