//! The service's own state. Reads only.

use std::borrow::Cow;

use futures_util::future::try_join_all;
use serde::Serialize;

use crate::{
    build::{State, policy::Names},
    flow::{QUEUE_COUNT, load_build, load_limits, operator::pins, queued, request::status},
    id::{
        key::{BuildKey, PinName, Product, Rev, System},
        text::bytes,
        time::{Day, Timestamp},
    },
    ports::{HasLedger, Read, Unavailable},
    quota::limits::{Egress, Paused},
};

/// How a deployment stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Service {
    /// binplz's own.
    pub version: &'static str,
    /// The system that is meant where a request names none.
    pub system: System,
    /// Builds under way; catalogues do not count.
    pub building: usize,
    /// How many there may be.
    pub slots: usize,
    /// Builds that wait.
    pub queued: usize,
    /// Systems for which nothing new is built, and why.
    pub paused: Vec<Pause>,
    /// What was served today, and may be; left out where there is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress: Option<Egress>,
    /// What is served.
    pub pins: Vec<Served>,
}

impl Service {
    /// The day on which programs are served again, where none are today.
    pub fn served_again(&self) -> Option<Day> {
        Some(self.egress?.until?.day())
    }

    /// How much was downloaded today, and may be, for people.
    pub fn downloaded(&self) -> Option<String> {
        let Egress { served, ceiling, .. } = self.egress?;
        Some(format!("{} of {}", bytes(served), bytes(ceiling)))
    }
}

/// A system for which nothing new is built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pause {
    /// Which.
    pub system: System,
    /// Why not, and since when.
    #[serde(flatten)]
    pub paused: Paused,
    /// The same in words.
    pub reason: Cow<'static, str>,
}

/// A nixpkgs that is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Served {
    /// Under which name.
    pub pin: PinName,
    /// Which it is.
    pub nixpkgs: Rev,
    /// Since when the name stands for it, in milliseconds since 1970.
    pub since: Timestamp,
    /// Whether it is meant where a request names none.
    pub default: bool,
    /// Its tarball is not uploaded, so its builds wait.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_nixpkgs: bool,
    /// Its catalogue, for the deployment's own system: `ready`, `building`, `queued`, `failed` or `missing`; `off`: none is made.
    pub catalogue: &'static str,
}

/// How a deployment stands.
///
/// # Errors
/// [`Unavailable`].
pub async fn service<D: HasLedger>(d: &D) -> Result<Service, Unavailable> {
    let pins = pins::load(d).await?;
    let (limits, _) = load_limits(d, Read::Consistent).await?;
    let paused = |system| {
        let paused = limits.closed(system, d.policy(), d.now());
        let paused = paused.or_else(|| limits.refusal(system, d.now()))?;
        Some(Pause { system, reason: paused.sentence(), paused })
    };
    let default = pins.default_name();
    let served = pins.all().iter().map(async |(name, pin)| {
        Ok(Served {
            pin: name.clone(),
            nixpkgs: pin.rev.clone(),
            since: pin.since,
            default: name == default,
            no_nixpkgs: limits.lacks_nixpkgs(&pin.rev).is_some(),
            catalogue: catalogue(d, &pin.rev).await?,
        })
    });
    Ok(Service {
        version: crate::VERSION,
        system: d.system(),
        building: limits.taken(),
        slots: d.policy().slots,
        queued: queued(d, QUEUE_COUNT).await?.len(),
        paused: System::ALL.into_iter().filter_map(paused).collect(),
        egress: limits.egress(d.policy(), d.now()),
        pins: try_join_all(served).await?,
    })
}

async fn catalogue<D: HasLedger>(d: &D, rev: &Rev) -> Result<&'static str, Unavailable> {
    if d.policy().names == Names::Attributes {
        return Ok("off");
    }
    let key = BuildKey { rev: rev.clone(), system: d.system(), product: Product::Catalogue };
    let (build, _) = load_build(d, &key).await?;
    Ok(match &build.state {
        State::Unasked => "missing",
        State::Failed { .. } => "failed",
        state => status::name(state),
    })
}
