//! A short run of `scripts/scale`: its tables are those of the guide, and what it measures fits together.

use std::time::Duration;

use binplz_simulation::scale::{self, Load, Row};

const GUIDE: &str = include_str!("../../../infra/README.md");
const PLOT: &str = include_str!("../../../infra/scale.svg");

/// A hundred misses an hour: some run at the same time.
const LOAD: Load = Load::ALL[2];

#[test]
fn the_plot_shows_the_guides_table() {
    let rows = scale::rows_of(GUIDE);
    let loads: Vec<_> = rows.iter().map(|row| (row.hits, row.misses)).collect();
    assert_eq!(loads, Load::ALL.map(|load| (load.hits_a_day, load.misses_an_hour)));
    assert!(scale::svg(&rows) == PLOT, "infra/scale.svg is not of infra/README.md: run scripts/scale --write");
    // Any number that changes is seen in it.
    let changed = |change: fn(&mut Row)| {
        let mut rows = rows.clone();
        change(&mut rows[1]);
        scale::svg(&rows)
    };
    for change in [
        (|row| row.requests *= 2.0) as fn(&mut Row),
        |row| row.builds *= 2.0,
        |row| row.downloads *= 2.0,
        |row| row.hit.0 *= 2.0,
        |row| row.hit.1 *= 2.0,
        |row| row.miss.0 *= 2.0,
        |row| row.miss.1 *= 2.0,
    ] {
        assert!(changed(change) != PLOT);
    }
}

#[test]
fn a_short_run_finds_about_what_the_guide_says() {
    let result = scale::simulate(2, LOAD, 40, &[]);
    let (now, rows) = (Row::of(&result), scale::rows_of(GUIDE));
    let told = rows.iter().find(|row| row.hits == LOAD.hits_a_day).expect("a row");
    for (what, now, told) in [
        ("requests", now.requests, told.requests),
        ("builds", now.builds, told.builds),
        ("bytes", now.downloads, told.downloads),
        ("a hit", now.hit.0, told.hit.0),
        ("a miss", now.miss.0, told.miss.0),
    ] {
        let off = now / told;
        assert!((0.7..1.4).contains(&off), "{what}: {now} now, {told} in infra/README.md: run scripts/scale --write");
    }

    let misses = &result.misses;
    assert_eq!((misses.count, misses.waits.len(), misses.never), (40, 40, 0));
    assert!(misses.waits.is_sorted() && misses.wait().0 <= misses.wait().1);
    // Little's law: the slots that are taken are the rate times the time of a task.
    let expected = LOAD.misses_an_hour as f64 / 3600.0 * misses.task.as_secs_f64();
    assert!((0.5..2.0).contains(&(misses.slots / expected)), "{} slots, and {expected} expected", misses.slots);
    let all = misses.usage();
    assert!(all.conflicts < all.commits / 10 && all.timeouts == 0 && all.throttled == 0, "{all:?}");
    // Each has a task; some of those before the window are started in it.
    assert!((30..=60).contains(&misses.of("dispatcher").launches), "{:?}", misses.of("dispatcher"));
}

#[test]
fn a_seed_has_one_result() {
    let document = |seed| scale::document(&[scale::simulate(seed, LOAD, 5, &[])], &scale::upkeep(seed, 10));
    assert_eq!(document(3), document(3));
    assert_ne!(document(3), document(4));
}

#[test]
fn twice_the_rows_take_twice_the_reads_of_a_collection_and_no_more_of_a_sweep() {
    let [one, two] = [500, 1000].map(|rows| scale::upkeep(1, rows));
    let ratio = two.collection_uses.half_reads as f64 / one.collection_uses.half_reads as f64;
    assert!((1.8..2.2).contains(&ratio), "{ratio}");
    assert!(two.sweep_uses.half_reads <= one.sweep_uses.half_reads + 2);
    assert!(two.sweep < Duration::from_secs(2), "{:?}", two.sweep);
    // Each served row is marked once, by a read and a write.
    assert!(two.move_uses.commits >= 1000 && two.move_uses.commits < 1010, "{:?}", two.move_uses);
}
