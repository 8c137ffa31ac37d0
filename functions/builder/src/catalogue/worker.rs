//! One run of Nix over some attributes (`catalogue.nix`), with limits on memory and on the time of each.
//!
//! Nix keeps everything that it has evaluated until it ends, so a process grows with every attribute. An attribute that
//! runs into a limit is to blame only if it was the process's only one; otherwise it is evaluated again, first in a new
//! process.

use std::{
    collections::HashSet,
    ffi::OsString,
    fs, io,
    process::Stdio,
    sync::{
        Arc, Mutex,
        mpsc::{RecvTimeoutError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use binplz_catalogue::Obstacle;
use binplz_core::{
    build::failure::{Failure, Kind},
    id::key::System,
};
use rustix::{
    param::clock_ticks_per_second,
    process::{Pid, Resource, Rlimit, Signal, kill_process_group, prlimit},
};

use crate::{
    catalogue::{
        found::{Death, Found, Line},
        of_set,
    },
    classify::{self, NixExit},
    context::Ending,
    evaluate::DESCRIBE,
    evidence::{Evidence, keep},
    internal_json::{Event, parse},
    log::plain,
    nix::{Nix, each_line, nonce},
    nixpkgs::restricted_to,
    stop::lock,
};

const CATALOGUE: &str = include_str!("catalogue.nix");
/// How our lines on stderr start. A nonce follows, which no package sees, so that no package can print such a line.
const MARK: &str = "binplz-catalogue";
/// The capacity of the queue of lines.
const QUEUE: usize = 256;
/// An attribute may take this many times its processor time while it idles.
const PATIENCE: u32 = 10;
/// How many remarks are kept as evidence.
const REMARKS: usize = 60;

/// An attribute's path as components; the empty path is the set itself.
pub(crate) type Path = Vec<String>;

/// The parameters of an evaluation.
pub(crate) struct Worker<'a> {
    /// Nix.
    pub(crate) nix: &'a Nix,
    /// The set's directory.
    pub(crate) nixpkgs: &'a str,
    /// The system.
    pub(crate) system: System,
    /// Sets that are entered although they are not marked for recursion.
    pub(crate) enter: &'a [Path],
    /// The limits.
    pub(crate) limits: Limits,
    running: Arc<Running>,
}

/// The limits of an evaluation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Address space of each process, in bytes.
    pub(crate) memory: u64,
    /// Processor time of each attribute.
    pub(crate) time: Duration,
    /// The deadline of the whole evaluation.
    pub(crate) until: Option<Instant>,
}

/// The running processes, by process group; they are killed when the work is stopped.
#[derive(Debug, Default)]
struct Running(Mutex<HashSet<Pid>>);

impl Running {
    fn end(&self) {
        for group in lock(&self.0).iter() {
            let _ = kill_process_group(*group, Signal::KILL);
        }
    }
}

/// A finished run of Nix.
struct Run {
    /// The lines of each attribute, in order. Those of the last one may be incomplete.
    said: Vec<Vec<Line>>,
    /// What ended the process early.
    death: Option<Failure>,
}

impl<'a> Worker<'a> {
    /// A worker that evaluates until the builder is stopped.
    pub(crate) fn new(nix: &'a Nix, nixpkgs: &'a str, system: System, enter: &'a [Path], limits: Limits) -> Worker<'a> {
        let running = Arc::<Running>::default();
        let ended = Arc::clone(&running);
        nix.stop().listen(move || ended.end());
        Worker { nix, nixpkgs, system, enter, limits, running }
    }

    /// Evaluates attributes; one that kills its process costs only itself. `tell` receives each result.
    ///
    /// # Errors
    /// [`Ending`], if something other than an attribute fails, or the error of `tell`.
    pub(crate) fn evaluate(
        &self,
        mut paths: &[Path],
        tell: &mut impl FnMut(&Path, Found) -> Result<(), Ending>,
    ) -> Result<(), Ending> {
        while !paths.is_empty() {
            let Run { said, death } = self.run(paths, false)?;
            let death = death.map(|failure| blame(failure, said.len() == 1));
            let whole = said.len() - usize::from(death.is_some() && !said.is_empty());
            let (finished, last) = said.split_at(whole);
            for (path, lines) in paths.iter().zip(finished) {
                tell(path, Found::of(lines, None))?;
            }
            paths = paths.get(whole..).unwrap_or_default();
            match (death, last.first(), paths.split_first()) {
                (None, ..) if paths.is_empty() => {}
                (None, ..) => return Err(Ending::ours("Nix ended before it had evaluated all attributes")),
                // It is evaluated again, first in its process.
                (Some(Death { alone: false, .. }), Some(_), _) => {}
                (Some(death), Some(lines), Some((path, rest))) => {
                    tell(path, Found::of(lines, Some(death)))?;
                    paths = rest;
                }
                (Some(death), ..) => return Err(of_set(&format!("the set cannot be evaluated: {}", death.said()))),
            }
        }
        Ok(())
    }

    /// The error of a throwing attribute, which `tryEval` hides; `None` if it does not throw this time.
    pub(crate) fn explain(&self, path: &Path) -> Result<Option<String>, Ending> {
        let run = self.run(std::slice::from_ref(path), true)?;
        Ok(run.death.filter(|failure| failure.kind == Kind::EvaluationError).and_then(|failure| failure.detail))
    }

    fn run(&self, paths: &[Path], bare: bool) -> Result<Run, Ending> {
        let mark = format!("{MARK} {}", nonce()?);
        let mut child = self.nix.child("nix-instantiate", &self.arguments(paths, &mark, bare));
        let child = child.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = child.map_err(|error| Ending::ours(format!("Nix cannot be run: {error}")))?;
        let group = Pid::from_child(&child);
        lock(&self.running.0).insert(group);
        if self.nix.stop().why().is_some() {
            // The stop was announced before this process could be killed with the others.
            self.running.end();
        }
        // Set after the fork, so the child's own first allocations do not count.
        let memory = Rlimit { current: Some(self.limits.memory), maximum: Some(self.limits.memory) };
        let limited = prlimit(Some(group), Resource::As, memory);

        let (lines, queue) = sync_channel(QUEUE);
        if let Some(pipe) = child.stderr.take() {
            thread::spawn(move || each_line(pipe, |line| lines.send(line).is_ok()));
        }
        let (mut said, mut evidence) = (Vec::new(), Evidence::default());
        let mut watch = Stopwatch::new(group, self.limits.time);
        let until = || self.limits.until.map(|until| until.saturating_duration_since(Instant::now()));
        let endless = loop {
            match queue.recv_timeout(until().map_or(watch.left(), |left| left.min(watch.left()))) {
                Ok(line) => {
                    if let Some(line) = hear(&line, &mark, &mut evidence) {
                        note(line, &mut said);
                        watch.restart();
                    }
                }
                // The process's end closes the pipe.
                Err(RecvTimeoutError::Disconnected) => break false,
                Err(RecvTimeoutError::Timeout) => {}
            }
            // Checked after every line too: a package may print without end.
            if watch.is_over() || until().is_some_and(|left| left.is_zero()) {
                let _ = kill_process_group(group, Signal::KILL);
                break true;
            }
        };
        // The process was not reaped yet, so its number still belongs to it.
        lock(&self.running.0).remove(&group);
        let status = child.wait()?;
        if self.nix.stop().why().is_some() {
            return Err(Ending::Stopped);
        }
        if until().is_some_and(|left| left.is_zero()) {
            return Err(Ending::Failed(Failure::new(Kind::TimedOut, "")));
        }
        limited.map_err(io::Error::from)?;
        let ended = if endless { NixExit::Deadline } else { NixExit::Exit(status.into()) };
        let death = (endless || !status.success()).then(|| classify::evaluation(ended, &evidence));
        Ok(Run { said, death })
    }

    /// Foreign values are passed by `--argstr`, as data.
    fn arguments(&self, paths: &[Path], mark: &str, bare: bool) -> Vec<OsString> {
        let json = |paths: &[Path]| serde_json::json!(paths).to_string();
        let data = [
            ("paths", json(paths)),
            ("enter", json(self.enter)),
            ("system", self.system.to_string()),
            ("path", self.nixpkgs.to_owned()),
            ("mark", mark.to_owned()),
            ("bare", if bare { "yes" } else { "" }.to_owned()),
        ];
        let restricted = restricted_to(self.nixpkgs.as_ref());
        let data = data.into_iter().flat_map(|(name, value)| ["--argstr".to_owned(), name.to_owned(), value]);
        let ours = ["--arg", "describe", DESCRIBE, "--expr", CATALOGUE].map(OsString::from);
        [OsString::from("--eval")].into_iter().chain(restricted).chain(data.map(OsString::from)).chain(ours).collect()
    }
}

/// Measures an attribute's processor time, so that a busy machine is not blamed on the attribute. An idle attribute is
/// ended after [`PATIENCE`] times as long.
struct Stopwatch {
    process: Pid,
    time: Duration,
    began: Instant,
    spent: Duration,
    look: Instant,
}

impl Stopwatch {
    fn new(process: Pid, time: Duration) -> Stopwatch {
        let now = Instant::now();
        Stopwatch { process, time, began: now, spent: Duration::ZERO, look: now + time }
    }

    /// The next attribute begins.
    fn restart(&mut self) {
        *self = Stopwatch { spent: processor_time(self.process), ..Stopwatch::new(self.process, self.time) };
    }

    /// When to look again.
    fn left(&self) -> Duration {
        self.look.saturating_duration_since(Instant::now())
    }

    fn is_over(&mut self) -> bool {
        if !self.left().is_zero() {
            return false;
        }
        let left = self.time.saturating_sub(processor_time(self.process).saturating_sub(self.spent));
        self.look = Instant::now() + left;
        left.is_zero() || self.began.elapsed() >= self.time * PATIENCE
    }
}

/// A process's processor time from `/proc`: two counts of clock ticks, 12 fields behind the name. Zero if the process
/// is gone.
fn processor_time(process: Pid) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace().skip(11).take(2);
    let ticks: u64 = fields.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1000 / clock_ticks_per_second().max(1))
}

/// One line of stderr: one of ours, or evidence.
fn hear(line: &[u8], mark: &str, evidence: &mut Evidence) -> Option<Line> {
    match parse(line) {
        Event::Message { level: 0, text, .. } => match text.split_once(mark) {
            Some((_, json)) => return serde_json::from_str(json).ok(),
            None => {
                let text = text.lines().map(plain).collect::<Vec<_>>().join("\n");
                if text.trim_start().starts_with("error:") {
                    evidence.errors = vec![text];
                } else {
                    keep(&mut evidence.remarks, &text, REMARKS);
                }
            }
        },
        Event::Text(text) => keep(&mut evidence.remarks, &plain(&text), REMARKS),
        _ => {}
    }
    None
}

/// Adds a line to those of its attribute.
fn note(line: Line, said: &mut Vec<Vec<Line>>) {
    match line {
        Line::At(number) if number == said.len() => said.push(Vec::new()),
        line => {
            if let Some(lines) = said.last_mut() {
                lines.push(line);
            }
        }
    }
}

/// Whether the attribute is to blame. `alone`: it was the process's only one.
fn blame(failure: Failure, alone: bool) -> Death {
    match failure.kind {
        Kind::TimedOut => Death { why: Obstacle::Endless, detail: None, alone },
        // A kill that was not ours: when memory is short, the kernel's.
        Kind::OutOfMemory | Kind::Killed => Death { why: Obstacle::OutOfMemory, detail: None, alone },
        // A second evaluation would give the same error.
        Kind::EvaluationError => Death { why: Obstacle::Fails, detail: failure.detail, alone: true },
        // Words that sound like a problem of the machine. Such a problem would have shown before the first attribute.
        _ => Death { why: Obstacle::Fails, detail: failure.detail, alone },
    }
}
