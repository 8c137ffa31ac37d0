//! `scripts/cost`: the tables of what things cost, on standard output; with `--write`, into the operator's guide.

use std::{fs, process::ExitCode};

use binplz_core::billing::prices::PriceList;
use binplz_tests::{guide, server::repository};

fn main() -> ExitCode {
    // From the tree as it is now, and not as it was when this was compiled.
    let file = fs::read_to_string(repository().join("infra/prices.json")).expect("a price file");
    let prices: PriceList = match file.parse() {
        Ok(prices) => prices,
        Err(why) => {
            eprintln!("cost: infra/prices.json: {why}");
            return ExitCode::FAILURE;
        }
    };
    let tables = guide::tables(&prices);
    if std::env::args().nth(1).as_deref() != Some("--write") {
        print!("{tables}");
        return ExitCode::SUCCESS;
    }
    let path = repository().join("infra/README.md");
    let text = fs::read_to_string(&path).expect("the guide");
    let Some(text) = guide::with_tables(&text, &tables) else {
        eprintln!("cost: infra/README.md has no place for the tables");
        return ExitCode::FAILURE;
    };
    fs::write(path, text).expect("the guide");
    ExitCode::SUCCESS
}
