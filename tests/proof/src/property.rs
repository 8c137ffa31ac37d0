//! What must hold in every state.

use binplz_core::{
    build::{Build, State as Stage},
    id::key::{DrvHash, LeaseId},
    objects::{
        artifact::{CacheName, ObjectName},
        inventory::Inventory,
    },
    quota::limits::Limits,
    row::Row,
};

use crate::{actor::hash, automaton::Automata, names::Names, scenario::Setup, state::State, step::task_of};

/// A property that does not hold, as a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation(pub(crate) String);

/// The builds.
pub(crate) fn builds<'a>(state: &'a State, names: &'a Names) -> impl Iterator<Item = &'a Build> {
    state.rows.iter().filter_map(|row| match &names.row_of(row.1).row {
        Row::Build(build) => Some(build),
        _ => None,
    })
}

/// The row of limits.
pub(crate) fn limits(state: &State, names: &Names) -> Limits {
    let limits = state.rows.iter().find_map(|row| match &names.row_of(row.1).row {
        Row::Limits(limits) => Some(limits.clone()),
        _ => None,
    });
    limits.unwrap_or_default()
}

/// Whether a lease is live.
pub(crate) fn live(state: &State, names: &Names, lease: &LeaseId) -> bool {
    let held = builds(state, names).filter_map(Build::lease);
    held.into_iter().any(|held| held.id == *lease && state.now < held.expires)
}

/// Checks a state.
///
/// # Errors
/// [`Violation`].
pub(crate) fn check(state: &State, names: &mut Names, automata: &Automata, setup: &Setup) -> Result<(), Violation> {
    let limits = limits(state, names);
    slots(state, names, &limits, automata, setup)?;
    derivations(state, names)?;
    objects(state, names)?;
    realised(state, names, setup)?;
    charged(state, names, setup)?;
    promoted(state, names)
}

/// Slots and money: what is reserved is what is live, and tasks that run have a reservation.
fn slots(state: &State, names: &Names, limits: &Limits, automata: &Automata, setup: &Setup) -> Result<(), Violation> {
    let held: Vec<_> = builds(state, names).filter_map(Build::lease).collect();
    if let Some(lease) = held.iter().find(|lease| !limits.is_live(&lease.id)) {
        return Err(Violation(format!("the lease {} has no reservation", lease.id)));
    }
    let (taken, lingering) = (limits.taken(), limits.lingering().count());
    if taken != held.len() + lingering {
        let held = held.len();
        return Err(Violation(format!("{taken} slots are taken, by {held} leases and {lingering} tasks that may run")));
    }
    if taken > setup.policy.slots {
        return Err(Violation(format!("{taken} slots are taken, of {}", setup.policy.slots)));
    }
    let worst = setup.policy.worst_price(setup.policy.size);
    if limits.reserved().0 != worst.0 * taken as u64 {
        return Err(Violation(format!("{} is reserved for {taken} tasks of {worst}", limits.reserved())));
    }
    if setup.policy.budget.is_some_and(|most| limits.spent() + limits.reserved() > most) {
        return Err(Violation(format!("{} is spent and {} reserved", limits.spent(), limits.reserved())));
    }
    let mut tasks: Vec<_> = state.processes.iter().filter_map(|process| task_of(automata, process.kind)).collect();
    let reserved = |lease: &LeaseId| limits.is_live(lease) || limits.lingering().any(|(of, _)| of == lease);
    if let Some(lease) = tasks.iter().find(|lease| !reserved(lease)) {
        return Err(Violation(format!("the task of {lease} runs without a reservation")));
    }
    tasks.sort();
    match tasks.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Violation(format!("the lease {} has two tasks", pair[0]))),
        None => Ok(()),
    }
}

/// One live lease holds a derivation, and it is the one in the derivation's row.
fn derivations(state: &State, names: &Names) -> Result<(), Violation> {
    let mut held: Vec<(&DrvHash, &LeaseId)> = Vec::new();
    for build in builds(state, names) {
        let Some(lease) = build.lease().filter(|lease| state.now < lease.expires) else { continue };
        let Some(drv) = &lease.derivation else { continue };
        if let Some((_, other)) = held.iter().find(|(of, _)| *of == drv) {
            return Err(Violation(format!("the derivation {drv} is held by {other} and by {}", lease.id)));
        }
        held.push((drv, &lease.id));
    }
    for row in state.rows.iter() {
        let Row::Derivation(taken) = &names.row_of(row.1).row else { continue };
        if let Some((_, lease)) = held.iter().find(|(drv, lease)| **drv == taken.drv && **lease != taken.prefix.lease) {
            let other = &taken.prefix.lease;
            return Err(Violation(format!("{lease} holds a derivation whose row says {other}")));
        }
    }
    Ok(())
}

/// What is ready is stored, with all that its manifest lists.
fn objects(state: &State, names: &mut Names) -> Result<(), Violation> {
    let mut prefixes: Vec<_> =
        builds(state, names).filter(|build| matches!(build.state, Stage::Ready(_))).filter_map(Build::prefix).collect();
    prefixes.sort();
    prefixes.dedup();
    for prefix in prefixes {
        let place = names.object(&prefix.object(ObjectName::Manifest));
        let Some(manifest) = state.object(place) else {
            return Err(Violation(format!("{prefix} is ready and has no manifest")));
        };
        let Ok(inventory) = Inventory::from_json(names.bytes(manifest), &prefix.key.product) else {
            return Err(Violation(format!("{prefix} is ready and its manifest is damaged")));
        };
        for entry in inventory.entries() {
            let place = names.object(&prefix.object(entry.name.clone()));
            let stored = state.object(place).map(|content| names.sum(content));
            if stored != Some(&(entry.content.sha256, entry.content.size)) {
                return Err(Violation(format!("{prefix} is ready and lacks its {}", entry.name)));
            }
        }
    }
    Ok(())
}

/// A derivation is realised once and a build has one task, and once more for each fault, each time that a lease has passed, and each
/// order of an operator. A build that waits has a second task.
fn realised(state: &State, names: &Names, setup: &Setup) -> Result<(), Violation> {
    let scenario = &setup.scenario;
    let orders = scenario.operators.iter().map(Vec::len).sum::<usize>();
    let excuses = usize::from(state.faults(scenario) + state.passed) + orders;
    if let Some((letter, times)) = state.built.iter().find(|(_, times)| usize::from(*times) > 1 + excuses) {
        return Err(Violation(format!("the derivation {letter} is realised {times} times")));
    }
    let waits = usize::from(scenario.dependency);
    let (tasks, most) = (state.launched.len(), builds(state, names).count() * (1 + waits) + excuses);
    if tasks > most {
        return Err(Violation(format!("{tasks} tasks have run, of {most} at most")));
    }
    Ok(())
}

/// Each build was charged to the client that started it, and to no other.
fn charged(state: &State, names: &Names, setup: &Setup) -> Result<(), Violation> {
    let started: u32 = state
        .rows
        .iter()
        .map(|row| match &names.row_of(row.1).row {
            Row::Allowance(allowance) => allowance.started,
            _ => 0,
        })
        .sum();
    let (started, builds) = (started as usize, builds(state, names).count());
    let removes = !setup.scenario.operators.is_empty() || setup.scenario.collectors > 0;
    if started < builds || (started > builds && !removes) {
        return Err(Violation(format!("clients were charged for {started} builds, and there are {builds}")));
    }
    Ok(())
}

/// Only what was planned is in the binary cache.
fn promoted(state: &State, names: &mut Names) -> Result<(), Violation> {
    let place = names.objects.number(&CacheName::Narinfo(hash('2')).to_string());
    match state.object(place) {
        Some(_) => Err(Violation("a path that was not planned is in the binary cache".to_owned())),
        None => Ok(()),
    }
}
