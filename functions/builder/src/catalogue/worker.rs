//! One run of Nix over some attributes (`catalogue.nix`), under limits of memory and of time for each.
//!
//! Nix keeps all that it has evaluated until it ends, so a process that has seen many attributes is a large one. Where memory or
//! time was the end, the attribute is to blame only if it was alone with the set: else it is asked again, first in a new process.

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
    nix::{Nix, each_line},
    stop::lock,
};

const CATALOGUE: &str = include_str!("catalogue.nix");
/// What our lines begin with.
const MARK: &str = "binplz-catalogue ";
/// Lines that may wait to be looked at.
const QUEUE: usize = 256;
/// How much longer than its time an attribute may take that does nothing meanwhile.
const PATIENCE: u32 = 10;
/// Remarks that are kept as evidence.
const REMARKS: usize = 60;

/// An attribute's path, in its parts; the empty one is the set itself.
pub(crate) type Path = Vec<String>;

/// How to evaluate.
pub(crate) struct Worker<'a> {
    /// Nix.
    pub(crate) nix: &'a Nix,
    /// Where the set is.
    pub(crate) nixpkgs: &'a str,
    /// For which system.
    pub(crate) system: System,
    /// Sets that are entered though they do not ask for it.
    pub(crate) enter: &'a [Path],
    /// What it may take.
    pub(crate) limits: Limits,
    running: Arc<Running>,
}

/// What evaluating may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Of address space for each process, in bytes.
    pub(crate) memory: u64,
    /// Of a processor, for each attribute.
    pub(crate) time: Duration,
    /// Until when all of it must be done.
    pub(crate) until: Option<Instant>,
}

/// The processes that run, by their groups: they are ended when the work is to stop.
#[derive(Debug, Default)]
struct Running(Mutex<HashSet<Pid>>);

impl Running {
    fn end(&self) {
        for group in lock(&self.0).iter() {
            let _ = kill_process_group(*group, Signal::KILL);
        }
    }
}

/// A run of Nix, when it is over.
struct Run {
    /// What was said of each attribute, in their order. The last one may be cut short.
    said: Vec<Vec<Line>>,
    /// What ended it before its time.
    death: Option<Failure>,
}

impl<'a> Worker<'a> {
    /// Evaluates so, until it is told to stop.
    pub(crate) fn new(nix: &'a Nix, nixpkgs: &'a str, system: System, enter: &'a [Path], limits: Limits) -> Worker<'a> {
        let running = Arc::<Running>::default();
        let ended = Arc::clone(&running);
        nix.stop().listen(move || ended.end());
        Worker { nix, nixpkgs, system, enter, limits, running }
    }

    /// Evaluates attributes, whatever they do; `tell` hears of each.
    ///
    /// # Errors
    /// [`Ending`], where it is not an attribute that stands in the way; or what `tell` said.
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
                (None, ..) => return Err(Ending::ours("Nix came to its end and left attributes out")),
                // It is asked again, first.
                (Some(Death { alone: false, .. }), Some(_), _) => {}
                (Some(death), Some(lines), Some((path, rest))) => {
                    tell(path, Found::of(lines, Some(death)))?;
                    paths = rest;
                }
                (Some(death), ..) => return Err(of_set(&format!("the set can not be evaluated: {}", death.said()))),
            }
        }
        Ok(())
    }

    /// What Nix says to an attribute that throws, which `tryEval` hides; `None`: it does not throw this time.
    pub(crate) fn explain(&self, path: &Path) -> Result<Option<String>, Ending> {
        let run = self.run(std::slice::from_ref(path), true)?;
        Ok(run.death.filter(|failure| failure.kind == Kind::EvaluationError).and_then(|failure| failure.detail))
    }

    fn run(&self, paths: &[Path], bare: bool) -> Result<Run, Ending> {
        let mut child = self.nix.child("nix-instantiate", &self.arguments(paths, bare));
        let child = child.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = child.map_err(|error| Ending::ours(format!("Nix can not be run: {error}")))?;
        let group = Pid::from_child(&child);
        lock(&self.running.0).insert(group);
        if self.nix.stop().why().is_some() {
            // It was announced before this one could be ended with the others.
            self.running.end();
        }
        // The child's own first allocations are not what the limit is for.
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
                    if let Some(line) = hear(&line, &mut evidence) {
                        note(line, &mut said);
                        watch.restart();
                    }
                }
                // Its end closes the pipe.
                Err(RecvTimeoutError::Disconnected) => break false,
                Err(RecvTimeoutError::Timeout) => {}
            }
            // Not only after a silence: a package may talk without end.
            if watch.is_over() || until().is_some_and(|left| left.is_zero()) {
                let _ = kill_process_group(group, Signal::KILL);
                break true;
            }
        };
        // It has not been waited for, so that its number is its own.
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

    /// Everything that is not ours goes in by `--argstr`, as data.
    fn arguments(&self, paths: &[Path], bare: bool) -> Vec<OsString> {
        let json = |paths: &[Path]| serde_json::json!(paths).to_string();
        let data = [
            ("paths", json(paths)),
            ("enter", json(self.enter)),
            ("system", self.system.to_string()),
            ("path", self.nixpkgs.to_owned()),
            ("bare", if bare { "yes" } else { "" }.to_owned()),
        ];
        let fixed = ["--eval", "--option", "allow-import-from-derivation", "false"].map(str::to_owned);
        let data = data.into_iter().flat_map(|(name, value)| ["--argstr".to_owned(), name.to_owned(), value]);
        let ours = ["--arg", "describe", DESCRIBE, "--expr", CATALOGUE].map(str::to_owned);
        fixed.into_iter().chain(data).chain(ours).map(OsString::from).collect()
    }
}

/// Measures the time that a process takes for one attribute, in seconds of a processor: a machine that is busy with other things is
/// not the attribute's fault. One that waits for something is ended, too, after [`PATIENCE`] times as long.
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

    /// When it is worth while to look again.
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

/// What a process has had of the processors, as `/proc` has it: two numbers of clock ticks, 12 fields behind the name. None, where it
/// is gone.
fn processor_time(process: Pid) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace().skip(11).take(2);
    let ticks: u64 = fields.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1000 / clock_ticks_per_second().max(1))
}

/// One line of stderr: one of ours, or evidence.
fn hear(line: &[u8], evidence: &mut Evidence) -> Option<Line> {
    match parse(line) {
        Event::Message { level: 0, text } => match text.split_once(MARK) {
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

/// Puts a line to those of its attribute.
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

/// Whose fault it was. `alone`: nothing else was evaluated in that process.
fn blame(failure: Failure, alone: bool) -> Death {
    match failure.kind {
        Kind::TimedOut => Death { why: Obstacle::Endless, detail: None, alone },
        // Killed, but not by us: where memory is short, that is the kernel.
        Kind::OutOfMemory | Kind::Killed => Death { why: Obstacle::OutOfMemory, detail: None, alone },
        // It would say the same again.
        Kind::EvaluationError => Death { why: Obstacle::Fails, detail: failure.detail, alone: true },
        // Words that sound like the machine's trouble. A machine that has it does not come as far as an attribute.
        _ => Death { why: Obstacle::Fails, detail: failure.detail, alone },
    }
}
