//! A simulated month keeps its promises for each seed, and a fault on purpose is found (`../src/lib.rs`).

use binplz_simulation::{Month, Sabotage, Summary, simulate};

fn month(seed: u64) -> Summary {
    simulate(seed, Month::SHORT, None).unwrap_or_else(|failed| panic!("{}", failed.of(seed, &Month::SHORT)))
}

#[test]
fn a_seed_has_one_month() {
    assert_eq!(month(1), month(1));
    assert_ne!(month(1).hash, month(2).hash);
}

#[test]
fn fifty_short_months_keep_every_promise() {
    for seed in 1..=50 {
        let summary = month(seed);
        eprintln!("seed {seed}: {summary}");
    }
}

/// Each of these faults breaks a promise in one of twenty months.
fn are_found(all: &[Sabotage]) {
    for sabotage in all {
        let found = (1..=20).find_map(|seed| Some((seed, simulate(seed, Month::SHORT, Some(*sabotage)).err()?)));
        let (seed, failed) = found.unwrap_or_else(|| panic!("{sabotage:?} is not found"));
        eprintln!("{sabotage:?}: seed {seed}: {}", failed.what);
    }
}

#[test]
fn faults_of_the_ledger_and_the_launcher_are_found() {
    are_found(&Sabotage::BASIC);
}

#[test]
#[ignore = "not run yet: see ../../proof/README.md"]
fn faults_of_the_schedule_and_the_store_are_found() {
    are_found(&Sabotage::OTHERS);
}
