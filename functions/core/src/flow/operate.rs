//! What an operator may ask of a deployment. An order is data, so that it is carried out in the same way wherever the operator
//! sits: beside the ledger, or at the other end of a socket.

use std::{collections::BTreeMap, future::Future};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    build::Event,
    flow::{advance, load_limits, meaning, pins, queued, ring, stop},
    key::{BuildKey, System},
    limits::{Micros, Paused},
    pins::{Change, Pins},
    ports::{Deployment, Read, Unavailable},
    target::Target,
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
    /// Do something about one build.
    Build {
        /// What the build is asked for as: `tree?sys=aarch64-linux`.
        target: Target,
        /// What.
        act: Act,
    },
}

/// What can be done about a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
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
    /// It is done, to that build.
    Build(BuildKey),
}

impl Outcome {
    /// The pins, where that was asked.
    ///
    /// # Errors
    /// [`Declined`]: who answered is of another version.
    pub fn pins(self) -> Result<Pins, Declined> {
        match self {
            Outcome::Pins(pins) => Ok(pins),
            _ => Err(Declined::strange()),
        }
    }

    /// How the whole stands, where that was asked.
    ///
    /// # Errors
    /// [`Declined`]: who answered is of another version.
    pub fn overview(self) -> Result<Overview, Declined> {
        match self {
            Outcome::Overview(overview) => Ok(overview),
            _ => Err(Declined::strange()),
        }
    }

    /// Which build it was done to.
    ///
    /// # Errors
    /// [`Declined`]: who answered is of another version.
    pub fn build(self) -> Result<BuildKey, Declined> {
        match self {
            Outcome::Build(key) => Ok(key),
            _ => Err(Declined::strange()),
        }
    }
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
    /// Builds that wait in the queue, those that wait for their time included; counted up to [`super::QUEUE_COUNT`].
    pub queued: usize,
    /// This month's dollars, in millionths: spent.
    pub spent: Micros,
    /// Reserved for what runs.
    pub reserved: Micros,
    /// What may be spent; `None`: there is no limit.
    pub budget: Option<Micros>,
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

impl<D: Deployment> Operator for D {
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
            Order::Build { target, act } => Ok(Outcome::Build(on_build(self, &target, act).await?)),
        }
    }
}

async fn overview<D: Deployment>(d: &D) -> Result<Outcome, Declined> {
    let (limits, _) = load_limits(d, Read::Consistent).await?;
    let limits = limits.in_month(d.now());
    Ok(Outcome::Overview(Overview {
        paused: System::ALL.into_iter().filter_map(|system| Some((system, limits.paused(system)?))).collect(),
        running: limits.taken(),
        slots: d.policy().slots,
        queued: queued(d).await?,
        spent: limits.spent(),
        reserved: limits.reserved(),
        budget: d.policy().budget,
    }))
}

async fn on_build<D: Deployment>(d: &D, target: &Target, act: Act) -> Result<BuildKey, Declined> {
    let meaning = meaning::of(d, target, false).await?.map_err(declined)?;
    let key = meaning.key;
    match act {
        Act::Cancel => stop::cancel(d, &key).await,
        Act::Retry => advance(d, &key, &Event::Retry).await.map(drop),
        Act::Forget => advance(d, &key, &Event::Forget).await.map(drop),
    }
    .map_err(|halt| declined(format!("{target}: {halt}")))?;
    if act == Act::Retry {
        ring(d).await;
    }
    Ok(key)
}

fn declined(why: impl ToString) -> Declined {
    Declined(why.to_string())
}

impl From<Unavailable> for Declined {
    fn from(error: Unavailable) -> Declined {
        declined(error)
    }
}
