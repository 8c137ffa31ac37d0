//! What the outside sees, asked of a local server.

use std::{
    fs,
    ops::Deref,
    path::{Path, PathBuf},
    process::Command,
};

use binplz_core::build::policy::Policy;
use binplz_tests::{
    answers::{Running, Start, granting::decimal},
    server::{Server, program, write_program},
    site::Site,
};
use tempfile::TempDir;

/// `binplz serve`.
struct Here;

/// A server whose builders write down that they were started: there stands a process that could reach Nix.
struct Local {
    server: Server,
    dir: TempDir,
}

impl Start for Here {
    type Running = Local;
    fn start(&self, set: &Path, policy: &Policy) -> Local {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let builder = tripwire(dir.path());
        let mut options = flags(policy);
        options.extend(["--builder".to_owned(), builder.to_str().expect("a path").to_owned()]);
        let options: Vec<_> = options.iter().map(String::as_str).collect();
        Local { server: Server::start(set, &dir.path().join("data"), &options), dir }
    }
}

impl Running for Local {
    const PAID: bool = false;

    fn operator(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("binplz"));
        command.args(arguments).arg("--data").arg(&self.server.data);
        command
    }
    fn builders(&self) -> Vec<String> {
        let started = fs::read_to_string(self.dir.path().join("started")).unwrap_or_default();
        started.lines().map(str::to_owned).collect()
    }
    fn objects(&self) -> Vec<(String, String)> {
        let root = self.server.data.join("objects");
        let paths = files(&root).into_iter().map(|file| {
            let path = file.strip_prefix(&root).expect("below it");
            path.to_str().expect("text").to_owned()
        });
        paths.map(|path| (path.clone(), format!("{}/-/objects/{path}", self.server.origin()))).collect()
    }
}

/// The files below a directory. One that goes away meanwhile is none.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

impl Deref for Local {
    type Target = Site;
    fn deref(&self) -> &Site {
        &self.server
    }
}

pub(crate) fn tripwire(dir: &Path) -> PathBuf {
    let script = dir.join("builder");
    let real = program("binplz-builder");
    write_program(
        &script,
        format!("#!/bin/sh\necho \"$BINPLZ_LEASE_URL\" >> {}/started\nexec {} \"$@\"\n", dir.display(), real.display()),
    );
    script
}

/// A policy, as `binplz serve` is told of it.
fn flags(policy: &Policy) -> Vec<String> {
    let job = &policy.job;
    [
        ("lease", policy.lease.as_secs()),
        ("attempts", policy.attempts.into()),
        ("retry-delay", policy.first_delay.as_secs()),
        ("cool-down", policy.cool_down.as_secs()),
        ("build-time", job.seconds),
        ("silent-time", job.silent_seconds),
        ("log-size", job.log_bytes),
        ("program-size", job.program_bytes),
        ("package-size", job.package_bytes),
        ("jobs", policy.slots as u64),
        ("hold", policy.hold.as_secs()),
        ("waiters", policy.waiters as u64),
    ]
    .map(|(name, value)| format!("--{name}={value}"))
    .into_iter()
    .chain([format!("--names={}", policy.names), format!("--hour-price={}", decimal(policy.prices.task))])
    .chain(policy.client_builds.map(|builds| format!("--client-builds={builds}")))
    .chain(policy.budget.map(|budget| format!("--budget={}", decimal(budget))))
    .collect()
}

/// One test for each promise.
macro_rules! here {
    ($module:ident: $($promise:ident),+;) => {
        mod $module {
            $(
                #[test]
                fn $promise() {
                    binplz_tests::answers::$module::$promise(&super::Here);
                }
            )+
        }
    };
}

binplz_tests::answer_promises!(here);
binplz_tests::operator_promises!(here);
