//! `binplz doctor`: checks an AWS account and a stack, or this machine and the pins of its server.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

#[cfg(feature = "aws")]
use binplz_aws::{
    doctor::examine,
    login::{NoLogin, login},
};
use binplz_core::{
    build::protocol::Nixpkgs,
    flow::operator::{
        findings::{Finding, State},
        orders::{Operator, Order},
    },
    id::key::PinName,
    nixpkgs::pins::{NO_PROGRAMS, PROGRAMS_MISSING, Programs, Source},
};
use clap::Args as ClapArgs;
use thiserror::Error;

use crate::{
    nixpkgs::{self, NixpkgsError},
    socket::Socket,
};

/// The command that installs a newer Nix.
const NEWER_NIX: &str = "scripts/setup --nix";

/// The arguments of `binplz doctor`.
#[derive(ClapArgs)]
pub(crate) struct Args {
    /// The name of the stack
    #[cfg(feature = "aws")]
    #[arg(long, default_value = "binplz", value_name = "NAME")]
    stack: String,
    /// Check this machine and the server with this data directory instead of a stack
    #[arg(long, value_name = "DIR")]
    #[cfg_attr(feature = "aws", arg(conflicts_with = "stack"))]
    data: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Why nothing could be checked.
#[derive(Debug, Error)]
pub(crate) enum Fatal {
    /// Not logged in.
    #[cfg(feature = "aws")]
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
    let findings = runtime.block_on(findings(args))?;
    if args.json {
        println!("{}", serde_json::json!(findings));
    } else {
        findings.iter().for_each(|finding| println!("{}", line(finding)));
    }
    let missing = findings.iter().any(|finding| finding.state == State::Missing);
    Ok(if missing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn findings(args: &Args) -> Result<Vec<Finding>, Fatal> {
    match &args.data {
        Some(data) => Ok(examine_machine(data).await),
        #[cfg(feature = "aws")]
        None => Ok(examine(&login().await?, &args.stack).await),
        #[cfg(not(feature = "aws"))]
        None => Ok(examine_machine(Path::new(".binplz")).await),
    }
}

/// Checks this machine's Nix, also against each pin of its running server.
async fn examine_machine(data: &Path) -> Vec<Finding> {
    let mut findings = vec![
        judge("nix", "Nix is installed and new enough for binplz", nixpkgs::check_nix(), NEWER_NIX),
        judge(
            "isolation",
            "builds cannot read this user's files",
            nixpkgs::check_builds_are_apart(),
            "binplz serve --help",
        ),
    ];
    let server = Socket { data: data.to_owned() };
    let pins = match server.carry_out(Order::Pins).await.and_then(|outcome| outcome.pins()) {
        Ok(pins) => pins,
        Err(error) => {
            findings.push(Finding::unknown("pins", error.to_string()));
            return findings;
        }
    };
    findings.extend(pins.all().iter().map(|(name, pin)| judge_programs(data, name, pin.programs.as_ref())));
    findings.extend(pins.all().iter().map(|(name, pin)| {
        let check = format!("nixpkgs {name}");
        match &pin.nixpkgs {
            Source::Elsewhere(Nixpkgs::Path(set)) => {
                let told = format!("Nix is new enough for it ({})", pin.rev);
                judge(&check, told, nixpkgs::check_nix_for(Path::new(set)), NEWER_NIX)
            }
            _ => Finding::unknown(&check, format!("the Nix that it requires is read when it is fetched ({})", pin.rev)),
        }
    }));
    findings
}

/// A pin's database of programs.
fn judge_programs(data: &Path, name: &PinName, programs: Option<&Programs>) -> Finding {
    let check = format!("programs {name}");
    let mend = format!("binplz pin programs {name} programs.sqlite --data {}", data.display());
    match programs {
        Some(Programs::Included) => Finding::ok(&check, "its nixpkgs has a database of programs"),
        Some(Programs::Stored(content)) if binplz_local::has_programs(data, content) => {
            Finding::ok(&check, "its database of programs is stored")
        }
        Some(Programs::Stored(_)) => Finding::missing(&check, PROGRAMS_MISSING, mend),
        None => Finding { state: State::Optional, ..Finding::missing(&check, NO_PROGRAMS, mend) },
    }
}

fn judge(check: &str, told: impl Into<String>, found: Result<(), NixpkgsError>, mend: &str) -> Finding {
    match found {
        Ok(()) => Finding::ok(check, told),
        Err(error) => Finding::missing(check, error.to_string(), mend),
    }
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
