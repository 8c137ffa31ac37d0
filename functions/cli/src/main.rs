//! `binplz`: the local server, and the operator's verbs.

#[cfg(feature = "aws")]
mod doctor;
mod serve;

mod confirm;
mod nixpkgs;
mod operate;
mod pin;
mod site;
mod socket;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// Static Linux binaries of any package in Nixpkgs, built on demand
#[derive(Parser)]
#[command(version, args_override_self = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Serve on this machine: builds with the Nix that is installed here, keeps everything in one directory
    Serve(Box<serve::Args>),
    /// Look what an AWS account lacks that the stack needs, and say how to mend it
    #[cfg(feature = "aws")]
    Doctor(doctor::Args),
    /// Which nixpkgs are served, and under which names
    Pin(pin::Args),
    #[command(flatten)]
    Operate(operate::Verb),
    /// Completions for a shell: source <(binplz completions bash)
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let ended: Result<ExitCode, Box<dyn std::error::Error>> = match cli.verb {
        Verb::Serve(args) => serve::run(*args).map(|()| ExitCode::SUCCESS).map_err(Into::into),
        Verb::Pin(args) => pin::run(args).map(|()| ExitCode::SUCCESS).map_err(Into::into),
        Verb::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "binplz", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Verb::Operate(verb) => operate::run(verb).map(|()| ExitCode::SUCCESS).map_err(Into::into),
        #[cfg(feature = "aws")]
        Verb::Doctor(args) => doctor::run(&args).map_err(Into::into),
    };
    ended.unwrap_or_else(|why| {
        eprintln!("binplz: {why}");
        ExitCode::FAILURE
    })
}
