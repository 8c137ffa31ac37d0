//! Evaluates all attributes of a set with several processes: first the set itself, then its attributes, then those of
//! the sets in it.

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

/// The most bytes of attribute paths for one process: an argument has at most 128 KiB.
const SHARD_BYTES: usize = 100 << 10;

/// The size of shards and the number of processes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Concurrent processes.
    pub(crate) jobs: usize,
    /// Attributes per process.
    pub(crate) shard: usize,
    /// How many throwing attributes are evaluated again for their error, each in a process of its own.
    pub(crate) explain: usize,
    /// The most attributes: a set that contains itself has no end.
    pub(crate) most: usize,
}

/// The counts of a survey, beside its records.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Attributes, lost ones included.
    pub(crate) attrs: usize,
    /// Attributes that ran out of time or memory.
    pub(crate) exhausting: usize,
    /// Names that no request can contain.
    pub(crate) unaskable: usize,
}

/// Evaluates a whole set; `keep` receives the record of each attribute.
///
/// # Errors
/// [`Ending`], if something other than an attribute fails.
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

/// Why the set itself cannot be evaluated.
fn no_set(worker: &Worker, standing: &Standing) -> Ending {
    let said = match standing {
        Standing::Refused { why: Obstacle::Throws, .. } => worker.explain(&Path::new()).ok().flatten(),
        Standing::Refused { why, detail } => why.failure(detail.as_deref()).detail,
        Standing::Buildable { .. } => None,
    };
    of_set(&format!("the set cannot be evaluated: {}", said.as_deref().unwrap_or("it has no pkgsStatic")))
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

/// Runs `each` over all of `all` on several threads, and passes the results to `take` on this thread until it fails.
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
        // Dropping the receiver makes the threads stop.
        let done = taken.into_iter().try_for_each(&mut take);
        if done.is_err() {
            next.store(all.len(), Ordering::Relaxed);
        }
        done
    })
}

/// Splits a list into shards of at most `most` attributes whose paths fit into one argument.
fn shards(mut paths: &[Path], most: usize) -> Vec<&[Path]> {
    let mut shards = Vec::new();
    while !paths.is_empty() {
        let mut bytes = 0;
        let fits = paths.iter().take(most).take_while(|path| {
            bytes += path.iter().map(|part| part.len() + 3).sum::<usize>() + 2;
            bytes <= SHARD_BYTES
        });
        // A path that is too long by itself cannot be requested, and was skipped before.
        let (shard, rest) = paths.split_at(fits.count().max(1));
        shards.push(shard);
        paths = rest;
    }
    shards
}

/// The paths of the names in a set that can be requested.
fn inside(set: &Path, names: Vec<String>, unaskable: &mut usize) -> Vec<Path> {
    // The mark by which a set asks to be entered, not an attribute.
    let names = names.into_iter().filter(|name| name != "recurseForDerivations");
    let all: Vec<Path> = names.map(|name| set.iter().cloned().chain([name]).collect()).collect();
    let (askable, others): (Vec<Path>, Vec<Path>) = all.into_iter().partition(|path| attr_of(path).is_some());
    *unaskable += others.len();
    askable
}

/// The attribute's name, if a request can contain it. In Nix a component may contain a dot, here it may not.
fn attr_of(path: &Path) -> Option<Attr> {
    if path.iter().any(|part| part.contains('.')) { None } else { path.join(".").parse().ok() }
}

/// Evaluates throwing attributes again for their error, first those without any other information: mostly removed
/// aliases.
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
