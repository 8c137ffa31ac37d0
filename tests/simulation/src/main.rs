//! Simulates months (`simulation/`): `scripts/simulate`.

use std::{process::ExitCode, time::Instant};

use binplz_simulation::{Month, simulate};

fn usage() -> ExitCode {
    eprintln!("usage: simulate [--short] [--seeds N | --seed SEED]");
    ExitCode::from(2)
}

fn main() -> ExitCode {
    let (mut month, mut seeds, mut arguments) = (Month::WHOLE, 1..=3, std::env::args().skip(1));
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--short" => month = Month::SHORT,
            "--seeds" | "--seed" => {
                let Some(number) = arguments.next().and_then(|number| number.parse::<u64>().ok()) else {
                    return usage();
                };
                seeds = if argument == "--seed" { number..=number } else { 1..=number };
            }
            _ => return usage(),
        }
    }
    for seed in seeds {
        let began = Instant::now();
        match simulate(seed, month, None) {
            Ok(summary) => println!("seed {seed}: {summary}, {:.1} s", began.elapsed().as_secs_f64()),
            Err(failed) => {
                println!("{}", failed.of(seed, &month));
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
