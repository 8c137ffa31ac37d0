//! Support for the builder's tests: a lease endpoint, a Nix store per test, and a builder to start.

pub(crate) mod endpoint;
pub(crate) mod place;
pub(crate) mod printed;
pub(crate) mod verdict;
pub(crate) mod web;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::OnceLock,
};

use binplz_core::build::protocol::{Job, JobLimits, Nixpkgs, Resume};
use rustix::process::{Signal, kill_process};
use tempfile::TempDir;

use endpoint::Endpoint;
use place::Place;

/// One bench for a test: a copy of the package set, whose gate is closed, a directory for temporary files, and a Nix store.
pub(crate) struct Bench {
    /// Ended first.
    daemon: Option<Running>,
    dir: TempDir,
    nix: Vec<(&'static str, String)>,
}

impl Bench {
    /// A bench with the store that all tests share.
    pub(crate) fn new() -> Bench {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["set", "tmp", "own"] {
            fs::create_dir(dir.path().join(name)).expect("a directory");
        }
        let set = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/set");
        for file in ["default.nix", "failing.nix", "needs.nix"] {
            fs::copy(set.join(file), dir.path().join("set").join(file)).expect("the set");
        }
        Bench { daemon: None, dir, nix: nix_environment() }
    }

    /// A bench with a store of its own, which does not exist yet.
    pub(crate) fn with_own_store() -> Bench {
        let bench = Bench::new();
        let nix = nix_environment_in(&bench.own());
        Bench { nix, ..bench }
    }

    /// The directory of that store.
    pub(crate) fn own(&self) -> PathBuf {
        self.dir.path().join("own")
    }

    /// Adds settings of Nix; a later one overrides.
    pub(crate) fn configure(mut self, settings: &str) -> Bench {
        let (_, config) = self.nix.iter_mut().find(|(name, _)| *name == "NIX_CONFIG").expect("settings");
        config.push_str(settings);
        config.push('\n');
        self
    }

    /// Has a Nix daemon of its own do the builds. It ends with the test.
    pub(crate) fn by_daemon(mut self) -> Bench {
        let socket = self.dir.path().join("socket");
        self.nix.push(("NIX_DAEMON_SOCKET_PATH", socket.to_string_lossy().into_owned()));
        let daemon = self.nix("nix-daemon").stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("nix-daemon");
        self.daemon = Some(Running(daemon));
        endpoint::patiently(|| socket.exists(), "the daemon's socket");
        self.nix.push(("NIX_REMOTE", "daemon".to_owned()));
        self
    }

    /// One of Nix's programs, on this store.
    pub(crate) fn nix(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.envs(self.nix.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Sets the URL of a source.
    pub(crate) fn has_source_at(&self, url: &str) {
        fs::write(self.set().join("url"), url).expect("a file");
    }

    pub(crate) fn set(&self) -> PathBuf {
        self.dir.path().join("set")
    }

    /// The set as a tarball with one top-level directory, as a forge makes it.
    pub(crate) fn tarball(&self) -> PathBuf {
        let tarball = self.dir.path().join("set.tar.gz");
        let packed = Command::new("tar").arg("-czf").arg(&tarball).arg("-C").arg(self.dir.path()).arg("set").status();
        assert!(packed.expect("tar").success());
        tarball
    }

    /// The set's NAR hash, as a pin has it.
    pub(crate) fn nar_hash(&self) -> String {
        let out =
            Command::new("nix-hash").args(["--type", "sha256", "--base32"]).arg(self.set()).output().expect("nix-hash");
        format!("sha256:{}", String::from_utf8_lossy(&out.stdout).trim())
    }

    /// Where the builder puts temporary files.
    pub(crate) fn tmp(&self) -> PathBuf {
        self.dir.path().join("tmp")
    }

    /// Opens the gate of a waiting build.
    pub(crate) fn open_gate(&self) {
        fs::write(self.set().join("gate"), "").expect("the gate");
    }

    /// The process of the build that waits at the gate.
    pub(crate) fn build_process(&self) -> Pid {
        let text = fs::read_to_string(self.set().join("pid")).expect("a build at the gate");
        Pid(text.trim().parse().expect("a process's number"))
    }

    /// A job for this bench's set.
    pub(crate) fn job(&self, product: &str) -> Job {
        Job {
            key: format!("{}/x86_64-linux/{product}", "ab".repeat(20)).parse().expect("a key"),
            nixpkgs: Nixpkgs::Path(self.set().to_string_lossy().into_owned()),
            limits: JobLimits { seconds: 300, silent_seconds: 120, ..JobLimits::default() },
            lease_seconds: 30,
            cache: None,
            programs: None,
            of_static: false,
            resume: Resume::default(),
        }
    }

    /// A builder for that endpoint, not started yet.
    pub(crate) fn builder(&self, endpoint: &Endpoint) -> Command {
        self.builder_in(&Place::here(), endpoint)
    }

    #[expect(clippy::disallowed_methods, reason = "a builder finds Nix as its test does")]
    fn builder_in(&self, place: &Place, endpoint: &Endpoint) -> Command {
        let builder = env!("CARGO_BIN_EXE_binplz-builder").to_owned();
        let words: Vec<&String> = place.command.iter().chain([&builder]).collect();
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("TMPDIR", self.tmp())
            .env("BINPLZ_LEASE_URL", endpoint.url())
            .env("BINPLZ_LEASE_TOKEN", endpoint::TOKEN)
            .envs(self.nix.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a builder until it settles; returns what the endpoint has seen.
    pub(crate) fn work(&self, job: Job) -> Endpoint {
        self.work_in(&Place::here(), job)
    }

    /// The same in a restricted place.
    pub(crate) fn work_in(&self, place: &Place, job: Job) -> Endpoint {
        let endpoint = Endpoint::new(job);
        assert_eq!(self.start_in(place, &endpoint).end(), (Some(0), String::new()));
        endpoint
    }

    /// Starts a builder.
    pub(crate) fn start(&self, endpoint: &Endpoint) -> Running {
        self.start_in(&Place::here(), endpoint)
    }

    /// Starts a builder in a restricted place.
    pub(crate) fn start_in(&self, place: &Place, endpoint: &Endpoint) -> Running {
        Running(self.builder_in(place, endpoint).spawn().expect("the builder starts"))
    }
}

/// A builder at work. It does not outlive its test.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn pid(&self) -> Pid {
        Pid(self.0.id())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(rustix::process::Pid::from_child(&self.0), signal).expect("it runs");
    }

    /// Its exit code and what it said on stderr.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let status: ExitStatus = self.0.wait().expect("it ends");
        let mut said = String::new();
        if let Some(mut stderr) = self.0.stderr.take() {
            std::io::Read::read_to_string(&mut stderr, &mut said).expect("text");
        }
        (status.code(), said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A process of the test's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pid(pub(crate) u32);

impl Pid {
    /// Whether it runs: it is there, and no zombie.
    pub(crate) fn runs(self) -> bool {
        self.stat(0).is_some_and(|state| state != "Z")
    }

    /// The evaluators that a builder runs, once there are any.
    pub(crate) fn evaluators(self) -> Vec<Pid> {
        let find = || self.descendants().into_iter().filter(|pid| pid.name() == "nix\n").collect::<Vec<_>>();
        endpoint::patiently(|| !find().is_empty(), "an evaluator");
        find()
    }

    fn name(self) -> String {
        fs::read_to_string(format!("/proc/{}/comm", self.0)).unwrap_or_default()
    }

    /// The Nix that a builder runs at the moment.
    pub(crate) fn nix(self) -> Pid {
        self.descendants().into_iter().find(|pid| pid.name().starts_with("nix-")).expect("Nix at work")
    }

    /// All its descendants.
    fn descendants(self) -> Vec<Pid> {
        let all = fs::read_dir("/proc").expect("/proc").flatten();
        let all: Vec<Pid> = all.filter_map(|entry| Some(Pid(entry.file_name().to_str()?.parse().ok()?))).collect();
        let mut found = vec![self];
        let mut next = 0;
        while next < found.len() {
            let parent = found[next].0.to_string();
            found.extend(all.iter().filter(|pid| pid.stat(1).as_ref() == Some(&parent)));
            next += 1;
        }
        found.split_off(1)
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(self) {
        let pid = i32::try_from(self.0).ok().and_then(rustix::process::Pid::from_raw).expect("a process's number");
        kill_process(pid, Signal::KILL).expect("it runs");
    }

    /// Waits until it is gone.
    pub(crate) fn wait_gone(self) {
        endpoint::patiently(|| !self.runs(), &format!("process {} to be gone", self.0));
    }

    /// A field of its `stat`, counted behind the name.
    fn stat(self, field: usize) -> Option<String> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(field).map(str::to_owned)
    }
}

/// A store that all tests of this run share, apart from the machine's own.
fn nix_environment() -> Vec<(&'static str, String)> {
    static STORE: OnceLock<PathBuf> = OnceLock::new();
    nix_environment_in(STORE.get_or_init(|| {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nix");
        fs::create_dir_all(root.join("home")).expect("a directory");
        // Nix processes that create a new store at the same time fail at times.
        let made = Command::new("nix-store").arg("--init").envs(nix_environment_in(&root)).status();
        assert!(made.is_ok_and(|status| status.success()), "these tests need Nix (scripts/test installs it)");
        root
    }))
}

fn nix_environment_in(root: &Path) -> Vec<(&'static str, String)> {
    let path = |name: &str| root.join(name).to_string_lossy().into_owned();
    vec![
        ("NIX_STORE_DIR", path("store")),
        ("NIX_STATE_DIR", path("var")),
        ("NIX_LOG_DIR", path("log")),
        ("NIX_CONF_DIR", path("etc")),
        ("HOME", path("home")),
        ("NIX_CONFIG", "sandbox = false\nbuild-users-group =\nsubstituters =\nmax-jobs = 4\n".into()),
    ]
}
