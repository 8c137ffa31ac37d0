//! A state of the whole: small, and equal where nothing differs that matters.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use binplz_core::id::time::Timestamp;

use crate::{
    actor::Kind,
    automaton::Automata,
    scenario::{BEGINNING, Scenario},
};

/// Where a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum At {
    /// It may begin.
    New,
    /// In a local state.
    Local(u32),
}

/// A process that is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Process {
    /// Its number in [`Automata::kinds`].
    pub(crate) kind: u32,
    pub(crate) at: At,
    /// By how many leases its clock is ahead.
    pub(crate) skew: i8,
    /// Its launcher was asked to stop it.
    pub(crate) stopping: bool,
}

/// A row: its key, its content and its version.
pub(crate) type Row = (u32, u32, u64);

/// The state of the whole.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) now: Timestamp,
    /// How often time has passed.
    pub(crate) passed: u8,
    /// By the numbers of their keys.
    pub(crate) rows: Arc<Vec<Row>>,
    /// By the numbers of their places, with their contents.
    pub(crate) objects: Arc<Vec<(u32, u32)>>,
    /// In order, so that equal processes are not told apart.
    pub(crate) processes: Vec<Process>,
    /// Every task that was ever started, by the numbers of their processes.
    pub(crate) launched: Arc<Vec<u32>>,
    /// How often each derivation was realised: its letter.
    pub(crate) built: Vec<(char, u8)>,
    /// Where clients were redirected to, and until when they may follow.
    pub(crate) redirects: Vec<(u32, Timestamp)>,
    /// A ring has come since the last dispatcher began.
    pub(crate) rung: bool,
    pub(crate) crashes: u8,
    pub(crate) losses: u8,
    pub(crate) skews: u8,
    /// The process that made the last step, where interruptions are counted.
    pub(crate) last: Option<Process>,
}

impl State {
    /// The first one.
    pub(crate) fn first(scenario: &Scenario, automata: &mut Automata) -> State {
        let mut kinds: Vec<Kind> = scenario.clients.iter().map(|target| Kind::Client(target)).collect();
        kinds.extend((0..scenario.dispatchers).map(Kind::Dispatcher));
        kinds.extend((0..scenario.sweeps).map(Kind::Sweep));
        kinds.extend((0..scenario.collectors).map(Kind::Collector));
        let orders = scenario.operators.iter().enumerate();
        kinds.extend(orders.map(|(n, orders)| Kind::Operator(u32::try_from(n).expect("few"), orders.clone())));
        let mut state = State {
            now: Timestamp(BEGINNING),
            passed: 0,
            rows: Arc::default(),
            objects: Arc::default(),
            processes: Vec::new(),
            launched: Arc::default(),
            built: Vec::new(),
            redirects: Vec::new(),
            rung: false,
            crashes: scenario.crashes,
            losses: scenario.losses,
            skews: scenario.skews,
            last: None,
        };
        kinds.into_iter().for_each(|kind| state.add(automata.kinds.number(&kind)));
        state
    }

    /// Adds a process.
    pub(crate) fn add(&mut self, kind: u32) {
        self.processes.push(Process { kind, at: At::New, skew: 0, stopping: false });
        self.processes.sort_unstable();
    }

    /// The row of a key.
    pub(crate) fn row(&self, key: u32) -> Option<Row> {
        self.rows.binary_search_by_key(&key, |row| row.0).ok().map(|at| self.rows[at])
    }

    /// Writes a row.
    pub(crate) fn set_row(&mut self, row: Row) {
        let rows = Arc::make_mut(&mut self.rows);
        match rows.binary_search_by_key(&row.0, |row| row.0) {
            Ok(at) => rows[at] = row,
            Err(at) => rows.insert(at, row),
        }
    }

    /// The content of an object.
    pub(crate) fn object(&self, place: u32) -> Option<u32> {
        self.objects.binary_search_by_key(&place, |object| object.0).ok().map(|at| self.objects[at].1)
    }

    /// Writes an object.
    pub(crate) fn set_object(&mut self, place: u32, content: u32) {
        let objects = Arc::make_mut(&mut self.objects);
        match objects.binary_search_by_key(&place, |object| object.0) {
            Ok(at) => objects[at].1 = content,
            Err(at) => objects.insert(at, (place, content)),
        }
    }

    /// How many faults have happened.
    pub(crate) fn faults(&self, scenario: &Scenario) -> u8 {
        let left = self.crashes + self.losses + self.skews;
        scenario.crashes + scenario.losses + scenario.skews - left
    }

    /// A hash that no two of some millions of states share.
    pub(crate) fn digest(&self) -> u128 {
        let half = |seed: u64| {
            let mut hasher = DefaultHasher::new();
            seed.hash(&mut hasher);
            self.hash(&mut hasher);
            hasher.finish()
        };
        u128::from(half(0)) << 64 | u128::from(half(1))
    }
}
