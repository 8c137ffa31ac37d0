//! A counterexample, for people: a line for each step.

use std::fmt::Write;

use binplz_core::{
    build::State as Stage,
    row::{Row, RowKey},
};

use crate::{
    actor::Kind,
    call::{Call, Reply},
    explore::{Choice, Fate, Search},
    names::Names,
    property::Violation,
    state::{At, State},
};

/// The steps from a first state, and the property that does not hold after them.
pub(crate) fn of(search: &mut Search, mut state: State, choices: &[Choice], violation: &Violation) -> String {
    let mut text = String::new();
    let mut number = 0;
    'steps: for choice in choices {
        let mut next = Some(*choice);
        while let Some(choice) = next {
            number += 1;
            let line = line(search, &state, choice);
            let _ = writeln!(text, "{number:>3}. {line}");
            if search.step(&mut state, choice).is_err() {
                break 'steps;
            }
            next = search.only(&state);
        }
    }
    let _ = writeln!(text, "     {}", violation.0);
    text
}

fn line(search: &mut Search, state: &State, choice: Choice) -> String {
    let name = |search: &Search, kind: u32| who(search.automata.kinds.value(kind));
    match choice {
        Choice::Begin(process, skew) => {
            let clock = match skew {
                0 => "",
                1.. => ", with a clock that is a lease ahead",
                _ => ", with a clock that is a lease behind",
            };
            format!("{} begins{clock}", name(search, process.kind))
        }
        Choice::Die(process) => format!("{} dies", name(search, process.kind)),
        Choice::Miss(process) => format!("{} never begins: what starts it is lost", name(search, process.kind)),
        Choice::Pass => {
            let passes = &search.setup.scenario.passes;
            format!("{} s pass", passes[usize::from(state.passed)].as_secs())
        }
        Choice::Answer(process, place, fate) => {
            let At::Local(local) = process.at else { return String::new() };
            let calls = &search.automata.local(local).calls;
            let call = calls.iter().find(|(at, _)| *at == place).expect("an open call").1.clone();
            let reply = search.perform(&mut state.clone(), &call).unwrap_or(Reply::Unavailable);
            let names = search.names.get();
            let what = what(&call, &reply, &names);
            let fate = match fate {
                Fate::Done => "",
                Fate::Lost => "; the reply is lost",
                Fate::Failed => "; it is not done, and there is no reply",
            };
            format!("{}: {what}{fate}", who(search.automata.kinds.value(process.kind)))
        }
    }
}

fn who(kind: &Kind) -> String {
    match kind {
        Kind::Client(target) => format!("client of {target}"),
        Kind::Dispatcher(n) => format!("dispatcher {n}"),
        Kind::Sweep(n) => format!("sweep {n}"),
        Kind::Collector(n) => format!("collector {n}"),
        Kind::Operator(n, orders) => format!("operator {n} {orders:?}"),
        Kind::Task(key, lease) => format!("task of {} {}", key.product, short(lease.as_str())),
        Kind::Reaper(key, lease) => format!("end of the task of {} {}", key.product, short(lease.as_str())),
        Kind::Heartbeat(key, lease) => format!("heartbeat of {} {}", key.product, short(lease.as_str())),
        Kind::Promoter(prefix, n) => format!("promoter {n} of {}", prefix.key.product),
    }
}

/// The part of a lease's name that differs in the leases of one exploration.
fn short(lease: &str) -> &str {
    lease.get(4..12).unwrap_or(lease)
}

fn what(call: &Call, reply: &Reply, names: &Names) -> String {
    match (call, reply) {
        (Call::Load(key), Reply::Row(Some((row, version)))) => {
            format!(
                "reads {} version {version}: {}",
                row_name(names.keys.value(*key)),
                content(&names.row_of(*row).row)
            )
        }
        (Call::Load(key), _) => format!("reads {}: none", row_name(names.keys.value(*key))),
        (Call::Commit(swaps), reply) => {
            let swaps = swaps.iter().map(|(seen, row)| {
                let row = &names.row_of(*row).row;
                format!("{} after version {seen}: {}", row_name(&row.key()), content(row))
            });
            let swaps: Vec<_> = swaps.collect();
            let outcome = if *reply == Reply::Conflict { "conflict" } else { "commits" };
            format!("{outcome} {}", swaps.join(" + "))
        }
        (Call::Remove(key, seen), reply) => {
            format!("removes {} version {seen}: {reply:?}", row_name(names.keys.value(*key)))
        }
        (Call::Read(place), Reply::Content(found)) => {
            format!("reads {}{}", names.objects.value(*place), if found.is_some() { "" } else { ": none" })
        }
        (Call::Write(place, _), _) => format!("writes {}", names.objects.value(*place)),
        (Call::Launch(key, lease), _) => format!("starts the task of {} {}", key.product, short(lease.as_str())),
        (Call::Build(drv, _), _) => format!("realises {}", &drv.as_str()[..1]),
        (call, reply) => format!("{call:?}: {reply:?}"),
    }
}

fn row_name(key: &RowKey) -> String {
    match key {
        RowKey::Build(key) => format!("build {}", key.product),
        RowKey::Derivation(_, drv) => format!("derivation {}", &drv.as_str()[..1]),
        RowKey::Dependency(_, drv) => format!("dependency {}", &drv.as_str()[..1]),
        key => key.to_string(),
    }
}

/// What matters of a row.
fn content(row: &Row) -> String {
    match row {
        Row::Build(build) => match &build.state {
            Stage::Queued { attempt, .. } => format!("Queued, attempt {attempt}"),
            Stage::Building(lease) => {
                let held = lease.derivation.as_ref().map_or("", |_| ", holds its derivation");
                format!("Building by {}{held}", short(lease.id.as_str()))
            }
            Stage::Ready(made) => format!("Ready by {}", short(made.lease.as_str())),
            Stage::Failed { failure, .. } => format!("Failed: {:?}", failure.kind),
            Stage::Unasked => "Unasked".to_owned(),
            Stage::Joined { .. } => "Joined".to_owned(),
            Stage::Waiting(_) => "Waiting".to_owned(),
        },
        Row::Limits(limits) => {
            let lingering = limits.lingering().count();
            let (taken, spent) = (limits.taken(), limits.spent().0);
            format!("{taken} slots taken, {lingering} of them by ended leases, {spent} spent")
        }
        Row::Derivation(taken) => format!("held by {}", short(taken.prefix.lease.as_str())),
        Row::Dependency(claimed) => format!("{:?}", claimed.stage),
        Row::Served(served) => format!("served{}", if served.stale { ", stale" } else { "" }),
        _ => "written".to_owned(),
    }
}
