//! What is explored: which processes there are, and what may go wrong.

use std::time::Duration;

use binplz_core::{
    build::{
        policy::{Names, Policy, Prices},
        protocol::Nixpkgs,
    },
    id::{
        key::{Attr, BuildKey, DrvHash, PinName, Product, Rev, System},
        money::Micros,
        target::{Query, Target},
    },
    nixpkgs::pins::Pins,
    objects::narinfo::StoreDir,
};

/// The time at the beginning, in milliseconds.
pub(crate) const BEGINNING: u64 = 1_800_000_000_000;

/// What an operator does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Order {
    /// Moves the pin to the revision that consists of this digit.
    Move(char),
    /// Sets how long the builds of a revision are kept after the pin has left it, in seconds.
    Keep(u64),
    /// Takes a package down.
    Withhold(&'static str),
    /// Cancels a package's build.
    Cancel(&'static str),
    /// Pauses builds and stops those that run.
    Pause,
    /// Resumes builds.
    Resume,
}

/// A mistake of a port, to check the checker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// A commit compares the version of its first row only.
    ForgetsVersions,
    /// A commit writes its first row only.
    TearsCommits,
    /// The same lease starts a second builder.
    LaunchesTwice,
}

/// A few processes, and what may go wrong.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What happens before, in order and alone: requests until these packages are ready.
    pub ready: Vec<&'static str>,
    /// What an operator has done before.
    pub before: Vec<Order>,
    /// What an operator does once they are ready.
    pub then: Vec<Order>,
    /// A client for each of these targets.
    pub clients: Vec<&'static str>,
    /// Dispatchers. Each runs once and may begin at any time: a ring that is late, lost or repeated.
    pub dispatchers: u32,
    /// Sweeps.
    pub sweeps: u32,
    /// Runs of garbage collection.
    pub collectors: u32,
    /// Promoters of each attempt; with any, builders offer a planned path and another one.
    pub promoters: u32,
    /// Each builder sends a heartbeat, at any moment.
    pub heartbeats: bool,
    /// What each of several operators does, in order.
    pub operators: Vec<Vec<Order>>,
    /// Slots.
    pub slots: usize,
    /// The month's budget, in tasks of the longest time; half of one is left over.
    pub budget: u64,
    /// All packages are of one derivation.
    pub one_derivation: bool,
    /// All packages need one dependency.
    pub dependency: bool,
    /// How many processes die.
    pub crashes: u8,
    /// How many calls have no reply: done, or not. Also how often the launcher's word of a task's end is lost.
    pub losses: u8,
    /// How many processes have a clock that is a lease ahead or behind.
    pub skews: u8,
    /// By how much the time passes, one after the other, each at any moment.
    pub passes: Vec<Duration>,
    /// How often a process is interrupted by another one before it is over; `None`: always.
    pub preemptions: Option<u8>,
    /// What its ports do wrong.
    pub mistake: Option<Mistake>,
}

impl Scenario {
    /// One with nothing in it.
    pub fn named(name: &'static str) -> Scenario {
        Scenario {
            name,
            ready: Vec::new(),
            before: Vec::new(),
            then: Vec::new(),
            clients: Vec::new(),
            dispatchers: 0,
            sweeps: 0,
            collectors: 0,
            promoters: 0,
            heartbeats: false,
            operators: Vec::new(),
            slots: 2,
            budget: 20,
            one_derivation: false,
            dependency: false,
            crashes: 0,
            losses: 0,
            skews: 0,
            passes: Vec::new(),
            preemptions: None,
            mistake: None,
        }
    }

    /// All targets that clients request.
    pub(crate) fn targets(&self) -> Vec<&'static str> {
        let mut targets: Vec<_> = self.ready.iter().chain(&self.clients).copied().collect();
        targets.sort_unstable();
        targets.dedup();
        targets
    }
}

/// What all processes of an exploration know.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) scenario: Scenario,
    pub(crate) policy: Policy,
    pub(crate) pins: Pins,
    /// There is a binary cache.
    pub(crate) cache: bool,
    pub(crate) store_dir: StoreDir,
}

/// What each task is charged for, by its launcher's word.
pub(crate) const RAN: Duration = Duration::from_secs(30);

impl Setup {
    pub(crate) fn of(scenario: &Scenario) -> Setup {
        let mut policy = Policy {
            names: Names::Attributes,
            slots: scenario.slots,
            prices: Prices { task: Micros(3600), ..Prices::default() },
            // More than any scenario needs.
            client_builds: Some(20),
            attempts: 6,
            ..Policy::default()
        };
        policy.job.seconds = 100;
        let worst = policy.worst_price(policy.size).0;
        policy.budget = Some(Micros(worst * scenario.budget + worst / 2));
        let pins = Pins::one(pin(), rev('5'), Nixpkgs::Path("/set".to_owned()).into());
        Setup {
            cache: scenario.promoters > 0,
            store_dir: StoreDir::default(),
            scenario: scenario.clone(),
            policy,
            pins,
        }
    }

    /// A package's derivation.
    pub(crate) fn derivation(&self, product: &Product) -> DrvHash {
        let letter = if self.scenario.one_derivation { 'd' } else { letter(product) };
        String::from_iter([letter; 32]).parse().expect("base 32")
    }
}

/// The first letter of a product's name.
pub(crate) fn letter(product: &Product) -> char {
    product.to_string().chars().next().expect("a name")
}

/// The one pin.
pub(crate) fn pin() -> PinName {
    "test".parse().expect("a name")
}

/// A revision: this digit, forty times.
pub(crate) fn rev(digit: char) -> Rev {
    String::from_iter([digit; 40]).parse().expect("hex")
}

/// A target by its path.
pub(crate) fn target(path: &str) -> Target {
    Query::parse(path, None).expect("a target").target
}

/// A package.
pub(crate) fn attr(name: &str) -> Attr {
    name.parse().expect("a name")
}

/// The key of a package's build.
pub(crate) fn key(name: &str, rev: &Rev) -> BuildKey {
    BuildKey { rev: rev.clone(), system: System::X86_64Linux, product: Product::Package(attr(name)) }
}
