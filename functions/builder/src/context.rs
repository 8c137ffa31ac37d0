//! The tools of every step of a build, and the ways in which a step may end without a result.

use std::sync::Arc;

use binplz_core::build::failure::{Failure, Kind};

use crate::{
    caches::Caches,
    classify::NixExit,
    lease::{CallError, Lease},
    log::Log,
    nix::{End, Nix},
    progress_channel::ProgressChannel,
};

/// The tools of one build.
pub(crate) struct BuildContext {
    /// The lease endpoint.
    pub(crate) lease: Arc<Lease>,
    /// The progress that heartbeats report.
    pub(crate) progress_channel: Arc<ProgressChannel>,
    /// The build's public log.
    pub(crate) log: Arc<Log>,
    /// The binary caches that Nix reads.
    pub(crate) caches: Caches,
    /// How to run Nix.
    pub(crate) nix: Nix,
}

/// Why a step has no result.
#[derive(Debug)]
pub(crate) enum Ending {
    /// The build failed.
    Failed(Failure),
    /// The work was stopped; [`crate::stop::Stop`] has the reason.
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

/// The end of a run of Nix, for classification; a stopped run has none.
pub(crate) fn finished(end: End) -> Result<NixExit, Ending> {
    match end {
        End::Exited(exit) => Ok(NixExit::Exit(exit)),
        End::Deadline => Ok(NixExit::Deadline),
        End::Stopped(_) => Err(Ending::Stopped),
    }
}
