//! A function's life: from its process's start, as Lambda starts one, to its end.

use std::{
    fs,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use hyper::body::Bytes;
use tokio::{
    process::{Child, Command},
    sync::oneshot,
    time::timeout,
};

use crate::{Fallible, World, runtime::Said};

/// Nothing that is measured takes this long.
const STUCK: Duration = Duration::from_secs(30);

/// A function, unpacked.
pub struct Candidate {
    /// What it is called in the table.
    pub name: String,
    /// `LAMBDA_TASK_ROOT`.
    pub root: PathBuf,
    /// Bytes that are uploaded.
    pub zip: u64,
}

impl Candidate {
    /// The function in a directory, whose archive lies beside it.
    pub fn open(root: PathBuf) -> Fallible<Candidate> {
        let name = root.file_name().and_then(|name| name.to_str()).ok_or("a candidate is a directory with a name")?;
        let zip = fs::metadata(root.with_file_name(format!("{name}.zip")))?.len();
        Ok(Candidate { name: name.to_owned(), zip, root })
    }
}

/// A running function that waits for an event.
pub struct Life<'w> {
    world: &'w mut World,
    process: Child,
    next: oneshot::Sender<Bytes>,
    /// From the process's start to its first question for an event.
    pub init: Duration,
    reads_before: usize,
}

impl<'w> Life<'w> {
    /// Starts it, and waits until it is ready.
    pub async fn begin(world: &'w mut World, candidate: &Candidate) -> Fallible<Life<'w>> {
        let mut command = Command::new(candidate.root.join("bootstrap"));
        command.current_dir(&candidate.root).env_clear().envs(world.job.environment(world, candidate));
        command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        let began = Instant::now();
        let mut process = command.spawn()?;
        let Said::Next(at, next) = hear(world, &mut process).await? else {
            return Err("it answered before it was asked".into());
        };
        let reads_before = world.dynamo.asked();
        if reads_before.hits > 0 || !reads_before.faults.is_empty() {
            return Err(format!("before its first event it asked {reads_before:?}").into());
        }
        Ok(Life { world, process, next, init: at - began, reads_before: reads_before.misses })
    }

    /// Hands an event over and takes the answer, which must be right; how long that took.
    pub async fn invoke(&mut self) -> Fallible<Duration> {
        let (unused, _) = oneshot::channel();
        let began = Instant::now();
        std::mem::replace(&mut self.next, unused).send(self.world.job.event()).map_err(|_| "it hung up")?;
        let (at, answer) = match hear(self.world, &mut self.process).await? {
            Said::Answer(at, answer) => (at, answer),
            Said::Next(..) => return Err("it asked for the next event without an answer to the last".into()),
            Said::Failed(why) => return Err(String::from_utf8_lossy(&why).into()),
        };
        let Said::Next(_, next) = hear(self.world, &mut self.process).await? else {
            return Err("it answered twice".into());
        };
        self.next = next;
        self.world.job.check(&answer, &self.world.dynamo.endpoint)?;
        Ok(at - began)
    }

    /// Processor time of all threads so far.
    pub fn processor_time(&self) -> Fallible<Duration> {
        let mut all = 0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.pid()?))? {
            let times = fs::read_to_string(thread?.path().join("schedstat"))?;
            all += times.split(' ').next().unwrap_or("").parse::<u64>()?;
        }
        Ok(Duration::from_nanos(all))
    }

    /// Memory that is its own or mapped and present.
    pub fn resident_bytes(&self) -> Fallible<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }

    fn pid(&self) -> Fallible<u32> {
        self.process.id().ok_or_else(|| "it has ended".into())
    }

    /// Ends it. Each of its answers took one read, and nothing else was asked; returns how many reads there were before the first event.
    pub async fn end(mut self, answers: usize) -> Fallible<usize> {
        let asked = self.world.dynamo.asked();
        if asked.hits != answers || asked.misses > 0 || !asked.faults.is_empty() {
            return Err(format!("for {answers} answers it asked {asked:?}").into());
        }
        self.process.kill().await?;
        Ok(self.reads_before)
    }
}

async fn hear(world: &mut World, process: &mut Child) -> Fallible<Said> {
    tokio::select! {
        said = timeout(STUCK, world.runtime.said.recv()) => Ok(said?.ok_or("the runtime API is gone")?),
        status = process.wait() => Err(format!("it ended: {}", status?).into()),
    }
}
