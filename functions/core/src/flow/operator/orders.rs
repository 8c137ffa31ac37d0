//! What an operator may ask of a deployment. An order is data, so that it is carried out in the same way wherever the operator
//! sits: beside the ledger, or at the other end of a socket.

use std::{collections::BTreeMap, fmt, future::Future, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    build::Event,
    flow::{
        AdvanceError, QUEUE_COUNT, advance, load_build, load_limits,
        operator::{
            cost::{self, Cost},
            gc,
            inspect::{self, Excerpt, Filter, Listing, Shown},
            keys, pins, stop,
        },
        queued,
        request::resolve,
        ring,
        schedule::failed_dependencies,
    },
    gc::Report,
    id::{
        key::{Attr, BuildKey, System},
        target::{BadTarget, Target},
        time::Timestamp,
    },
    nixpkgs::pins::{Change, Pins, Withheld},
    ports::{Asked, Collect, Deployment, DownloadStats, Read, Unavailable},
    quota::{
        client::{KeyChange, Keys},
        limits::{Egress, Micros, Paused},
    },
};

/// One order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Tell the pins.
    Pins,
    /// Change them, and tell what they are then.
    ChangePins(Change),
    /// Tell how the whole stands.
    Overview,
    /// Have nothing new built; stop what is under way, unless it may end (`drain`).
    Pause {
        /// Whether it may.
        drain: bool,
    },
    /// Let builds go on.
    Resume,
    /// Let builds cost so much in this month, whatever they may in others.
    OverrideBudget(Micros),
    /// Tell the API keys.
    Keys,
    /// Change them, and tell what they are then.
    ChangeKeys(KeyChange),
    /// Tell the builds that fit.
    List(Filter),
    /// Tell all that is known of one.
    Show(Named),
    /// Tell a part of its log.
    Log {
        /// Whose.
        of: Named,
        /// From which segment on; 1 is the first.
        from: u32,
    },
    /// Tell what is served most.
    Top {
        /// Since when.
        since: Timestamp,
        /// How many packages, at most.
        most: usize,
    },
    /// Clear away what nobody needs any more, or tell what that would be.
    Gc {
        /// Nothing is changed.
        rehearsal: bool,
    },
    /// Tell what the month has cost, and will.
    Cost,
    /// Do something about one build.
    Build {
        /// Which.
        of: Named,
        /// What.
        act: Act,
    },
}

/// A build, as operators name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Named {
    /// As people ask for it: `tree?sys=aarch64-linux`.
    Target(Target),
    /// As a list tells it: `REV/SYSTEM/ATTR`. So builds are named of nixpkgs that no pin stands for any more.
    Key(BuildKey),
}

impl From<Target> for Named {
    fn from(target: Target) -> Named {
        Named::Target(target)
    }
}

/// A key has two slashes and begins with a whole commit, a target never does.
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

/// What can be done about a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// Have it built before somebody asks, when nothing else is to be built.
    Warm,
    /// Try it again, though it failed.
    Retry,
    /// Forget that it failed: whoever asks next starts it.
    Forget,
    /// End it.
    Cancel,
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
    /// What the month has cost, and will.
    Cost(Box<Cost>),
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
    /// What the month has cost, where that was asked.
    cost: Cost(Box<Cost>);
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
    /// Packages that are taken down, and why.
    #[serde(default)]
    pub withheld: BTreeMap<Attr, Withheld>,
}

/// Why it was not carried out: a sentence for the operator.
#[derive(Clone, Debug, Error, PartialEq, Eq, Serialize, Deserialize)]
#[error("{0}")]
pub struct Declined(pub String);

impl Declined {
    fn strange() -> Declined {
        Declined(
            "that is no answer to what was asked: the server and this program are of different versions".to_owned(),
        )
    }
}

/// Carries orders out: a deployment, or what speaks to one.
pub trait Operator {
    /// Carries one out. Each may be given again: what is done already is well.
    fn carry_out(&self, order: Order) -> impl Future<Output = Result<Outcome, Declined>> + Send;
}

impl<D: Deployment<Store: Collect>> Operator for D {
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
            Order::List(filter) => Ok(Outcome::List(inspect::list(self, &filter).await?)),
            Order::Show(of) => Ok(Outcome::Show(Box::new(inspect::show(self, key_of(self, &of).await?).await?))),
            Order::Log { of, from } => Ok(Outcome::Log(inspect::log(self, &key_of(self, &of).await?, from).await?)),
            Order::Top { since, most } => Ok(Outcome::Top(self.download_stats().top(since, most).await?)),
            Order::Gc { rehearsal } => Ok(Outcome::Gc(gc::gc(self, rehearsal).await?)),
            Order::Cost => Ok(Outcome::Cost(Box::new(cost::cost(self).await?))),
            Order::Build { of, act } => Ok(Outcome::Build(on_build(self, &of, act).await?)),
        }
    }
}

async fn overview<D: Deployment>(d: &D) -> Result<Outcome, Declined> {
    let (limits, _) = load_limits(d, Read::Consistent).await?;
    let limits = limits.in_month(d.now());
    let closed = |system| limits.closed(system, d.policy(), d.now());
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
        withheld: pins::load(d).await?.withheld().clone(),
    }))
}

/// Which build is meant.
async fn key_of<D: Deployment>(d: &D, of: &Named) -> Result<BuildKey, Declined> {
    match of {
        Named::Key(key) => Ok(key.clone()),
        Named::Target(target) => Ok(resolve::of(d, target, false).await?.map_err(declined)?.key),
    }
}

async fn on_build<D: Deployment>(d: &D, of: &Named, act: Act) -> Result<Listing, Declined> {
    let key = key_of(d, of).await?;
    match act {
        Act::Cancel => stop::cancel(d, &key).await,
        Act::Warm => advance(d, &key, &Event::Warm).await.map(drop),
        Act::Retry => again(d, &key, &Event::Retry).await,
        Act::Forget => again(d, &key, &Event::Forget).await,
    }
    .map_err(|halt| declined(format!("{of}: {halt}")))?;
    if matches!(act, Act::Retry | Act::Warm) {
        ring(d).await;
    }
    Ok(inspect::listing(d, load_build(d, &key).await?.0).await?)
}

/// A failure counts no more, and neither does that of the dependency that caused it.
async fn again<D: Deployment>(d: &D, key: &BuildKey, event: &Event) -> Result<(), AdvanceError> {
    // The pardon first: whoever dies between the two gives the order again, and the build still says which dependency it was.
    failed_dependencies::clear(d, &load_build(d, key).await?.0).await?;
    advance(d, key, event).await.map(drop)
}

fn declined(why: impl ToString) -> Declined {
    Declined(why.to_string())
}

impl From<Unavailable> for Declined {
    fn from(error: Unavailable) -> Declined {
        declined(error)
    }
}
