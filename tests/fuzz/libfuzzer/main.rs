//! Runs one target, which the variable `BINPLZ_FUZZ_TARGET` names, under libFuzzer: one program for all, so that it is built once.
#![no_main]

use std::{process::exit, sync::OnceLock};

use binplz_fuzz::{TARGETS, Target, target};
use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<&Target> = OnceLock::new();

fuzz_target!(
    init: {
        let name = std::env::var("BINPLZ_FUZZ_TARGET").unwrap_or_default();
        let Some(target) = target(&name) else {
            TARGETS.iter().for_each(|target| println!("{}", target.name));
            exit(2)
        };
        TARGET.get_or_init(|| target);
    },
    |data: &[u8]| {
        if let Some(target) = TARGET.get() {
            (target.check)(data);
        }
    }
);
