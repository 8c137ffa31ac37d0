//! Prints what a month costs, and how long requests take, by its load: `scripts/scale`.

use std::{fs, process::ExitCode, time::Instant};

use binplz_simulation::scale::{self, Load, Result};

const GUIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../infra/README.md");
const PLOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../infra/scale.svg");
const SEED: u64 = 1;
/// The misses that are measured at each load: fewer where they take days, since they meet no others there.
fn misses(load: Load) -> usize {
    if load.misses_an_hour < 100 { 100 } else { 300 }
}
const ROWS: usize = 100_000;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let (write, short) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => (false, false),
        ["--write"] => (true, false),
        ["--short"] => (false, true),
        _ => {
            eprintln!("usage: scale [--write | --short]");
            return ExitCode::from(2);
        }
    };
    let mut results: Vec<Result> = Vec::new();
    for load in Load::ALL {
        let began = Instant::now();
        let result = scale::simulate(SEED, load, if short { 30 } else { misses(load) }, &results);
        results.push(result);
        eprintln!("scale: {load:?}: {:.1} s", began.elapsed().as_secs_f64());
    }
    let began = Instant::now();
    let upkeep = scale::upkeep(SEED, if short { ROWS / 100 } else { ROWS });
    eprintln!("scale: {} rows: {:.1} s", upkeep.rows, began.elapsed().as_secs_f64());
    let tables = scale::document(&results, &upkeep);
    print!("{tables}");
    if write {
        let guide = fs::read_to_string(GUIDE).expect("the guide");
        let guide = scale::with_document(&guide, &tables).expect("a place for the tables");
        fs::write(PLOT, scale::svg(&scale::rows_of(&guide))).expect("the plot is written");
        fs::write(GUIDE, guide).expect("the guide is written");
    }
    ExitCode::SUCCESS
}
