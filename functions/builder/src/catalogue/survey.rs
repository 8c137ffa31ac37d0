//! All attributes of a set, evaluated by several processes at once: first the set itself, then what is in it, then what is in the
//! sets in it.

use std::{
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc::{Sender, channel},
    },
    thread,
};

use binplz_catalogue::{About, Obstacle, Record, Standing};
use binplz_core::id::key::Attr;

use crate::{
    catalogue::{
        found::Found,
        of_set,
        worker::{Path, Worker},
    },
    context::Ending,
};

/// Most bytes of paths for one process: an argument may have 128 KiB.
const SHARD_BYTES: usize = 100 << 10;

/// How to go about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Processes at once.
    pub(crate) jobs: usize,
    /// Attributes for one process.
    pub(crate) shard: usize,
    /// Attributes that throw and are asked why, each by a process of its own.
    pub(crate) explain: usize,
    /// Most attributes: a set that contains itself has no end.
    pub(crate) most: usize,
}

/// What there is besides the records.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Attributes, lost ones included.
    pub(crate) attrs: usize,
    /// Attributes that took too much time or memory.
    pub(crate) exhausting: usize,
    /// Names that no request can have.
    pub(crate) unaskable: usize,
}

/// Evaluates a whole set; `keep` gets a record of each attribute.
///
/// # Errors
/// [`Ending`], where it is not an attribute that stands in the way.
pub(crate) fn survey(
    worker: &Worker,
    plan: Plan,
    keep: &mut impl FnMut(Record) -> Result<(), Ending>,
) -> Result<Counts, Ending> {
    let (mut counts, mut thrown) = (Counts::default(), Vec::new());
    let mut level = vec![Path::new()];
    while !level.is_empty() {
        let mut next = Vec::new();
        each_shard(worker, plan, &level, |path, found| {
            match found {
                Found::Other => {}
                Found::Set(names) => {
                    next.extend(inside(&path, names, &mut counts.unaskable));
                    if counts.attrs + next.len() > plan.most {
                        let set = path.join(".");
                        let most = plan.most;
                        return Err(of_set(&format!(
                            "there are more than {most} attributes: does {set} contain itself?"
                        )));
                    }
                }
                Found::Attribute(about, standing) => {
                    let Some(attr) = attr_of(&path) else { return Err(no_set(worker, &standing)) };
                    counts.attrs += 1;
                    match &standing {
                        Standing::Refused { why: Obstacle::Throws, .. } => {
                            thrown.push((path, about));
                            return Ok(());
                        }
                        Standing::Refused { why: Obstacle::Endless | Obstacle::OutOfMemory, .. } => {
                            counts.exhausting += 1
                        }
                        _ => {}
                    }
                    keep(Record { attr, system: worker.system, about, standing })?;
                }
            }
            Ok(())
        })?;
        level = next;
    }
    explain(worker, plan, thrown, keep)?;
    Ok(counts)
}

/// Why there is nothing to survey.
fn no_set(worker: &Worker, standing: &Standing) -> Ending {
    let said = match standing {
        Standing::Refused { why: Obstacle::Throws, .. } => worker.explain(&Path::new()).ok().flatten(),
        Standing::Refused { why, detail } => why.failure(detail.as_deref()).detail,
        Standing::Buildable { .. } => None,
    };
    of_set(&format!("the set can not be evaluated: {}", said.as_deref().unwrap_or("it has no pkgsStatic")))
}

/// Evaluates attributes, in shards.
fn each_shard(
    worker: &Worker,
    plan: Plan,
    paths: &[Path],
    mut tell: impl FnMut(Path, Found) -> Result<(), Ending>,
) -> Result<(), Ending> {
    let shards = shards(paths, plan.shard);
    in_turn(
        plan.jobs,
        &shards,
        |shard, answers| {
            let mut told = |path: &Path, found| answers.send(Ok((path.clone(), found))).map_err(|_| Ending::Stopped);
            if let Err(error) = worker.evaluate(shard, &mut told) {
                drop(answers.send(Err(error)));
            }
        },
        |answer: Result<(Path, Found), Ending>| answer.and_then(|(path, found)| tell(path, found)),
    )
}

/// Has threads do something with each of `all`, and gives what they answer to `take`, here, until it fails.
fn in_turn<T: Sync, A: Send>(
    jobs: usize,
    all: &[T],
    work: impl Fn(&T, &Sender<A>) + Sync,
    mut take: impl FnMut(A) -> Result<(), Ending>,
) -> Result<(), Ending> {
    let (answers, taken) = channel();
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..jobs.min(all.len()) {
            let (answers, next, work) = (answers.clone(), &next, &work);
            scope.spawn(move || {
                while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(one, &answers);
                }
            });
        }
        drop(answers);
        // Who works on hears that nobody listens any more.
        let done = taken.into_iter().try_for_each(&mut take);
        if done.is_err() {
            next.store(all.len(), Ordering::Relaxed);
        }
        done
    })
}

/// The shards of a list: so many attributes, and not too long as an argument.
fn shards(mut paths: &[Path], most: usize) -> Vec<&[Path]> {
    let mut shards = Vec::new();
    while !paths.is_empty() {
        let mut bytes = 0;
        let fits = paths.iter().take(most).take_while(|path| {
            bytes += path.iter().map(|part| part.len() + 3).sum::<usize>() + 2;
            bytes <= SHARD_BYTES
        });
        // One that is too long by itself can be no name that is asked for, and does not come here.
        let (shard, rest) = paths.split_at(fits.count().max(1));
        shards.push(shard);
        paths = rest;
    }
    shards
}

/// The paths of what is in a set, as far as they can be asked for.
fn inside(set: &Path, names: Vec<String>, unaskable: &mut usize) -> Vec<Path> {
    // Not an attribute of its own, but how a set asks to be entered.
    let names = names.into_iter().filter(|name| name != "recurseForDerivations");
    let all: Vec<Path> = names.map(|name| set.iter().cloned().chain([name]).collect()).collect();
    let (askable, others): (Vec<Path>, Vec<Path>) = all.into_iter().partition(|path| attr_of(path).is_some());
    *unaskable += others.len();
    askable
}

/// The attribute's name, if a request can have it. A part may hold a dot in Nix, and never here.
fn attr_of(path: &Path) -> Option<Attr> {
    if path.iter().any(|part| part.contains('.')) { None } else { path.join(".").parse().ok() }
}

/// Asks attributes that throw for what they say, those first that say nothing else: mostly names that packages had before.
fn explain(
    worker: &Worker,
    plan: Plan,
    mut thrown: Vec<(Path, About)>,
    keep: &mut impl FnMut(Record) -> Result<(), Ending>,
) -> Result<(), Ending> {
    thrown.sort_by_cached_key(|(path, about)| (*about != About::default(), path.len(), path.clone()));
    let all: Vec<(usize, Path, About)> =
        thrown.into_iter().enumerate().map(|(place, (path, about))| (place, path, about)).collect();
    in_turn(
        plan.jobs,
        &all,
        |(place, path, about), answers| {
            let detail = if *place < plan.explain { worker.explain(path) } else { Ok(None) };
            let record = detail.map(|detail| (path.clone(), about.clone(), detail));
            drop(answers.send(record));
        },
        |answer: Result<(Path, About, Option<String>), Ending>| {
            let (path, about, detail) = answer?;
            let Some(attr) = attr_of(&path) else { return Ok(()) };
            let standing = Standing::Refused { why: Obstacle::Throws, detail };
            keep(Record { attr, system: worker.system, about, standing })
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(parts: &str) -> Path {
        parts.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn shards_have_all_paths_once_and_fit_an_argument() {
        let paths: Vec<Path> = (0..5000).map(|number| path(&format!("{} {number}", "x".repeat(100)))).collect();
        let shards = shards(&paths, 2000);
        assert_eq!(shards.concat(), paths);
        assert!(shards.iter().all(|shard| serde_json::json!(shard).to_string().len() < 128 << 10));
        assert_eq!(shards.len(), 6);
    }

    #[test]
    fn only_names_that_a_request_can_have_are_followed() {
        let mut unaskable = 0;
        let names = ["tree", "pkgsCross", "3.3", "recurseForDerivations", "@angular/cli", "_7zz"].map(str::to_owned);
        assert_eq!(inside(&path("a"), names.into(), &mut unaskable), [path("a tree"), path("a _7zz")]);
        assert_eq!(unaskable, 3);
        assert_eq!(inside(&path("a b c d"), vec!["e".to_owned()], &mut unaskable), Vec::<Path>::new());
    }

    #[test]
    fn the_first_failure_ends_the_work() {
        let all: Vec<usize> = (0..1000).collect();
        let mut taken = 0;
        let done = in_turn(
            4,
            &all,
            |one, answers| {
                let _ = answers.send(*one);
            },
            |_| {
                taken += 1;
                if taken == 3 { Err(Ending::Stopped) } else { Ok(()) }
            },
        );
        assert!(matches!(done, Err(Ending::Stopped)) && taken == 3);
    }
}
