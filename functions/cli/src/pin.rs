//! `binplz pin`: which nixpkgs are served, and under which names.

use std::path::PathBuf;

use binplz_core::{
    flow::operate::{Declined, Operator, Order, Outcome},
    key::Rev,
    pins::{Change, PinName, Pins, Source},
    protocol::Nixpkgs,
    time::Timestamp,
};
use clap::{Args as ClapArgs, Subcommand};
use thiserror::Error;

use crate::{
    nixpkgs::{self, Fetched},
    socket::Socket,
};

/// What `binplz pin` takes.
#[derive(ClapArgs)]
pub(crate) struct Args {
    /// The data directory of the server that is meant
    #[arg(long, default_value = ".binplz", value_name = "DIR", global = true)]
    data: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Serve a nixpkgs under a new name
    Add(Named),
    /// Make a name stand for another nixpkgs: what was built from the old one is served until the new one has it
    Move(Named),
    /// Serve a name no more
    Retire {
        /// The pin
        name: PinName,
    },
    /// What is meant where a request names no nixpkgs
    Default {
        /// The pin
        name: PinName,
    },
    /// Tell the pins
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// A name, and a nixpkgs for it.
#[derive(ClapArgs)]
struct Named {
    /// The pin: 1 to 64 of a-z, 0-9, dots and dashes
    name: PinName,
    /// A commit of NixOS/nixpkgs: 40 hex digits
    #[arg(required_unless_present_any = ["path", "tarball"])]
    rev: Option<Rev>,
    /// Instead: a directory with a default.nix
    #[arg(long, value_name = "DIR", conflicts_with_all = ["rev", "tarball", "nar_hash"])]
    path: Option<PathBuf>,
    /// The tarball, where it is not GitHub's: a file, or a URL
    #[arg(long, value_name = "FILE|URL")]
    tarball: Option<String>,
    /// The hash of the tarball's content: sha256-…
    #[arg(long, value_name = "HASH")]
    nar_hash: Option<String>,
}

/// Why it was not done.
#[derive(Debug, Error)]
pub(crate) enum Fault {
    /// The nixpkgs could not be fetched.
    #[error(transparent)]
    Nixpkgs(#[from] nixpkgs::Fault),
    /// The deployment did not do it.
    #[error(transparent)]
    Declined(#[from] Declined),
    /// The operating system.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Does it.
///
/// # Errors
/// [`Fault`].
pub(crate) fn run(args: Args) -> Result<(), Fault> {
    let server = Socket { data: args.data };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Before anything is fetched: whether somebody is there to take it.
    runtime.block_on(server.carry_out(Order::Pins))?;
    let mut json = false;
    let order = match args.verb {
        Verb::Add(named) => {
            let (name, rev, source) = named.keep(&server)?;
            Order::ChangePins(Change::Add(name, rev, source))
        }
        Verb::Move(named) => {
            let (name, rev, source) = named.keep(&server)?;
            Order::ChangePins(Change::Move(name, rev, source))
        }
        Verb::Retire { name } => Order::ChangePins(Change::Retire(name)),
        Verb::Default { name } => Order::ChangePins(Change::Default(name)),
        Verb::List { json: wanted } => {
            json = wanted;
            Order::Pins
        }
    };
    let Outcome::Pins(pins) = runtime.block_on(server.carry_out(order))?;
    if json {
        println!("{}", serde_json::json!(pins));
    } else {
        print!("{}", table(&pins, now()));
    }
    Ok(())
}

impl Named {
    /// Fetches it into the Nix store of this machine, and has it stay there for as long as the data directory does.
    fn keep(self, server: &Socket) -> Result<(PinName, Rev, Source), nixpkgs::Fault> {
        nixpkgs::check_nix()?;
        let set = self.fetch()?;
        let rev = self.rev.unwrap_or(set.rev);
        nixpkgs::keep(&rev, &set.path, &server.data)?;
        Ok((self.name, rev, Nixpkgs::Path(set.path).into()))
    }

    fn fetch(&self) -> Result<Fetched, nixpkgs::Fault> {
        if let Some(dir) = &self.path {
            return nixpkgs::snapshot(dir);
        }
        let known = nixpkgs::Known::read()?;
        let of_rev = self.rev.as_ref().and_then(|rev| known.nar_hash(rev));
        let url = match (&self.tarball, &self.rev) {
            (Some(url), _) if url.contains("://") => url.clone(),
            (Some(file), _) => nixpkgs::file_url(file.as_ref())?,
            (None, Some(rev)) => nixpkgs::github_url(rev),
            (None, None) => return Err(nixpkgs::Fault::NoSet("nowhere".to_owned())),
        };
        nixpkgs::unpack(&url, self.nar_hash.as_deref().or(of_rev))
    }
}

fn now() -> Timestamp {
    let since_epoch = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    Timestamp(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}

/// One line for each, with the default first.
fn table(pins: &Pins, now: Timestamp) -> String {
    let width = pins.all().keys().map(|name| name.to_string().len()).max().unwrap_or(0);
    let is_default = |name: &PinName| name == pins.default_name();
    let mut all: Vec<_> = pins.all().iter().collect();
    all.sort_by_key(|(name, _)| !is_default(name));
    let line = |(name, pin): (&PinName, &binplz_core::pins::Pin)| {
        let since = match pin.since {
            Timestamp(0) => "since it began".to_owned(),
            since => format!("for {}", span((now - since).as_secs())),
        };
        let default = if is_default(name) { ", the default" } else { "" };
        format!("{:width$}  {}  {since}{default}\n", name.to_string(), pin.rev)
    };
    all.into_iter().map(line).collect()
}

/// A time as people say it, from seconds.
fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_begins_with_the_default() {
        let name = |name: &str| name.parse().expect("a name");
        let rev = |digit: &str| digit.repeat(40).parse::<Rev>().expect("hex");
        let source: Source = Nixpkgs::Path("/set".into()).into();
        let pins = Pins::one(name("nixos-26.05"), rev("a"), source.clone());
        let added = Change::Add(name("a"), rev("b"), source);
        let pins = pins.changed(&added, Timestamp(1_000_000)).expect("legal").expect("a change");
        let expected =
            format!("nixos-26.05  {}  since it began, the default\na            {}  for 2 h\n", rev("a"), rev("b"));
        assert_eq!(table(&pins, Timestamp(10_000_000)), expected);
    }
}
