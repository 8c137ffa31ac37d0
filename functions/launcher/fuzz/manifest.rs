//! No manifest makes the parser panic, or is accepted with a path that leads out of its directory: neither arbitrary bytes,
//! nor a proper one with some bytes changed.
#![no_main]

mod accepted;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| accepted::input(data));
