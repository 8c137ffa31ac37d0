//! Whoever sits at a terminal is asked before something is destroyed.

use std::io::{self, BufRead, IsTerminal, Write};

use clap::Args;
use thiserror::Error;

/// Whether to ask.
#[derive(Args, Clone, Copy)]
pub(crate) struct Confirm {
    /// Do it without being asked
    #[arg(long, short, global = true)]
    yes: bool,
}

/// It is not done.
#[derive(Debug, Error)]
pub(crate) enum Unconfirmed {
    /// The operator said no.
    #[error("nothing was done")]
    No,
    /// There is nobody to ask.
    #[error("this {0}, and there is no terminal to ask at: --yes does it")]
    Nobody(String),
    /// The terminal.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Confirm {
    /// Returns if it is to be done. `what` reads on after "This ": "ends the build of tree".
    ///
    /// # Errors
    /// [`Unconfirmed`].
    pub(crate) fn that(self, what: impl FnOnce() -> String) -> Result<(), Unconfirmed> {
        if self.yes {
            return Ok(());
        }
        let (stdin, mut stderr) = (io::stdin(), io::stderr());
        if !stdin.is_terminal() {
            return Err(Unconfirmed::Nobody(what()));
        }
        write!(stderr, "This {}. Go on? [y/N] ", what())?;
        stderr.flush()?;
        let mut answer = String::new();
        stdin.lock().read_line(&mut answer)?;
        match answer.trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => Err(Unconfirmed::No),
        }
    }
}
