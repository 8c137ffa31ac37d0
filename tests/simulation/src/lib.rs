//! A deterministic simulation of a month: the shipped flows, state machine, limits, garbage collection and catalogues, over
//! ports in memory (`ports.rs`). Time is virtual (tokio's paused clock, on one thread). Each decision comes from one seed,
//! so the same seed gives the same month.
//!
//! Clients, the schedule, an operator and the weather act (`actors.rs`), and builders work (`task.rs`) on packages that need
//! no Nix (`packages.rs`). Calls are refused, lose their replies, take long, or end with their process (`site.rs`).
//! `checks.rs` compares each commit, redirect and removal with what is promised.

mod actors;
mod checks;
mod meter;
mod objects;
mod packages;
mod ports;
mod random;
mod rows;
pub mod scale;
mod site;
mod task;
mod trace;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use binplz_core::{
    build::{
        policy::{Names, Policy, Prices},
        protocol::Nixpkgs,
    },
    id::money::Micros,
    nixpkgs::pins::{Pin, Pins},
};
use tokio::task::{LocalSet, spawn_local};

pub use packages::Packages;
use site::Site;

/// How large a month is.
#[derive(Clone, Copy, Debug)]
pub struct Month {
    /// Its days.
    pub days: u32,
    /// How long a day is: no request comes in its last quarter.
    pub day: Duration,
    /// The requests of clients, without those that ask again.
    pub requests: usize,
    /// What there is to build.
    pub packages: Packages,
    /// The operator's orders, on average.
    pub orders_a_day: u32,
    /// Builds in parallel.
    pub slots: usize,
}

impl Month {
    /// The money that builds may cost in a day: too little on some.
    fn daily(&self) -> Micros {
        Micros(60_000 * self.slots as u64)
    }

    /// One short and busy day with few packages.
    pub const SHORT: Month = Month {
        days: 1,
        day: Duration::from_secs(6 * 3600),
        requests: 250,
        packages: Packages { count: 40, dependencies: 6, alike: None },
        orders_a_day: 24,
        slots: 4,
    };
    /// 100,000 requests, and some 5,000 builds.
    pub const WHOLE: Month = Month {
        days: 30,
        day: Duration::from_secs(24 * 3600),
        requests: 85_000,
        packages: Packages { count: 900, dependencies: 40, alike: None },
        orders_a_day: 8,
        slots: 8,
    };
}

/// A fault on purpose, which the simulation must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// A commit checks the version of its first row only.
    ForgetsOtherVersions,
    /// A commit writes its first row only.
    TearsCommits,
    /// Consistent reads miss the last commit at times.
    ReadsLate,
    /// The launcher starts a second task for a lease.
    LaunchesTwice,
    /// No ring arrives, and no message for a build that is due later.
    LosesRings,
    /// The schedule is off.
    NeverSweeps,
    /// The index of served rows is empty.
    ListsNothingServed,
    /// The store acknowledges manifests, and does not keep them.
    LosesManifests,
    /// The same with uploads.
    LosesUploads,
    /// Objects have no grace period.
    NoGrace,
}

impl Sabotage {
    /// Those that the first seed finds.
    pub const BASIC: [Sabotage; 8] = [
        Sabotage::ForgetsOtherVersions,
        Sabotage::TearsCommits,
        Sabotage::ReadsLate,
        Sabotage::LaunchesTwice,
        Sabotage::LosesRings,
        Sabotage::NeverSweeps,
        Sabotage::LosesManifests,
        Sabotage::LosesUploads,
    ];
    /// Those that take some seeds.
    pub const RARE: [Sabotage; 2] = [Sabotage::ListsNothingServed, Sabotage::NoGrace];
}

/// What a month was like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Requests, and how many of them were redirected.
    pub requests: u64,
    /// Redirects.
    pub hits: u64,
    /// Attempts at builds.
    pub attempts: u64,
    /// Builds that became ready.
    pub ready: u64,
    /// Builds that failed for good.
    pub failed: u64,
    /// Calls of ports.
    pub calls: u64,
    /// Those that went wrong.
    pub faults: u64,
    /// The fingerprint of all events.
    pub hash: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { requests, hits, attempts, ready, failed, calls, faults, hash } = self;
        write!(f, "{requests} requests, {hits} hits, {attempts} attempts, {ready} ready, {failed} failed, ")?;
        write!(f, "{calls} calls, {faults} faults, {hash:016x}")
    }
}

/// A promise that was not kept, and what happened before.
pub struct Failed {
    /// The promise, and the build.
    pub what: String,
    /// The last events.
    pub trace: String,
}

impl Failed {
    /// What is printed of a seed.
    pub fn of(&self, seed: u64, month: &Month) -> String {
        let size = if month.days == Month::WHOLE.days { "" } else { " --short" };
        let Failed { what, trace } = self;
        format!("seed {seed}: {what}\n\n{trace}\nThe same again: scripts/simulate{size} --seed {seed}")
    }
}

/// Simulates a month.
///
/// # Errors
/// [`Failed`], at the first promise that is not kept.
pub fn simulate(seed: u64, month: Month, sabotage: Option<Sabotage>) -> Result<Summary, Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    LocalSet::new().block_on(&runtime.expect("a runtime"), async {
        let site = Arc::new(Site::new(seed, &month, policy(&month, sabotage), pins(&month), sabotage));
        tokio::select! {
            biased;
            () = site.wrong.notified() => {}
            () = pass(&site, month) => {}
        }
        let now = site.now();
        let state = site.state();
        match state.checks.wrong() {
            None => Ok(Summary {
                requests: state.answered,
                hits: state.hits,
                attempts: state.checks.attempts,
                ready: state.checks.ready,
                failed: state.checks.failed,
                calls: state.calls,
                faults: state.faults,
                hash: state.fingerprint(),
            }),
            Some((key, what)) => {
                let of = key.as_ref().map(|key| format!("{key}: ")).unwrap_or_default();
                Err(Failed { what: format!("{of}{what}"), trace: state.trace.of(key.as_ref(), now) })
            }
        }
    })
}

fn policy(month: &Month, sabotage: Option<Sabotage>) -> Policy {
    // A task costs a cent an hour, and the minimum is a minute.
    let prices = Prices { task: Micros(10_000), minimum: Duration::from_secs(60), ..Prices::default() };
    let mut policy = Policy {
        names: Names::Known,
        slots: month.slots,
        prices,
        budget: Some(month.daily()),
        client_builds: Some(40),
        store_bytes: Some(1 << 40),
        egress_bytes: Some(1 << 50),
        overhead: Duration::from_secs(180),
        ..Policy::default()
    };
    policy.job.cache_bytes = 0;
    if sabotage == Some(Sabotage::NoGrace) {
        policy.grace = Duration::ZERO;
    }
    policy
}

fn pins(month: &Month) -> Pins {
    let pin = |number| Pin {
        rev: packages::rev(number),
        nixpkgs: Nixpkgs::Path("/set".to_owned()).into(),
        programs: None,
        since: Default::default(),
        keep: 2 * month.day,
        former: Vec::new(),
    };
    let name = |name: &str| name.parse().expect("a name");
    let pins = BTreeMap::from([(name("stable"), pin(0)), (name("unstable"), pin(1))]);
    Pins::new(name("unstable"), pins).expect("the default is one of them")
}

/// Starts an actor. A panic in it is a promise that is not kept.
fn spawn(site: &Arc<Site>, actor: impl Future<Output = ()> + 'static) {
    let (site, running) = (Arc::clone(site), spawn_local(actor));
    spawn_local(async move {
        if let Err(error) = running.await
            && error.is_panic()
        {
            site.violated(None, format_args!("a panic: {error}"));
        }
    });
}

async fn pass(site: &Arc<Site>, month: Month) {
    let began = tokio::time::Instant::now();
    spawn(site, actors::tasks(Arc::clone(site)));
    spawn(site, actors::dispatchers(Arc::clone(site)));
    spawn(site, actors::sweeps(Arc::clone(site)));
    spawn(site, actors::collections(Arc::clone(site), month));
    spawn(site, actors::weather(Arc::clone(site), month));
    spawn(site, actors::operator(Arc::clone(site), month));
    for day in 1..=month.days {
        actors::clients(Arc::clone(site), month).await;
        actors::calm(site, month).await;
        tokio::time::sleep_until(began + month.day * day).await;
    }
}
