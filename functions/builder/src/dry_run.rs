//! `binplz-builder plan`: reads a job on stdin, and prints what Nix would do for it, both as JSON. It builds nothing, and needs no
//! lease.

use std::{
    io::{Read, Write, stdin, stdout},
    process::ExitCode,
};

use crate::{context::Ending, failed, work};

/// The verb's name.
pub(crate) const VERB: &str = "plan";

/// Runs the verb.
pub(crate) fn main() -> ExitCode {
    match printed() {
        Ok(()) => ExitCode::SUCCESS,
        Err(Ending::Failed(failure)) => failed(&failure.sentence()),
        Err(Ending::Stopped) => failed("it was stopped"),
    }
}

fn printed() -> Result<(), Ending> {
    let mut json = Vec::new();
    stdin().read_to_end(&mut json)?;
    let job = serde_json::from_slice(&json).map_err(|error| Ending::ours(format!("the job is malformed: {error}")))?;
    let planned = serde_json::to_vec(&work::dry_run(&job)?).map_err(Ending::ours)?;
    Ok(stdout().write_all(&planned)?)
}
