//! `binplz doctor`: checks an AWS account and a stack.

use std::process::ExitCode;

use binplz_aws::{
    doctor::{Finding, State, examine},
    login::{NoLogin, login},
};
use clap::Args as ClapArgs;
use thiserror::Error;

/// The arguments of `binplz doctor`.
#[derive(ClapArgs)]
pub(crate) struct Args {
    /// The name of the stack
    #[arg(long, default_value = "binplz", value_name = "NAME")]
    stack: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Why nothing could be checked.
#[derive(Debug, Error)]
pub(crate) enum Fatal {
    /// Not logged in.
    #[error(transparent)]
    Login(#[from] NoLogin),
    /// The operating system.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Checks, and prints the findings. The exit code is a failure if something is missing.
///
/// # Errors
/// [`Fatal`].
pub(crate) fn run(args: &Args) -> Result<ExitCode, Fatal> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let findings = runtime.block_on(async { Ok::<_, Fatal>(examine(&login().await?, &args.stack).await) })?;
    if args.json {
        println!("{}", serde_json::json!(findings));
    } else {
        findings.iter().for_each(|finding| println!("{}", line(finding)));
    }
    let missing = findings.iter().any(|finding| finding.state == State::Missing);
    Ok(if missing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn line(finding: &Finding) -> String {
    let state = match finding.state {
        State::Ok => "ok",
        State::Missing => "MISSING",
        State::Optional => "optional",
        State::Unknown => "unknown",
    };
    let mend = finding.mend.as_ref().map(|command| format!("\n          {command}")).unwrap_or_default();
    format!("{state:<9} {}: {}{mend}", finding.check, finding.told)
}
