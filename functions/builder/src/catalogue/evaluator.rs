//! One Nix process that evaluates attributes one after the other and survives their errors: `nix repl`, fed through a
//! pipe.
//!
//! The set's expression (`catalogue.nix`) is loaded once. Each attribute is one short line, and an end mark follows it
//! on the same stream as its results and its error, so that everything printed in between is the attribute's. Our lines
//! begin with a nonce that no package sees, so no package can print one.
//!
//! The process ends at its memory limit, at the time limit of one attribute, or when it crashes or is killed. Nix keeps
//! all that it has evaluated, so an attribute is to blame for that only if it was the process's first
//! ([`Process::is_new`]).

use std::{
    collections::{HashSet, VecDeque},
    ffi::OsString,
    fs, io,
    io::Write,
    process::{Child, ChildStdin, Stdio},
    sync::{
        Mutex,
        mpsc::{Receiver, RecvTimeoutError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use binplz_core::{
    build::failure::{Failure, Kind},
    id::key::System,
};
use rustix::{
    param::page_size,
    process::{Pid, Resource, Rlimit, Signal, kill_process_group, prlimit},
};

use crate::{
    catalogue::{
        found::{Answer, Line},
        stopwatch::Stopwatch,
    },
    classify::{self, NixExit},
    context::Ending,
    evaluate::DESCRIBE,
    evidence::{Evidence, keep},
    internal_json::{Event, parse},
    log::plain,
    machine,
    nix::{Nix, each_line, nonce},
    nixpkgs::restricted_to,
    scratch::Scratch,
    stop::lock,
};

pub(crate) const CATALOGUE: &str = include_str!("catalogue.nix");
/// How our lines on stderr start; a nonce follows.
const MARK: &str = "trace: binplz-catalogue";
/// The capacity of the queue of lines.
const QUEUE: usize = 256;
/// How many remarks are kept as evidence, and how many bytes of each.
const REMARKS: usize = 60;
const REMARK_BYTES: usize = 1000;

/// An attribute's path as components; the empty path is the set itself.
pub(crate) type Path = Vec<String>;

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

impl Limits {
    /// A process with this much address space gets no further attribute. The rest of the limit is for the one that it
    /// evaluates.
    fn enough(&self) -> u64 {
        self.memory / 8 * 5
    }
}

/// The parameters of an evaluation.
pub(crate) struct Evaluator<'a> {
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
    /// The directory for the derivations, which `nix repl` cannot help writing, and for its history. The processes share
    /// it, and the machine's store gets nothing.
    pub(crate) scratch: &'a Scratch,
}

/// The running processes, by process group; they are killed when the work is stopped.
#[derive(Debug, Default)]
pub(crate) struct Running(Mutex<Groups>);

#[derive(Debug, Default)]
struct Groups {
    stopped: bool,
    alive: HashSet<Pid>,
}

impl Running {
    /// Kills all processes, and those that start later.
    pub(crate) fn end(&self) {
        let mut groups = lock(&self.0);
        groups.stopped = true;
        groups.alive.iter().for_each(kill);
    }

    fn is_stopped(&self) -> bool {
        lock(&self.0).stopped
    }

    fn add(&self, group: Pid) {
        let mut groups = lock(&self.0);
        groups.alive.insert(group);
        if groups.stopped {
            kill(&group);
        }
    }
}

fn kill(group: &Pid) {
    // It may be dead already.
    let _ = kill_process_group(*group, Signal::KILL);
}

/// A process; dropping it ends it.
pub(crate) struct Process<'a> {
    evaluator: &'a Evaluator<'a>,
    running: &'a Running,
    child: Child,
    group: Pid,
    input: ChildStdin,
    lines: Receiver<Vec<u8>>,
    mark: String,
    asked: usize,
}

impl<'a> Process<'a> {
    /// Starts a process. Whether the set can be evaluated shows with the first attribute.
    pub(crate) fn start(evaluator: &'a Evaluator<'a>, running: &'a Running) -> Result<Process<'a>, Ending> {
        let missing = || Ending::ours("Nix has no pipes");
        let mut command = evaluator.nix.evaluator("nix", &evaluator.arguments());
        command.env("XDG_DATA_HOME", evaluator.scratch.dir());
        // A larger heap at first is collected less often. (Nix reserves up to 384 MiB otherwise, also below a lower limit.)
        command.env("GC_INITIAL_HEAP_SIZE", (evaluator.limits.memory / 4).to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| Ending::ours(format!("Nix cannot be run: {error}")))?;
        let group = Pid::from_child(&child);
        running.add(group);
        let (input, pipe) = (child.stdin.take().ok_or_else(missing)?, child.stderr.take().ok_or_else(missing)?);
        let (sender, lines) = sync_channel(QUEUE);
        thread::spawn(move || each_line(pipe, |line| sender.send(line).is_ok()));
        let mark = format!("{MARK} {}", nonce()?);
        let mut process = Process { evaluator, running, child, group, input, lines, mark, asked: 0 };
        // Set after the fork, so that the child's own first allocations do not count.
        let limit = Some(evaluator.limits.memory);
        prlimit(Some(group), Resource::As, Rlimit { current: limit, maximum: limit }).map_err(io::Error::from)?;
        let load = evaluator.load(&process.mark);
        process.write(&load);
        Ok(process)
    }

    /// Whether it has not evaluated any attribute.
    pub(crate) fn is_new(&self) -> bool {
        self.asked == 0
    }

    /// Whether it can evaluate another attribute within its memory limit.
    pub(crate) fn has_room(&self) -> bool {
        let pages = fs::read_to_string(format!("/proc/{}/statm", self.group.as_raw_nonzero())).ok();
        let pages: Option<u64> = pages.and_then(|pages| pages.split(' ').next()?.parse().ok());
        pages.is_some_and(|pages| pages * page_size() as u64 <= self.evaluator.limits.enough())
    }

    /// Evaluates an attribute.
    ///
    /// # Errors
    /// [`Ending`], if something other than the attribute fails.
    pub(crate) fn evaluate(&mut self, path: &Path) -> Result<Answer, Ending> {
        self.asked += 1;
        let parts: Vec<String> = path.iter().map(|part| string(part)).collect();
        self.write(&format!("catalogue.at [ {} ]\ncatalogue.end {}\n", parts.join(" "), self.asked));
        let mut watch = Stopwatch::new(self.group, self.evaluator.limits.time);
        let (mut answer, mut remarks) = (Answer::default(), VecDeque::new());
        let until = || self.evaluator.limits.until.map(|until| until.saturating_duration_since(Instant::now()));
        let ended = loop {
            match self.lines.recv_timeout(until().map_or(watch.left(), |left| left.min(watch.left()))) {
                Ok(line) => match hear(&line, &self.mark) {
                    Heard::Ours(Line::End(number)) if number == self.asked => break None,
                    Heard::Ours(line) => answer.lines.push(line),
                    Heard::Error(error) => answer.error = Some(error),
                    Heard::Remark(remark) => keep(&mut remarks, &remark, REMARKS),
                },
                // The process's end closes the pipe.
                Err(RecvTimeoutError::Disconnected) => break Some(None),
                Err(RecvTimeoutError::Timeout) => {}
            }
            // Checked after every line too: a package may print without end.
            if watch.is_over() || until().is_some_and(|left| left.is_zero()) {
                break Some(Some(NixExit::Deadline));
            }
        };
        let thrown = answer.lines.iter().any(|line| matches!(line, Line::Throws(())));
        let error = answer.error.as_deref().filter(|_| !thrown).unwrap_or_default();
        if classify::says_disk_full(error) && machine::disk_full(self.evaluator.scratch.dir()) {
            return Err(Ending::Failed(Failure::new(Kind::DiskFull, error)));
        }
        if ended.is_some() || classify::says_out_of_memory(error) {
            let evidence = Evidence { errors: answer.error.iter().cloned().collect(), remarks, ..Evidence::default() };
            answer.death = Some(self.end(ended.flatten(), &evidence)?);
        }
        Ok(answer)
    }

    /// Ends the process, and returns the cause of its death.
    fn end(&mut self, cause: Option<NixExit>, evidence: &Evidence) -> Result<Failure, Ending> {
        kill(&self.group);
        // Not reaped before, so that the number was still its own. Later signals need not reach it.
        let status = self.child.wait()?;
        lock(&self.running.0).alive.remove(&self.group);
        if self.running.is_stopped() {
            return Err(Ending::Stopped);
        }
        if self.evaluator.limits.until.is_some_and(|until| until <= Instant::now()) {
            return Err(Ending::Failed(Failure::new(Kind::TimedOut, "")));
        }
        Ok(classify::evaluation(cause.unwrap_or(NixExit::Exit(status.into())), evidence))
    }

    /// A dead process cannot read: its closed stderr is noticed soon after.
    fn write(&mut self, lines: &str) {
        let _ = self.input.write_all(lines.as_bytes());
    }
}

impl Drop for Process<'_> {
    fn drop(&mut self) {
        if lock(&self.running.0).alive.remove(&self.group) {
            kill(&self.group);
            let _ = self.child.wait();
        }
    }
}

impl Evaluator<'_> {
    fn arguments(&self) -> Vec<OsString> {
        let mut store = OsString::from("file://");
        store.push(self.scratch.dir());
        store.push("/store?compression=none");
        let fixed =
            ["repl", "--option", "extra-experimental-features", "nix-command", "--option", "substitute", "false"];
        let fixed = fixed.into_iter().map(OsString::from).chain(["--store".into(), store]);
        fixed.chain(restricted_to(self.nixpkgs.as_ref())).collect()
    }

    /// The line that loads the set. Foreign values are strings in it, as data.
    fn load(&self, mark: &str) -> String {
        let data = serde_json::json!({
            "enter": self.enter,
            "system": self.system,
            "path": self.nixpkgs,
            // Nix adds the rest of it.
            "mark": mark.trim_start_matches("trace: "),
        });
        let data = string(&data.to_string());
        let (catalogue, describe) = (one_line(CATALOGUE), one_line(DESCRIBE));
        format!("catalogue = ({catalogue}) (builtins.fromJSON {data} // {{ describe = ({describe}); }})\n")
    }
}

/// A Nix expression as one line, without its comments, which have lines of their own.
fn one_line(expression: &str) -> String {
    let lines = expression.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.collect::<Vec<_>>().join(" ")
}

/// A string literal of the Nix language, on one line.
fn string(text: &str) -> String {
    let mut literal = String::from("\"");
    for char in text.chars() {
        match char {
            '"' | '\\' | '$' => literal.extend(['\\', char]),
            '\n' => literal.push_str("\\n"),
            '\r' => literal.push_str("\\r"),
            '\t' => literal.push_str("\\t"),
            _ => literal.push(char),
        }
    }
    literal + "\""
}

/// A line of stderr.
enum Heard {
    /// One of ours.
    Ours(Line),
    /// An error of Nix.
    Error(String),
    /// Any other text.
    Remark(String),
}

fn hear(line: &[u8], mark: &str) -> Heard {
    let text = match parse(line) {
        Event::Message { level: 0, text, .. } => text,
        Event::Text(text) => text,
        _ => String::new(),
    };
    if let Some(line) = text.strip_prefix(mark).and_then(|json| serde_json::from_str(json).ok()) {
        return Heard::Ours(line);
    }
    let text = text.lines().map(plain).collect::<Vec<_>>().join("\n");
    if text.starts_with("error:") {
        return Heard::Error(text);
    }
    Heard::Remark(text.chars().take(REMARK_BYTES).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_on_one_line_has_no_comments() {
        assert_eq!(one_line("# A comment.\n{ a }:\n  # Another.\n  a # 1\n"), "{ a }: a # 1");
        for expression in [CATALOGUE, DESCRIBE] {
            assert!(!one_line(expression).contains('#'), "a comment behind code would hide the rest of the line");
        }
    }

    #[test]
    fn a_string_of_nix_is_data_on_one_line() {
        assert_eq!(string("a\"b\\c${d}\n\t\r'"), r#""a\"b\\c\${d}\n\t\r'""#);
    }

    #[test]
    fn only_lines_with_the_mark_are_ours() {
        let said = |line: &str| match hear(line.as_bytes(), "trace: mark 12") {
            Heard::Ours(_) => "ours",
            Heard::Error(_) => "error",
            Heard::Remark(_) => "remark",
        };
        for (line, what) in [
            (r#"@nix {"action":"msg","level":0,"msg":"trace: mark 12 {\"other\":null}"}"#, "ours"),
            (r#"@nix {"action":"msg","level":0,"msg":"trace: mark 13 {\"other\":null}"}"#, "remark"),
            (r#"@nix {"action":"msg","level":0,"msg":"trace: x\ntrace: mark 12 {\"other\":null}"}"#, "remark"),
            (r#"@nix {"action":"msg","level":0,"msg":"trace: mark 12 {"}"#, "remark"),
            (r#"@nix {"action":"msg","level":0,"msg":"trace: error: x"}"#, "remark"),
            (r#"@nix {"action":"msg","level":0,"msg":"\u001b[31;1merror:\u001b[0m x"}"#, "error"),
            ("error: stack overflow (possible infinite recursion)", "error"),
            ("GC Warning: Out of Memory!", "remark"),
        ] {
            assert_eq!(said(line), what, "{line}");
        }
    }
}
