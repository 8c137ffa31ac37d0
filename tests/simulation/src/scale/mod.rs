//! Cost and latency of a month on AWS, by its load (`scripts/scale`).
//!
//! What is run: the shipped flows, over the simulation's ports in memory. For each load, clients ask for programs that are
//! not built, as often as the load says, and poll the status as the stub does. Two dispatchers, the sweep, and a task for
//! each build work as the template has them, with the template's time limits (`load`). So the calls of a miss, the bytes of
//! its rows, the commits that conflict and are tried again, the queue and the slots are those of the code. Hits are run one
//! by one, for their calls and time. The sweep, a moved pin and garbage collection are run over many rows (`rows`).
//!
//! What is modelled:
//! - Time. A call of a port takes 4 to 15 ms (DynamoDB), 15 to 64 ms (S3), 8 to 22 ms (SQS) or 0.2 to 1 s (RunTask), and one in
//!   fifty takes ten times as long (`site.rs`). AWS promises none of this ("single-digit milliseconds" is DynamoDB's own
//!   word), and this project has no measurement in an account.
//! - DynamoDB's partitions (`meter.rs`): the rows of the limits and of the pins have a partition each, with its documented rate
//!   and burst. A call that finds it empty is tried three times, as the SDK does. All other rows are spread.
//! - The function for hits: a queue without waiting, whose instances start cold and end after some idle time (`hits`).
//! - The month: thirty days, each with the same hours; hits follow a sine over the day, and misses come at one rate.
//! - Prices are those of `infra/prices.json`. What the counted calls lack (a builder's uploads and log lines, the bytes of
//!   programs, storage, fixed costs) is as on the cost page (`core/src/billing/cost.rs`).
//!
//! The limits and their sources are in `limits.rs`.

mod hits;
mod limits;
mod load;
mod plot;
mod report;
mod rows;

use std::time::Duration;

pub use hits::{Hits, Shape};
pub use limits::{Kind, Resource};
pub use load::Misses;
pub use plot::svg;
pub use report::{BEGIN, END, Row, document, rows_of, with_document};
pub use rows::Upkeep;

pub use crate::meter::{Place, Usage};

/// A load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Hits in a day.
    pub hits_a_day: u64,
    /// Misses in an hour: requests for programs that are not built.
    pub misses_an_hour: u64,
}

impl Load {
    /// A miss an hour for each thousand hits a day, up to 10,000.
    pub const ALL: [Load; 6] = [
        Load { hits_a_day: 1000, misses_an_hour: 1 },
        Load { hits_a_day: 10_000, misses_an_hour: 10 },
        Load { hits_a_day: 100_000, misses_an_hour: 100 },
        Load { hits_a_day: 1_000_000, misses_an_hour: 1000 },
        Load { hits_a_day: 10_000_000, misses_an_hour: 10_000 },
        Load { hits_a_day: 100_000_000, misses_an_hour: 10_000 },
    ];
}

/// What a load was like.
#[derive(Clone, Debug)]
pub struct Result {
    /// Which.
    pub load: Load,
    /// Its hits.
    pub hits: Hits,
    /// Its misses.
    pub misses: Misses,
}

/// Simulates a load. `most`: the most misses that are measured. `before`: loads whose misses are not simulated again.
pub fn simulate(seed: u64, load: Load, most: usize, before: &[Result]) -> Result {
    let (took, usage) = load::sample_hits(seed, most);
    let known = before.iter().find(|result| result.load.misses_an_hour == load.misses_an_hour);
    Result {
        load,
        hits: hits::model(seed, load.hits_a_day, Shape::default(), &took, usage),
        misses: known.map_or_else(|| load::misses(seed, load.misses_an_hour, most), |known| known.misses.clone()),
    }
}

/// Simulates the upkeep of so many builds and served rows.
pub fn upkeep(seed: u64, rows: usize) -> Upkeep {
    rows::upkeep(seed, rows)
}

/// The value below which this part of the sorted values is.
fn quantile(sorted: &[Duration], part: f64) -> Duration {
    let at = (sorted.len() as f64 * part) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

impl Usage {
    /// A part of it, in floating point: what one of `of` uses.
    fn each(count: u64, of: u64) -> f64 {
        count as f64 / of.max(1) as f64
    }
}
