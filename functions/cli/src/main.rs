//! `binplz`: the local server, and the operator's verbs.

#[cfg(feature = "aws")]
mod doctor;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let ended = match cli.verb {
        Verb::Serve(args) => serve::run(*args).map(|()| ExitCode::SUCCESS).map_err(|why| why.to_string()),
        #[cfg(feature = "aws")]
        Verb::Doctor(args) => doctor::run(&args).map_err(|why| why.to_string()),
    };
    ended.unwrap_or_else(|why| {
        eprintln!("binplz: {why}");
        ExitCode::FAILURE
    })
}
