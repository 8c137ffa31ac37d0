//! A deployment's numbers, in one place. Adapters fill them in from flags or the environment.

use std::time::Duration;

use crate::{limits::Micros, protocol::JobLimits};

/// What a deployment allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long a lease lasts without a pulse.
    pub lease: Duration,
    /// How often a transient failure is tried in all before it cools down; at least 1.
    pub attempts: u32,
    /// The delay before the second attempt; each later one is four times as long.
    pub first_delay: Duration,
    /// How long a build rests after its last attempt before a request may start it again.
    pub cool_down: Duration,
    /// What one build may use.
    pub job: JobLimits,
    /// Builds in parallel.
    pub slots: usize,
    /// Money for builds in a calendar month (UTC); `None` is no limit.
    pub budget: Option<Micros>,
    /// What a second of building costs, in micro-dollars; zero where building is free.
    pub micros_per_second: u64,
    /// Seconds that a task is paid for beyond its job's limit: pulling its image, stopping.
    pub overhead: Duration,
}

impl Default for Policy {
    /// One machine that costs nothing.
    fn default() -> Policy {
        Policy {
            lease: Duration::from_secs(60),
            attempts: 3,
            first_delay: Duration::from_secs(10),
            cool_down: Duration::from_secs(15 * 60),
            job: JobLimits::default(),
            slots: 2,
            budget: None,
            micros_per_second: 0,
            overhead: Duration::ZERO,
        }
    }
}

impl Policy {
    /// The delay after attempt `number` (from 1) failed.
    pub fn delay_after(&self, number: u32) -> Duration {
        self.first_delay.saturating_mul(4u32.saturating_pow(number.saturating_sub(1)))
    }

    /// What a task that runs this long costs.
    pub fn price(&self, time: Duration) -> Micros {
        Micros(time.as_secs_f64().ceil() as u64 * self.micros_per_second)
    }

    /// The most that one attempt can cost: reserved before it starts.
    pub fn worst_price(&self) -> Micros {
        self.price(Duration::from_secs(self.job.seconds).saturating_add(self.overhead))
    }
}
