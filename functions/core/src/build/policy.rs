//! A deployment's limits and durations, in one place. Adapters fill them from flags or the environment.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use thiserror::Error;

use crate::{
    build::{protocol::JobLimits, size::Size},
    id::money::Micros,
};

/// A deployment's limits and durations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The names that requests may use.
    pub names: Names,
    /// How long a lease lasts without a heartbeat.
    pub lease: Duration,
    /// How many attempts a transient failure gets before it cools down; at least 1.
    pub attempts: u32,
    /// How often a build is continued that ran out of time and made progress.
    pub continued_attempts: u32,
    /// The most that these attempts may cost together, the next one included; `None`: no limit.
    pub package_budget: Option<Micros>,
    /// The retry delay (backoff): the delay before the second attempt; each later one is four times as long.
    pub first_delay: Duration,
    /// How long a build cools down after its last attempt before a request may start it again.
    pub cool_down: Duration,
    /// Whether all builders use one Nix store, where the next attempt finds what one has built.
    pub shared_store: bool,
    /// The limits of one build.
    pub job: JobLimits,
    /// Builds in parallel.
    pub slots: usize,
    /// The budget for builds in a calendar month (UTC); `None`: no limit.
    pub budget: Option<Micros>,
    /// The rate limit: new builds per client and day (UTC); `None`: no limit.
    pub client_builds: Option<u32>,
    /// The most bytes in the store; `None`: no limit.
    pub store_bytes: Option<u64>,
    /// The most bytes of programs served in a day (UTC); `None`: no limit. A day, unlike the budget's month: a late
    /// count costs at most one day too much, and downloads never stop for weeks.
    pub egress_bytes: Option<u64>,
    /// The prices of a task.
    pub prices: Prices,
    /// The machine of a build's first attempt.
    pub size: Size,
    /// How long a waiting request's answer is held at most, below the gateway's timeout.
    pub hold: Duration,
    /// Concurrent waiting requests.
    pub waiters: usize,
    /// The grace period before unreferenced objects are deleted: the longest redirect's life and an hour.
    pub grace: Duration,
    /// The time that a task is charged beyond its job's limit: image pull and stop.
    pub overhead: Duration,
}

/// A presigned URL is valid for a quarter of an hour, and a redirect to the CDN is cached for a minute. The hour is
/// longer than any request or function lives, and than clocks differ.
const GRACE: Duration = Duration::from_secs((15 + 60) * 60);

/// The longest delay (backoff) after the launcher has refused to start a task.
pub const REFUSED_MAX: Duration = Duration::from_secs(5 * 60);

/// The names that requests may use in a nixpkgs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// Names in the catalogue. Until it is made, attributes.
    #[default]
    Known,
    /// Names in the catalogue; unknown names are tried as attributes. Each invented name costs a build.
    Open,
    /// Attributes only: no catalogue is made.
    Attributes,
}

/// The text is none of the three.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("expected known, open or attributes")]
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

/// The hourly prices of a task's parts; all zero if building is free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prices {
    /// A vCPU.
    pub cpu: Micros,
    /// A GiB of memory.
    pub memory: Micros,
    /// A GiB of disk, beyond the free part.
    pub disk: Micros,
    /// The part of a task's price that does not depend on its size: a public address.
    pub task: Micros,
    /// The minimum charge of a task that ran at all.
    pub minimum: Duration,
}

impl Prices {
    /// The price of an hour of a machine.
    fn hour(&self, size: Size) -> u64 {
        let part = |price: Micros, amount: u32, of: u64| (price.0.saturating_mul(amount.into())).div_ceil(of);
        let parts = [
            part(self.cpu, size.cpu(), 1024),
            part(self.memory, size.memory(), 1024),
            part(self.disk, size.disk_paid().into(), 1),
        ];
        parts.iter().fold(self.task.0, |sum, part| sum.saturating_add(*part))
    }

    /// Whether building is free.
    pub fn are_none(&self) -> bool {
        *self == Prices::default()
    }
}

impl Default for Policy {
    /// One machine on which building is free.
    fn default() -> Policy {
        Policy {
            names: Names::default(),
            lease: Duration::from_secs(60),
            attempts: 3,
            continued_attempts: 6,
            package_budget: None,
            first_delay: Duration::from_secs(10),
            cool_down: Duration::from_secs(15 * 60),
            shared_store: true,
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
    /// The retry delay (backoff) after attempt `number` (from 1) failed.
    pub fn delay_after(&self, number: u32) -> Duration {
        self.first_delay.saturating_mul(4u32.saturating_pow(number.saturating_sub(1)))
    }

    /// The price of a build: of a task of that size that runs for `time`, rounded up to seconds. A task that never ran is
    /// free.
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

    /// The same for a package whose time limit an operator has set.
    pub fn allowing(&self, seconds: Option<u64>) -> Cow<'_, Policy> {
        match seconds {
            None => Cow::Borrowed(self),
            Some(seconds) => Cow::Owned(Policy { job: JobLimits { seconds, ..self.job.clone() }, ..self.clone() }),
        }
    }

    /// The worst-case price of one attempt on such a machine: reserved before it starts.
    pub fn worst_price(&self, size: Size) -> Micros {
        self.price(size, Duration::from_secs(self.job.seconds).saturating_add(self.overhead))
    }
}
