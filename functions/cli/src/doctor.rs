//! `binplz doctor`: checks an AWS account and a stack, or this machine and the pins of its server.

#[cfg(feature = "aws")]
use std::process::Command;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

#[cfg(feature = "aws")]
use binplz_aws::{
    doctor::examine,
    login::login,
    stack::{self, Stack},
};
#[cfg(feature = "aws")]
use binplz_core::id::target::Target;
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

#[cfg(feature = "aws")]
use crate::live;
use crate::{
    build_users::BuildUsers,
    caches,
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
    /// Check this machine and the server with this data directory, instead of a stack
    #[arg(long, value_name = "DIR")]
    #[cfg_attr(feature = "aws", arg(conflicts_with = "stack"))]
    data: Option<PathBuf>,
    /// Create ECS's service-linked role if the account lacks it
    #[cfg(feature = "aws")]
    #[arg(long, conflicts_with = "data")]
    fix: bool,
    /// Also download a small program as a client would; its build costs a few cents
    #[cfg(feature = "aws")]
    #[arg(long, conflicts_with = "data")]
    live: bool,
    /// The program that --live downloads
    #[cfg(feature = "aws")]
    #[arg(long, default_value = "hello", value_name = "TARGET", requires = "live")]
    canary: Target,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Why nothing could be checked.
#[derive(Debug, Error)]
pub(crate) enum Fatal {
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
        None => Ok(examine_account(args).await),
        #[cfg(not(feature = "aws"))]
        None => Ok(examine_machine(Path::new(".binplz")).await),
    }
}

/// Checks what deploys, and the account and the stack.
#[cfg(feature = "aws")]
async fn examine_account(args: &Args) -> Vec<Finding> {
    let mut findings = vec![judge_sam(Command::new("sam").arg("--version").output().map(|told| told.stdout))];
    match login().await {
        Ok(sdk) => {
            findings.extend(examine(&sdk, &args.stack, args.fix).await);
            if let Ok(Some(stack)) = Stack::find(&sdk, &args.stack).await {
                let (caches, keys) = (stack.list("Substituters"), stack.list("TrustedPublicKeys"));
                let mend = "scripts/sam deploy --guided   # Substituters, TrustedPublicKeys";
                findings.extend(caches::examine(&caches, &keys, mend));
            }
        }
        Err(error) => findings.push(Finding::missing("credentials", error.to_string(), "aws configure")),
    }
    if args.live {
        match stack::open(&args.stack).await {
            Ok(stack) => findings.extend(live::examine(&stack, &args.canary).await),
            Err(error) => findings.push(Finding::unknown("live", error.to_string())),
        }
    }
    findings
}

/// The oldest SAM CLI that builds Rust functions without `--beta-features`.
#[cfg(feature = "aws")]
const SAM_MIN: [u32; 2] = [1, 156];

/// Judges what `sam --version` printed: `SAM CLI, version 1.170.0`.
#[cfg(feature = "aws")]
fn judge_sam(printed: std::io::Result<Vec<u8>>) -> Finding {
    const CHECK: &str = "sam";
    let [major, minor] = SAM_MIN;
    // scripts/sam fetches one of its own.
    let lacks = |told: String| Finding {
        state: State::Optional,
        ..Finding::missing(
            CHECK,
            format!("{told}; a deploy needs the SAM CLI {major}.{minor} or newer"),
            "scripts/sam --version",
        )
    };
    let Ok(printed) = printed else { return lacks("no command sam".to_owned()) };
    let printed = String::from_utf8_lossy(&printed);
    let version = printed.split_whitespace().last().unwrap_or_default();
    let mut numbers = version.split('.').map(str::parse::<u32>);
    match [numbers.next(), numbers.next()] {
        [Some(Ok(one)), Some(Ok(two))] if [one, two] >= SAM_MIN => {
            Finding::ok(CHECK, format!("the SAM CLI is {version}"))
        }
        [Some(Ok(_)), Some(Ok(_))] => lacks(format!("the SAM CLI is {version}")),
        _ => Finding::unknown(CHECK, "the version of the SAM CLI is not known"),
    }
}

/// Checks this machine's Nix, also against each pin of its running server.
async fn examine_machine(data: &Path) -> Vec<Finding> {
    let mut findings = vec![
        judge("nix", "Nix is installed and new enough for binplz", nixpkgs::check_nix(), NEWER_NIX),
        judge(
            "isolation",
            "builds cannot read this user's files",
            BuildUsers::of_this_machine().map(|_| ()),
            "binplz serve --help",
        ),
    ];
    findings.extend(caches::examine_nix());
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
            _ => Finding::unknown(
                &check,
                format!("the Nix version that it requires is not known until the commit is fetched ({})", pin.rev),
            ),
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

#[cfg(all(test, feature = "aws"))]
mod tests {
    use super::*;

    #[test]
    fn a_sam_cli_that_is_missing_or_too_old_is_told() {
        let judged = |printed: &str| judge_sam(Ok(printed.as_bytes().to_vec())).state;
        assert_eq!(judged("SAM CLI, version 1.170.0\n"), State::Ok);
        assert_eq!(judged("SAM CLI, version 2.0.1\n"), State::Ok);
        assert_eq!(judged("SAM CLI, version 1.155.9\n"), State::Optional);
        assert_eq!(judged("something else\n"), State::Unknown);
        assert_eq!(judge_sam(Err(std::io::ErrorKind::NotFound.into())).state, State::Optional);
    }
}
