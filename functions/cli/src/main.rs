//! `binplz`: the local server, and later the operator's verbs.

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
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let ended = match cli.verb {
        Verb::Serve(args) => serve::run(*args),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("binplz: {why}");
            ExitCode::FAILURE
        }
    }
}
