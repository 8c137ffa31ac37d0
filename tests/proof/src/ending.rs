//! The end: once every process is over, no fault happens any more, and a deployment's loops go on. Then each build ends, each client
//! gets its program, and nothing stays reserved.

use std::{collections::HashSet, sync::Arc, time::Duration};

use binplz_core::{
    build::{State as Stage, derivation::Realisation},
    id::{key::System, money::Micros},
    nixpkgs::pins::Pins,
    row::Row,
};

use crate::{
    actor::{End, Kind},
    automaton::Alive,
    explore::Search,
    property::{Violation, builds, check, limits},
    scenario::{Order, RAN, attr, pin},
    state::{At, Process, State},
    step::task_of,
};

/// The number of processes that an ending runs: no process of a scenario has it.
const LATE: u32 = 99;
/// How many sweeps may pass until all is over.
const ROUNDS: usize = 10;
/// The time between them: longer than a lease, and than the delay of a second attempt.
const BETWEEN: Duration = Duration::from_secs(75);

/// What was followed to its end.
#[derive(Default)]
pub(crate) struct Ending {
    ended: HashSet<u128>,
}

impl Ending {
    /// What happens before the first state.
    ///
    /// # Errors
    /// [`Violation`].
    pub(crate) fn begin(&mut self, search: &mut Search, state: &mut State) -> Result<(), Violation> {
        let waiting = std::mem::take(&mut state.processes);
        let scenario = search.setup.scenario.clone();
        if !scenario.before.is_empty() {
            run(search, state, Kind::Operator(LATE, scenario.before))?;
        }
        for path in scenario.ready {
            request(search, state, path)?;
            rounds(search, state)?;
            if !matches!(request(search, state, path)?, End::Hit { .. }) {
                return Err(Violation(format!("{path} is not ready")));
            }
        }
        if !scenario.then.is_empty() {
            run(search, state, Kind::Operator(LATE, scenario.then))?;
        }
        (state.processes, state.built, state.rung) = (waiting, Vec::new(), false);
        state.launched = Arc::default();
        Ok(())
    }

    /// Follows a state in which every process is over to its end.
    ///
    /// # Errors
    /// [`Violation`].
    pub(crate) fn check(&mut self, search: &mut Search, state: &State) -> Result<(), Violation> {
        prompt(search, state)?;
        let mut state = State { crashes: 0, losses: 0, skews: 0, ..state.clone() };
        let core = State { built: Vec::new(), launched: Arc::default(), ..state.clone() };
        if !self.ended.insert(core.digest()) {
            return Ok(());
        }
        if limits(&state, &search.names.get()).halted() {
            run(search, &mut state, Kind::Operator(LATE, vec![Order::Resume]))?;
        }
        rounds(search, &mut state)?;
        let pins = pins(search, &state);
        for path in search.setup.scenario.targets() {
            let withheld = pins.withheld().contains_key(&attr(path));
            let mut end = request(search, &mut state, path)?;
            if end != End::Withheld && !is_of(&end, &pins) {
                rounds(search, &mut state)?;
                end = request(search, &mut state, path)?;
            }
            match withheld {
                true if end == End::Withheld => {}
                true => return Err(Violation(format!("{path} is taken down, and in the end a client gets {end:?}"))),
                false if is_of(&end, &pins) => {}
                false => return Err(Violation(format!("in the end a client that requests {path} gets {end:?}"))),
            }
        }
        charged(search, &state)
    }
}

/// Whether it is a redirect to the revision that the pin stands for.
fn is_of(end: &End, pins: &Pins) -> bool {
    matches!(end, End::Hit { rev, .. } if pins.all()[&pin()].rev.to_string() == *rev)
}

fn pins(search: &Search, state: &State) -> Pins {
    let names = search.names.get();
    let row = state.rows.iter().find_map(|row| match &names.row_of(row.1).row {
        Row::Pins(pins) => Some(pins.clone()),
        _ => None,
    });
    row.unwrap_or_else(|| search.setup.pins.clone())
}

fn request(search: &mut Search, state: &mut State, path: &'static str) -> Result<End, Violation> {
    let end = run(search, state, Kind::Client(path))?;
    search.hit(state, &end)?;
    Ok(end)
}

/// Where nothing went wrong, no build needs the sweep: what can go on was rung for.
fn prompt(search: &mut Search, state: &State) -> Result<(), Violation> {
    let scenario = &search.setup.scenario;
    if state.faults(scenario) > 0 || state.passed > 0 || state.rung {
        return Ok(());
    }
    let names = search.names.get();
    let limits = limits(state, &names);
    let room = limits.taken() < search.setup.policy.slots && limits.open_for(System::X86_64Linux, state.now).is_ok();
    for build in builds(state, &names) {
        let goes = match &build.state {
            Stage::Queued { due, .. } => room && *due <= state.now,
            Stage::Building(lease) => {
                let launched = |task: &u32| task_of(&search.automata, *task) == Some(&lease.id);
                !state.launched.iter().any(launched)
            }
            Stage::Joined { derivation, .. } => {
                let holder = state.rows.iter().find_map(|row| match &names.row_of(row.1).row {
                    Row::Derivation(taken) if taken.drv == *derivation => Some(taken),
                    _ => None,
                });
                let ended = holder.and_then(|taken| {
                    let of = builds(state, &names).find(|build| build.key == taken.prefix.key)?;
                    Some(taken.stands(of) != Realisation::UnderWay)
                });
                ended.unwrap_or(true)
            }
            _ => false,
        };
        if goes {
            return Err(Violation(format!("{} can go on, and no dispatcher was woken", build.key)));
        }
    }
    Ok(())
}

/// Sweeps, dispatchers, tasks and what tells of their ends, until nothing is under way.
fn rounds(search: &mut Search, state: &mut State) -> Result<(), Violation> {
    for _ in 0..ROUNDS {
        for kind in [Kind::Sweep(LATE), Kind::Dispatcher(LATE)] {
            // No two of them name their leases alike.
            state.now = state.now + Duration::from_millis(1);
            run(search, state, kind)?;
        }
        drain(search, state)?;
        check(state, &mut search.names.get(), &search.automata, &search.setup)?;
        let names = search.names.get();
        let limits = limits(state, &names);
        let over = builds(state, &names).all(|build| !build.is_under_way()) && limits.reserved() == Micros(0);
        drop(names);
        if over {
            return failed(search, state);
        }
        state.now = state.now + BETWEEN;
    }
    let names = search.names.get();
    let still: Vec<_> = builds(state, &names).filter(|build| build.is_under_way()).map(|build| &build.key).collect();
    Err(Violation(format!(
        "after {ROUNDS} sweeps {} is reserved, and under way are {still:?}",
        limits(state, &names).reserved()
    )))
}

/// No explored builder reports a failure, and no attempt is exhausted by so few faults.
fn failed(search: &Search, state: &State) -> Result<(), Violation> {
    let names = search.names.get();
    match builds(state, &names).find(|build| matches!(build.state, Stage::Failed { .. })) {
        Some(build) => Err(Violation(format!("{} has failed: {:?}", build.key, build.state))),
        None => Ok(()),
    }
}

/// Every task was paid for once: for as long as its launcher says, or, if its word was lost, at most for the longest time.
fn charged(search: &Search, state: &State) -> Result<(), Violation> {
    let policy = &search.setup.policy;
    let spent = limits(state, &search.names.get()).spent();
    let tasks = state.launched.len() as u64;
    let most = Micros(tasks * policy.worst_price(policy.size).0);
    let exact =
        search.setup.scenario.ready.is_empty() && state.faults(&search.setup.scenario) == 0 && state.passed == 0;
    let least = Micros(tasks * policy.price(policy.size, RAN).0);
    if search.setup.scenario.ready.is_empty() && spent > most || exact && spent < least {
        return Err(Violation(format!("{tasks} tasks have run, and {spent} is spent")));
    }
    Ok(())
}

/// Runs every process that has begun or may begin.
fn drain(search: &mut Search, state: &mut State) -> Result<(), Violation> {
    while let Some(process) = state.processes.first().copied() {
        if process.stopping {
            search.ended(state, process);
            continue;
        }
        let kind = search.automata.kinds.value(process.kind).clone();
        alone(search, state, &kind, process.kind)?;
        search.ended(state, process_now(state, process.kind));
    }
    Ok(())
}

fn process_now(state: &State, kind: u32) -> Process {
    *state.processes.iter().find(|process| process.kind == kind && process.at == At::New).expect("it is there")
}

/// Runs a process of the ending itself.
fn run(search: &mut Search, state: &mut State, kind: Kind) -> Result<End, Violation> {
    let number = search.automata.kinds.number(&kind);
    alone(search, state, &kind, number)
}

/// Runs a process from its beginning to its end, alone.
fn alone(search: &mut Search, state: &mut State, kind: &Kind, number: u32) -> Result<End, Violation> {
    let (names, setup) = (search.names.clone(), Arc::clone(&search.setup));
    let (mut alive, mut end) = Alive::begin(kind, number, names, setup, state.now);
    loop {
        if let Some(end) = end {
            return Ok(end);
        }
        let (place, call) = alive.calls().first().expect("it waits for a reply").clone();
        let reply = search.perform(state, &call)?;
        end = alive.go_on(place, reply, state.now);
    }
}
