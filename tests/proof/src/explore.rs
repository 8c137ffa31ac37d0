//! The search: breadth first, so that the first counterexample is among the shortest; with a bound, those with fewer interruptions
//! first.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use binplz_core::{
    build::{State as Stage, policy::Policy},
    id::{key::Product, time::Timestamp},
    row::{Row, RowKey, StatusIndex},
};

use crate::{
    actor::{End, Kind},
    automaton::Automata,
    call::{Call, Reply},
    ending::Ending,
    names::Shared,
    property::{Violation, check},
    scenario::{Scenario, Setup},
    state::{At, Process, State},
    step::{World, task_of},
    trace,
};

/// What may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// This process begins, with its clock so many leases ahead.
    Begin(Process, i8),
    /// This call of it is answered.
    Answer(Process, u32, Fate),
    /// It dies.
    Die(Process),
    /// Its beginning is lost.
    Miss(Process),
    /// Time passes.
    Pass,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Done,
    /// It is done, and its reply is lost.
    Lost,
    /// It is not done.
    Failed,
}

impl Choice {
    fn process(self) -> Option<Process> {
        match self {
            Choice::Begin(process, _) | Choice::Answer(process, ..) | Choice::Die(process) => Some(process),
            Choice::Miss(_) | Choice::Pass => None,
        }
    }
}

/// What was found.
#[derive(Debug)]
pub struct Explored {
    /// States.
    pub states: usize,
    /// States in which every process is over; each was followed to its end.
    pub ends: usize,
    /// Steps from the first state to the last one that was found.
    pub depth: usize,
    /// Local states of processes.
    pub locals: usize,
    /// The shortest way to a state in which a property does not hold, step by step, with that property at its end.
    pub counterexample: Option<String>,
    /// All states were seen; otherwise the search ended at its limit.
    pub complete: bool,
}

/// Searches all states of a scenario, up to `most`.
///
/// # Panics
/// A flow that is run twice with the same replies does not do the same.
pub fn explore(scenario: &Scenario, most: usize) -> Explored {
    let setup = Arc::new(Setup::of(scenario));
    let names = Shared::default();
    let automata = Automata::new(names.clone(), Arc::clone(&setup));
    let mut search =
        Search { setup, names, automata, most, nodes: Vec::new(), seen: HashSet::new(), checked: HashSet::new() };
    let mut ending = Ending::default();
    search.run(&mut ending)
}

/// How a state was found: from which one, by which choice, after how many steps.
struct Node {
    from: u32,
    choice: Option<Choice>,
    depth: u32,
}

pub(crate) struct Search {
    pub(crate) setup: Arc<Setup>,
    pub(crate) names: Shared,
    pub(crate) automata: Automata,
    most: usize,
    nodes: Vec<Node>,
    seen: HashSet<u128>,
    checked: HashSet<u128>,
}

impl Search {
    fn run(&mut self, ending: &mut Ending) -> Explored {
        let scenario = self.setup.scenario.clone();
        let mut found = Explored { states: 0, ends: 0, depth: 0, locals: 0, counterexample: None, complete: true };
        let mut first = State::first(&scenario, &mut self.automata);
        if let Err(violation) = ending.begin(self, &mut first) {
            found.counterexample = Some(format!("before the first step: {}\n", violation.0));
            return found;
        }
        let bounds = scenario.preemptions.map_or(1, |most| usize::from(most) + 1);
        let mut queues: Vec<VecDeque<(State, u32)>> = (0..bounds).map(|_| VecDeque::new()).collect();
        self.seen.insert(first.digest());
        self.nodes.push(Node { from: 0, choice: None, depth: 0 });
        queues[0].push_back((first.clone(), 0));
        for bound in 0..bounds {
            while let Some((state, node)) = queues[bound].pop_front() {
                let choices = self.choices(&state);
                if choices.is_empty() {
                    found.ends += 1;
                    if let Err(violation) = ending.check(self, &state) {
                        return self.counterexample(found, &first, node, None, &violation);
                    }
                }
                for choice in choices {
                    let interrupts = usize::from(state.last.is_some() && choice.process() != state.last);
                    if bound + interrupts >= bounds {
                        continue;
                    }
                    let mut next = state.clone();
                    let taken = self.take(&mut next, choice).and_then(|()| self.check(&next));
                    if let Err(violation) = taken {
                        return self.counterexample(found, &first, node, Some(choice), &violation);
                    }
                    if !self.seen.insert(next.digest()) {
                        continue;
                    }
                    if self.nodes.len() >= self.most {
                        found.complete = false;
                        return self.counted(found);
                    }
                    let depth = self.nodes[node as usize].depth + 1;
                    self.nodes.push(Node { from: node, choice: Some(choice), depth });
                    let node = u32::try_from(self.nodes.len() - 1).expect("fewer states");
                    queues[bound + interrupts].push_back((next, node));
                }
            }
        }
        self.counted(found)
    }

    fn counted(&self, found: Explored) -> Explored {
        let depth = self.nodes.iter().map(|node| node.depth as usize).max().unwrap_or_default();
        Explored { states: self.nodes.len(), depth, locals: self.automata.len(), ..found }
    }

    fn counterexample(
        &mut self,
        found: Explored,
        first: &State,
        node: u32,
        last: Option<Choice>,
        violation: &Violation,
    ) -> Explored {
        let found = self.counted(found);
        let (mut choices, mut at) = (Vec::from_iter(last), node);
        while let Some(choice) = self.nodes[at as usize].choice {
            choices.push(choice);
            at = self.nodes[at as usize].from;
        }
        choices.reverse();
        let trace = trace::of(self, first.clone(), &choices, violation);
        Explored { counterexample: Some(trace), complete: false, ..found }
    }

    /// Checks a state, if it differs from all that were checked in what is checked.
    fn check(&mut self, state: &State) -> Result<(), Violation> {
        let tasks = state.processes.iter().filter(|process| task_of(&self.automata, process.kind).is_some());
        let processes = tasks.map(|task| Process { at: At::New, skew: 0, stopping: false, ..*task }).collect();
        let looked_at = State { processes, last: None, redirects: Vec::new(), rung: false, ..state.clone() };
        match self.checked.insert(looked_at.digest()) {
            true => check(state, &mut self.names.get(), &self.automata, &self.setup),
            false => Ok(()),
        }
    }

    /// What may happen next; nothing: every process is over.
    pub(crate) fn choices(&mut self, state: &State) -> Vec<Choice> {
        let alone = self.alone(state).map(|at| &state.processes[at]);
        let mut choices = Vec::new();
        let mut before = None;
        for process in alone.map_or(state.processes.as_slice(), std::slice::from_ref) {
            // Of equal processes one is enough.
            if before == Some(process) {
                continue;
            }
            before = Some(process);
            match process.at {
                At::New => self.beginnings(state, *process, &mut choices),
                At::Local(local) => self.answers(state, *process, local, &mut choices),
            }
        }
        let more = !choices.is_empty();
        if more && alone.is_none() && usize::from(state.passed) < self.setup.scenario.passes.len() {
            choices.push(Choice::Pass);
        }
        choices
    }

    /// The place of a process that goes on before all others.
    fn alone(&mut self, state: &State) -> Option<usize> {
        // To go on with another one than the last would be an interruption.
        let may = |process: &Process| state.last.is_none_or(|last| last == *process);
        (0..state.processes.len()).find(|at| may(&state.processes[*at]) && self.is_alone(state, *at))
    }

    fn is_alone(&mut self, state: &State, at: usize) -> bool {
        let process = state.processes[at];
        let (At::Local(local), Some((place, call))) = (process.at, self.goes_alone(state, at)) else {
            return false;
        };
        if usize::from(state.passed) == self.setup.scenario.passes.len() {
            return true;
        }
        // Time may pass before it reads the clock.
        let Ok(reply) = self.perform(&mut state.clone(), &call) else { return false };
        let next = self.automata.after(local, place, &reply, self.clock(state, process.skew));
        !self.automata.local(next).read_clock
    }

    /// The one open call of a process, if nothing that others do changes its reply, nor it anything for them: then the order does
    /// not matter, and it goes first.
    fn goes_alone(&self, state: &State, at: usize) -> Option<(u32, Call)> {
        let At::Local(local) = state.processes[at].at else { return None };
        let [(place, call)] = self.automata.local(local).calls.as_slice() else { return None };
        let scenario = &self.setup.scenario;
        let alone = match call {
            // Dispatchers may begin at any time.
            Call::Ring | Call::Progress => true,
            // No explored process queues a build in advance, and only these let builds follow or wait.
            Call::List(StatusIndex::Warming, ..) => true,
            Call::List(StatusIndex::Joined, ..) => {
                !scenario.one_derivation && !scenario.dependency && scenario.operators.is_empty()
            }
            Call::Load(key) => {
                let names = self.names.get();
                let (before, after) = (&state.processes[..at], &state.processes[at + 1..]);
                let mut others = before.iter().chain(after).map(|other| self.automata.kinds.value(other.kind));
                !others.any(|other| writes(other, names.keys.value(*key)))
            }
            // An attempt's objects are seen by others through its row.
            call => call.is_of_objects() && scenario.collectors == 0 && scenario.promoters == 0,
        };
        alone.then(|| (*place, call.clone()))
    }

    fn beginnings(&self, state: &State, process: Process, choices: &mut Vec<Choice>) {
        // The dispatchers are alike, so they begin in order; likewise others.
        let kind = self.automata.kinds.value(process.kind);
        let earlier = |other: &Process| other.at == At::New && is_before(self.automata.kinds.value(other.kind), kind);
        if state.processes.iter().any(earlier) {
            return;
        }
        choices.push(Choice::Begin(process, 0));
        if state.skews > 0 {
            choices.extend([1, -1].map(|skew| Choice::Begin(process, skew)));
        }
        if state.losses > 0 && matches!(kind, Kind::Reaper(..)) {
            choices.push(Choice::Miss(process));
        }
    }

    fn answers(&self, state: &State, process: Process, local: u32, choices: &mut Vec<Choice>) {
        for (place, call) in &self.automata.local(local).calls {
            choices.push(Choice::Answer(process, *place, Fate::Done));
            // No flow asks whether it has rung.
            if state.losses > 0 && !matches!(call, Call::Build(..) | Call::Ring) {
                choices.push(Choice::Answer(process, *place, Fate::Failed));
                if call.writes() {
                    choices.push(Choice::Answer(process, *place, Fate::Lost));
                }
            }
        }
        // A process that dies before it reads may as well die before it writes.
        let writes = self.automata.local(local).calls.iter().any(|(_, call)| call.writes());
        if (state.crashes > 0 && writes) || process.stopping {
            choices.push(Choice::Die(process));
        }
    }

    /// The clock of a process.
    fn clock(&self, state: &State, skew: i8) -> Timestamp {
        let Policy { lease, .. } = self.setup.policy;
        match skew {
            0 => state.now,
            1.. => state.now + lease,
            _ => Timestamp(state.now.0 - u64::try_from(lease.as_millis()).expect("a time")),
        }
    }

    /// Makes a choice, and then what does not wait for others.
    ///
    /// # Errors
    /// [`Violation`].
    pub(crate) fn take(&mut self, state: &mut State, choice: Choice) -> Result<(), Violation> {
        self.step(state, choice)?;
        while let Some(choice) = self.only(state) {
            self.step(state, choice)?;
        }
        Ok(())
    }

    /// What happens next, if only that may happen.
    pub(crate) fn only(&mut self, state: &State) -> Option<Choice> {
        // A fault may happen at each call.
        let at = if state.crashes == 0 && state.losses == 0 { self.alone(state)? } else { return None };
        let (place, _) = self.goes_alone(state, at)?;
        Some(Choice::Answer(state.processes[at], place, Fate::Done))
    }

    /// Makes a choice.
    ///
    /// # Errors
    /// [`Violation`].
    pub(crate) fn step(&mut self, state: &mut State, choice: Choice) -> Result<(), Violation> {
        let mut last = None;
        match choice {
            Choice::Begin(process, skew) => {
                state.skews -= u8::from(skew != 0);
                let kind = self.automata.kinds.value(process.kind);
                if matches!(kind, Kind::Dispatcher(_)) {
                    state.rung = false;
                }
                let local = self.automata.start(process.kind, self.clock(state, skew));
                last = self.moved(state, process, Process { at: At::Local(local), skew, ..process })?;
            }
            Choice::Answer(process, place, fate) => {
                let At::Local(local) = process.at else { return Ok(()) };
                let calls = &self.automata.local(local).calls;
                let (_, call) = calls.iter().find(|(at, _)| *at == place).expect("an open call").clone();
                let reply = match fate {
                    Fate::Failed => Reply::Unavailable,
                    Fate::Done | Fate::Lost => self.perform(state, &call)?,
                };
                let reply = if fate == Fate::Done { reply } else { Reply::Unavailable };
                state.losses -= u8::from(fate != Fate::Done);
                let is_client = matches!(self.automata.kinds.value(process.kind), Kind::Client(_));
                if is_client && self.only_reads_on(&call, &reply) {
                    self.ended(state, process);
                } else {
                    let local = self.automata.after(local, place, &reply, self.clock(state, process.skew));
                    last = self.moved(state, process, Process { at: At::Local(local), ..process })?;
                }
            }
            Choice::Die(process) => {
                state.crashes -= u8::from(!process.stopping);
                self.ended(state, process);
            }
            Choice::Miss(process) => {
                state.losses -= 1;
                remove(state, process);
            }
            Choice::Pass => {
                state.now = state.now + self.setup.scenario.passes[usize::from(state.passed)];
                state.passed += 1;
                state.redirects.retain(|(_, until)| state.now < *until);
            }
        }
        state.processes.sort_unstable();
        if self.setup.scenario.preemptions.is_some() {
            state.last = last;
        }
        Ok(())
    }

    /// Does what a call asks for.
    ///
    /// # Errors
    /// [`Violation`].
    pub(crate) fn perform(&mut self, state: &mut State, call: &Call) -> Result<Reply, Violation> {
        let world = World { names: &self.names, scenario: &self.setup.scenario };
        world.perform(state, call, &mut self.automata)
    }

    /// Whether a client that gets this reply only reads on, for its status: it has rung, or its build is under way.
    fn only_reads_on(&self, call: &Call, reply: &Reply) -> bool {
        match (call, reply) {
            (Call::Ring, Reply::Done) => true,
            (Call::Load(_), Reply::Row(Some((row, _)))) => match &self.names.get().row_of(*row).row {
                Row::Build(build) => {
                    matches!(build.state, Stage::Queued { .. } | Stage::Building(_) | Stage::Waiting(_))
                }
                _ => false,
            },
            _ => false,
        }
    }

    /// A process has come from one place to another one; `None`: it is over.
    fn moved(&mut self, state: &mut State, from: Process, to: Process) -> Result<Option<Process>, Violation> {
        let At::Local(local) = to.at else { return Ok(None) };
        if let Some(end) = self.automata.local(local).end.clone() {
            self.hit(state, &end)?;
            self.ended(state, from);
            return Ok(None);
        }
        // A call may have changed the process itself: whether it is to stop.
        let at = state
            .processes
            .iter()
            .position(|process| (process.kind, process.at, process.skew) == (from.kind, from.at, from.skew));
        let entry = &mut state.processes[at.expect("it is there")];
        *entry = Process { stopping: entry.stopping, ..to };
        Ok(Some(*entry))
    }

    /// A client is redirected: to an object that is there, as it must be, and stays for as long as it may follow.
    ///
    /// # Errors
    /// [`Violation`].
    pub(crate) fn hit(&mut self, state: &mut State, end: &End) -> Result<(), Violation> {
        let End::Hit { place, sha256, .. } = end else { return Ok(()) };
        let names = &mut *self.names.get();
        let object = names.objects.number(place);
        match state.object(object).map(|content| names.sum(content)) {
            None => return Err(Violation(format!("a client is redirected to {place}, which is missing"))),
            Some((stored, _)) if stored != sha256 => {
                return Err(Violation(format!("a client is redirected to {place}, which has another content")));
            }
            Some(_) => {}
        }
        if self.setup.scenario.collectors > 0 {
            state.redirects.push((object, state.now + LIFE));
            state.redirects.sort_unstable();
            state.redirects.dedup();
        }
        Ok(())
    }

    /// A process is over. Of a task, its launcher tells.
    pub(crate) fn ended(&mut self, state: &mut State, process: Process) {
        remove(state, process);
        if let Kind::Task(key, lease) = self.automata.kinds.value(process.kind).clone() {
            let reaper = self.automata.kinds.number(&Kind::Reaper(key, lease));
            state.add(reaper);
        }
    }
}

/// Whether a process, or one that it may start, may write a row.
fn writes(kind: &Kind, key: &RowKey) -> bool {
    let of = |product: &Product, name: &str| product.to_string() == name;
    match (kind, key) {
        (Kind::Collector(_) | Kind::Operator(..) | Kind::Sweep(_), _) => true,
        (Kind::Promoter(..), _) => matches!(key, RowKey::Dependency(..)),
        // It starts tasks.
        (Kind::Dispatcher(_), _) => !matches!(key, RowKey::Served(_) | RowKey::Allowance(_) | RowKey::Pins),
        (Kind::Client(name), RowKey::Build(key)) => of(&key.product, name),
        (Kind::Client(_), _) => matches!(key, RowKey::Served(_) | RowKey::Allowance(_)),
        (Kind::Task(of, _) | Kind::Reaper(of, _) | Kind::Heartbeat(of, _), RowKey::Build(key)) => of == key,
        (Kind::Heartbeat(..), _) => false,
        (Kind::Reaper(..), _) => matches!(key, RowKey::Limits),
        (Kind::Task(..), _) => !matches!(key, RowKey::Served(_) | RowKey::Allowance(_) | RowKey::Pins),
    }
}

/// How long a client may follow a redirect.
const LIFE: std::time::Duration = std::time::Duration::from_secs(15 * 60);

fn remove(state: &mut State, process: Process) {
    let same = |other: &Process| (other.kind, other.at, other.skew) == (process.kind, process.at, process.skew);
    let at = state.processes.iter().position(same).expect("it is there");
    state.processes.remove(at);
}

/// Whether two processes differ in their number only, and the first has the lower one.
fn is_before(one: &Kind, other: &Kind) -> bool {
    match (one, other) {
        (Kind::Dispatcher(one), Kind::Dispatcher(other))
        | (Kind::Sweep(one), Kind::Sweep(other))
        | (Kind::Collector(one), Kind::Collector(other)) => one < other,
        (Kind::Promoter(of, one), Kind::Promoter(also, other)) => of == also && one < other,
        _ => false,
    }
}
