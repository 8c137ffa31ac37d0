//! What an operator does about builds, with a server on this machine or a stack alike.

mod builds;
mod cost;
mod dependency;
mod gc;
mod key;
mod many;
mod overview;

use std::path::PathBuf;

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
    confirm::{Confirm, Unconfirmed},
    site::{self, Site, Which},
};

/// What all of these take.
#[derive(ClapArgs)]
pub(crate) struct Common {
    #[command(flatten)]
    which: Which,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    confirm: Confirm,
}

/// Of one build.
#[derive(ClapArgs)]
pub(crate) struct One {
    /// The build, as people ask for it (tree, procps/ps, 'tree?sys=aarch64-linux&pin=unstable'), or as a list tells it (COMMIT/SYSTEM/PACKAGE)
    #[arg(value_name = "BUILD")]
    of: Named,
    #[command(flatten)]
    common: Common,
}

/// Of all builds.
#[derive(ClapArgs)]
pub(crate) struct Pause {
    /// Let end what is under way
    #[arg(long)]
    drain: bool,
    #[command(flatten)]
    common: Common,
}

/// Which builds.
#[derive(ClapArgs)]
pub(crate) struct List {
    /// Only those that stand so
    #[arg(long, value_enum)]
    state: Option<State>,
    #[command(flatten)]
    which: Whose,
    #[command(flatten)]
    common: Common,
}

/// Whose, among those of a state.
#[derive(ClapArgs)]
pub(crate) struct Whose {
    /// Only those that have failed so
    #[arg(long, value_parser = reasons(), value_name = "REASON")]
    reason: Option<Kind>,
    /// Only those that came to stand so within that time: 90m, 2h, 7days
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    since: Option<std::time::Duration>,
}

/// One build, or all that have failed for one reason.
#[derive(ClapArgs)]
#[command(override_usage = "binplz retry BUILD\n       binplz retry --reason REASON [--since TIME]")]
pub(crate) struct Retry {
    /// The build, as people ask for it (tree), or as a list tells it
    #[arg(value_name = "BUILD", required_unless_present = "reason", conflicts_with_all = ["reason", "since"])]
    of: Option<Named>,
    #[command(flatten)]
    which: Whose,
    #[command(flatten)]
    common: Common,
}

/// A log.
#[derive(ClapArgs)]
pub(crate) struct Log {
    /// Go on until the build has ended
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    one: One,
}

/// A package that is to be served no more.
#[derive(ClapArgs)]
pub(crate) struct Takedown {
    /// The package: its attribute
    package: Attr,
    /// Why, for those who ask for it
    #[arg(long, value_name = "TEXT")]
    why: String,
    #[command(flatten)]
    common: Common,
}

/// A package that is to be served again.
#[derive(ClapArgs)]
pub(crate) struct Restore {
    /// The package: its attribute
    package: Attr,
    #[command(flatten)]
    common: Common,
}

/// What is served most.
#[derive(ClapArgs)]
pub(crate) struct Top {
    /// Within that time: 90m, 2h, 7days
    #[arg(long, value_parser = humantime::parse_duration, default_value = "24h", value_name = "TIME")]
    since: std::time::Duration,
    /// How many packages
    #[arg(long, default_value_t = 20, value_name = "N")]
    most: usize,
    #[command(flatten)]
    common: Common,
}

/// What builds may cost.
#[derive(ClapArgs)]
pub(crate) struct Budget {
    /// Dollars: 30, or 0.25
    #[arg(value_name = "DOLLARS")]
    dollars: Option<Micros>,
    #[command(flatten)]
    common: Common,
}

/// What nobody needs any more.
#[derive(ClapArgs)]
pub(crate) struct Gc {
    /// Only tell what would go
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    common: Common,
}

/// A list of packages.
#[derive(ClapArgs)]
pub(crate) struct Warm {
    /// A file with a package a line, as people ask for it; what follows a # is passed over. - is the standard input
    file: PathBuf,
    /// Wait until all have come to an end
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    common: Common,
}

/// What fills the builders' cache.
#[derive(ClapArgs)]
pub(crate) struct Seed {
    /// Other packages than those of infra/seed.txt: a file with one a line
    #[arg(long, value_name = "FILE")]
    list: Option<PathBuf>,
    /// And so many of those packages that were served most in the last 30 days
    #[arg(long, value_name = "N", default_value_t = 0)]
    top: usize,
    /// Of the nixpkgs that is served under this name [default: the default pin]
    #[arg(long, value_name = "NAME")]
    pin: Option<PinName>,
    /// Wait until all have come to an end
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    common: Common,
}

/// How a build stands.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum State {
    /// Waits for a slot, for its time, or for builds to go on
    Queued,
    /// Under way
    Building,
    /// Its programs are there
    Ready,
    /// It failed
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
    .try_map(move |name| known(&name).ok_or("there is no such reason"))
}

/// What an operator may order.
#[derive(Subcommand)]
pub(crate) enum Verb {
    /// How builds, queue and budget stand
    Status(Common),
    /// Which builds there are: those under way, those that wait, those that failed, those that are ready; the latest first
    List(List),
    /// All that is known of a build: its attempts, what they took, how they ended
    Show(One),
    /// Why a build failed, its last lines, and what can be done
    Why(One),
    /// A build's log
    Log(Log),
    /// Try again what has failed: one build, or all that failed for one reason
    Retry(Retry),
    /// Forget that a build has failed
    Forget(One),
    /// End a build that waits or is under way
    Cancel(One),
    /// Which packages are served most
    Top(Top),
    /// What the month has cost so far, by what, what it will come to, and which packages cost most
    Cost(Common),
    /// Serve a package to nobody any more, of any nixpkgs and for any system: who asks is told why (451)
    Takedown(Takedown),
    /// Serve a package again that was taken down
    Restore(Restore),
    /// Have packages built before somebody asks for them, when nothing else is to be built
    Warm(Warm),
    /// After a pin was added or moved: have one small package of each language built, so that their compilers are in the builders' cache,
    /// and what people use
    Seed(Seed),
    /// Clear away what nobody needs any more: what retired and moved pins have left once its time is over, what attempts that failed have
    /// left, and what was taken down. The server, or the stack, does so once a day by itself
    Gc(Gc),
    /// Have nothing new built, and stop what is under way: it waits in the queue until builds go on
    Pause(Pause),
    /// Let builds go on
    Resume(Common),
    /// What builds may cost this month; with an amount: let them cost so much, in this month only
    Budget(Budget),
    /// Dependencies that are known to fail: packages that need one fail without a try
    Dependency(dependency::Args),
    /// API keys, for clients that may have more builds started than an address may
    Key(key::Args),
}

/// Why it was not done.
#[derive(Debug, Error)]
pub(crate) enum OperateError {
    /// There is no such deployment.
    #[error(transparent)]
    Site(#[from] site::SiteError),
    /// The deployment did not do it.
    #[error(transparent)]
    Declined(#[from] Declined),
    /// The operator did not want it after all.
    #[error(transparent)]
    Unconfirmed(#[from] Unconfirmed),
    /// A line of a list that names nothing.
    #[error("line {0} of the list: {1}")]
    Line(usize, BadTarget),
    /// Not all of many came to an end that is wanted.
    #[error("{0}")]
    Some(String),
    /// The operating system.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Does it.
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
            one.common.confirm.that(|| format!("forgets how {} has failed, and its attempts", one.of))?;
            builds::act(one, Act::Forget).await
        }
        Verb::Cancel(one) => {
            one.common.confirm.that(|| format!("ends the build of {}", one.of))?;
            builds::act(one, Act::Cancel).await
        }
        Verb::Top(top) => overview::top(top).await,
        Verb::Cost(common) => cost::cost(common).await,
        Verb::Takedown(Takedown { package, why, common }) => {
            common.confirm.that(|| format!("takes {package} down, for everybody"))?;
            overview::after(common, [Order::ChangePins(Change::Withhold(package, why))]).await
        }
        Verb::Restore(Restore { package, common }) => {
            overview::after(common, [Order::ChangePins(Change::Restore(package))]).await
        }
        Verb::Warm(warm) => many::warm(warm).await,
        Verb::Seed(seed) => many::seed(seed).await,
        Verb::Gc(order) => gc::gc(order).await,
        Verb::Pause(Pause { drain, common }) => {
            if !drain {
                common.confirm.that(|| "stops all builds that are under way: they begin anew later".to_owned())?;
            }
            overview::after(common, [Order::Pause { drain }]).await
        }
        Verb::Resume(common) => overview::after(common, [Order::Resume]).await,
        Verb::Dependency(args) => dependency::dependency(args).await,
        Verb::Key(args) => key::key(args).await,
        Verb::Budget(Budget { dollars, common }) => overview::after(common, dollars.map(Order::OverrideBudget)).await,
    }
}

/// The instant that long ago.
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
