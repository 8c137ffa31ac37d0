//! Builders as child processes, each in its own process group.
//!
//! A builder outlives the server that started it: a restarted server hears of it through its lease, as before. Its
//! output therefore goes to a file, not to a pipe that would break with the server. The builder holds a lock on that
//! file while it runs, which is how the next server knows that the lease's builder was started already.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use binplz_core::{
    build::{Lease, failure::Failure},
    id::key::{BuildKey, LeaseId},
    objects::artifact::AttemptPrefix,
    ports::{Launcher, NotLaunched, Unavailable},
};
use tokio::{
    process::Child,
    sync::{Notify, mpsc, watch},
};

use crate::{
    dir::{DataDir, OpenError},
    gc,
    isolation::Isolation,
    origin,
    task::{self, Task},
};

/// How long a builder may take to end after SIGTERM before it is killed.
pub const GRACE: Duration = Duration::from_secs(10);
/// How long a builder's output file is kept after its last line.
const LOG_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);

/// The end of a builder's process. The server applies `Stopped` for it, which changes nothing if the builder had
/// settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuilderExit {
    /// The build.
    pub key: BuildKey,
    /// The attempt.
    pub lease: LeaseId,
    /// The failure that this end means, unless the builder had settled.
    pub failure: Failure,
    /// How long the process ran.
    pub ran: Duration,
}

/// Receives the end of every builder that this process started.
pub type Ends = mpsc::UnboundedReceiver<BuilderExit>;

/// The launcher of one machine.
#[derive(Debug)]
pub struct LocalLauncher {
    program: PathBuf,
    isolation: Isolation,
    origin: String,
    /// The store's objects.
    objects: PathBuf,
    logs: PathBuf,
    grace: Duration,
    tasks: Mutex<Tasks>,
    running: watch::Sender<usize>,
    ends: mpsc::UnboundedSender<BuilderExit>,
}

/// Every builder that this process started, including ended ones: a lease never starts a second builder.
#[derive(Debug, Default)]
struct Tasks {
    closed: bool,
    known: HashMap<LeaseId, Started>,
}

#[derive(Debug)]
struct Started {
    task: String,
    stop: Arc<Notify>,
}

fn unavailable(cause: impl ToString) -> Unavailable {
    Unavailable::new("launcher", cause)
}

impl LocalLauncher {
    /// Opens a launcher of `program`, whose builders talk to `origin`.
    ///
    /// # Errors
    /// [`OpenError`], if the directory for their output cannot be created.
    pub fn open(dir: &Arc<DataDir>, origin: &str, program: PathBuf) -> Result<(LocalLauncher, Ends), OpenError> {
        let logs = dir.subdir("builders")?;
        forget_old(&logs).map_err(|e| OpenError::of(&logs, e))?;
        let (ends, receiver) = mpsc::unbounded_channel();
        let launcher = LocalLauncher {
            program,
            isolation: Isolation::default(),
            origin: origin.to_owned(),
            objects: dir.subdir("objects")?,
            logs,
            grace: GRACE,
            tasks: Mutex::default(),
            running: watch::Sender::new(0),
            ends,
        };
        Ok((launcher, receiver))
    }

    /// Starts builders so.
    #[must_use]
    pub fn isolated(self, isolation: Isolation) -> LocalLauncher {
        LocalLauncher { isolation, ..self }
    }

    /// Sets another time to end in, for tests.
    #[must_use]
    pub fn with_grace(self, grace: Duration) -> LocalLauncher {
        LocalLauncher { grace, ..self }
    }

    /// Stops every builder that this process started, starts no more, and returns when all have ended or were killed.
    pub async fn stop_all(&self) {
        {
            let mut tasks = self.tasks();
            tasks.closed = true;
            tasks.known.values().for_each(|started| started.stop.notify_one());
        }
        // This cannot fail while `self` owns the sender.
        let _ = self.running.subscribe().wait_for(|running| *running == 0).await;
    }

    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file of a builder's standard output and error, which the builder locks.
    fn log(&self, lease: &LeaseId) -> PathBuf {
        self.logs.join(format!("{lease}.log"))
    }

    /// The file with the builder's process id, for a later server. A file of its own, since the log may contain foreign
    /// text.
    fn pid_file(&self, lease: &LeaseId) -> PathBuf {
        self.logs.join(format!("{lease}.pid"))
    }

    /// Whether a process holds the lock on a builder's output.
    fn runs(&self, lease: &LeaseId) -> io::Result<bool> {
        match File::open(self.log(lease)) {
            Ok(log) => Ok(!lock(&log)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn start(&self, key: &BuildKey, lease: &Lease, log: &File) -> Result<Child, NotLaunched> {
        // In a namespace, a missing program would show by an exit code only.
        rustix::fs::access(&self.program, rustix::fs::Access::EXEC_OK)
            .map_err(|error| self.not_started(&error.into()))?;
        let output = || log.try_clone().map(Stdio::from).map_err(unavailable);
        self.isolation
            .command(&self.program)
            .env("BINPLZ_LEASE_URL", origin::url(&self.origin, &format!("lease/{key}/{}", lease.id)))
            .env("BINPLZ_LEASE_TOKEN", lease.token.reveal())
            .stdin(Stdio::null())
            .stdout(output()?)
            .stderr(output()?)
            .process_group(0)
            .spawn()
            .map_err(|error| self.not_started(&error))
    }

    /// A missing or unusable program will not appear before the next try, so this is a refusal.
    fn not_started(&self, error: &io::Error) -> NotLaunched {
        tracing::error!(%error, program = %self.program.display(), "the builder could not be started");
        match error.kind() {
            io::ErrorKind::NotFound => NotLaunched::Refused("the builder's program is not installed".to_owned()),
            io::ErrorKind::PermissionDenied => {
                NotLaunched::Refused("the builder's program is not executable".to_owned())
            }
            io::ErrorKind::OutOfMemory | io::ErrorKind::WouldBlock => unavailable(error).into(),
            _ => NotLaunched::Refused("the builder's program cannot be run on this machine".to_owned()),
        }
    }
}

impl Launcher for LocalLauncher {
    async fn launch(&self, key: &BuildKey, lease: &Lease) -> Result<String, NotLaunched> {
        let mut tasks = self.tasks();
        if let Some(started) = tasks.known.get(&lease.id) {
            return Ok(started.task.clone());
        }
        if tasks.closed {
            return Err(unavailable("the service is stopping").into());
        }
        let path = self.log(&lease.id);
        let log = open_log(&path).map_err(unavailable)?;
        if !lock(&log).map_err(unavailable)? {
            // An earlier server started it, and died before it wrote that down.
            return Ok(fs::read_to_string(self.pid_file(&lease.id)).unwrap_or_else(|_| "unknown".to_owned()));
        }
        let child = self.start(key, lease, &log)?;
        let began = Instant::now();
        let task = child.id().map(|id| id.to_string()).unwrap_or_default();
        let pid_file = self.pid_file(&lease.id);
        // Only a later server reads this file; without it, the lock still shows that the builder runs.
        let _ = fs::write(&pid_file, &task);
        let stop = Arc::new(Notify::new());
        tasks.known.insert(lease.id.clone(), Started { task: task.clone(), stop: Arc::clone(&stop) });
        self.running.send_modify(|running| *running += 1);

        let (ends, running) = (self.ends.clone(), self.running.clone());
        let (key, lease, grace) = (key.clone(), lease.id.clone(), self.grace);
        tokio::spawn(async move {
            let end = Task { child, stop, grace }.wait().await;
            if end.is_news() {
                tracing::warn!(%key, %lease, log = %path.display(), "a builder {end}");
            }
            let _ = fs::remove_file(pid_file);
            // The receiver is gone when the server shuts down; the lease then expires.
            let _ = ends.send(BuilderExit { key, lease, failure: end.failure(), ran: began.elapsed() });
            running.send_modify(|running| *running -= 1);
        });
        Ok(task)
    }

    async fn stop(&self, lease: &LeaseId, _task: Option<&str>) -> Result<(), Unavailable> {
        if let Some(started) = self.tasks().known.get(lease) {
            started.stop.notify_one();
            return Ok(());
        }
        // A builder of an earlier server: its process id is its own while it holds the lock.
        if self.runs(lease).map_err(unavailable)?
            && let Some(pid) = fs::read_to_string(self.pid_file(lease)).ok().and_then(|pid| pid.parse().ok())
        {
            task::tell_group(pid, rustix::process::Signal::TERM);
        }
        Ok(())
    }

    async fn left(&self, prefix: &AttemptPrefix) -> Result<Option<u64>, Unavailable> {
        gc::left(&self.objects, prefix).await.map(Some)
    }

    async fn running(&self) -> Result<Vec<LeaseId>, Unavailable> {
        // Checking a lock takes it for a moment, so no builder may start meanwhile.
        let _tasks = self.tasks();
        let names = fs::read_dir(&self.logs).map_err(unavailable)?;
        let mut running = Vec::new();
        for name in names {
            let path = name.map_err(unavailable)?.path();
            let lease = path.extension().filter(|extension| *extension == "pid").and(path.file_stem());
            let Some(lease) = lease.and_then(|lease| lease.to_str()).and_then(|lease| lease.parse().ok()) else {
                continue;
            };
            if self.runs(&lease).map_err(unavailable)? {
                running.push(lease);
            }
        }
        Ok(running)
    }
}

fn open_log(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// Takes the lock on a builder's output, unless another process holds it.
fn lock(log: &File) -> io::Result<bool> {
    match log.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

/// Removes the output of builders that ended longer than [`LOG_LIFE`] ago.
fn forget_old(logs: &Path) -> io::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "files' times are of the file system's clock")]
    let now = SystemTime::now();
    for entry in fs::read_dir(logs)? {
        let entry = entry?;
        let age = now.duration_since(entry.metadata()?.modified()?).unwrap_or_default();
        if age > LOG_LIFE && lock(&File::open(entry.path())?)? {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
