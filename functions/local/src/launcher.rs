//! Builders as child processes, each in a process group of its own.
//!
//! A builder outlives the server that started it: a server that was killed and started again hears of it through its
//! lease, as before. So its output goes to a file and not to a pipe, whose other end would die with the server. The
//! builder holds the lock on that file for as long as it runs, and that is how the next server knows that a lease's
//! builder was started already.

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
    ports::{Launcher, NotLaunched, Unavailable},
};
use tokio::{
    process::{Child, Command},
    sync::{Notify, mpsc, watch},
};

use crate::{
    dir::{DataDir, OpenError},
    origin,
    task::{self, Task},
};

/// How long a builder may take to end by itself once it was told to.
pub const GRACE: Duration = Duration::from_secs(10);
/// How long a builder's output is kept after its last line.
const LOG_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);

/// A builder came to an end. Whoever serves applies `Stopped` for it: where it had settled before, that changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuilderExit {
    /// Which build.
    pub key: BuildKey,
    /// Which attempt.
    pub lease: LeaseId,
    /// What its end means, if it had not settled.
    pub failure: Failure,
    /// For how long it ran.
    pub ran: Duration,
}

/// Every end of a builder that this process started.
pub type Ends = mpsc::UnboundedReceiver<BuilderExit>;

/// The launcher of one machine.
#[derive(Debug)]
pub struct LocalLauncher {
    program: PathBuf,
    origin: String,
    logs: PathBuf,
    grace: Duration,
    tasks: Mutex<Tasks>,
    running: watch::Sender<usize>,
    ends: mpsc::UnboundedSender<BuilderExit>,
}

/// Every builder that this process started, ended ones too: the same lease never starts a second one.
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
    /// A launcher of `program`, whose builders speak to `origin`.
    ///
    /// # Errors
    /// [`OpenError`], where there is no place for their output.
    pub fn open(dir: &Arc<DataDir>, origin: &str, program: PathBuf) -> Result<(LocalLauncher, Ends), OpenError> {
        let logs = dir.subdir("builders")?;
        forget_old(&logs).map_err(|e| OpenError::of(&logs, e))?;
        let (ends, receiver) = mpsc::unbounded_channel();
        let launcher = LocalLauncher {
            program,
            origin: origin.to_owned(),
            logs,
            grace: GRACE,
            tasks: Mutex::default(),
            running: watch::Sender::new(0),
            ends,
        };
        Ok((launcher, receiver))
    }

    /// The same with another time to end in: for tests.
    #[must_use]
    pub fn with_grace(self, grace: Duration) -> LocalLauncher {
        LocalLauncher { grace, ..self }
    }

    /// Stops every builder that this process started, starts none any more, and returns when all have ended: by
    /// themselves, or killed after their time.
    pub async fn stop_all(&self) {
        {
            let mut tasks = self.tasks();
            tasks.closed = true;
            tasks.known.values().for_each(|started| started.stop.notify_one());
        }
        // Can not fail: the sender is here.
        let _ = self.running.subscribe().wait_for(|running| *running == 0).await;
    }

    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a builder writes to its standard output and error. It holds the lock on it.
    fn log(&self, lease: &LeaseId) -> PathBuf {
        self.logs.join(format!("{lease}.log"))
    }

    /// Its process id, for a later server. Not in the log, into which foreign text may come.
    fn pid_file(&self, lease: &LeaseId) -> PathBuf {
        self.logs.join(format!("{lease}.pid"))
    }

    /// Whether somebody holds the lock on a builder's output.
    fn runs(&self, lease: &LeaseId) -> io::Result<bool> {
        match File::open(self.log(lease)) {
            Ok(log) => Ok(!lock(&log)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn start(&self, key: &BuildKey, lease: &Lease, log: &File) -> Result<Child, NotLaunched> {
        let output = || log.try_clone().map(Stdio::from).map_err(unavailable);
        Command::new(&self.program)
            .env("BINPLZ_LEASE_URL", origin::url(&self.origin, &format!("lease/{key}/{}", lease.id)))
            .env("BINPLZ_LEASE_TOKEN", lease.token.reveal())
            .stdin(Stdio::null())
            .stdout(output()?)
            .stderr(output()?)
            .process_group(0)
            .spawn()
            .map_err(|error| self.not_started(&error))
    }

    /// A program that is not there, or is no program, will not be there at the next try either.
    fn not_started(&self, error: &io::Error) -> NotLaunched {
        tracing::error!(%error, program = %self.program.display(), "the builder could not be started");
        match error.kind() {
            io::ErrorKind::NotFound => NotLaunched::Refused("the builder's program is not installed".to_owned()),
            io::ErrorKind::PermissionDenied => {
                NotLaunched::Refused("the builder's program is not executable".to_owned())
            }
            io::ErrorKind::OutOfMemory | io::ErrorKind::WouldBlock => unavailable(error).into(),
            _ => NotLaunched::Refused("the builder's program can not be run on this machine".to_owned()),
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
            // A server before this one started it, and did not live to say so.
            return Ok(fs::read_to_string(self.pid_file(&lease.id)).unwrap_or_else(|_| "unknown".to_owned()));
        }
        let child = self.start(key, lease, &log)?;
        let began = Instant::now();
        let task = child.id().map(|id| id.to_string()).unwrap_or_default();
        let pid_file = self.pid_file(&lease.id);
        // Only a later server reads it: without it, that one still sees the lock.
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
            // Nobody to tell: the server is going down, and the lease lapses.
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
        // A builder of a server before this one: its process id is its own for as long as it holds the lock.
        if self.runs(lease).map_err(unavailable)?
            && let Some(pid) = fs::read_to_string(self.pid_file(lease)).ok().and_then(|pid| pid.parse().ok())
        {
            task::tell_group(pid, rustix::process::Signal::TERM);
        }
        Ok(())
    }

    async fn running(&self) -> Result<Vec<LeaseId>, Unavailable> {
        // A look at a lock takes it for a moment, and nobody is started meanwhile.
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

/// Takes the lock on a builder's output, if nobody holds it.
fn lock(log: &File) -> io::Result<bool> {
    match log.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

/// Removes the output of builders that ended long ago.
fn forget_old(logs: &Path) -> io::Result<()> {
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
