//! `binplz pin`: the Nixpkgs commits that are served, and their names.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use binplz_core::{
    build::protocol::Nixpkgs,
    flow::operator::orders::{Declined, Operator, Order},
    id::{
        key::{PinName, Rev},
        text::span,
        time::Timestamp,
    },
    nixpkgs::pins::{Change, NO_PROGRAMS, PROGRAMS_MISSING, Pin, PinRefusal, Pins, Programs, Source},
    objects::content::Content,
    ports::Unavailable,
};
use clap::{Args as ClapArgs, Subcommand};
use thiserror::Error;

use crate::{
    channel,
    confirm::{Confirm, Unconfirmed},
    nixpkgs, programs,
    site::{self, Site, Which},
};

/// The arguments of `binplz pin`.
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
    /// Serve a commit under a new name
    Add(Named),
    /// Move a pin to another commit; each old program is served until the new one is built
    Move(Named),
    /// Add or replace a pin's database of programs, and build the pin's catalogue again
    Programs {
        /// The name of the pin
        name: PinName,
        /// The database: programs.sqlite of a channel's nixexprs.tar.xz
        file: PathBuf,
    },
    /// Stop serving a pin
    Retire {
        /// The name of the pin
        name: PinName,
        #[command(flatten)]
        keep: Keep,
    },
    /// Set the default pin, for requests that name none
    Default {
        /// The name of the pin
        name: PinName,
    },
    /// List the pins
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// A retention.
#[derive(ClapArgs)]
struct Keep {
    /// How long to keep the builds of a commit after the pin has left it: 7days [default: unchanged; 30days for a new pin]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    keep: Option<Duration>,
}

/// A pin's name, and its Nixpkgs.
#[derive(ClapArgs)]
struct Named {
    /// The name of the pin: 1 to 64 of a-z, 0-9, dots and dashes
    name: PinName,
    /// A commit of NixOS/nixpkgs: 40 hex digits
    #[arg(required_unless_present_any = ["path", "tarball", "channel"])]
    rev: Option<Rev>,
    /// Take the newest release of a channel, with its database of programs [default: the channel with the pin's name]
    #[arg(long, value_name = "CHANNEL", num_args = 0..=1, conflicts_with_all = ["rev", "path", "tarball", "nar_hash"])]
    channel: Option<Option<PinName>>,
    /// The channels' server
    #[arg(long, value_name = "URL", default_value = "https://channels.nixos.org")]
    channels: String,
    /// A database of programs, instead of the one in the Nixpkgs: programs.sqlite of a channel's nixexprs.tar.xz
    #[arg(long, value_name = "FILE")]
    programs: Option<PathBuf>,
    /// A directory with a default.nix, instead of a commit
    #[arg(long, value_name = "DIR", conflicts_with_all = ["rev", "tarball", "nar_hash"])]
    path: Option<PathBuf>,
    /// The commit's tarball: a file or a URL [default: GitHub's]
    #[arg(long, value_name = "FILE|URL")]
    tarball: Option<String>,
    /// The hash of the tarball's content: sha256-…
    #[arg(long, value_name = "HASH")]
    nar_hash: Option<String>,
    #[command(flatten)]
    keep: Keep,
}

/// Why the command failed.
#[derive(Debug, Error)]
pub(crate) enum PinError {
    /// The deployment was not found.
    #[error(transparent)]
    Site(#[from] site::SiteError),
    /// The nixpkgs could not be fetched.
    #[error(transparent)]
    Nixpkgs(#[from] nixpkgs::NixpkgsError),
    /// The channel has no usable release.
    #[error(transparent)]
    Channel(#[from] channel::ChannelError),
    /// A file is not a database of programs.
    #[error(transparent)]
    Programs(#[from] programs::ProgramsError),
    /// There is no such pin.
    #[error(transparent)]
    NoSuchPin(#[from] PinRefusal),
    /// The store did not accept the tarball.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// A directory, for a store of tarballs.
    #[cfg(feature = "aws")]
    #[error("on AWS a pin is a commit or a tarball: use --tarball instead of --path")]
    Directory,
    /// The operator did not confirm.
    #[error(transparent)]
    Unconfirmed(#[from] Unconfirmed),
    /// The deployment declined the order.
    #[error(transparent)]
    Declined(#[from] Declined),
    /// The operating system failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Runs the command.
///
/// # Errors
/// [`PinError`].
pub(crate) fn run(args: Args) -> Result<(), PinError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(carry_out(args))
}

async fn carry_out(args: Args) -> Result<(), PinError> {
    let site = args.which.find().await?;
    // Checks that the deployment answers before anything is fetched.
    let pins = site.carry_out(Order::Pins).await?.pins()?;
    let mut json = false;
    // The retention counts when a commit is left, so it is set before.
    let changes = match args.verb {
        Verb::Add(named) => {
            let (rev, source, programs) = named.store(&site).await?;
            let keep = named.keep.of(&named.name);
            [Some(Change::Add(named.name, rev, source, programs)), keep]
        }
        Verb::Move(named) => {
            let (rev, source, programs) = named.store(&site).await?;
            [named.keep.of(&named.name), Some(Change::Move(named.name, rev, source, programs))]
        }
        Verb::Programs { name, file } => {
            let Some(pin) = pins.all().get(&name).cloned() else { return Err(PinRefusal::NoSuchPin(name).into()) };
            let programs = keep_programs(&site, programs::read(&file)?).await?;
            [Some(Change::Move(name, pin.rev, pin.nixpkgs, Some(programs))), None]
        }
        Verb::Retire { name, keep } => {
            args.confirm.that(|| format!("stops serving the pin {name}"))?;
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
        for (name, (rev, _)) in site.carry_out(Order::Overview).await?.overview()?.no_nixpkgs {
            println!("{name}: its builds wait: the tarball of {rev} is not uploaded\n    binplz pin move {name} {rev}");
        }
        print!("{}", notes(&pins, |content| is_missing(&site, content)));
    }
    Ok(())
}

impl Keep {
    fn of(&self, name: &PinName) -> Option<Change> {
        self.keep.map(|keep| Change::Keep(name.clone(), keep))
    }
}

impl Named {
    /// Fetches it with this machine's Nix, checks it, and stores it for the deployment's builders.
    async fn store(&self, site: &Site) -> Result<(Rev, Source, Option<Programs>), PinError> {
        nixpkgs::check_nix()?;
        // A file that is not a database is refused before anything is fetched.
        let added = self.programs.as_deref().map(programs::read).transpose()?;
        let release = match &self.channel {
            Some(channel) => Some(channel::newest(&self.channels, channel.as_ref().unwrap_or(&self.name))?),
            None => None,
        };
        let rev = release.as_ref().map(|release| &release.rev).or(self.rev.as_ref());
        let url = || release.as_ref().map_or_else(|| self.url(), |release| Ok(release.tarball.clone()));
        let (rev, source, set) = match site {
            Site::Server(server) => {
                let set = match &self.path {
                    Some(dir) => nixpkgs::snapshot(dir)?,
                    None => nixpkgs::unpack(&url()?, self.known_hash()?.as_deref())?,
                };
                nixpkgs::check_nix_for(Path::new(&set.path))?;
                let rev = rev.unwrap_or(&set.rev).clone();
                nixpkgs::keep(&rev, &set.path, &server.data)?;
                (rev, Nixpkgs::Path(set.path.clone()).into(), set)
            }
            #[cfg(feature = "aws")]
            Site::Stack(_) if self.path.is_some() => return Err(PinError::Directory),
            #[cfg(feature = "aws")]
            Site::Stack(stack) => {
                use binplz_core::ports::HasStore as _;
                let (tarball, known) = (nixpkgs::download(&url()?)?, self.known_hash()?);
                let set = nixpkgs::unpack(&nixpkgs::file_url(&tarball)?, known.as_deref())?;
                let rev = rev.unwrap_or(&set.rev).clone();
                stack.store().keep_nixpkgs(&rev, std::fs::read(tarball)?).await?;
                (rev, Source::Stored { nar_hash: known.unwrap_or_else(|| set.nar_hash.clone()) }, set)
            }
        };
        let programs = match added {
            Some(bytes) => Some(keep_programs(site, bytes).await?),
            None => programs::included(set.path.as_ref())?,
        };
        Ok((rev, source, programs))
    }

    /// The URL of its tarball.
    fn url(&self) -> Result<String, nixpkgs::NixpkgsError> {
        match (&self.tarball, &self.rev) {
            (Some(url), _) if url.contains("://") => Ok(url.clone()),
            (Some(file), _) => nixpkgs::file_url(file.as_ref()),
            (None, Some(rev)) => Ok(nixpkgs::github_url(rev)),
            (None, None) => Err(nixpkgs::NixpkgsError::NoSet("nowhere".to_owned())),
        }
    }

    /// The expected hash of its tarball's content: the operator's, or the one in `infra/pins.json`.
    fn known_hash(&self) -> Result<Option<String>, nixpkgs::NixpkgsError> {
        let known = nixpkgs::PinsFile::read()?;
        let of_rev = self.rev.as_ref().and_then(|rev| known.nar_hash(rev)).map(str::to_owned);
        Ok(self.nar_hash.clone().or(of_rev))
    }
}

/// Stores a database of programs for the deployment's builders.
async fn keep_programs(site: &Site, bytes: Vec<u8>) -> Result<Programs, PinError> {
    let content = match site {
        Site::Server(server) => binplz_local::keep_programs(&server.data, &bytes)?,
        #[cfg(feature = "aws")]
        Site::Stack(stack) => {
            use binplz_core::ports::HasStore as _;
            stack.store().keep_programs(bytes).await?
        }
    };
    Ok(Programs::Stored(content))
}

/// Whether a server's database of programs is missing. `binplz doctor` looks into a stack's bucket.
fn is_missing(site: &Site, content: &Content) -> bool {
    match site {
        Site::Server(server) => !binplz_local::has_programs(&server.data, content),
        #[cfg(feature = "aws")]
        Site::Stack(_) => false,
    }
}

/// The pins whose names cannot be resolved well, and what to do.
fn notes(pins: &Pins, is_missing: impl Fn(&Content) -> bool) -> String {
    let note = |(name, pin): (&PinName, &Pin)| match &pin.programs {
        None => Some(format!(
            "{name}: {NO_PROGRAMS}\n    binplz pin programs {name} programs.sqlite    or, from a channel: binplz pin move {name} --channel\n"
        )),
        Some(Programs::Stored(content)) if is_missing(content) => {
            Some(format!("{name}: {PROGRAMS_MISSING}\n    binplz pin programs {name} programs.sqlite\n"))
        }
        Some(_) => None,
    };
    pins.all().iter().filter_map(note).collect()
}

/// One line per pin, the default first; then the commits that pins have left, as long as they are kept.
fn table(pins: &Pins, now: Timestamp) -> String {
    let width = pins.all().keys().map(|name| name.to_string().len()).max().unwrap_or(0);
    let is_default = |name: &PinName| name == pins.default_name();
    let mut all: Vec<_> = pins.all().iter().collect();
    all.sort_by_key(|(name, _)| !is_default(name));
    let line = |(name, pin): (&PinName, &Pin)| {
        let since = match pin.since {
            Timestamp(0) => "from the start".to_owned(),
            since => format!("for {}", span(now - since)),
        };
        let default = if is_default(name) { ", the default" } else { "" };
        format!("{:width$}  {}  {since}{default}\n", name.to_string(), pin.rev)
    };
    let kept =
        pins.kept(now).map(|(rev, until)| format!("{:width$}  {rev}  no pin, kept for {}\n", "", span(until - now)));
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
        let added = Change::Add(name("a"), rev("b"), source, None);
        let pins = pins.changed(&added, Timestamp(1_000_000)).expect("legal").expect("a change");
        let expected =
            format!("nixos-26.05  {}  from the start, the default\na            {}  for 2 hours\n", rev("a"), rev("b"));
        assert_eq!(table(&pins, Timestamp(10_000_000)), expected);
        let retired =
            pins.changed(&Change::Retire(name("a")), Timestamp(10_000_000)).expect("legal").expect("a change");
        let expected = format!(
            "nixos-26.05  {}  from the start, the default\n             {}  no pin, kept for 29 days\n",
            rev("a"),
            rev("b")
        );
        assert_eq!(table(&retired, Timestamp(20_000_000)), expected);
    }

    #[test]
    fn a_list_names_the_pins_without_a_database_of_programs_and_the_remedy() {
        let name: PinName = "nixos-26.05".parse().expect("a name");
        let rev: Rev = "a".repeat(40).parse().expect("hex");
        let source: Source = Nixpkgs::Path("/set".into()).into();
        let without = Pins::one(name.clone(), rev.clone(), source.clone());
        let with = |programs| {
            let change = Change::Move(name.clone(), rev.clone(), source.clone(), Some(programs));
            without.changed(&change, Timestamp(1)).expect("legal").expect("a change")
        };
        let stored = Programs::Stored(Content { sha256: "b".repeat(64).parse().expect("hex"), size: 1 });
        let remedy = "\n    binplz pin programs nixos-26.05 programs.sqlite";
        for (pins, missing, told) in [
            (&without, false, Some("nixos-26.05: it has no database of programs: until a package is built")),
            (&with(Programs::Included), true, None),
            (&with(stored.clone()), false, None),
            (&with(stored), true, Some("nixos-26.05: its database of programs is missing")),
        ] {
            let notes = notes(pins, |_| missing);
            assert!(told.map_or(notes.is_empty(), |told| notes.starts_with(told) && notes.contains(remedy)), "{notes}");
        }
    }
}
