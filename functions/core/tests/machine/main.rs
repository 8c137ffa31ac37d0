//! The state machine of a build: every state with every event, in one table; and what holds after any sequence of them.

mod catalogue;
mod continued;
mod properties;
mod table;

use binplz_core::{
    build::{Build, Event, failure::Failure, protocol::Stats},
    id::{
        key::{BuildKey, DrvHash, LeaseId, System, Token},
        time::Timestamp,
    },
};

const NOW: Timestamp = Timestamp(1_700_000_000_000);

fn id(n: u32) -> LeaseId {
    format!("{n:032x}").parse().expect("32 hex digits")
}

fn token(n: u32) -> Token {
    format!("{n:064x}").parse().expect("64 hex digits")
}

fn drv(letter: char) -> DrvHash {
    String::from_iter([letter; 32]).parse().expect("base 32")
}

fn unasked() -> Build {
    Build::unasked(BuildKey {
        rev: "0".repeat(40).parse().expect("40 hex digits"),
        system: System::X86_64Linux,
        product: "tree".parse().expect("a package"),
    })
}

fn settle(n: u32, end: Result<(), Failure>) -> Event {
    Event::Settle { id: id(n), end, stats: Stats { derivations: 3, log_segments: 2, ..Stats::default() } }
}
