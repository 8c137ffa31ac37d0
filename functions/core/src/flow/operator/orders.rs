//! An operator's orders. An order is data, so it is carried out in the same way beside the ledger and at the other end
//! of a socket.

use std::{collections::BTreeMap, fmt, future::Future, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    billing::traffic::Asked,
    build::{
        Event, State,
        failed_dependencies::FailedDependency,
        failure::{Failure, Kind},
        plan::DryRun,
        protocol::Job,
    },
    flow::{
        AdvanceError, QUEUE_COUNT, advance, integrity,
        lease::job,
        load_build, load_limits,
        operator::{
            census::{self, Summary},
            cost::{self, Cost},
            forecast::{self, Forecast, Foreseen},
            gc,
            inspect::{self, Excerpt, Filter, Listing, Shown},
            keys, pins,
            signing::{self, SigningKeys},
            stop,
        },
        queued,
        request::resolve,
        ring,
        schedule::{failed_dependencies, scrub},
    },
    gc::Report,
    id::{
        key::{Attr, BuildKey, DrvHash, PinName, Rev, System},
        money::Micros,
        target::{BadTarget, Target},
        time::Timestamp,
    },
    nixpkgs::pins::{Change, Pin, Pins, Withheld},
    ports::{
        Collect, DownloadStats, Fault, HasBell, HasCatalogues, HasDownloadStats, HasLauncher, HasLedger, HasStore,
        Intake, Read, Unavailable,
    },
    quota::{
        client::{KeyChange, Keys},
        limits::{Egress, Paused},
    },
    trust::head::LogKey,
};

/// One order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// List the pins.
    Pins,
    /// Change the pins, and list them.
    ChangePins(Change),
    /// Summarise the service.
    Overview,
    /// Pause builds; running ones are stopped, unless they may finish (`drain`).
    Pause {
        /// Whether running builds may finish.
        drain: bool,
    },
    /// Resume builds.
    Resume,
    /// Set the budget of this month only.
    OverrideBudget(Micros),
    /// List the API keys.
    Keys,
    /// Change the API keys, and list them.
    ChangeKeys(KeyChange),
    /// List the keys that sign artifacts and the log.
    SigningKeys,
    /// Accept the keys that the signer has, and list all.
    AcceptSigningKeys,
    /// Add the cosignatures of a checkpoint, and list all keys.
    AddCosignatures {
        /// The keys of further witnesses.
        keys: Vec<LogKey>,
        /// The checkpoint, a note that these witnesses have signed.
        checkpoint: String,
    },
    /// List the matching builds.
    List(Filter),
    /// Show all details of a build.
    Show(Named),
    /// Return a part of a build's log.
    Log {
        /// The build.
        of: Named,
        /// The first segment to return; 1 is the log's first.
        from: u32,
    },
    /// List the most downloaded packages.
    Top {
        /// Since when.
        since: Timestamp,
        /// How many packages, at most.
        most: usize,
    },
    /// Collect garbage, or return what would be deleted.
    Gc {
        /// Whether this is a dry run.
        rehearsal: bool,
    },
    /// Compare the objects of one build, or of all, with what they must be; rebuild what is missing or damaged.
    Verify {
        /// The build; `None`: all.
        of: Option<Named>,
    },
    /// Count a catalogue's attributes, and group those that could not be evaluated by their errors.
    Catalogue {
        /// The pin; `None`: the default.
        pin: Option<PinName>,
        /// The system; `None`: the deployment's.
        system: Option<System>,
    },
    /// Return the month's cost and its forecast.
    Cost,
    /// List the dependencies that are known to fail.
    FailedDependencies,
    /// Clear one of them, and list the others.
    ClearDependency(DrvHash),
    /// Set the time limit of a package, and queue its build again if that has failed by the limit.
    Allow {
        /// The build.
        of: Named,
        /// The limit in seconds; `None`: the deployment's.
        seconds: Option<u64>,
    },
    /// Return what a builder would get for a build.
    Job(Named),
    /// Return the plan of a build, from a dry run of that job.
    Plan {
        /// The build.
        of: Named,
        /// What Nix would do.
        run: DryRun,
    },
    /// Return what it would cost to build some packages, by what is known of them.
    Forecast(Vec<Target>),
    /// Act on one build.
    Build {
        /// The build.
        of: Named,
        /// The action.
        act: Act,
    },
}

/// An operator's name for a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Named {
    /// As a request's target: `tree?sys=aarch64-linux`.
    Target(Target),
    /// As a list prints it: `REV/SYSTEM/ATTR`. This names builds whose nixpkgs has no pin any more.
    Key(BuildKey),
}

impl From<Target> for Named {
    fn from(target: Target) -> Named {
        Named::Target(target)
    }
}

/// A key has two slashes and begins with a whole commit, which no target does.
impl FromStr for Named {
    type Err = BadTarget;
    fn from_str(s: &str) -> Result<Named, BadTarget> {
        s.parse().map(Named::Key).or_else(|_| s.parse().map(Named::Target))
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Named::Target(target) => target.fmt(f),
            Named::Key(key) => key.fmt(f),
        }
    }
}

/// An action on a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// Build it in advance, behind all requested builds.
    Warm,
    /// Retry it after a failure.
    Retry,
    /// Forget its failure: the next request starts it.
    Forget,
    /// Cancel it.
    Cancel,
    /// Build it again, although it is ready. Until then its present programs are served.
    Rebuild,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The pins, as they are now.
    Pins(Pins),
    /// How the whole stands.
    Overview(Overview),
    /// The API keys, as they are now.
    Keys(Keys),
    /// The keys that sign.
    SigningKeys(SigningKeys),
    /// These builds.
    List(Vec<Listing>),
    /// All that is known of one.
    Show(Box<Shown>),
    /// A part of a log.
    Log(Excerpt),
    /// What is served most.
    Top(Vec<Asked>),
    /// What was cleared away.
    Gc(Report),
    /// What was compared, and what was found.
    Verified(scrub::Report),
    /// A catalogue in numbers.
    Catalogue(Summary),
    /// What the month has cost, and will.
    Cost(Box<Cost>),
    /// The dependencies that are known to fail.
    FailedDependencies(Vec<FailedDependency>),
    /// What a builder would get.
    Job(Box<Job>),
    /// The plan of a build.
    Plan(Foreseen),
    /// What it would cost to build some packages.
    Forecast(Forecast),
    /// It is done, to that build, which stands so now.
    Build(Listing),
}

/// What was asked for, taken out of its outcome.
macro_rules! outcomes {
    ($($(#[$what:meta])* $name:ident: $kind:ident($content:ty);)+) => {
        impl Outcome {
            $(
                $(#[$what])*
                ///
                /// # Errors
                /// [`Declined`]: who answered is of another version.
                pub fn $name(self) -> Result<$content, Declined> {
                    match self {
                        Outcome::$kind(content) => Ok(content),
                        _ => Err(Declined::strange()),
                    }
                }
            )+
        }
    };
}

outcomes! {
    /// The pins, where that was asked.
    pins: Pins(Pins);
    /// How the whole stands, where that was asked.
    overview: Overview(Overview);
    /// The API keys, where that was asked.
    keys: Keys(Keys);
    /// The keys that sign, where those were asked for.
    signing_keys: SigningKeys(SigningKeys);
    /// The builds, where those were asked for.
    list: List(Vec<Listing>);
    /// What is known of a build, where that was asked.
    show: Show(Box<Shown>);
    /// A part of a log, where that was asked for.
    log: Log(Excerpt);
    /// What is served most, where that was asked.
    top: Top(Vec<Asked>);
    /// What was cleared away, where that was asked for.
    cleared: Gc(Report);
    /// What was compared, where that was asked for.
    verified: Verified(scrub::Report);
    /// A catalogue in numbers, where that was asked for.
    catalogue: Catalogue(Summary);
    /// What the month has cost, where that was asked.
    cost: Cost(Box<Cost>);
    /// The dependencies that are known to fail, where those were asked for.
    failed_dependencies: FailedDependencies(Vec<FailedDependency>);
    /// What a builder would get, where that was asked.
    job: Job(Box<Job>);
    /// The plan of a build, where that was asked.
    plan: Plan(Foreseen);
    /// What some builds would cost, where that was asked.
    forecast: Forecast(Forecast);
    /// The build that it was done to.
    build: Build(Listing);
}

/// How the whole stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overview {
    /// The systems for which nothing is built, and why.
    pub paused: BTreeMap<System, Paused>,
    /// Slots that are taken.
    pub running: usize,
    /// Slots that there are.
    pub slots: usize,
    /// Builds that wait in the queue, those that wait for their time included; counted up to [`crate::flow::QUEUE_COUNT`].
    pub queued: usize,
    /// This month's dollars, in millionths: spent.
    pub spent: Micros,
    /// Reserved for what runs.
    pub reserved: Micros,
    /// What may be spent; `None`: there is no limit.
    pub budget: Option<Micros>,
    /// Bytes in the store, as far as that is known.
    #[serde(default)]
    pub stored: u64,
    /// The same, when all that is under way has stored the most that it may.
    #[serde(default)]
    pub stored_at_most: u64,
    /// Bytes that it may hold; `None`: there is no limit.
    #[serde(default)]
    pub store_bytes: Option<u64>,
    /// What was served today, and may be; `None`: there is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Egress>,
    /// The median error of the first estimates of the last 32 builds, in percent of what they took; `None`: none was given yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimate_error_percent: Option<u32>,
    /// The same of what their status said halfway ("about 1 minute left").
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_error_percent: Option<u32>,
    /// The same of `Retry-After`: how late a client that obeys it learns of the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_error_percent: Option<u32>,
    /// Packages that are taken down, and why.
    #[serde(default)]
    pub withheld: BTreeMap<Attr, Withheld>,
    /// The pins whose tarballs are not uploaded, and since when their builds wait.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub no_nixpkgs: BTreeMap<PinName, (Rev, Timestamp)>,
    /// The parts of the service that do not work.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
}

/// Why it was not carried out: a sentence for the operator.
#[derive(Clone, Debug, Error, PartialEq, Eq, Serialize, Deserialize)]
#[error("{0}")]
pub struct Declined(pub String);

impl Declined {
    fn strange() -> Declined {
        Declined("unexpected answer: the server and this program have different versions".to_owned())
    }
}

/// Carries orders out: a deployment, or what speaks to one.
pub trait Operator {
    /// Carries one out. Each may be given again: what is done already is well.
    fn carry_out(&self, order: Order) -> impl Future<Output = Result<Outcome, Declined>> + Send;
}

impl<D: HasLedger + HasStore<Store: Collect + Intake> + HasBell + HasLauncher + HasCatalogues + HasDownloadStats>
    Operator for D
{
    async fn carry_out(&self, order: Order) -> Result<Outcome, Declined> {
        match order {
            Order::Pins => Ok(Outcome::Pins(pins::load(self).await?)),
            Order::ChangePins(change) => Ok(Outcome::Pins(pins::change(self, &change).await.map_err(declined)?)),
            Order::Overview => overview(self).await,
            Order::Pause { drain } => {
                stop::pause(self, drain).await?;
                overview(self).await
            }
            Order::Resume => {
                stop::resume(self).await?;
                overview(self).await
            }
            Order::OverrideBudget(budget) => {
                stop::grant(self, budget).await?;
                overview(self).await
            }
            Order::Keys => Ok(Outcome::Keys(keys::load(self).await?)),
            Order::ChangeKeys(change) => Ok(Outcome::Keys(keys::change(self, &change).await.map_err(declined)?)),
            Order::SigningKeys => Ok(Outcome::SigningKeys(signing::keys(self).await?)),
            Order::AcceptSigningKeys => Ok(Outcome::SigningKeys(signing::accept(self).await?)),
            Order::AddCosignatures { keys, checkpoint } => {
                let added = signing::add_cosignatures(self, &keys, &checkpoint).await;
                Ok(Outcome::SigningKeys(added.map_err(declined)?))
            }
            Order::List(filter) => Ok(Outcome::List(inspect::list(self, &filter).await?)),
            Order::Show(of) => Ok(Outcome::Show(Box::new(inspect::show(self, key_of(self, &of).await?).await?))),
            Order::Log { of, from } => Ok(Outcome::Log(inspect::log(self, &key_of(self, &of).await?, from).await?)),
            Order::Top { since, most } => Ok(Outcome::Top(self.download_stats().top(since, most).await?)),
            Order::Gc { rehearsal } => Ok(Outcome::Gc(gc::gc(self, rehearsal).await?)),
            Order::Verify { of } => {
                let key = match &of {
                    Some(of) => Some(key_of(self, of).await?),
                    None => None,
                };
                Ok(Outcome::Verified(scrub::verify(self, key.as_ref()).await?))
            }
            Order::Catalogue { pin, system } => {
                let summary = census::census(self, pin, system).await.map_err(declined)?;
                let missing = || Declined("the catalogue is not built yet: binplz list shows its build".to_owned());
                summary.map(Outcome::Catalogue).ok_or_else(missing)
            }
            Order::Cost => Ok(Outcome::Cost(Box::new(cost::cost(self).await?))),
            Order::FailedDependencies => Ok(Outcome::FailedDependencies(failed_dependencies::all(self).await?)),
            Order::ClearDependency(drv) => match failed_dependencies::clear_one(self, &drv).await? {
                true => Ok(Outcome::FailedDependencies(failed_dependencies::all(self).await?)),
                false => Err(Declined(format!("{drv} is not a failed dependency; see binplz dependency list"))),
            },
            Order::Allow { of, seconds } => Ok(Outcome::Build(allow(self, &of, seconds).await?)),
            Order::Job(of) => {
                let key = key_of(self, &of).await?;
                let job = job::without_lease(self, &key).await?.ok_or_else(|| Declined(format!("{of} has no pin")))?;
                Ok(Outcome::Job(Box::new(job)))
            }
            Order::Plan { of, run } => {
                Ok(Outcome::Plan(forecast::foresee(self, &key_of(self, &of).await?, &run).await?))
            }
            Order::Forecast(targets) => Ok(Outcome::Forecast(forecast::forecast(self, targets).await?)),
            Order::Build { of, act } => Ok(Outcome::Build(on_build(self, &of, act).await?)),
        }
    }
}

async fn overview<D: HasLedger>(d: &D) -> Result<Outcome, Declined> {
    let (limits, _) = load_limits(d, Read::Consistent).await?;
    let limits = limits.in_month(d.now());
    let errors = limits.errors();
    let closed = |system| {
        let closed = limits.closed(system, d.policy(), d.now());
        closed.or_else(|| limits.refusal(system, d.now()))
    };
    let pins = pins::load(d).await?;
    let no_nixpkgs = |(name, pin): (&PinName, &Pin)| {
        let since = *limits.no_nixpkgs().get(&pin.rev)?;
        Some((name.clone(), (pin.rev.clone(), since)))
    };
    Ok(Outcome::Overview(Overview {
        paused: System::ALL.into_iter().filter_map(|system| Some((system, closed(system)?))).collect(),
        running: limits.taken(),
        slots: d.policy().slots,
        queued: queued(d, QUEUE_COUNT).await?.len(),
        spent: limits.spent(),
        reserved: limits.reserved(),
        budget: limits.budget(d.policy(), d.now()),
        stored: limits.stored(),
        stored_at_most: limits.stored_at_most(),
        store_bytes: d.policy().store_bytes,
        egress: limits.egress(d.policy(), d.now()),
        estimate_error_percent: errors.map(|errors| errors.estimate),
        status_error_percent: errors.map(|errors| errors.status),
        retry_after_error_percent: errors.map(|errors| errors.retry_after),
        withheld: pins.withheld().clone(),
        no_nixpkgs: pins.all().iter().filter_map(no_nixpkgs).collect(),
        faults: d.faults(),
    }))
}

/// Which build is meant.
async fn key_of<D: HasLedger + HasCatalogues>(d: &D, of: &Named) -> Result<BuildKey, Declined> {
    match of {
        Named::Key(key) => Ok(key.clone()),
        Named::Target(target) => Ok(resolve::first(d, target).await.map_err(declined)?.key),
    }
}

async fn on_build<D: HasLedger + HasBell + HasLauncher + HasCatalogues>(
    d: &D,
    of: &Named,
    act: Act,
) -> Result<Listing, Declined> {
    let key = key_of(d, of).await?;
    match act {
        Act::Cancel => stop::cancel(d, &key).await,
        Act::Warm => advance(d, &key, &Event::Warm).await.map(drop),
        Act::Retry => again(d, &key, &Event::Retry).await,
        Act::Forget => again(d, &key, &Event::Forget).await,
        Act::Rebuild => rebuild(d, &key).await,
    }
    .map_err(|halt| declined(format!("{of}: {halt}")))?;
    if matches!(act, Act::Retry | Act::Warm | Act::Rebuild) {
        ring(d).await;
    }
    Ok(inspect::listing(d, load_build(d, &key).await?.0).await?)
}

/// Sets the time limit of a package. A build that has failed by a limit is queued again.
async fn allow<D: HasLedger + HasBell + HasCatalogues>(
    d: &D,
    of: &Named,
    seconds: Option<u64>,
) -> Result<Listing, Declined> {
    let key = key_of(d, of).await?;
    let Some(attr) = key.product.attr() else { return Err(Declined("a catalogue has no such limit".to_owned())) };
    pins::change(d, &Change::Allow(attr.clone(), seconds)).await.map_err(declined)?;
    let (build, _) = load_build(d, &key).await?;
    let by_limit = |failure: &Failure| matches!(failure.kind, Kind::TooLong | Kind::TimedOut);
    if let State::Failed { failure, .. } = &build.state
        && seconds.is_some()
        && by_limit(failure)
    {
        again(d, &key, &Event::Retry).await.map_err(|halt| declined(format!("{of}: {halt}")))?;
        ring(d).await;
    }
    Ok(inspect::listing(d, load_build(d, &key).await?.0).await?)
}

/// A failure counts no more, and neither does that of the dependency that caused it.
async fn again<D: HasLedger>(d: &D, key: &BuildKey, event: &Event) -> Result<(), AdvanceError> {
    // The dependency is cleared first: if this dies between the two, the operator repeats the order, and the build
    // still names the dependency.
    failed_dependencies::clear(d, &load_build(d, key).await?.0).await?;
    advance(d, key, event).await.map(drop)
}

/// A ready build is made again; one that has failed is tried again.
async fn rebuild<D: HasLedger + HasBell>(d: &D, key: &BuildKey) -> Result<(), AdvanceError> {
    let (build, _) = load_build(d, key).await?;
    match build.prefix() {
        Some(prefix) => {
            integrity::anew(d, key, &prefix).await?;
            Ok(pins::mark_objects(d, &prefix).await?)
        }
        None => again(d, key, &Event::Retry).await,
    }
}

fn declined(why: impl ToString) -> Declined {
    Declined(why.to_string())
}

impl From<Unavailable> for Declined {
    fn from(error: Unavailable) -> Declined {
        declined(error)
    }
}
