//! Several processes that evaluate attributes from one queue, and finish together.

use std::{
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use crate::{
    catalogue::{
        evaluator::{Evaluator, Path, Process, Running},
        found::Found,
    },
    context::Ending,
    stop::lock,
};

type Evaluated = Result<(Path, Found), Ending>;

/// The queue of the workers, and their results.
pub(crate) struct Workers<'a> {
    /// What they evaluate.
    pub(crate) evaluator: &'a Evaluator<'a>,
    queue: Sender<Path>,
    results: Receiver<Evaluated>,
}

/// Runs `work` with up to `jobs` workers. Their processes start when they are needed, live until `work` returns, and are
/// killed when it fails or the builder is stopped.
///
/// # Errors
/// Those of `work`.
pub(crate) fn with_workers<T>(
    evaluator: &Evaluator,
    jobs: usize,
    work: impl FnOnce(&Workers) -> Result<T, Ending>,
) -> Result<T, Ending> {
    let running = Arc::<Running>::default();
    let stopped = Arc::clone(&running);
    evaluator.nix.stop().listen(move || stopped.end());
    let (queue, paths) = channel();
    let (sender, results) = channel();
    let paths = Mutex::new(paths);
    thread::scope(|scope| {
        // The kernel ends a process together with the thread that has started it (`--pdeathsig`), so the threads live
        // as long as the processes.
        for _ in 0..jobs {
            let (sender, paths, running) = (sender.clone(), &paths, &*running);
            scope.spawn(move || evaluate_all(evaluator, running, || lock(paths).recv().ok(), &sender));
        }
        drop(sender);
        let done = work(&Workers { evaluator, queue, results });
        if done.is_err() {
            running.end();
        }
        done
    })
}

impl Workers<'_> {
    /// Evaluates attributes, each as if it were alone. `take` receives each result, in any order.
    ///
    /// # Errors
    /// [`Ending`], if something other than an attribute fails, or the error of `take`.
    pub(crate) fn evaluate(
        &self,
        paths: Vec<Path>,
        mut take: impl FnMut(Path, Found) -> Result<(), Ending>,
    ) -> Result<(), Ending> {
        let count = paths.len();
        paths.into_iter().try_for_each(|path| self.queue.send(path)).map_err(|_| Ending::Stopped)?;
        (0..count).try_for_each(|_| {
            let (path, found) = self.results.recv().map_err(|_| Ending::Stopped)??;
            take(path, found)
        })
    }
}

/// One worker: evaluates until the queue is closed.
fn evaluate_all(
    evaluator: &Evaluator,
    running: &Running,
    mut next: impl FnMut() -> Option<Path>,
    results: &Sender<Evaluated>,
) {
    let mut process = None;
    while let Some(path) = next() {
        let found = evaluate(evaluator, running, &mut process, &path).map(|found| (path, found));
        let failed = found.is_err();
        if results.send(found).is_err() || failed {
            return;
        }
    }
}

/// Evaluates an attribute. One that ended a process which had evaluated others is evaluated once more, in a new one.
fn evaluate<'a>(
    evaluator: &'a Evaluator<'a>,
    running: &'a Running,
    process: &mut Option<Process<'a>>,
    path: &Path,
) -> Result<Found, Ending> {
    loop {
        let mut current = match process.take() {
            Some(process) => process,
            None => Process::start(evaluator, running)?,
        };
        let alone = current.is_new();
        let answer = current.evaluate(path)?;
        if answer.death.is_some() && !alone {
            continue;
        }
        if answer.death.is_none() && current.has_room() {
            *process = Some(current);
        }
        return Ok(Found::of(answer, evaluator.nixpkgs));
    }
}
