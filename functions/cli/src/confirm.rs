//! Asks for confirmation before something is destroyed.

use std::io::{self, BufRead, IsTerminal, Write};

use clap::Args;
use thiserror::Error;

/// `--yes`.
#[derive(Args, Clone, Copy)]
pub(crate) struct Confirm {
    /// Do not ask for confirmation
    #[arg(long, short, global = true)]
    yes: bool,
}

/// Why a command was not confirmed.
#[derive(Debug, Error)]
pub(crate) enum Unconfirmed {
    /// The operator said no.
    #[error("not confirmed: nothing was changed")]
    No,
    /// Standard input is not a terminal.
    #[error("this {0}; standard input is not a terminal, so confirm with --yes")]
    NoTerminal(String),
    /// The terminal failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Confirm {
    /// Asks, and returns if the operator confirms. `what` continues "This ": "cancels the build of tree".
    ///
    /// # Errors
    /// [`Unconfirmed`].
    pub(crate) fn that(self, what: impl FnOnce() -> String) -> Result<(), Unconfirmed> {
        if self.yes {
            return Ok(());
        }
        let (stdin, mut stderr) = (io::stdin(), io::stderr());
        if !stdin.is_terminal() {
            return Err(Unconfirmed::NoTerminal(what()));
        }
        write!(stderr, "This {}. Continue? [y/N] ", what())?;
        stderr.flush()?;
        let mut answer = String::new();
        stdin.lock().read_line(&mut answer)?;
        match answer.trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => Err(Unconfirmed::No),
        }
    }
}
