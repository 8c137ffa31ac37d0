//! One builder's process, from its start to its end. It is signalled only from here while it runs, where it is also
//! awaited: so its process id can not have become another process's.

use std::{fmt, os::unix::process::ExitStatusExt, process::ExitStatus, sync::Arc, time::Duration};

use binplz_core::build::failure::{Failure, Kind};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{process::Child, sync::Notify, time::timeout};

/// A running builder.
pub(crate) struct Task {
    pub(crate) child: Child,
    /// Tells it to stop.
    pub(crate) stop: Arc<Notify>,
    /// How long it may then take.
    pub(crate) grace: Duration,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself, with this code.
    Code(i32),
    /// By this signal, and not because of us.
    Signal(i32),
    /// Because it was told to.
    Stopped,
    /// Nobody can say.
    Unknown,
}

/// What a builder ends with that has settled, or whose lease was no longer live: both are as they should be.
const ORDINARY: [i32; 2] = [0, 3];

impl Task {
    /// Waits for its end, and stops it if it is told to.
    pub(crate) async fn wait(mut self) -> End {
        let group = self.child.id().and_then(|id| i32::try_from(id).ok());
        let tell = |signal| group.into_iter().for_each(|pid| tell_group(pid, signal));
        let (status, stopped) = tokio::select! {
            status = self.child.wait() => (status, false),
            () = self.stop.notified() => {
                tell(Signal::TERM);
                match timeout(self.grace, self.child.wait()).await {
                    Ok(status) => (status, true),
                    Err(_) => {
                        tell(Signal::KILL);
                        (self.child.wait().await, true)
                    }
                }
            }
        };
        // What it started and left behind (Nix, after a kill) works for nobody any more. The group keeps its number for
        // as long as it has a member.
        tell(Signal::TERM);
        match status {
            _ if stopped => End::Stopped,
            Ok(status) => End::of(status),
            Err(error) => {
                tracing::error!(%error, "a builder could not be awaited");
                End::Unknown
            }
        }
    }
}

impl End {
    fn of(status: ExitStatus) -> End {
        match (status.code(), status.signal()) {
            (Some(code), _) => End::Code(code),
            (None, Some(signal)) => End::Signal(signal),
            (None, None) => End::Unknown,
        }
    }

    /// Whether the operator should hear of it.
    pub(crate) fn is_news(self) -> bool {
        !matches!(self, End::Stopped) && !ORDINARY.map(End::Code).contains(&self)
    }

    /// What it means for the build, if the builder had not settled.
    pub(crate) fn failure(self) -> Failure {
        let kind = match self {
            End::Code(_) | End::Unknown => Kind::BuilderError,
            End::Signal(_) => Kind::Killed,
            End::Stopped => Kind::Interrupted,
        };
        Failure::new(kind, format!("it {self}"))
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Code(code) => write!(f, "ended with code {code}"),
            End::Signal(signal) => write!(f, "was ended by signal {signal}"),
            End::Stopped => f.write_str("was told to stop"),
            End::Unknown => f.write_str("ended, nobody knows how"),
        }
    }
}

/// Signals a process group; one that has no member any more needs none.
pub(crate) fn tell_group(pid: i32, signal: Signal) {
    // To a signal, "group 1" is everybody.
    let Some(group) = Pid::from_raw(pid).filter(|_| pid > 1) else { return };
    if let Err(error) = kill_process_group(group, signal)
        && error != rustix::io::Errno::SRCH
    {
        tracing::warn!(%error, pid, "a builder could not be signalled");
    }
}
