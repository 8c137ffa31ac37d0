//! `binplz pin`: which nixpkgs are served, and under which names.

use std::{path::PathBuf, time::Duration};

use binplz_core::{
    build::protocol::Nixpkgs,
    flow::operator::orders::{Declined, Operator, Order},
    id::{
        key::{PinName, Rev},
        text::span,
        time::Timestamp,
    },
    nixpkgs::pins::{Change, Pins, Source},
    ports::Unavailable,
};
use clap::{Args as ClapArgs, Subcommand};
use thiserror::Error;

use crate::{
    confirm::{Confirm, Unconfirmed},
    nixpkgs,
    site::{self, Site, Which},
};

/// What `binplz pin` takes.
#[derive(ClapArgs)]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    confirm: Confirm,
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
        #[command(flatten)]
        keep: Keep,
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

/// A retention.
#[derive(ClapArgs)]
struct Keep {
    /// For how long what the pin stands for no more is kept: 30days [default: as it was told before; at first 30days]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    keep: Option<Duration>,
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
    #[command(flatten)]
    keep: Keep,
}

/// Why it was not done.
#[derive(Debug, Error)]
pub(crate) enum PinError {
    /// There is no such deployment.
    #[error(transparent)]
    Site(#[from] site::SiteError),
    /// The nixpkgs could not be fetched.
    #[error(transparent)]
    Nixpkgs(#[from] nixpkgs::NixpkgsError),
    /// The store did not take it.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// A directory, for a store of tarballs.
    #[cfg(feature = "aws")]
    #[error("on AWS a pin is a commit or a tarball: --tarball, instead of --path")]
    Directory,
    /// The operator did not want it after all.
    #[error(transparent)]
    Unconfirmed(#[from] Unconfirmed),
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
/// [`PinError`].
pub(crate) fn run(args: Args) -> Result<(), PinError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(carry_out(args))
}

async fn carry_out(args: Args) -> Result<(), PinError> {
    let site = args.which.find().await?;
    // Before anything is fetched: whether somebody is there to take it.
    site.carry_out(Order::Pins).await?;
    let mut json = false;
    // For how long what is left is kept, has to be said before it is left.
    let changes = match args.verb {
        Verb::Add(named) => {
            let (rev, source) = named.store(&site).await?;
            let keep = named.keep.of(&named.name);
            [Some(Change::Add(named.name, rev, source)), keep]
        }
        Verb::Move(named) => {
            let (rev, source) = named.store(&site).await?;
            [named.keep.of(&named.name), Some(Change::Move(named.name, rev, source))]
        }
        Verb::Retire { name, keep } => {
            args.confirm.that(|| format!("ends {name}: nobody is served anything of it any more"))?;
            [keep.of(&name), Some(Change::Retire(name))]
        }
        Verb::Default { name } => [None, Some(Change::Default(name))],
        Verb::List { json: wanted } => {
            json = wanted;
            [None, None]
        }
    };
    for change in changes.into_iter().flatten() {
        site.carry_out(Order::ChangePins(change)).await?;
    }
    let pins = site.carry_out(Order::Pins).await?.pins()?;
    if json {
        println!("{}", serde_json::json!(pins));
    } else {
        print!("{}", table(&pins, binplz_clock::now()));
    }
    Ok(())
}

impl Keep {
    fn of(&self, name: &PinName) -> Option<Change> {
        self.keep.map(|keep| Change::Keep(name.clone(), keep))
    }
}

impl Named {
    /// Fetches it with the Nix of this machine, checks it, and keeps it where the deployment's builders find it.
    async fn store(&self, site: &Site) -> Result<(Rev, Source), PinError> {
        nixpkgs::check_nix()?;
        match site {
            Site::Server(server) => {
                let set = match &self.path {
                    Some(dir) => nixpkgs::snapshot(dir)?,
                    None => nixpkgs::unpack(&self.url()?, self.known_hash()?.as_deref())?,
                };
                let rev = self.rev.clone().unwrap_or(set.rev);
                nixpkgs::keep(&rev, &set.path, &server.data)?;
                Ok((rev, Nixpkgs::Path(set.path).into()))
            }
            #[cfg(feature = "aws")]
            Site::Stack(_) if self.path.is_some() => Err(PinError::Directory),
            #[cfg(feature = "aws")]
            Site::Stack(stack) => {
                use binplz_core::ports::HasStore as _;
                let (tarball, known) = (nixpkgs::download(&self.url()?)?, self.known_hash()?);
                let set = nixpkgs::unpack(&nixpkgs::file_url(&tarball)?, known.as_deref())?;
                let rev = self.rev.clone().unwrap_or(set.rev);
                stack.store().keep_nixpkgs(&rev, std::fs::read(tarball)?).await?;
                Ok((rev, Source::Stored { nar_hash: known.unwrap_or(set.nar_hash) }))
            }
        }
    }

    /// Where its tarball is.
    fn url(&self) -> Result<String, nixpkgs::NixpkgsError> {
        match (&self.tarball, &self.rev) {
            (Some(url), _) if url.contains("://") => Ok(url.clone()),
            (Some(file), _) => nixpkgs::file_url(file.as_ref()),
            (None, Some(rev)) => Ok(nixpkgs::github_url(rev)),
            (None, None) => Err(nixpkgs::NixpkgsError::NoSet("nowhere".to_owned())),
        }
    }

    /// What its tarball's content must be: what the operator says, else what this program knows of the commit.
    fn known_hash(&self) -> Result<Option<String>, nixpkgs::NixpkgsError> {
        let known = nixpkgs::PinsFile::read()?;
        let of_rev = self.rev.as_ref().and_then(|rev| known.nar_hash(rev)).map(str::to_owned);
        Ok(self.nar_hash.clone().or(of_rev))
    }
}

/// One line for each, with the default first; then what none of them stands for any more, as long as that is kept.
fn table(pins: &Pins, now: Timestamp) -> String {
    let width = pins.all().keys().map(|name| name.to_string().len()).max().unwrap_or(0);
    let is_default = |name: &PinName| name == pins.default_name();
    let mut all: Vec<_> = pins.all().iter().collect();
    all.sort_by_key(|(name, _)| !is_default(name));
    let line = |(name, pin): (&PinName, &binplz_core::nixpkgs::pins::Pin)| {
        let since = match pin.since {
            Timestamp(0) => "since it began".to_owned(),
            since => format!("for {}", span(now - since)),
        };
        let default = if is_default(name) { ", the default" } else { "" };
        format!("{:width$}  {}  {since}{default}\n", name.to_string(), pin.rev)
    };
    let kept =
        pins.kept(now).map(|(rev, until)| format!("{:width$}  {rev}  kept for {} more\n", "", span(until - now)));
    all.into_iter().map(line).chain(kept).collect()
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
            format!("nixos-26.05  {}  since it began, the default\na            {}  for 2 hours\n", rev("a"), rev("b"));
        assert_eq!(table(&pins, Timestamp(10_000_000)), expected);
        let retired =
            pins.changed(&Change::Retire(name("a")), Timestamp(10_000_000)).expect("legal").expect("a change");
        let expected = format!(
            "nixos-26.05  {}  since it began, the default\n             {}  kept for 29 days more\n",
            rev("a"),
            rev("b")
        );
        assert_eq!(table(&retired, Timestamp(20_000_000)), expected);
    }
}
