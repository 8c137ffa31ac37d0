//! What every step of a build works with, and how a step may end without its result.

use std::sync::Arc;

use binplz_core::build::failure::{Failure, Kind};

use crate::{
    classify::NixExit,
    lease::{CallError, Lease},
    log::Log,
    nix::{End, Nix},
    progress_channel::ProgressChannel,
};

/// The tools of one build.
pub(crate) struct BuildContext {
    /// The endpoint.
    pub(crate) lease: Arc<Lease>,
    /// What the pulse tells.
    pub(crate) progress_channel: Arc<ProgressChannel>,
    /// What people read.
    pub(crate) log: Arc<Log>,
    /// How to run Nix.
    pub(crate) nix: Nix,
}

/// Why a step has no result.
#[derive(Debug)]
pub(crate) enum Ending {
    /// The build failed.
    Failed(Failure),
    /// The work was stopped; [`Stop`] knows why.
    Stopped,
}

impl Ending {
    /// A failure of the builder, or of its machine.
    pub(crate) fn ours(what: impl std::fmt::Display) -> Ending {
        Ending::Failed(Failure::new(Kind::BuilderError, what.to_string()))
    }
}

impl From<std::io::Error> for Ending {
    fn from(error: std::io::Error) -> Ending {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Ending::Failed(Failure::new(Kind::DiskFull, error.to_string()))
            }
            _ => Ending::ours(error),
        }
    }
}

impl From<CallError> for Ending {
    fn from(error: CallError) -> Ending {
        match error {
            CallError::Stopped => Ending::Stopped,
            error => Ending::ours(error),
        }
    }
}

/// The end of a run of Nix that is to be judged; one that was stopped is not.
pub(crate) fn finished(end: End) -> Result<NixExit, Ending> {
    match end {
        End::Exited(exit) => Ok(NixExit::Exit(exit)),
        End::Deadline => Ok(NixExit::Deadline),
        End::Stopped(_) => Err(Ending::Stopped),
    }
}
