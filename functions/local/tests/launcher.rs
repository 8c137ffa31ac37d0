//! Builders as processes; shell scripts stand in for the builder's program.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use binplz_core::{
    build::{
        Lease,
        failure::{Failure, Kind},
        size::Size,
    },
    id::{
        key::{BuildKey, System},
        time::Timestamp,
    },
    ports::{Launcher, NotLaunched},
};
use binplz_local::{BuilderExit, DataDir, Ends, LocalLauncher};
use tempfile::TempDir;

struct Machine {
    dir: TempDir,
    data: Arc<DataDir>,
    program: PathBuf,
}

impl Machine {
    /// A machine whose builder is this script; `$DIR` is a directory for its reports.
    fn new(script: &str) -> Machine {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let program = dir.path().join("builder");
        write_program(&program, &format!("#!/bin/sh\nDIR='{}'\n{script}\n", dir.path().display()));
        let data = DataDir::open(&dir.path().join("data")).expect("a data directory");
        Machine { dir, data, program }
    }

    fn launcher(&self) -> (LocalLauncher, Ends) {
        LocalLauncher::open(&self.data, "http://127.0.0.1:8080", self.program.clone()).expect("a launcher")
    }

    fn told(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }

    /// A pipe through which a script reports that it has reached a point: opening it for reading waits until it is
    /// opened for writing.
    fn pipe(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo, of coreutils");
        assert!(made.success());
        path
    }

    fn output_of(&self, lease: &Lease) -> PathBuf {
        self.dir.path().join(format!("data/builders/{}.log", lease.id))
    }
}

/// Written by another process: if a test forks while this process has the program open for writing, executing it fails
/// with "text file busy".
fn write_program(path: &Path, text: &str) {
    let draft = path.with_extension("draft");
    fs::write(&draft, text).expect("a file");
    let mut install = std::process::Command::new("install");
    assert!(install.arg("-m755").arg(&draft).arg(path).status().expect("install, of coreutils").success());
}

async fn read(pipe: PathBuf) -> String {
    let read = tokio::task::spawn_blocking(move || fs::read_to_string(pipe));
    read.await.expect("a thread").expect("a pipe")
}

fn key() -> BuildKey {
    let product = "libsigc++".parse().expect("a package");
    BuildKey { rev: "ab".repeat(20).parse().expect("hex"), system: System::X86_64Linux, product }
}

fn lease(n: u32) -> Lease {
    Lease {
        id: format!("{n:032x}").parse().expect("32 hex digits"),
        token: format!("{n:064x}").parse().expect("64 hex digits"),
        attempt: 1,
        size: Size::default(),
        claimed: Timestamp(1),
        expires: Timestamp(2),
        task: None,
        on_demand: false,
        derivation: None,
        seconds: None,
        plan: None,
    }
}

/// The next builder's end.
async fn end(ends: &mut Ends) -> Option<BuilderExit> {
    ends.recv().await.map(whenever)
}

/// The same end with a run time of zero.
fn whenever(end: BuilderExit) -> BuilderExit {
    assert!(end.ran > Duration::ZERO, "{end:?}");
    BuilderExit { ran: Duration::ZERO, ..end }
}

fn ended(n: u32, kind: Kind, how: &str) -> BuilderExit {
    BuilderExit { key: key(), lease: lease(n).id, failure: Failure::new(kind, how), ran: Duration::ZERO }
}

#[tokio::test]
async fn a_builder_gets_its_url_and_token_in_its_environment_and_the_rest_of_it_from_the_server() {
    let machine =
        Machine::new(r#"echo "$BINPLZ_LEASE_URL $BINPLZ_LEASE_TOKEN $# ${PATH:+path}" >"$DIR/told"; env >&2"#);
    let (launcher, mut ends) = machine.launcher();
    let task = launcher.launch(&key(), &lease(1)).await.expect("a builder");
    assert!(task.parse::<u32>().is_ok(), "{task}");
    ends.recv().await.expect("its end");
    let lease = lease(1);
    let url = format!("http://127.0.0.1:8080/-/lease/{}/x86_64-linux/libsigc%2B%2B/{}", key().rev, lease.id);
    assert_eq!(machine.told("told"), format!("{url} {} 0 path\n", lease.token.reveal()));
    let output = fs::read_to_string(machine.output_of(&lease)).expect("what it wrote");
    assert!(output.contains("BINPLZ_LEASE_URL="), "its output is kept: {output}");
}

#[tokio::test]
async fn the_same_lease_starts_no_second_builder_while_the_first_runs_or_after_its_end() {
    let machine = Machine::new(r#"echo started >>"$DIR/told""#);
    let (launcher, mut ends) = machine.launcher();
    let first = launcher.launch(&key(), &lease(1)).await;
    assert_eq!(launcher.launch(&key(), &lease(1)).await, first);
    ends.recv().await.expect("its end");
    assert_eq!(launcher.launch(&key(), &lease(1)).await, first);
    launcher.launch(&key(), &lease(2)).await.expect("another lease's builder");
    assert_eq!(ends.recv().await.expect("its end").lease, lease(2).id);
    assert_eq!(machine.told("told"), "started\nstarted\n");
}

#[tokio::test]
async fn every_end_is_told_once_and_how() {
    for (script, kind, how) in [
        ("exit 0", Kind::BuilderError, "it ended with code 0"),
        ("exit 3", Kind::BuilderError, "it ended with code 3"),
        ("exit 101", Kind::BuilderError, "it ended with code 101"),
        ("kill -9 $$", Kind::Killed, "it was ended by signal 9"),
    ] {
        let machine = Machine::new(script);
        let (launcher, mut ends) = machine.launcher();
        launcher.launch(&key(), &lease(1)).await.expect("a builder");
        assert_eq!(end(&mut ends).await, Some(ended(1, kind, how)), "{script}");
        drop(launcher);
        assert_eq!(ends.recv().await, None, "once");
    }
}

#[tokio::test]
async fn a_program_that_can_not_be_run_is_refused_with_a_sentence() {
    let machine = Machine::new("");
    let refused = async |why: &str| {
        let (launcher, _ends) = machine.launcher();
        let launched = launcher.launch(&key(), &lease(1)).await;
        assert_eq!(launched, Err(NotLaunched::Refused(format!("the builder's program {why}"))));
    };
    fs::set_permissions(&machine.program, fs::Permissions::from_mode(0o644)).expect("a mode");
    refused("is not executable").await;
    write_program(&machine.program, "\x7fELF, but no program");
    refused("cannot be run on this machine").await;
    fs::remove_file(&machine.program).expect("it was there");
    refused("is not installed").await;
}

#[tokio::test]
async fn a_stopped_builder_is_told_to_end_with_all_that_it_started() {
    // The script's child holds the output open, and so the lock, while it lives. The child reports itself that it is
    // up: before it has executed its own program it still has the script's trap, and ignores the signal.
    let machine = Machine::new(
        r#"trap 'echo told >"$DIR/told"; exit 3' TERM; sh -c "echo up >'$DIR/up'; exec sleep 1000" & wait"#,
    );
    let up = machine.pipe("up");
    let (launcher, mut ends) = machine.launcher();
    launcher.launch(&key(), &lease(1)).await.expect("a builder");
    assert_eq!(read(up).await, "up\n");
    launcher.stop(&lease(1).id, None).await.expect("to stop it");
    assert_eq!(end(&mut ends).await, Some(ended(1, Kind::Interrupted, "it was told to stop")));
    assert_eq!(machine.told("told"), "told\n");
    let output = fs::File::open(machine.output_of(&lease(1))).expect("its output");
    tokio::task::spawn_blocking(move || output.lock()).await.expect("a thread").expect("the whole group is gone");
    launcher.stop(&lease(1).id, None).await.expect("one that is gone is fine");
    launcher.stop(&lease(2).id, None).await.expect("one that never was is fine");
}

#[tokio::test]
async fn a_builder_that_does_not_end_when_told_is_killed() {
    let machine = Machine::new(r#"trap '' TERM; echo up >"$DIR/up"; while :; do sleep 1000; done"#);
    let up = machine.pipe("up");
    let (launcher, mut ends) = machine.launcher();
    let launcher = launcher.with_grace(Duration::from_millis(20));
    launcher.launch(&key(), &lease(1)).await.expect("a builder");
    assert_eq!(read(up).await, "up\n");
    launcher.stop(&lease(1).id, None).await.expect("to stop it");
    assert_eq!(end(&mut ends).await, Some(ended(1, Kind::Interrupted, "it was told to stop")));
}

#[tokio::test]
async fn the_next_server_starts_no_second_builder_for_a_lease_and_can_stop_the_first() {
    let machine = Machine::new(r#"echo started >>"$DIR/told"; echo up >"$DIR/up"; exec sleep 1000"#);
    let up = machine.pipe("up");
    let (first, mut ends) = machine.launcher();
    let task = first.launch(&key(), &lease(1)).await.expect("a builder");
    assert_eq!(read(up).await, "up\n");
    // It shares only the directory with the first one.
    let (second, _) = machine.launcher();
    assert_eq!(second.launch(&key(), &lease(1)).await.as_ref(), Ok(&task));
    second.stop(&lease(1).id, None).await.expect("to stop it");
    assert_eq!(end(&mut ends).await, Some(ended(1, Kind::Killed, "it was ended by signal 15")));
    assert_eq!(machine.told("told"), "started\n");
}

#[tokio::test]
async fn a_stopping_server_ends_every_builder_and_starts_none() {
    let machine = Machine::new("exec sleep 1000");
    let (launcher, mut ends) = machine.launcher();
    for n in 1..=3 {
        launcher.launch(&key(), &lease(n)).await.expect("a builder");
    }
    launcher.stop_all().await;
    let mut told: Vec<BuilderExit> = std::iter::from_fn(|| ends.try_recv().ok().map(whenever)).collect();
    told.sort_by(|a, b| a.lease.cmp(&b.lease));
    assert_eq!(told, [1, 2, 3].map(|n| ended(n, Kind::Interrupted, "it was told to stop")));
    assert!(matches!(launcher.launch(&key(), &lease(4)).await, Err(NotLaunched::Unavailable(_))));
    launcher.stop_all().await;
}
