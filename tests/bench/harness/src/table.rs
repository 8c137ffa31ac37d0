//! What was measured, as the tables of tests/bench/README.md.

use std::time::Duration;

use crate::life::Candidate;

/// How much was measured.
pub struct Numbers {
    pub lives: usize,
    pub warm_lives: usize,
    pub invocations: usize,
}

/// What [`Sample::columns`] are called in the rows for `tests/bench/report`.
const KEYS: [&str; 7] = ["init", "first", "p50", "p99", "cpu", "rss", "zip"];

/// One life of many invocations.
pub struct Warm {
    p50: Duration,
    p99: Duration,
    /// Processor time of one invocation.
    processor: Duration,
    resident: u64,
}

impl Warm {
    /// From each invocation's time, and the processor time of all.
    pub fn new(mut took: Vec<Duration>, processor: Duration, resident: u64) -> Warm {
        took.sort();
        let at = |percent: usize| took[(took.len() * percent / 100).min(took.len() - 1)];
        Warm {
            p50: at(50),
            p99: at(99),
            processor: processor / u32::try_from(took.len()).unwrap_or(u32::MAX),
            resident,
        }
    }
}

/// All that was measured of one candidate.
pub struct Sample {
    name: String,
    zip: u64,
    pub init: Vec<Duration>,
    pub first: Vec<Duration>,
    pub reads_before: Vec<usize>,
    pub warm: Vec<Warm>,
}

impl Sample {
    pub fn of(candidate: &Candidate) -> Sample {
        let name = candidate.name.clone();
        Sample { name, zip: candidate.zip, init: vec![], first: vec![], reads_before: vec![], warm: vec![] }
    }

    fn warm(&self, what: impl Fn(&Warm) -> f64) -> f64 {
        median(self.warm.iter().map(what))
    }

    /// The columns, in the units that the head says.
    fn columns(&self) -> [f64; 7] {
        let ms = |times: &[Duration]| median(times.iter().map(|time| time.as_secs_f64() * 1e3));
        [
            ms(&self.init),
            ms(&self.first),
            self.warm(|warm| warm.p50.as_secs_f64() * 1e6),
            self.warm(|warm| warm.p99.as_secs_f64() * 1e6),
            self.warm(|warm| warm.processor.as_secs_f64() * 1e3),
            self.warm(|warm| warm.resident as f64 / 1e6),
            self.zip as f64 / 1e6,
        ]
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut all: Vec<f64> = values.collect();
    all.sort_by(f64::total_cmp);
    match all.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => all[n / 2],
        n => (all[n / 2 - 1] + all[n / 2]) / 2.0,
    }
}

/// The numbers of the first candidate, and over those of each other one, for `tests/bench/report`: a key, a tab and a value a line.
/// A key has the first word of the other one's name.
pub fn rows(samples: &[Sample]) -> String {
    let Some((ours, others)) = samples.split_first() else { return String::new() };
    let keyed = |values: [f64; 7]| KEYS.into_iter().zip(values);
    let own = keyed(ours.columns()).map(|(key, value)| format!("lambda.{key}\t{value}\n"));
    let over = others.iter().flat_map(|other| {
        let name = other.name.split(' ').next().unwrap_or_default();
        let values = keyed(ours.columns()).zip(other.columns());
        values.map(move |((key, value), than)| format!("lambda.{key}/{name}\t{}\n", value / than))
    });
    own.chain(over).collect()
}

/// The table, and the first candidate over each of the others.
pub fn print(samples: &[Sample], numbers: &Numbers) -> String {
    let Numbers { lives, warm_lives, invocations } = numbers;
    let mut lines = vec![
        format!(
            "| medians of {lives} lives, and of {warm_lives} × {invocations} warm hits | init, ms | first answer, ms | \
             warm p50, µs | p99, µs | CPU, s per 1,000 | RSS, MB | zip, MB |"
        ),
        "|---|---|---|---|---|---|---|---|".to_owned(),
    ];
    for sample in samples {
        let [init, first, p50, p99, processor, resident, zip] = sample.columns();
        let name = &sample.name;
        lines.push(format!(
            "| {name} | {init:.1} | {first:.2} | {p50:.0} | {p99:.0} | {processor:.3} | {resident:.0} | {zip:.2} |"
        ));
    }
    if let Some((ours, others)) = samples.split_first() {
        for other in others {
            let ratios = ours.columns().into_iter().zip(other.columns()).map(|(a, b)| format!(" {:.3} |", a / b));
            lines.push(format!("| {} over {} |{}", ours.name, other.name, ratios.collect::<String>()));
        }
        lines.push(String::new());
        lines.push("Each answer was a right 302, and took one eventually consistent GetItem.".to_owned());
        let before = ours.reads_before.iter().max().copied().unwrap_or(0);
        lines.push(format!("Before its first event, {} read at most {before} row that is not there.", ours.name));
    }
    lines.join("\n") + "\n"
}
