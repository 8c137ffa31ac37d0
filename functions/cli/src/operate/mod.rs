//! The operator's commands, for a server on this machine or a stack on AWS.

mod backup;
mod builds;
mod catalogue;
mod cost;
mod dependency;
mod gc;
mod key;
mod many;
mod overview;
mod plan;
mod signing_key;
mod verify;
mod witness;

use std::{ffi::OsString, path::PathBuf};

use binplz_core::{
    build::failure::Kind,
    flow::operator::{
        inspect::{Filter, StatusFilter},
        orders::{Act, Declined, Named, Operator, Order},
    },
    id::{
        key::{Attr, PinName},
        money::Micros,
        target::BadTarget,
        time::Timestamp,
    },
    nixpkgs::pins::Change,
};
use clap::{
    Args as ClapArgs, Subcommand, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};
use thiserror::Error;

use crate::{
    check::{CheckError, Offline},
    confirm::{Confirm, Unconfirmed},
    site::{self, Site, Which},
};

/// The arguments of all commands.
#[derive(ClapArgs)]
pub(crate) struct Common {
    #[command(flatten)]
    which: Which,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    confirm: Confirm,
}

/// The arguments of a command about one build.
#[derive(ClapArgs)]
pub(crate) struct One {
    /// The build: as in a URL (tree, procps/ps, 'tree?sys=aarch64-linux&pin=unstable'), or COMMIT/SYSTEM/PACKAGE as printed by list
    #[arg(value_name = "BUILD")]
    of: Named,
    #[command(flatten)]
    common: Common,
}

/// The arguments of `binplz pause`.
#[derive(ClapArgs)]
pub(crate) struct Pause {
    /// Let running builds finish
    #[arg(long)]
    drain: bool,
    #[command(flatten)]
    common: Common,
}

/// The arguments of `binplz list`.
#[derive(ClapArgs)]
pub(crate) struct List {
    /// Only builds in this state
    #[arg(long, value_enum)]
    state: Option<State>,
    #[command(flatten)]
    which: Whose,
    #[command(flatten)]
    common: Common,
}

/// A filter of builds.
#[derive(ClapArgs)]
pub(crate) struct Whose {
    /// Only builds that failed for this reason
    #[arg(long, value_parser = reasons(), value_name = "REASON")]
    reason: Option<Kind>,
    /// Only builds that entered their state within this time: 90m, 2h, 7days
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    since: Option<std::time::Duration>,
}

/// The arguments of `binplz retry`.
#[derive(ClapArgs)]
#[command(override_usage = "binplz retry BUILD\n       binplz retry --reason REASON [--since TIME]")]
pub(crate) struct Retry {
    /// The build: as in a URL (tree), or as printed by list
    #[arg(value_name = "BUILD", required_unless_present = "reason", conflicts_with_all = ["reason", "since"])]
    of: Option<Named>,
    #[command(flatten)]
    which: Whose,
    #[command(flatten)]
    common: Common,
}

/// The arguments of `binplz log`.
#[derive(ClapArgs)]
pub(crate) struct Log {
    /// Follow the log until the build has ended
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    one: One,
}

/// The arguments of `binplz takedown`.
#[derive(ClapArgs)]
pub(crate) struct Takedown {
    /// The attribute of the package
    package: Attr,
    /// The reason, which clients see
    #[arg(long, value_name = "TEXT")]
    why: String,
    #[command(flatten)]
    common: Common,
}

/// The arguments of `binplz reinstate`.
#[derive(ClapArgs)]
pub(crate) struct Reinstate {
    /// The attribute of the package
    package: Attr,
    #[command(flatten)]
    common: Common,
}

/// The arguments of `binplz top`.
#[derive(ClapArgs)]
pub(crate) struct Top {
    /// Count the downloads within this time: 90m, 2h, 7days
    #[arg(long, value_parser = humantime::parse_duration, default_value = "24h", value_name = "TIME")]
    since: std::time::Duration,
    /// The number of packages
    #[arg(long, default_value_t = 20, value_name = "N")]
    most: usize,
    #[command(flatten)]
    common: Common,
}

/// The arguments of `binplz budget`.
#[derive(ClapArgs)]
pub(crate) struct Budget {
    /// The new budget in dollars: 30, or 0.25
    #[arg(value_name = "DOLLARS")]
    dollars: Option<Micros>,
    #[command(flatten)]
    common: Common,
}

/// The arguments of `binplz verify`.
#[derive(ClapArgs)]
pub(crate) struct Verify {
    /// The build: as in a URL (tree), or as printed by list; with --proof, a downloaded file
    #[arg(value_name = "BUILD|FILE", required_unless_present = "all")]
    of: Option<OsString>,
    /// All builds
    #[arg(long, conflicts_with = "of")]
    all: bool,
    #[command(flatten)]
    offline: Offline,
    #[command(flatten)]
    common: Common,
}

/// The arguments of `binplz gc`.
#[derive(ClapArgs)]
pub(crate) struct Gc {
    /// Print what would be deleted, and delete nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    common: Common,
}

/// The arguments of `binplz warm`.
#[derive(ClapArgs)]
pub(crate) struct Warm {
    /// A file with one package per line, as in a URL, and comments after #; with -, standard input
    #[arg(required_unless_present = "popular", conflicts_with = "popular")]
    file: Option<PathBuf>,
    /// Build the most popular programs (infra/popular.txt); prints the estimated cost first
    #[arg(long)]
    popular: bool,
    /// Wait until all builds have ended
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    common: Common,
}

/// The arguments of `binplz seed`.
#[derive(ClapArgs)]
pub(crate) struct Seed {
    /// A file with one package per line, instead of infra/seed.txt
    #[arg(long, value_name = "FILE")]
    list: Option<PathBuf>,
    /// Also build this many of the most downloaded packages of the last 30 days
    #[arg(long, value_name = "N", default_value_t = 0)]
    top: usize,
    /// Build for this pin [default: the default pin]
    #[arg(long, value_name = "NAME")]
    pin: Option<PinName>,
    /// Wait until all builds have ended
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    common: Common,
}

/// The state of a build.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum State {
    /// Waits for a slot, for a retry delay, or for builds to resume
    Queued,
    /// Is running
    Building,
    /// Has finished; its programs are stored
    Ready,
    /// Has failed
    Failed,
}

impl From<State> for StatusFilter {
    fn from(state: State) -> StatusFilter {
        match state {
            State::Queued => StatusFilter::Queued,
            State::Building => StatusFilter::Building,
            State::Ready => StatusFilter::Ready,
            State::Failed => StatusFilter::Failed,
        }
    }
}

fn reasons() -> impl TypedValueParser<Value = Kind> {
    let known = |name: &str| Kind::ALL.into_iter().find(|kind| kind.name() == name);
    PossibleValuesParser::new(
        Kind::ALL.map(|kind| clap::builder::PossibleValue::new(kind.name()).help(kind.sentence())),
    )
    .try_map(move |name| known(&name).ok_or("unknown reason"))
}

/// The operator's commands.
#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Show slots, queue, budget, store and pauses
    Status(Common),
    /// List running, queued, failed and ready builds, the latest first
    List(List),
    /// Show all details of a build: its attempts, their duration, cost and result
    Show(One),
    /// Explain why a build failed: the reason, the last lines, and what to do
    Why(One),
    /// Print the log of a build
    Log(Log),
    /// Retry a failed build, or all builds that failed for one reason
    Retry(Retry),
    /// Forget a failure; the next request starts the build again
    Forget(One),
    /// Cancel a queued or running build
    Cancel(One),
    /// Build a ready package again, and serve its current programs until then
    Rebuild(One),
    /// Compare stored files with their checksums; stop serving missing and damaged ones, and build them again. With --proof,
    /// check a downloaded file instead
    Verify(Verify),
    /// List the most downloaded packages
    Top(Top),
    /// Count the attributes of a catalogue: buildable, refused by Nixpkgs, and lost to an evaluation error
    Catalogue(catalogue::Catalogue),
    /// Show the month's cost so far, a forecast, and the most expensive packages
    Cost(Common),
    /// Stop serving a package, for all commits and systems; requests get 451 with the reason
    Takedown(Takedown),
    /// Serve a package again after a takedown
    Reinstate(Reinstate),
    /// Write the ledger to a file: builds, pins, limits, API keys, takedowns, but not the stored programs
    Backup(backup::Backup),
    /// Restore the ledger from a file while the server is stopped, and list the stored programs that the file lacks
    Restore(backup::Restore),
    /// Show what a build would build and download, its duration and its price; Nix on this machine evaluates the package and builds nothing
    Plan(plan::Plan),
    /// Set the time limit of a package, and retry its build if it has exceeded the old limit
    Allow(plan::Allow),
    /// Build packages in advance, at a lower priority than requested ones
    Warm(Warm),
    /// Fill the builders' cache: build one small package per language. Run this after you add or move a pin
    Seed(Seed),
    /// Run garbage collection now; it also runs once a day
    ///
    /// It deletes the data of retired and moved pins, failed attempts and takedowns. Objects follow their rows after a grace period.
    Gc(Gc),
    /// Start no more builds, and return running builds to the queue
    Pause(Pause),
    /// Resume builds
    Resume(Common),
    /// Show the status with the budget, or set the budget for this month only
    Budget(Budget),
    /// List and clear dependencies that count as failed; packages that need one fail at once
    Dependency(dependency::Args),
    /// List the keys that sign artifacts and the transparency log, and accept new keys
    SigningKey(signing_key::Args),
    /// List the witnesses of the transparency log, and add checkpoints that they have cosigned
    Witness(witness::Args),
    /// Manage API keys, for clients that need more builds a day than an address may start
    Key(key::Args),
}

/// Why a command failed.
#[derive(Debug, Error)]
pub(crate) enum OperateError {
    /// The deployment was not found.
    #[error(transparent)]
    Site(#[from] site::SiteError),
    /// The deployment declined the order.
    #[error(transparent)]
    Declined(#[from] Declined),
    /// The operator did not confirm.
    #[error(transparent)]
    Unconfirmed(#[from] Unconfirmed),
    /// A backup was not written, or not restored.
    #[error(transparent)]
    Backup(#[from] backup::BackupError),
    /// A line of a list is not a valid name.
    #[error("line {0} of the list: {1}")]
    Line(usize, BadTarget),
    /// A downloaded file has failed a check.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// The name is not that of a build.
    #[error(transparent)]
    Name(#[from] BadTarget),
    /// Some of many builds could not be queued.
    #[error("{0}")]
    Some(String),
    /// The operating system failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Runs a command.
///
/// # Errors
/// [`OperateError`].
pub(crate) fn run(verb: Verb) -> Result<(), OperateError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(carry_out(verb))
}

async fn carry_out(verb: Verb) -> Result<(), OperateError> {
    match verb {
        Verb::Status(common) => overview::after(common, []).await,
        Verb::List(list) => builds::list(list).await,
        Verb::Show(one) => builds::show(one).await,
        Verb::Why(one) => builds::why(one).await,
        Verb::Log(log) => builds::log(log).await,
        Verb::Retry(Retry { of: Some(of), common, .. }) => builds::act(One { of, common }, Act::Retry).await,
        Verb::Retry(Retry { of: None, which, common }) => many::retry(which, common).await,
        Verb::Forget(one) => {
            one.common.confirm.that(|| format!("forgets the failure and the attempts of {}", one.of))?;
            builds::act(one, Act::Forget).await
        }
        Verb::Cancel(one) => {
            one.common.confirm.that(|| format!("cancels the build of {}", one.of))?;
            builds::act(one, Act::Cancel).await
        }
        Verb::Rebuild(one) => builds::act(one, Act::Rebuild).await,
        Verb::Verify(order) => verify::verify(order).await,
        Verb::Top(top) => overview::top(top).await,
        Verb::Catalogue(order) => catalogue::catalogue(order).await,
        Verb::Cost(common) => cost::cost(common).await,
        Verb::Takedown(Takedown { package, why, common }) => {
            common.confirm.that(|| format!("takes {package} down for all clients"))?;
            overview::after(common, [Order::ChangePins(Change::Withhold(package, why))]).await
        }
        Verb::Reinstate(Reinstate { package, common }) => {
            overview::after(common, [Order::ChangePins(Change::Restore(package))]).await
        }
        Verb::Backup(order) => backup::backup(order).await,
        Verb::Restore(order) => backup::restore_from(order).await,
        Verb::Plan(order) => plan::plan(order).await,
        Verb::Allow(order) => plan::allow(order).await,
        Verb::Warm(warm) => many::warm(warm).await,
        Verb::Seed(seed) => many::seed(seed).await,
        Verb::Gc(order) => gc::gc(order).await,
        Verb::Pause(Pause { drain, common }) => {
            if !drain {
                common
                    .confirm
                    .that(|| "stops all running builds; they start again from the beginning after resume".to_owned())?;
            }
            overview::after(common, [Order::Pause { drain }]).await
        }
        Verb::Resume(common) => overview::after(common, [Order::Resume]).await,
        Verb::Dependency(args) => dependency::dependency(args).await,
        Verb::SigningKey(args) => signing_key::signing_key(args).await,
        Verb::Witness(args) => witness::witness(args).await,
        Verb::Key(args) => key::key(args).await,
        Verb::Budget(Budget { dollars, common }) => overview::after(common, dollars.map(Order::OverrideBudget)).await,
    }
}

/// The instant `time` ago.
fn ago(time: std::time::Duration) -> Timestamp {
    Timestamp(binplz_clock::now().0.saturating_sub(time.as_millis() as u64))
}

impl Whose {
    fn filter(&self, state: Option<State>) -> Filter {
        Filter { state: state.map(StatusFilter::from), reason: self.reason, since: self.since.map(ago) }
    }
}

async fn listed(site: &Site, filter: Filter) -> Result<Vec<binplz_core::flow::operator::inspect::Listing>, Declined> {
    site.carry_out(Order::List(filter)).await?.list()
}
