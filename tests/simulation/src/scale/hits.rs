//! The function for hits: instances that start cold, serve one request at a time, and end after some idle time.

use std::time::Duration;

use super::{limits, quantile};
use crate::{meter::Usage, random::Random};

/// How hits are spread over a day.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// The busiest hour's rate, in hundredths of the average.
    pub peak_percent: u64,
    /// The requests that are simulated for each hour of the day.
    pub sample: usize,
}

impl Default for Shape {
    fn default() -> Shape {
        Shape { peak_percent: limits::PEAK_PERCENT, sample: 2000 }
    }
}

impl Shape {
    /// The rate of an hour, in parts of the average: a sine.
    fn of(self, hour: u32) -> f64 {
        let swing = self.peak_percent as f64 / 100.0 - 1.0;
        1.0 + swing * (f64::from(hour) * std::f64::consts::TAU / 24.0).sin()
    }
}

/// What hits were like.
#[derive(Clone, Debug)]
pub struct Hits {
    /// The median.
    pub median: Duration,
    /// The 99th percentile.
    pub p99: Duration,
    /// The part that met a cold start.
    pub cold: f64,
    /// The most instances at once.
    pub instances: usize,
    /// Hits in the busiest second.
    pub peak: f64,
    /// What one uses.
    pub half_reads: f64,
}

/// The instances of a function, by when each was free.
#[derive(Debug, Default)]
struct Pool(Vec<f64>);

impl Pool {
    /// Serves a request that comes at `now` and takes so long, and so much longer if cold. Returns whether it was.
    fn serve(&mut self, now: f64, takes: f64, cold: f64) -> bool {
        let idle = limits::IDLE.as_secs_f64();
        self.0.retain(|free| now - free <= idle);
        // The one that was used last.
        let free = self.0.iter_mut().filter(|free| **free <= now).max_by(|a, b| a.total_cmp(b));
        match free {
            Some(free) => {
                *free = now + takes;
                false
            }
            None => {
                self.0.push(now + takes + cold);
                true
            }
        }
    }
}

/// Simulates the hours of a day. `took`: how long the function takes for a hit, some of these times.
pub(super) fn model(seed: u64, a_day: u64, shape: Shape, took: &[Duration], usage: Usage) -> Hits {
    let (mut random, mut pool) = (Random(seed), Pool::default());
    let (mut all, mut cold, mut instances) = (Vec::new(), 0.0, 0);
    let average = a_day as f64 / 86_400.0;
    let mut now = 0.0;
    // The first day fills the pool.
    for hour in (0..24).chain(0..24).enumerate() {
        let (counts, hour) = (hour.0 >= 24, hour.1);
        let rate = (average * shape.of(hour)).max(1e-9);
        for _ in 0..shape.sample {
            let part = (random.below(1 << 30) as f64 + 1.0) / f64::from(1 << 30);
            now -= part.ln() / rate;
            let takes = took.get(random.below(took.len().max(1))).copied().unwrap_or_default() + limits::HIT_CPU;
            let is_cold = pool.serve(now, takes.as_secs_f64(), limits::COLD.as_secs_f64());
            if counts {
                let start = if is_cold { limits::COLD } else { limits::INVOKE };
                all.push((limits::GATEWAY + start + takes, rate));
                cold += if is_cold { rate } else { 0.0 };
                instances = instances.max(pool.0.len());
            }
        }
    }
    // Each hour has the same sample, and weighs as its rate.
    let weight: f64 = all.iter().map(|(_, rate)| rate).sum();
    let steps = all.iter().flat_map(|(time, rate)| {
        let copies = (rate / average * 10.0).round() as usize;
        std::iter::repeat_n(*time, copies)
    });
    let mut sorted: Vec<_> = steps.collect();
    sorted.sort();
    Hits {
        median: quantile(&sorted, 0.5),
        p99: quantile(&sorted, 0.99),
        cold: cold / weight,
        instances,
        peak: average * shape.peak_percent as f64 / 100.0,
        half_reads: Usage::each(usage.half_reads, usage.runs),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_hit_takes_what_its_parts_take_and_as_many_instances_as_run_at_once(
            seed: u64, a_day in 100_u64..200_000_000, longest in 1_u64..200, peak_percent in 100_u64..200,
        ) {
            let shape = Shape { peak_percent, sample: 100 };
            let took: Vec<_> = (1..=longest).map(Duration::from_millis).collect();
            let hits = model(seed, a_day, shape, &took, Usage::default());
            let least = limits::GATEWAY + limits::INVOKE + limits::HIT_CPU;
            let most = limits::GATEWAY + limits::COLD + limits::HIT_CPU + Duration::from_millis(longest);
            prop_assert!(least <= hits.median && hits.median <= hits.p99 && hits.p99 <= most);
            prop_assert!((0.0..=1.0).contains(&hits.cold));
            prop_assert!((1..=48 * 100).contains(&hits.instances));
        }

        #[test]
        fn an_instance_serves_one_request_at_a_time(times in prop::collection::vec((0_u64..100, 1_u64..100), 1..200)) {
            let (mut pool, mut now) = (Pool::default(), 0.0);
            let mut running: Vec<f64> = Vec::new();
            for (pause, takes) in times {
                now += pause as f64 / 1000.0;
                running.retain(|end| *end > now);
                let (before, takes) = (pool.0.len(), takes as f64 / 1000.0);
                let cold = pool.serve(now, takes, 0.2);
                // A new one is started only if all others are busy.
                prop_assert_eq!(cold, running.len() == before);
                running.push(now + takes + if cold { 0.2 } else { 0.0 });
            }
        }
    }
}
