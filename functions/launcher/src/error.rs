//! Why a bundle does not start, in sentences for the person who started it.

use std::{
    io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::read::ReadError;

/// Why a bundle does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The bundle is damaged or malformed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file of the cache, or of the directory to extract to.
    #[error("{}: {error}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// What the system says.
        #[source]
        error: io::Error,
    },
    /// No directory is safe to unpack to.
    #[error("no directory to unpack to: {0}. Set XDG_CACHE_HOME to a directory that you own")]
    NoCache(String),
    /// Namespaces are off: what was tried, and the setting that forbids it.
    #[error(
        "this machine does not let the bundle make /nix/store visible ({attempt}: {error}): {setting}. {ALTERNATIVES}"
    )]
    NoNamespace {
        /// The call.
        attempt: &'static str,
        /// Its error.
        #[source]
        error: io::Error,
        /// What to change.
        setting: &'static str,
    },
    /// The program itself does not start.
    #[error("{} does not start: {error}", program.display())]
    Exec {
        /// The program's path.
        program: PathBuf,
        /// The error.
        #[source]
        error: io::Error,
    },
    /// The command line has an unknown option for the launcher.
    #[error("{0}")]
    Usage(String),
}

/// What works without namespaces.
pub(crate) const ALTERNATIVES: &str = "Without that, --binplz-extract DIR with a DIR of at most ten characters, such as /tmp/tools, makes \
a copy that runs there; or use the package's static program or its archive";

/// Adds the path that an error is about.
pub(crate) trait At<T> {
    fn at(self, path: &Path) -> Result<T, StartError>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, path: &Path) -> Result<T, StartError> {
        self.map_err(|error| StartError::File { path: path.to_owned(), error: error.into() })
    }
}
