//! A process as a table: what it does next follows from its local state and the reply to one of its open calls.

use std::{
    collections::HashMap,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use binplz_core::id::time::Timestamp;

use crate::{
    actor::{End, Kind, Running, run},
    call::{Call, Reply},
    names::{Shared, Table},
    port::Port,
    scenario::Setup,
};

/// A local state: a process after some replies.
#[derive(Debug)]
pub(crate) struct Local {
    kind: u32,
    /// The state before, the place of the call that was answered, and the reply.
    from: Option<(u32, u32, Reply)>,
    /// The clock of its last poll.
    now: Timestamp,
    /// Whether that poll has read the clock.
    pub(crate) read_clock: bool,
    /// Its open calls, each with its place.
    pub(crate) calls: Vec<(u32, Call)>,
    /// How it has ended.
    pub(crate) end: Option<End>,
}

/// A flow in the middle.
pub(crate) struct Alive {
    port: Arc<Port>,
    future: Running,
}

impl Alive {
    /// A process that has begun.
    pub(crate) fn begin(
        kind: &Kind,
        number: u32,
        names: Shared,
        setup: Arc<Setup>,
        now: Timestamp,
    ) -> (Alive, Option<End>) {
        let port = Arc::new(Port::new(names, setup, number));
        let mut alive = Alive { future: run(kind, Arc::clone(&port)), port };
        let end = alive.poll(now);
        (alive, end)
    }

    fn poll(&mut self, now: Timestamp) -> Option<End> {
        self.port.set_clock(now);
        match self.future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(end) => Some(end),
            Poll::Pending => None,
        }
    }

    /// Goes on with a reply.
    pub(crate) fn go_on(&mut self, place: u32, reply: Reply, now: Timestamp) -> Option<End> {
        self.port.answer(place, reply);
        self.poll(now)
    }

    /// Its open calls.
    pub(crate) fn calls(&self) -> Vec<(u32, Call)> {
        self.port.open()
    }
}

/// How many flows are kept in the middle. Others are run again from their beginning.
const KEPT: usize = 2000;

/// All local states that were found.
pub(crate) struct Automata {
    names: Shared,
    setup: Arc<Setup>,
    /// The processes.
    pub(crate) kinds: Table<Kind>,
    locals: Vec<Local>,
    starts: HashMap<(u32, Option<Timestamp>), u32>,
    /// The clock is part of the key where the flow has read it.
    next: HashMap<(u32, u32, Reply, Option<Timestamp>), u32>,
    alive: HashMap<u32, Alive>,
}

impl Automata {
    pub(crate) fn new(names: Shared, setup: Arc<Setup>) -> Automata {
        Automata {
            names,
            setup,
            kinds: Table::default(),
            locals: Vec::new(),
            starts: HashMap::new(),
            next: HashMap::new(),
            alive: HashMap::new(),
        }
    }

    /// A local state.
    pub(crate) fn local(&self, number: u32) -> &Local {
        &self.locals[number as usize]
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.locals.len()
    }

    /// Where a process begins.
    pub(crate) fn start(&mut self, kind: u32, now: Timestamp) -> u32 {
        for clock in [None, Some(now)] {
            if let Some(known) = self.starts.get(&(kind, clock)) {
                return *known;
            }
        }
        let (alive, end) = self.begin(kind, now);
        let read_clock = alive.port.has_read_clock();
        let number = self.found(Local { kind, from: None, now, read_clock, calls: alive.calls(), end }, alive);
        self.starts.insert((kind, read_clock.then_some(now)), number);
        number
    }

    /// Where a local state leads with a reply.
    pub(crate) fn after(&mut self, local: u32, place: u32, reply: &Reply, now: Timestamp) -> u32 {
        let mut name = (local, place, reply.clone(), None);
        for clock in [None, Some(now)] {
            name.3 = clock;
            if let Some(known) = self.next.get(&name) {
                return *known;
            }
        }
        let mut alive = self.alive.remove(&local).unwrap_or_else(|| self.revive(local));
        let end = alive.go_on(place, reply.clone(), now);
        let read_clock = alive.port.has_read_clock();
        name.3 = read_clock.then_some(now);
        let calls = if end.is_some() { Vec::new() } else { alive.calls() };
        let kind = self.local(local).kind;
        let number =
            self.found(Local { kind, from: Some((local, place, reply.clone())), now, read_clock, calls, end }, alive);
        self.next.insert(name, number);
        number
    }

    fn begin(&self, kind: u32, now: Timestamp) -> (Alive, Option<End>) {
        Alive::begin(self.kinds.value(kind), kind, self.names.clone(), Arc::clone(&self.setup), now)
    }

    fn found(&mut self, local: Local, alive: Alive) -> u32 {
        let number = u32::try_from(self.locals.len()).expect("fewer local states");
        if local.end.is_none() {
            if self.alive.len() >= KEPT {
                self.alive.clear();
            }
            self.alive.insert(number, alive);
        }
        self.locals.push(local);
        number
    }

    /// Runs a process again, up to a local state.
    fn revive(&self, number: u32) -> Alive {
        let (mut path, mut at) = (Vec::new(), number);
        while let Some((before, place, reply)) = &self.local(at).from {
            path.push((*place, reply.clone(), self.local(at).now));
            at = *before;
        }
        let (mut alive, _) = self.begin(self.local(at).kind, self.local(at).now);
        for (place, reply, now) in path.into_iter().rev() {
            let end = alive.go_on(place, reply, now);
            assert!(end.is_none(), "a flow that is run again with the same replies does the same");
        }
        alive
    }
}
