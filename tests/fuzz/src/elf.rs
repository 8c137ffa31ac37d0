//! ELF files: what counts as a static program is one for a plain reader of the headers too.

use binplz_builder::elf::judge_data;
use binplz_core::{id::key::System, objects::artifact::Refusal};

pub(crate) fn check(data: &[u8]) {
    let judged = System::ALL.map(|system| judge_data(data, system));
    for (system, judged) in System::ALL.into_iter().zip(&judged) {
        match judged {
            Ok(()) => is_static(data, system),
            Err(Refusal::Dynamic | Refusal::OtherMachine) => assert!(data.starts_with(b"\x7fELF")),
            Err(refusal) => assert_eq!(*refusal, Refusal::NotAProgram),
        }
    }
    assert!(judged.iter().filter(|judged| judged.is_ok()).count() <= 1, "it is for one system");
}

/// Reads the fixed places of the headers (the generic ABI, "ELF Header" and "Program Header").
fn is_static(data: &[u8], system: System) {
    let number = |at: usize, size: usize| -> usize {
        let bytes = data.get(at..at + size).unwrap_or_default();
        bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
    };
    let machine = match system {
        System::X86_64Linux => 62,
        System::Aarch64Linux => 183,
    };
    // 64 bits, little-endian.
    assert!(data.starts_with(b"\x7fELF\x02\x01"));
    assert_eq!(number(18, 2), machine);
    assert!(matches!(number(16, 2), 2 | 3) && number(24, 8) != 0);
    let (table, count) = (number(32, 8), number(56, 2));
    // A count that is too large for its field is elsewhere.
    if count == 0xffff {
        return;
    }
    let kinds: Vec<(usize, usize)> = (0..count).map(|n| table + 56 * n).map(|at| (number(at, 4), at)).collect();
    assert!(kinds.iter().any(|(kind, _)| *kind == 1), "something is loaded");
    for (kind, at) in kinds {
        assert_ne!(kind, 3, "an interpreter");
        if kind == 2 {
            let (from, size) = (number(at + 8, 8), number(at + 32, 8));
            let tags = (0..size / 16).map(|n| number(from + 16 * n, 8)).take_while(|tag| *tag != 0);
            assert!(tags.into_iter().all(|tag| tag != 1), "a needed library");
        }
    }
}
