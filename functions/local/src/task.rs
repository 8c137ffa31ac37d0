//! One builder's process, from start to end. Only this module signals it, and only before it has been waited for, so
//! its process id cannot belong to another process.

use std::{fmt, os::unix::process::ExitStatusExt, process::ExitStatus, sync::Arc, time::Duration};

use binplz_core::build::failure::{Failure, Kind};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{process::Child, sync::Notify, time::timeout};

/// A running builder.
pub(crate) struct Task {
    pub(crate) child: Child,
    /// Notified to stop the process.
    pub(crate) stop: Arc<Notify>,
    /// How long it may take to end after SIGTERM.
    pub(crate) grace: Duration,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It exited with this code.
    Code(i32),
    /// A signal ended it that this server did not send.
    Signal(i32),
    /// This server stopped it.
    Stopped,
    /// Unknown: it could not be waited for.
    Unknown,
}

/// The exit codes of a builder that settled, or whose lease had expired: both are normal.
const ORDINARY: [i32; 2] = [0, 3];

impl Task {
    /// Waits for its end, and stops it when asked to.
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
        // Ends orphans of the process group (Nix, after a kill). The group keeps its number while it has a member.
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

    /// Whether the operator should read about this end.
    pub(crate) fn is_news(self) -> bool {
        !matches!(self, End::Stopped) && !ORDINARY.map(End::Code).contains(&self)
    }

    /// The failure that this end means, unless the builder had settled.
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
            End::Unknown => f.write_str("ended in an unknown way"),
        }
    }
}

/// Signals a process group; an empty group is ignored.
pub(crate) fn tell_group(pid: i32, signal: Signal) {
    // As a target of `kill`, group 1 would mean every process.
    let Some(group) = Pid::from_raw(pid).filter(|_| pid > 1) else { return };
    if let Err(error) = kill_process_group(group, signal)
        && error != rustix::io::Errno::SRCH
    {
        tracing::warn!(%error, pid, "a builder could not be signalled");
    }
}
