//! Misses at a rate, answered by the shipped flows.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc, time::Duration};

use binplz_core::{
    billing::prices::{Machine, PriceList},
    build::{
        policy::{Names, Policy},
        protocol::Nixpkgs,
    },
    flow::{
        request::{outcome::RequestOutcome, program::request, status::status},
        schedule::{dispatch::dispatch, sweep::sweep},
    },
    id::{
        key::{BuildKey, Product, System},
        money::Micros,
        target::{Query, Target},
        time::Timestamp,
    },
    nixpkgs::pins::{Pin, Pins},
    objects::stored::Method,
    quota::{client::Asker, limits::Limits},
    row::RowKey,
};
use tokio::{
    task::{LocalSet, spawn_local},
    time::{Instant, sleep, sleep_until},
};

use super::{limits, quantile};
use crate::{
    Month, actors,
    meter::{Meter, Place, Usage},
    packages::{Packages, rev},
    site::{Site, Weather},
    spawn,
};

/// How long a build takes without its start: with that, a task runs for about three minutes, as in the guide's table of builds.
const BUILD: Duration = Duration::from_secs(120);
/// From the first miss on, until as many tasks run as will.
const WARM_UP: Duration = Duration::from_secs(300);
/// How long a miss may wait for its task until it is counted as it is.
const PATIENCE: Duration = Duration::from_secs(900);
/// The most time between two polls of a status.
const POLL_MAX: u64 = 60;

/// What misses at a rate were like.
#[derive(Clone, Debug, Default)]
pub struct Misses {
    /// How many were measured.
    pub count: u64,
    /// How long their arrivals took together.
    pub time: Duration,
    /// From the request until RunTask has started the task, in order.
    pub waits: Vec<Duration>,
    /// Those that had no task in the end.
    pub never: u64,
    /// The calls of each function.
    pub functions: BTreeMap<&'static str, Usage>,
    /// The units of shared rows and parts of the index: halves of read units, and write units.
    pub places: BTreeMap<Place, (u64, u64)>,
    /// The slots that were taken on average.
    pub slots: f64,
    /// The most bytes that the row of the limits had.
    pub limits_bytes: u64,
    /// How long a task ran on average.
    pub task: Duration,
    /// The longest sweep.
    pub sweep: Duration,
    /// The longest run of a dispatcher.
    pub dispatch: Duration,
}

impl Misses {
    /// The median and the 99th percentile of the waits.
    pub fn wait(&self) -> (Duration, Duration) {
        (quantile(&self.waits, 0.5), quantile(&self.waits, 0.99))
    }

    /// The sum of all functions but the sweep, which runs without misses too.
    pub fn usage(&self) -> Usage {
        let without_sweeps = self.functions.iter().filter(|(name, _)| **name != "sweep");
        without_sweeps.fold(Usage::default(), |sum, (_, usage)| sum.and(usage))
    }

    /// One function's.
    pub fn of(&self, function: &str) -> Usage {
        self.functions.get(function).copied().unwrap_or_default()
    }

    /// How much of a unit's count was used in a second.
    pub fn a_second(&self, count: u64) -> f64 {
        count as f64 / self.time.as_secs_f64().max(1.0)
    }
}

/// A site as large as the template allows it to be, with a budget that is no limit.
pub(super) fn site(seed: u64, packages: usize) -> Arc<Site> {
    let packages = Packages { count: packages, dependencies: 1, alike: Some(BUILD) };
    let month = Month { packages, slots: limits::SLOTS_MAX as usize, ..Month::WHOLE };
    let policy = Policy {
        names: Names::Known,
        slots: month.slots,
        prices: PriceList::known().expect("the price file").task(Machine::X86),
        budget: Some(Micros(1 << 50)),
        client_builds: Some(u32::MAX),
        store_bytes: Some(1 << 60),
        overhead: Duration::from_secs(180),
        ..Policy::default()
    };
    let nixpkgs = Nixpkgs::Path("/set".to_owned()).into();
    let since = Timestamp::default();
    let pin = Pin { rev: rev(1), nixpkgs, programs: None, since, keep: 2 * month.day, former: Vec::new() };
    let name: binplz_core::id::key::PinName = "unstable".parse().expect("a name");
    let pins = Pins::new(name.clone(), BTreeMap::from([(name, pin)])).expect("the default is one of them");
    let site = Arc::new(Site::new(seed, &month, policy, pins, None));
    site.state().weather = Weather::Calm;
    site.state().meter = Some(Meter::default());
    site
}

/// Runs something on a clock of its own.
pub(super) fn run<T>(act: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    LocalSet::new().block_on(&runtime.expect("a runtime"), act)
}

/// Starts what the stack runs by itself, and waits until its catalogue is there.
pub(super) async fn starts(site: &Arc<Site>) {
    spawn(site, actors::tasks(Arc::clone(site)));
    for _ in 0..limits::DISPATCHERS {
        spawn(site, dispatcher(Arc::clone(site)));
    }
    spawn(site, sweeps(Arc::clone(site)));
    let sweeper = site.process("sweep");
    sweep(&sweeper).await.expect("calm weather");
    while site.state().rows.latest(binplz_core::row::StatusIndex::Ready, 1).is_empty() {
        sleep(Duration::from_secs(10)).await;
        let now = site.now();
        site.state().rows.catch_up(now);
    }
    // Until the next sweep has seen that nothing is under way.
    sleep(Duration::from_secs(120)).await;
}

/// A dispatcher as Lambda runs it: it takes up to ten messages, and returns them if it runs out of time.
async fn dispatcher(site: Arc<Site>) {
    let ring = |site: Arc<Site>, after: Duration, messages: u64| {
        spawn_local(async move {
            sleep(after).await;
            site.state().meter.as_mut().expect("it is metered").messages += messages;
            site.rung.notify_one();
        });
    };
    loop {
        let taken = {
            let mut state = site.state();
            let messages = &mut state.meter.as_mut().expect("it is metered").messages;
            let taken = (*messages).min(limits::BATCH);
            *messages -= taken;
            if *messages > 0 {
                site.rung.notify_one();
            }
            taken
        };
        if taken == 0 {
            site.rung.notified().await;
            continue;
        }
        sleep(limits::INVOKE).await;
        let dispatcher = site.process("dispatcher");
        match dispatcher.run(limits::SCHEDULE_TIMEOUT, dispatch(&dispatcher)).await {
            None => ring(Arc::clone(&site), limits::VISIBILITY, taken),
            Some(Ok(None)) => {}
            Some(Ok(Some(due))) => ring(Arc::clone(&site), (due - site.now()).min(limits::DELAY_MAX), 1),
            Some(Err(_)) => ring(Arc::clone(&site), limits::DISPATCHER_PAUSE, 1),
        }
    }
}

/// Sweeps each minute; if no task runs, each quarter of an hour, as the others do nothing.
async fn sweeps(site: Arc<Site>) {
    for minute in 1_u64.. {
        sleep(Duration::from_secs(60)).await;
        if minute % 15 == 0 || !site.state().tasks.is_empty() {
            let sweeper = site.process("sweep");
            let _ = sweeper.run(limits::SCHEDULE_TIMEOUT, sweep(&sweeper)).await;
        }
    }
}

/// The package of a number: every eighth one's program has another's name.
fn package(number: usize) -> usize {
    number + number / 7
}

fn target(number: usize) -> Target {
    Query::parse(&format!("p{}", package(number)), None).expect("a target").target
}

/// Asks for a program until it is there: as the stub does, at the times that the service names.
pub(super) async fn client(site: Arc<Site>, number: usize) {
    let (target, first) = (target(number), site.process("api"));
    let address = Ipv4Addr::from_bits(0x0a00_0000 + number as u32).into();
    let asker = Asker { address: Some(address), key: None };
    sleep(limits::GATEWAY + limits::INVOKE).await;
    let asked = first.run(limits::API_TIMEOUT, request(&first, &target, Method::Get, Some(&asker))).await;
    let mut pause = if let Some(RequestOutcome::Pending(status)) = asked { status.retry_after } else { 1 };
    for _ in 0..200 {
        sleep(Duration::from_secs(pause.clamp(1, POLL_MAX)) + limits::GATEWAY + limits::INVOKE).await;
        let poll = site.process("api");
        match poll.run(limits::API_TIMEOUT, status(&poll, &target)).await {
            Some(Ok(status)) if status.state == "ready" => break,
            Some(Ok(status)) => pause = status.retry_after,
            _ => pause = 5,
        }
    }
    let last = site.process("api");
    let _ = last.run(limits::API_TIMEOUT, request(&last, &target, Method::Get, Some(&asker))).await;
}

/// A time between two events that come at random, so many in an hour.
fn between(site: &Site, an_hour: u64) -> Duration {
    let part = (site.below(1 << 30) as f64 + 1.0) / f64::from(1 << 30);
    Duration::from_secs_f64(-part.ln() * 3600.0 / an_hour as f64)
}

/// Misses at a rate, of which up to `most` are measured.
pub(super) fn misses(seed: u64, an_hour: u64, most: usize) -> Misses {
    let before = (an_hour * WARM_UP.as_secs()).div_ceil(3600) as usize;
    let all = before + most;
    let site = |seed| site(seed, package(all) + 2);
    run(async move {
        let site = site(seed);
        starts(&site).await;
        let (mut asked, mut slots, mut began) = (Vec::new(), 0, Instant::now());
        for number in 0..all {
            sleep(between(&site, an_hour)).await;
            if number == before {
                site.state().meter.as_mut().expect("it is metered").begin();
                began = Instant::now();
            }
            if number >= before {
                asked.push((number, site.now()));
                slots += taken(&site);
            }
            spawn(&site, client(Arc::clone(&site), number));
        }
        let time = began.elapsed();
        let (functions, places, [sweep, dispatch], ran, limits_bytes) = {
            let state = site.state();
            let meter = state.meter.as_ref().expect("it is metered");
            let longest = |function| meter.took.get(function).into_iter().flatten().max().copied().unwrap_or_default();
            let longest = ["sweep", "dispatcher"].map(longest);
            (meter.functions.clone(), meter.places.clone(), longest, meter.ran, meter.limits_bytes)
        };
        let count = asked.len() as u64;
        let (waits, never) = waits(&site, &asked).await;
        Misses {
            count,
            time,
            waits,
            never,
            functions,
            places,
            slots: slots as f64 / count.max(1) as f64,
            limits_bytes,
            task: ran.0 / (ran.1.max(1) as u32),
            sweep,
            dispatch,
        }
    })
}

fn taken(site: &Site) -> usize {
    let limits = site.state().rows.get(&RowKey::Limits).map(|(row, _)| row.clone());
    limits.and_then(|row| Limits::try_from(row).ok()).map_or(0, |limits| limits.taken())
}

/// How long each waited for its task, in order, and how many have none.
async fn waits(site: &Arc<Site>, asked: &[(usize, Timestamp)]) -> (Vec<Duration>, u64) {
    let deadline = Instant::now() + PATIENCE;
    let key = |number| BuildKey {
        rev: rev(1),
        system: System::X86_64Linux,
        product: Product::Package(site.packages.attr(package(number))),
    };
    loop {
        let (mut waits, mut never) = (Vec::new(), 0);
        let now = site.now();
        for (number, since) in asked {
            let started = site.state().meter.as_ref().expect("it is metered").started.get(&key(*number)).copied();
            never += u64::from(started.is_none());
            waits.push(started.unwrap_or(now) - *since);
        }
        if never == 0 || Instant::now() >= deadline {
            waits.sort();
            return (waits, never);
        }
        sleep_until(Instant::now() + Duration::from_secs(5)).await;
    }
}

/// Runs hits one after the other: how long the function takes for each, in order, and what they use.
pub(super) fn sample_hits(seed: u64, count: usize) -> (Vec<Duration>, Usage) {
    const PROGRAMS: usize = 5;
    run(async move {
        let site = site(seed, package(PROGRAMS) + 2);
        starts(&site).await;
        for number in 0..PROGRAMS {
            client(Arc::clone(&site), number).await;
        }
        site.state().meter.as_mut().expect("it is metered").begin();
        for number in 0..count {
            let hit = site.process("hit");
            let outcome =
                hit.run(limits::API_TIMEOUT, request(&hit, &target(number % PROGRAMS), Method::Get, None)).await;
            assert!(matches!(outcome, Some(RequestOutcome::Hit { .. })), "{outcome:?}");
        }
        let state = site.state();
        let meter = state.meter.as_ref().expect("it is metered");
        let mut took = meter.took.get("hit").cloned().unwrap_or_default();
        took.sort();
        (took, meter.functions.get("hit").copied().unwrap_or_default())
    })
}
