//! What a call does to the state, and its reply.

use std::sync::Arc;

use binplz_core::{
    id::{
        key::{LeaseId, Sha256},
        time::Timestamp,
    },
    objects::{
        artifact::{AttemptPrefix, BLOBS, BUILDS, ObjectName, QUARANTINE},
        stored::Held,
    },
    row::{Row, RowKey, StatusIndex},
};

use crate::{
    actor::Kind,
    automaton::Automata,
    call::{Call, Part, Reply},
    names::{Names, Shared},
    property::{Violation, live},
    scenario::{Mistake, Scenario},
    state::State,
};

/// What steps are taken in.
pub(crate) struct World<'a> {
    pub(crate) names: &'a Shared,
    pub(crate) scenario: &'a Scenario,
}

impl World<'_> {
    /// Does what a call asks for.
    ///
    /// # Errors
    /// [`Violation`]: it must not be asked for.
    pub(crate) fn perform(&self, state: &mut State, call: &Call, automata: &mut Automata) -> Result<Reply, Violation> {
        let names = &mut *self.names.get();
        Ok(match call {
            Call::Load(key) => Reply::Row(state.row(*key).map(|(_, row, version)| (row, version))),
            Call::Commit(swaps) => self.commit(state, swaps, names),
            Call::List(index, after, limit) => list(state, *index, after.as_ref(), *limit, names),
            Call::ListServed(pinned, after, limit) => {
                let listed = state.rows.iter().filter_map(|row| match &names.row_of(row.1).row {
                    Row::Served(served) if served.is_listed() && served.pinned() == *pinned => Some(&served.asked),
                    _ => None,
                });
                let mut listed: Vec<_> = listed.cloned().collect();
                listed.sort_by_key(ToString::to_string);
                let begun = |asked| after.as_ref().is_none_or(|after| after.to_string() < String::to_string(&asked));
                listed.retain(|asked| begun(asked.to_string()));
                listed.truncate(*limit);
                Reply::Served(listed)
            }
            Call::Scan(after, limit) => {
                let mut rows: Vec<_> = state.rows.iter().map(|row| (names.keys.value(row.0), row.1, row.2)).collect();
                rows.sort();
                rows.retain(|row| after.as_ref().is_none_or(|after| after < row.0));
                Reply::Scanned(rows.into_iter().take(*limit).map(|row| (row.1, row.2)).collect())
            }
            Call::Remove(key, seen) => match state.row(*key) {
                Some((.., version)) if version != *seen => Reply::Conflict,
                _ => {
                    Arc::make_mut(&mut state.rows).retain(|row| row.0 != *key);
                    Reply::Done
                }
            },
            Call::Progress => Reply::Done,
            Call::Ring => {
                state.rung = true;
                Reply::Done
            }
            Call::Launch(key, lease) => {
                let task = automata.kinds.number(&Kind::Task(key.clone(), lease.clone()));
                if !state.launched.contains(&task) || self.scenario.mistake == Some(Mistake::LaunchesTwice) {
                    Arc::make_mut(&mut state.launched).push(task);
                    state.add(task);
                    let prefix = AttemptPrefix { key: key.clone(), lease: lease.clone() };
                    if self.scenario.heartbeats {
                        state.add(automata.kinds.number(&Kind::Heartbeat(key.clone(), lease.clone())));
                    }
                    for n in 0..self.scenario.promoters {
                        state.add(automata.kinds.number(&Kind::Promoter(prefix.clone(), n)));
                    }
                }
                Reply::Done
            }
            Call::Stop(lease) => {
                for process in &mut state.processes {
                    process.stopping |= task_of(automata, process.kind).is_some_and(|of| of == lease);
                }
                Reply::Done
            }
            Call::Running => {
                let running = state.processes.iter().filter_map(|process| task_of(automata, process.kind));
                Reply::Leases(running.cloned().collect())
            }
            Call::Left(prefix) => {
                let place = format!("{BUILDS}{prefix}/");
                let bytes = below(state, names, &place).map(|(_, content)| names.sum(content).1).sum();
                Reply::Number(bytes)
            }
            Call::Read(place) => Reply::Content(state.object(*place)),
            Call::Write(place, content) => {
                state.set_object(*place, *content);
                Reply::Done
            }
            Call::RemoveBelow(prefix, part) => {
                let below = match part {
                    Part::Segments => prefix.segments(),
                    Part::Partial => prefix.partial(),
                    Part::All => format!("{BUILDS}{prefix}/"),
                    Part::Offers => prefix.quarantine(),
                };
                remove(state, names, &below)?;
                Reply::Done
            }
            Call::Prefixes => Reply::Held(prefixes(state, names)),
            Call::Blobs => {
                let blobs = state.objects.iter().filter_map(|(place, content)| {
                    let sha256: Sha256 = names.objects.value(*place).strip_prefix(BLOBS)?.parse().ok()?;
                    Some((sha256, names.sum(*content).1))
                });
                let mut blobs: Vec<_> = blobs.collect();
                blobs.sort();
                Reply::Blobs(blobs)
            }
            Call::RemoveBlob(sha256) => {
                remove(state, names, &format!("{BLOBS}{sha256}"))?;
                Reply::Done
            }
            Call::Offers(prefix) => {
                let below = below(state, names, &prefix.quarantine());
                let offers = below.filter_map(|(place, _)| match &names.paths.get(&place)?.name {
                    ObjectName::Narinfo(path) => Some(path.clone()),
                    _ => None,
                });
                let mut offers: Vec<_> = offers.collect();
                offers.sort();
                Reply::Paths(offers)
            }
            Call::Build(drv, lease) => {
                let letter = drv.as_str().chars().next().expect("a letter");
                // One whose lease is over builds in vain, and nothing counts it.
                if live(state, names, lease) {
                    match state.built.iter_mut().find(|built| built.0 == letter) {
                        Some(built) => built.1 += 1,
                        None => state.built.push((letter, 1)),
                    }
                    state.built.sort_unstable();
                }
                Reply::Done
            }
        })
    }

    fn commit(&self, state: &mut State, swaps: &[(u64, u32)], names: &Names) -> Reply {
        let compared = if self.scenario.mistake == Some(Mistake::ForgetsVersions) { 1 } else { swaps.len() };
        let version = |state: &State, row: u32| state.row(names.row_of(row).key).map_or(0, |row| row.2);
        if swaps.iter().take(compared).any(|(seen, row)| version(state, *row) != *seen) {
            return Reply::Conflict;
        }
        let written = if self.scenario.mistake == Some(Mistake::TearsCommits) { 1 } else { swaps.len() };
        for (_, row) in swaps.iter().take(written) {
            let next = version(state, *row) + 1;
            state.set_row((names.row_of(*row).key, *row, next));
        }
        Reply::Done
    }
}

/// The lease of a task's process.
pub(crate) fn task_of(automata: &Automata, kind: u32) -> Option<&LeaseId> {
    match automata.kinds.value(kind) {
        Kind::Task(_, lease) => Some(lease),
        _ => None,
    }
}

fn list(
    state: &State,
    index: StatusIndex,
    after: Option<&(Timestamp, binplz_core::id::key::BuildKey)>,
    limit: usize,
    names: &Names,
) -> Reply {
    let listed = state.rows.iter().filter_map(|row| match (names.row_of(row.1).index, names.keys.value(row.0)) {
        (Some((of, at)), RowKey::Build(key)) if of == index => Some((at, key.clone())),
        _ => None,
    });
    let mut listed: Vec<_> = listed.filter(|entry| after.is_none_or(|after| after < entry)).collect();
    listed.sort();
    listed.truncate(limit);
    Reply::Listed(listed)
}

fn below<'a>(state: &'a State, names: &'a Names, place: &str) -> impl Iterator<Item = (u32, u32)> + 'a {
    let place = place.to_owned();
    state.objects.iter().copied().filter(move |object| names.objects.value(object.0).starts_with(&place))
}

fn prefixes(state: &State, names: &Names) -> Vec<(AttemptPrefix, u64, u64, Vec<Sha256>)> {
    let mut held: Vec<Held> = Vec::new();
    for (place, content) in state.objects.iter() {
        let name = names.objects.value(*place);
        let Some(path) = names.paths.get(place).filter(|_| name.starts_with(BUILDS) || name.starts_with(QUARANTINE))
        else {
            continue;
        };
        let prefix = path.prefix();
        let at = held.iter().position(|held| held.prefix == prefix).unwrap_or_else(|| {
            held.push(Held { prefix, objects: 0, bytes: 0, blobs: Vec::new() });
            held.len() - 1
        });
        held[at].objects += 1;
        held[at].bytes += names.sum(*content).1;
        if let ObjectName::Reference(sha256) = &path.name {
            held[at].blobs.push(sha256.clone());
        }
    }
    held.sort_by(|one, other| one.prefix.cmp(&other.prefix));
    held.into_iter().map(|held| (held.prefix, held.objects, held.bytes, held.blobs)).collect()
}

/// Removes objects, to which no client may be on its way.
fn remove(state: &mut State, names: &Names, place: &str) -> Result<(), Violation> {
    for (object, _) in below(state, names, place) {
        if state.redirects.iter().any(|(to, until)| *to == object && state.now < *until) {
            let name = names.objects.value(object);
            return Err(Violation(format!("{name} is removed while a client may follow a redirect to it")));
        }
    }
    let goes: Vec<u32> = below(state, names, place).map(|object| object.0).collect();
    Arc::make_mut(&mut state.objects).retain(|object| !goes.contains(&object.0));
    Ok(())
}
