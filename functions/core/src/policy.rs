//! A deployment's numbers, in one place. Adapters fill them in from flags or the environment.

use std::{fmt, str::FromStr, time::Duration};

use thiserror::Error;

use crate::{
    build::{protocol::JobLimits, size::Size},
    quota::limits::Micros,
};

/// What a deployment allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Which names mean something.
    pub names: Names,
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
    /// Builds that one client may have started in a day (UTC); `None` is no limit.
    pub client_builds: Option<u32>,
    /// Bytes that the store may hold; `None` is no limit.
    pub store_bytes: Option<u64>,
    /// Bytes of programs that may be served in a day (UTC); `None` is no limit. A day, unlike the budget's month: what is counted late
    /// can cost one day too much, and nobody is without programs for weeks.
    pub egress_bytes: Option<u64>,
    /// What a task's machine costs.
    pub prices: Prices,
    /// The machine that a build is tried on first.
    pub size: Size,
    /// How long an answer is held for one who waits, at most: a gateway has no patience for longer.
    pub hold: Duration,
    /// Requests that may wait at a time.
    pub waiters: usize,
    /// For how long what nobody needs any more is let alone before its objects go: the longest redirect's life and an hour.
    pub grace: Duration,
    /// Seconds that a task is paid for beyond its job's limit: pulling its image, stopping.
    pub overhead: Duration,
}

/// A quarter of an hour is how long a presigned URL can be followed; a redirect to the CDN is kept for a minute. The hour is more than any
/// request or function lives, and than clocks differ.
const GRACE: Duration = Duration::from_secs((15 + 60) * 60);

/// Which names mean something in a nixpkgs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// Those that its catalogue knows. Until that is made, attributes.
    #[default]
    Known,
    /// What its catalogue knows, it knows; all else is tried as an attribute. Whoever makes names up costs a build each.
    Open,
    /// Attributes: no catalogue is made.
    Attributes,
}

/// Not one of the three.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("it is known, open or attributes")]
pub struct BadNames;

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Names::Known => "known",
            Names::Open => "open",
            Names::Attributes => "attributes",
        })
    }
}

impl FromStr for Names {
    type Err = BadNames;
    fn from_str(s: &str) -> Result<Self, BadNames> {
        [Names::Known, Names::Open, Names::Attributes].into_iter().find(|names| names.to_string() == s).ok_or(BadNames)
    }
}

/// What an hour of a task's parts costs; all zero where building is free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prices {
    /// A vCPU.
    pub cpu: Micros,
    /// A GiB of memory.
    pub memory: Micros,
    /// A GiB of disk, beyond what is free.
    pub disk: Micros,
    /// What a task costs whatever its size: a public address.
    pub task: Micros,
    /// The shortest time that is paid for, of a task that ran at all.
    pub minimum: Duration,
}

impl Prices {
    /// What an hour of a machine costs.
    fn hour(&self, size: Size) -> u64 {
        let part = |price: Micros, amount: u32, of: u64| (price.0.saturating_mul(amount.into())).div_ceil(of);
        let parts = [
            part(self.cpu, size.cpu(), 1024),
            part(self.memory, size.memory(), 1024),
            part(self.disk, size.disk_paid().into(), 1),
        ];
        parts.iter().fold(self.task.0, |sum, part| sum.saturating_add(*part))
    }

    /// Whether building costs nothing.
    pub fn are_none(&self) -> bool {
        *self == Prices::default()
    }
}

impl Default for Policy {
    /// One machine that costs nothing.
    fn default() -> Policy {
        Policy {
            names: Names::default(),
            lease: Duration::from_secs(60),
            attempts: 3,
            first_delay: Duration::from_secs(10),
            cool_down: Duration::from_secs(15 * 60),
            job: JobLimits::default(),
            slots: 2,
            budget: None,
            client_builds: None,
            store_bytes: None,
            egress_bytes: None,
            prices: Prices::default(),
            size: Size::default(),
            hold: Duration::from_secs(25),
            waiters: 500,
            grace: GRACE,
            overhead: Duration::ZERO,
        }
    }
}

impl Policy {
    /// The delay after attempt `number` (from 1) failed.
    pub fn delay_after(&self, number: u32) -> Duration {
        self.first_delay.saturating_mul(4u32.saturating_pow(number.saturating_sub(1)))
    }

    /// What a task on such a machine costs that runs this long; a part of a second is a second. One that never ran costs nothing.
    pub fn price(&self, size: Size, time: Duration) -> Micros {
        if time.is_zero() {
            return Micros(0);
        }
        let seconds = time.max(self.prices.minimum).as_secs_f64().ceil() as u64;
        Micros(self.prices.hour(size).saturating_mul(seconds).div_ceil(3600))
    }

    /// The most bytes that one attempt can store.
    pub fn worst_bytes(&self) -> u64 {
        let JobLimits { package_bytes, log_bytes, cache_bytes, .. } = &self.job;
        [package_bytes, log_bytes, cache_bytes].into_iter().fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }

    /// The most that one attempt on such a machine can cost: reserved before it starts.
    pub fn worst_price(&self, size: Size) -> Micros {
        self.price(size, Duration::from_secs(self.job.seconds).saturating_add(self.overhead))
    }
}
