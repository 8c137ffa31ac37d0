//! Nix as a child process: with the user's settings and no other part of our environment, in its own process group,
//! watched until its end, and never outliving the builder.
//!
//! On SIGTERM, Nix kills its builds; after SIGKILL they are orphaned (`sh` and its descendants go on until they end).
//! So Nix gets SIGTERM when the builder dies, by `setpriv --pdeathsig TERM`, and SIGKILL only five seconds after a
//! SIGTERM without effect. A Nix that only evaluates has no builds, and may not notice a SIGTERM for hours: it gets
//! SIGKILL. While the builder lives, it adopts orphans and ends them (`orphans`).

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    io::{self, BufRead, BufReader, Read},
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{ChildStdout, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use binplz_core::id::key::hex;
use rustix::{
    process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid},
    rand::{GetRandomFlags, getrandom},
};

use crate::{
    orphans::{self, TrackedChildren},
    settings,
    stop::{Stop, Why},
};

/// How long Nix may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);
/// How long after Nix's end its last lines may take to arrive.
const LINGER: Duration = Duration::from_secs(2);
/// Longer lines of stderr are cut. What follows is not read as a line: a build could begin it as Nix begins its own.
const LINE_MAX: u64 = 1 << 20;
/// The most bytes of stdout that are kept.
const STDOUT_MAX: u64 = 8 << 20;
/// The capacity of the queue of lines.
const QUEUE: usize = 256;

/// The variables that Nix gets: those for finding programs and settings, and for the network. Above all not the lease's
/// token: a fixed-output derivation can ask Nix for any variable (`impureEnvVars`).
const ALLOWED: [&str; 31] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_DIRS",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
    "NIX_CONFIG",
    "NIX_CONF_DIR",
    "NIX_USER_CONF_FILES",
    "NIX_REMOTE",
    "NIX_STORE_DIR",
    "NIX_STATE_DIR",
    "NIX_LOCALSTATE_DIR",
    "NIX_LOG_DIR",
    "NIX_DAEMON_SOCKET_PATH",
    "NIX_SSL_CERT_FILE",
    "SSL_CERT_FILE",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "LOCALE_ARCHIVE",
];

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It exited with this status.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Exit {
        // A shell or wrapper around Nix exits with 128 + N for signal N.
        match (status.code(), status.signal()) {
            (Some(code @ 129..=159), _) => Exit::Signal(code - 128),
            (Some(code), _) => Exit::Code(code),
            (None, signal) => Exit::Signal(signal.unwrap_or(0)),
        }
    }
}

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Nix ended by itself.
    Exited(Exit),
    /// It was stopped because the builder must stop.
    Stopped(Why),
    /// It was stopped at the job's deadline.
    Deadline,
}

/// A finished run of Nix.
pub(crate) struct Ran {
    /// How it ended.
    pub(crate) end: End,
    /// Its standard output.
    pub(crate) stdout: Vec<u8>,
}

/// How to run Nix on this machine.
pub(crate) struct Nix {
    /// What sends a signal when the builder dies, if this machine has it; the signal follows.
    wrapper: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    options: Vec<OsString>,
    stop: Arc<Stop>,
    wards: TrackedChildren,
}

impl Nix {
    /// Looks for `setpriv`, a part of util-linux; without it, Nix goes on to its end after the builder was killed.
    pub(crate) fn new(environment: impl Iterator<Item = (OsString, OsString)>, stop: Arc<Stop>) -> Nix {
        let allowed = |name: &OsStr| ALLOWED.iter().any(|known| name == *known);
        let mut environment: Vec<_> = environment.filter(|(name, _)| allowed(name)).collect();
        // Messages of Nix and the system are evidence, so they must be in English.
        environment.push(("LC_ALL".into(), "C".into()));
        let mut nix =
            Nix { wrapper: Vec::new(), environment, options: Vec::new(), stop, wards: TrackedChildren::default() };
        let wrapper = ["setpriv", "--pdeathsig"].map(OsString::from);
        let mut probe = nix.command(&wrapper[0]);
        probe.args(&wrapper[1..]).args(["TERM", "true"]).stdout(Stdio::null()).stderr(Stdio::null());
        if probe.status().is_ok_and(|status| status.success()) {
            nix.wrapper = wrapper.into();
        }
        nix
    }

    /// The event that ends its runs.
    pub(crate) fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Adds a Nix option to all runs.
    pub(crate) fn set_option(&mut self, name: &str, value: &str) {
        self.options.extend(["--option", name, value].map(OsString::from));
    }

    /// A variable of Nix's environment.
    pub(crate) fn variable(&self, name: &str) -> Option<&OsStr> {
        self.environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_os_str())
    }

    /// Whether a daemon may do the builds.
    pub(crate) fn by_daemon(&self) -> bool {
        settings::by_daemon(|name| self.variable(name))
    }

    /// A command with Nix's environment and no input.
    fn command(&self, program: &OsStr) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value))).stdin(Stdio::null());
        command
    }

    /// A command that runs Nix in its own process group, dies with us, and logs as internal-json.
    fn child(&self, program: &str, args: &[OsString]) -> Command {
        self.dies_by("TERM", program, args)
    }

    /// The same of a command that evaluates and builds nothing.
    pub(crate) fn evaluator(&self, program: &str, args: &[OsString]) -> Command {
        self.dies_by("KILL", program, args)
    }

    fn dies_by(&self, signal: &str, program: &str, args: &[OsString]) -> Command {
        let signal = Some(signal).filter(|_| !self.wrapper.is_empty());
        let words = signal.into_iter().chain([program]).map(OsString::from);
        let argv: Vec<OsString> = self.wrapper.iter().cloned().chain(words).collect();
        let mut command = self.command(&argv[0]);
        command
            .args(&argv[1..])
            .args(args)
            .args(&self.options)
            .args(["--log-format", "internal-json"])
            .process_group(0);
        command
    }

    /// Runs a Nix program with a long output, which `hear` reads from its stdout, while others may run. It has to exit
    /// with 0.
    pub(crate) fn listen<T>(
        &self,
        program: &str,
        args: &[OsString],
        hear: impl FnOnce(ChildStdout) -> T,
    ) -> io::Result<(T, ExitStatus)> {
        let mut command = self.child(program, args);
        let (mut child, _ward) = self.wards.spawn(command.stdout(Stdio::piped()).stderr(Stdio::null()))?;
        // A child whose pipe is closed ends by itself.
        let heard = child.stdout.take().map(hear);
        let status = child.wait()?;
        heard.map(|heard| (heard, status)).ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }

    /// Runs a quick command, such as one that prints the version. `Err` holds its stderr.
    pub(crate) fn ask(&self, program: &str, args: &[&OsStr]) -> io::Result<Result<String, String>> {
        let mut command = self.command(program.as_ref());
        command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        let (child, _ward) = self.wards.spawn(&mut command)?;
        let output = child.wait_with_output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        Ok(if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) })
    }

    /// Those of these store paths that the store does not have; `None` if Nix does not say.
    pub(crate) fn missing(&self, paths: &[String]) -> Option<HashSet<String>> {
        let query = ["--check-validity", "--print-invalid"].into_iter().chain(paths.iter().map(String::as_str));
        let printed = self.ask("nix-store", &query.map(OsStr::new).collect::<Vec<_>>()).ok()?.ok()?;
        Some(printed.lines().map(str::to_owned).collect())
    }

    /// Runs Nix to its end, or ends it; `on_line` receives every line of stderr as it comes, without its newline.
    pub(crate) fn run(
        &self,
        program: &str,
        args: &[OsString],
        deadline: Instant,
        mut on_line: impl FnMut(&[u8]),
    ) -> io::Result<Ran> {
        let mut child = self.child(program, args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;

        let (events, queue) = sync_channel(QUEUE);
        let (printed, stdout) = sync_channel(1);
        if let Some(pipe) = child.stdout.take() {
            thread::spawn(move || drop(printed.send(read_all(pipe))));
        }
        if let Some(pipe) = child.stderr.take() {
            let events = events.clone();
            thread::spawn(move || {
                each_line(pipe, |line| events.send(Event::Line(line)).is_ok());
                drop(events.send(Event::Silent));
            });
        }
        // Watched without being reaped, so that the process group's number stays its own until nothing is left to kill.
        let group = Pid::from_child(&child);
        let exits = events.clone();
        thread::spawn(move || {
            let watch = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while matches!(waitid(WaitId::Pid(group), watch), Err(rustix::io::Errno::INTR)) {}
            drop(exits.send(Event::Exited));
        });
        // A full queue wakes the receiver anyway.
        self.stop.listen(move || drop(events.try_send(Event::Wake)));

        let (why, silent) = self.watch(group, deadline, &queue, &mut on_line);
        let status = child.wait()?;
        orphans::end(&self.wards, Duration::from_secs(1));
        if !silent {
            drain(&queue, &mut on_line);
        }
        let stdout = stdout.recv_timeout(LINGER).unwrap_or_default();
        let end = match why {
            None => End::Exited(status.into()),
            Some(Cause::Deadline) => End::Deadline,
            Some(Cause::Stop(why)) => End::Stopped(why),
        };
        Ok(Ran { end, stdout })
    }

    /// Waits until the child has ended, and ends it when due. Returns the cause, and whether stderr was read to its
    /// end.
    fn watch(
        &self,
        group: Pid,
        deadline: Instant,
        queue: &Receiver<Event>,
        on_line: &mut impl FnMut(&[u8]),
    ) -> (Option<Cause>, bool) {
        let (mut cause, mut silent) = (None, false);
        let mut due = deadline;
        loop {
            match queue.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(Event::Line(line)) => on_line(&line),
                Ok(Event::Silent) => silent = true,
                Ok(Event::Exited) | Err(RecvTimeoutError::Disconnected) => return (cause, silent),
                Ok(Event::Wake) | Err(RecvTimeoutError::Timeout) => {}
            }
            let now = Instant::now();
            if cause.is_some() {
                if now >= due {
                    let _ = kill_process_group(group, Signal::KILL);
                    due = now + GRACE;
                }
                continue;
            }
            cause = match self.stop.why() {
                Some((why, _)) => Some(Cause::Stop(why)),
                None if now >= due => Some(Cause::Deadline),
                None => None,
            };
            if cause.is_some() {
                let _ = kill_process_group(group, Signal::TERM);
                due = now + GRACE;
            }
        }
    }
}

/// Why a child was ended.
enum Cause {
    Stop(Why),
    Deadline,
}

/// An event of a child.
enum Event {
    Line(Vec<u8>),
    /// Its stderr is closed.
    Silent,
    Exited,
    Wake,
}

/// The lines that were still in the queue when the child ended.
fn drain(queue: &Receiver<Event>, on_line: &mut impl FnMut(&[u8])) {
    let until = Instant::now() + LINGER;
    loop {
        match queue.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Event::Line(line)) => on_line(&line),
            Ok(Event::Silent) | Err(_) => return,
            Ok(Event::Exited | Event::Wake) => {}
        }
    }
}

/// 128 random bits as hex digits.
pub(crate) fn nonce() -> io::Result<String> {
    let mut bits = [0; 16];
    getrandom(&mut bits, GetRandomFlags::empty())?;
    Ok(hex(&bits))
}

/// Reads lines, without their newlines, until `go_on` returns false.
pub(crate) fn each_line(pipe: impl Read, mut go_on: impl FnMut(Vec<u8>) -> bool) {
    let mut pipe = BufReader::new(pipe);
    loop {
        let mut line = Vec::new();
        match pipe.by_ref().take(LINE_MAX).read_until(b'\n', &mut line) {
            Ok(1..) => {
                let cut = line.pop_if(|last| *last == b'\n').is_none() && line.len() as u64 == LINE_MAX;
                if cut && pipe.skip_until(b'\n').is_err() || !go_on(line) {
                    return;
                }
            }
            Ok(0) => return,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

fn read_all(mut pipe: impl Read) -> Vec<u8> {
    let mut kept = Vec::new();
    let read = pipe.by_ref().take(STDOUT_MAX).read_to_end(&mut kept);
    // The rest is read and dropped, so that the child does not block.
    drop(read.and_then(|_| io::copy(&mut pipe, &mut io::sink())));
    kept
}
