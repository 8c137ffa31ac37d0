//! `binplz`: the local server, and the operator's commands.

#![expect(clippy::disallowed_macros, reason = "a command prints its answer")]

mod doctor;
mod serve;

mod build_users;
mod caches;
mod channel;
mod check;
mod confirm;
#[cfg(feature = "aws")]
mod live;
mod nixpkgs;
mod operate;
mod pin;
mod programs;
mod site;
mod socket;

use std::{
    io::{Write, stderr},
    panic,
    process::{self, ExitCode},
};

use binplz_core::id::text::panic_message;
use clap::{CommandFactory, Parser, Subcommand};

/// Serve static Linux binaries of any Nixpkgs package, built on first request
#[derive(Parser)]
#[command(version = binplz_core::VERSION, args_override_self = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run a server on this machine. It builds with the installed Nix, and keeps all data in one directory
    Serve(Box<serve::Args>),
    /// Check an AWS account and a stack, or this machine, and print each problem with the command that fixes it
    Doctor(doctor::Args),
    /// Manage pins: the Nixpkgs commits that are served, and their names
    Pin(pin::Args),
    /// Check a service's transparency log: it must only grow, be well-formed, and contain every served file
    Audit(check::Audit),
    /// Build a program with this machine's Nix, and compare it with the one that a service serves
    Reproduce(check::Reproduce),
    #[command(flatten)]
    Operate(operate::Verb),
    /// Print shell completions: source <(binplz completions bash)
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if !matches!(cli.verb, Verb::Serve(_)) {
        end_when_output_fails();
    }
    let ended: Result<ExitCode, Box<dyn std::error::Error>> = match cli.verb {
        Verb::Serve(args) => serve::run(*args).map(|()| ExitCode::SUCCESS).map_err(Into::into),
        Verb::Pin(args) => pin::run(args).map(|()| ExitCode::SUCCESS).map_err(Into::into),
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "binplz", &mut script);
            print!("{}", String::from_utf8_lossy(&script));
            Ok(ExitCode::SUCCESS)
        }
        Verb::Operate(verb) => operate::run(verb).map(|()| ExitCode::SUCCESS).map_err(Into::into),
        Verb::Audit(args) => check::audit(&args).map(|()| ExitCode::SUCCESS).map_err(Into::into),
        Verb::Reproduce(args) => check::reproduce(&args).map(|()| ExitCode::SUCCESS).map_err(Into::into),
        Verb::Doctor(args) => doctor::run(&args).map_err(Into::into),
    };
    ended.unwrap_or_else(|why| {
        // A closed standard error must not change the exit code.
        let _ = writeln!(stderr(), "binplz: {why}");
        ExitCode::FAILURE
    })
}

/// Ends a command if its standard output is closed (`binplz list | head`) or on a full disk, because `print!` then panics.
#[expect(clippy::disallowed_methods, reason = "a panic's hook has no way back to main")]
fn end_when_output_fails() {
    let default = panic::take_hook();
    panic::set_hook(Box::new(move |info| match panic_message(info.payload()) {
        failed if failed.starts_with("failed printing to ") => {
            if !failed.contains("Broken pipe") {
                let _ = writeln!(stderr(), "binplz: {failed}");
            }
            process::exit(1);
        }
        _ => default(info),
    }));
}

#[cfg(test)]
mod tests {
    use clap::{Command, ValueEnum};

    use super::*;

    fn all(command: &Command) -> Vec<&Command> {
        std::iter::once(command).chain(command.get_subcommands().flat_map(all)).collect()
    }

    #[test]
    fn every_verb_and_every_option_is_explained() {
        let cli = Cli::command();
        cli.clone().debug_assert();
        for verb in all(&cli) {
            assert!(verb.get_about().is_some(), "{}", verb.get_name());
            for argument in verb.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {}", verb.get_name(), argument.get_id());
            }
        }
    }

    #[test]
    fn completions_know_every_verb_in_every_shell() {
        for shell in clap_complete::Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "binplz", &mut script);
            let script = String::from_utf8(script).expect("text");
            for verb in Cli::command().get_subcommands() {
                assert!(script.contains(verb.get_name()), "{shell}: {}", verb.get_name());
            }
        }
    }
}
