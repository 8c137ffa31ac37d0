//! A simulated month keeps its promises for each seed, and a fault on purpose is found (`../src/lib.rs`).

use std::collections::BTreeSet;

use binplz_simulation::{Month, Sabotage, Summary, simulate};

fn month(seed: u64) -> Summary {
    simulate(seed, Month::SHORT, None).unwrap_or_else(|failed| panic!("{}", failed.of(seed, &Month::SHORT)))
}

#[test]
fn a_seed_has_one_month() {
    assert_eq!(month(1), month(1));
}

#[test]
fn fifty_short_months_keep_every_promise() {
    let mut different = BTreeSet::new();
    for seed in 1..=50 {
        let summary = month(seed);
        eprintln!("seed {seed}: {summary}");
        different.insert(summary.hash);
    }
    assert_eq!(different.len(), 50);
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
fn faults_on_purpose_are_found() {
    are_found(&Sabotage::BASIC);
}

#[test]
#[ignore = "they take twelve more months; ../../proof/README.md has the result"]
fn faults_on_purpose_that_take_some_seeds_are_found() {
    are_found(&Sabotage::RARE);
}
