//! Classifies a failed run of Nix: its failure class follows from the kind that is found here.
//!
//! The evidence is the exit code, the messages of Nix and of the failing build, and the machine's state. The exit code
//! is 1, or `0x60` with one bit for each event: 1 a timeout, 2 a hash mismatch, 4 a permanent build failure, 8 a
//! rebuild that differed. A fixed-output derivation (a download) that fails, and a build on a full disk, are transient
//! for Nix: 1. With Nix 2.8's daemon, every failure exits with 1. So messages come first, and the code where they leave
//! a question open.

use binplz_core::{
    build::failure::{Failure, Kind},
    id::key::DrvHash,
};

use crate::{
    evidence::{Evidence, Trace, looks_decisive, name_of},
    nix::Exit,
};

/// How a failed run of Nix ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NixExit {
    /// It exited.
    Exit(Exit),
    /// At the job's deadline.
    Deadline,
}

const MEMORY: [&str; 7] = [
    "killed signal terminated program",
    "virtual memory exhausted",
    "memory exhausted",
    "out of memory",
    "cannot allocate memory",
    "std::bad_alloc",
    "error 137",
];
const LOG_CAP: &str = "killed after writing more than";
const TIMEOUT: &str = "timed out after";
const DISK: [&str; 3] = ["no space left on device", "database or disk is full", "disk quota exceeded"];
const NETWORK: [&str; 6] =
    ["unable to download", "http error", "partial file", "couldn't resolve host", "couldn't connect", "curl error"];
const SIGNATURE: [&str; 4] = [
    "not signed by any of the keys",
    "lacks a valid signature",
    "lacks a signature by a trusted key",
    "has no valid signature",
];
const SANDBOX: [&str; 6] =
    ["namespace", "build-users-group", "nixbld", "sandbox", "setting uid", "unable to start build process"];
/// The messages of Nix 2.8, and of 2.30 and newer.
const NO_MACHINE: [&str; 2] = ["is required to build", "required system or feature not available"];
/// Nix 2.8 gives up when a build prints a message in Nix's log format with a value of another type.
const GIVES_UP: [&str; 2] = ["[json.exception.", "unsupported json type"];
/// The last two occur when the first Nix processes on a machine create its store at the same time.
const MACHINE: [&str; 7] = [
    "permission denied",
    "cannot connect to",
    "read-only file system",
    "database is locked",
    "too many open files",
    "db.sqlite' is busy",
    "file exists",
];

/// Classifies a failed `nix-store --realise` of the derivation `asked`.
pub(crate) fn realisation(ended: NixExit, evidence: &Evidence, asked: &str) -> Failure {
    let error = evidence.decisive_error();
    let trace = failing_build(evidence);
    let kind = kind_of_realisation(ended, error, trace, evidence);
    let detail = match (kind, trace) {
        (Kind::BuildFailed | Kind::TestFailed | Kind::SourceUnavailable, Some(trace)) => decisive_line(kind, trace),
        (Kind::OutOfMemory, Some(trace)) => line_with(trace, &MEMORY),
        (Kind::DiskFull, Some(trace)) => line_with(trace, &DISK),
        // The error itself only names what could not be done without the path.
        (Kind::Signature, _) => unsigned(evidence).map(|said| said.trim_start_matches("warning: ")),
        (Kind::LogTooLong, _) => error.find(LOG_CAP).map(|at| &error[at..]),
        (Kind::Silent | Kind::TimedOut, _) => error.find(TIMEOUT).map(|at| &error[at..]),
        _ => None,
    };
    let needed = needed_machine(error).filter(|_| kind == Kind::NoMachine);
    let detail = needed.or(detail.map(str::to_owned)).or_else(|| said_of(ended, error));
    let planned = |drv: &&str| *drv != asked && evidence.planned.iter().any(|planned| planned == drv);
    let named = named_derivation(evidence).filter(planned);
    // Only a derivation that Nix has started can have failed.
    let failing = trace.map(|trace| trace.drv.as_str()).filter(planned);
    let failure = Failure {
        derivation: named.map(|drv| name_of(drv).to_owned()),
        drv: failing.and_then(|drv| DrvHash::of_path(drv).ok()),
        ..Failure::new(kind, said(&detail.unwrap_or_default()))
    };
    match trace {
        Some(trace) => failure.with_lines(trace.tail.iter()),
        None => failure.with_lines(error.lines()),
    }
}

fn kind_of_realisation(ended: NixExit, error: &str, trace: Option<&Trace>, evidence: &Evidence) -> Kind {
    let code = match ended {
        NixExit::Deadline => return Kind::TimedOut,
        NixExit::Exit(Exit::Signal(9)) if evidence.oom_killed => return Kind::OutOfMemory,
        NixExit::Exit(Exit::Signal(_)) => return Kind::Killed,
        NixExit::Exit(Exit::Code(code)) => code,
    };
    let bit = |bit: i32| code & !0xf == 0x60 && code & bit != 0;
    let says = |marks: &[&str]| has(error, marks);
    let built_badly = says(&["failed with exit code", "failed due to signal"]);
    let killed = built_badly && says(&["signal 9 ", "exit code 137"]);
    let trace_says = |marks| trace.is_some_and(|trace| line_with(trace, marks).is_some());
    // A failure that only an operator can fix pauses all builds, so only Nix's own message counts: a build that ran
    // could have printed it.
    let alone = evidence.builds.is_empty();
    match evidence.download {
        _ if says(&["interrupted by the user"]) => Kind::Interrupted,
        _ if says(&[LOG_CAP]) => Kind::LogTooLong,
        _ if says(&["of silence"]) => Kind::Silent,
        _ if says(&[TIMEOUT]) || bit(1) => Kind::TimedOut,
        _ if says(&["hash mismatch in"]) || bit(2) => Kind::HashMismatch,
        _ if says(&["failed to produce output path"]) => Kind::NoOutput,
        _ if evidence.oom_killed || killed || says(&MEMORY) || trace_says(&MEMORY) => Kind::OutOfMemory,
        _ if evidence.disk_full || says(&DISK) || trace_says(&DISK) => Kind::DiskFull,
        // Nix calls this failure transient although it is not a download: its disk was full. The build is gone by now,
        // and with it the files that filled the disk.
        Some(false) if built_badly && code == 1 && !evidence.daemon => Kind::DiskFull,
        Some(true) if built_badly => Kind::SourceUnavailable,
        // Without that knowledge: Nix exits with 1 for a transient failure, and its daemon with 1 for every failure.
        None if built_badly && !bit(4) => Kind::SourceUnavailable,
        _ if built_badly || bit(4) => match trace.map(|trace| trace.phase.as_str()) {
            Some("checkPhase" | "installCheckPhase") => Kind::TestFailed,
            _ => Kind::BuildFailed,
        },
        _ if !alone && says(&GIVES_UP) => Kind::BuildFailed,
        _ if alone && unsigned(evidence).is_some() => Kind::Signature,
        _ if says(&["some substitutes", ".narinfo", "/nar/", "nix-cache-info"]) => Kind::CacheUnavailable,
        _ if says(&NETWORK) => Kind::SourceUnavailable,
        _ if says(&NO_MACHINE) => Kind::NoMachine,
        _ if alone && has(&without_paths(error), &SANDBOX) => Kind::Sandbox,
        _ => Kind::BuilderError,
    }
}

/// The machine that a build needs: Nix names it as `'SYSTEM' with features {NAMES}`, before its own.
fn needed_machine(error: &str) -> Option<String> {
    let (before, after) = error.split_once("' with features {")?;
    let (system, features) = (before.rsplit_once('\'')?.1, after.split_once('}')?.0);
    let features = if features.is_empty() { String::new() } else { format!(" with {features}") };
    Some(format!("it needs a machine for {system}{features}"))
}

/// Nix's message about a path without a trusted signature.
fn unsigned(evidence: &Evidence) -> Option<&str> {
    evidence.errors.iter().chain(&evidence.remarks).map(String::as_str).find(|line| has(line, &SIGNATURE))
}

/// Classifies a failed evaluation.
pub(crate) fn evaluation(ended: NixExit, evidence: &Evidence) -> Failure {
    let error = evidence.errors.last().map_or("", String::as_str);
    let remark = |marks: &[&str]| evidence.remarks.iter().any(|line| has(line, marks));
    let kind = match ended {
        NixExit::Deadline => Kind::TimedOut,
        NixExit::Exit(Exit::Signal(_)) if evidence.oom_killed => Kind::OutOfMemory,
        // The garbage collector of Nix's evaluator prints this and aborts.
        NixExit::Exit(_) if has(error, &MEMORY) || remark(&MEMORY) => Kind::OutOfMemory,
        // A segmentation fault is a stack overflow: an infinite recursion that Nix did not detect.
        NixExit::Exit(Exit::Signal(11)) => Kind::EvaluationError,
        NixExit::Exit(Exit::Signal(_)) => Kind::Killed,
        NixExit::Exit(Exit::Code(_)) if has(error, &["interrupted by the user"]) => Kind::Interrupted,
        NixExit::Exit(Exit::Code(_)) if has(error, &DISK) => Kind::DiskFull,
        NixExit::Exit(Exit::Code(_)) if has(error, &NETWORK) => Kind::SourceUnavailable,
        // The only download of an evaluation is the set itself: its content differs from the pin's hash.
        NixExit::Exit(Exit::Code(_)) if has(error, &["hash mismatch"]) => Kind::BuilderError,
        NixExit::Exit(Exit::Code(_)) if has(error, &MACHINE) => Kind::BuilderError,
        NixExit::Exit(Exit::Code(_)) => Kind::EvaluationError,
    };
    let detail = match ended {
        NixExit::Exit(Exit::Signal(11)) if error.is_empty() => Some("the evaluator's stack overflowed".to_owned()),
        // SQLite's message follows a whole statement.
        _ if kind == Kind::DiskFull => error.lines().find(|line| has(line, &DISK)).map(str::to_owned),
        _ => said_of(ended, error),
    };
    Failure::new(kind, said(&detail.unwrap_or_default())).with_lines(error.lines())
}

/// Whether an error says that memory ran out.
pub(crate) fn says_out_of_memory(error: &str) -> bool {
    has(error, &MEMORY)
}

/// Whether an error says that a disk is full.
pub(crate) fn says_disk_full(error: &str) -> bool {
    has(error, &DISK)
}

/// Whether a text contains one of the marks, ignoring case.
fn has(text: &str, marks: &[&str]) -> bool {
    let text = text.to_ascii_lowercase();
    marks.iter().any(|mark| text.contains(mark))
}

/// An error without the quoted paths, which may contain any words.
fn without_paths(error: &str) -> String {
    error.split('\'').filter(|quoted| !quoted.starts_with('/')).collect::<Vec<_>>().join("'")
}

/// Nix's own message, or a sentence of ours if there is none.
fn said_of(ended: NixExit, error: &str) -> Option<String> {
    match ended {
        NixExit::Deadline => Some("the job's time limit was reached".to_owned()),
        NixExit::Exit(Exit::Signal(signal)) if error.is_empty() => Some(format!("Nix was ended by signal {signal}")),
        NixExit::Exit(Exit::Code(code)) if error.is_empty() => Some(format!("Nix ended with status {code}")),
        NixExit::Exit(_) => last_error(error),
    }
}

/// Newer versions of Nix print a whole trace, with the error last; its first paragraph is the message.
fn last_error(error: &str) -> Option<String> {
    let start = error.rfind("error:")? + "error:".len();
    let lines = error[start..].lines().map(str::trim).skip_while(|line| line.is_empty());
    Some(lines.take_while(|line| !line.is_empty()).take(3).collect::<Vec<_>>().join(" "))
}

/// The derivation that Nix's decisive error names.
fn named_derivation(evidence: &Evidence) -> Option<&str> {
    evidence.decisive_error().split('\'').find_map(|quoted| {
        let end = quoted.find(".drv")? + ".drv".len();
        quoted.starts_with('/').then(|| &quoted[..end])
    })
}

/// The build that failed: the one that Nix has started and that its decisive error names.
pub(crate) fn failing_build(evidence: &Evidence) -> Option<&Trace> {
    let named = named_derivation(evidence)?;
    evidence.builds.iter().rfind(|trace| trace.drv == named)
}

/// The most informative line of a failed build.
fn decisive_line(kind: Kind, trace: &Trace) -> Option<&str> {
    let said = || trace.tail.iter().map(|line| line.trim()).filter(|line| !line.is_empty());
    let from_make = |line: &&str| line.starts_with("make") && line.contains(": ");
    let test = || said().rfind(|line| has(line, &["fail", "error"]) && !from_make(line));
    let error = || trace.first_error.as_deref();
    let last = || said().rfind(|line| !from_make(line)).or_else(|| said().next_back());
    match kind {
        Kind::TestFailed => test().or_else(last),
        Kind::SourceUnavailable => said().rfind(|line| looks_decisive(line)).or_else(last),
        _ => error().or_else(last),
    }
}

/// The last of a build's final lines that has one of the marks. An earlier one may be a test's harmless output.
fn line_with<'a>(trace: &'a Trace, marks: &[&str]) -> Option<&'a str> {
    trace.tail.iter().rev().take(20).find(|line| has(line, marks)).map(String::as_str)
}

/// A line as a detail behind a sentence that already says that it is an error.
fn said(line: &str) -> String {
    without_store(line.trim_start_matches([' ', '\'', ':']).trim_start_matches("error: "))
}

/// `/nix/store/HASH-name` as `name`: the rest does not help people.
pub(crate) fn without_store(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("/store/") {
        let (before, found) = rest.split_at(at);
        let tail = &found["/store/".len()..];
        let hashed = tail.len() > 32
            && tail.as_bytes()[..32].iter().all(u8::is_ascii_alphanumeric)
            && tail[32..].starts_with('-');
        if hashed {
            let start = before.rfind(|c: char| c.is_whitespace() || "'\"`(=:‘".contains(c));
            let end = start.map_or(0, |i| i + before[i..].chars().next().map_or(0, char::len_utf8));
            out.push_str(&before[..end]);
            rest = &tail[33..];
        } else {
            out.push_str(before);
            out.push_str("/store/");
            rest = tail;
        }
    }
    out + rest
}

#[cfg(test)]
mod tests;
