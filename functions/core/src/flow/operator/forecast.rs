//! What builds will take and cost, before they begin. Reads only.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use crate::{
    build::{
        Build, State,
        failure::Failure,
        plan::{DryRun, Plan},
        policy::Policy,
        size::Size,
    },
    flow::{
        lease::foresee,
        load_build, load_limits, load_profile,
        operator::pins,
        request::{denial::Denial, resolve},
    },
    id::{key::BuildKey, money::Micros, target::Target},
    ports::{HasCatalogues, HasLedger, HasStore, Intake, Read, Unavailable},
};

/// How many packages are looked up concurrently.
const AT_ONCE: usize = 8;

/// The plan of a build, before it begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Foreseen {
    /// Which.
    pub key: BuildKey,
    /// What it builds and fetches.
    pub plan: Plan,
    /// Its machine, if it were to begin now.
    pub size: Size,
    /// Its time limit, in seconds.
    pub limit_seconds: u64,
    /// Its price by the estimate; `None`: the estimate is unknown, or building is free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Micros>,
    /// Why it would not begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Failure>,
}

/// What it would cost to build some packages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecast {
    /// Packages that are built already.
    pub ready: usize,
    /// Names that the catalogue does not have.
    pub missing: usize,
    /// Packages whose last build's duration is known.
    pub known: usize,
    /// What these take in seconds, one after the other.
    pub known_seconds: u64,
    /// What these cost; 0 where building is free.
    pub known_cost: Micros,
    /// Packages that have not been built yet.
    pub unknown: usize,
    /// What each of those takes in seconds, if it takes as long as builds did on average; `None`: nothing was built yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_seconds: Option<u64>,
    /// What each of those costs, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_cost: Option<Micros>,
}

/// The plan of a build, from a dry run of its job.
///
/// # Errors
/// [`Unavailable`].
pub(crate) async fn foresee<D: HasLedger + HasStore<Store: Intake>>(
    d: &D,
    key: &BuildKey,
    run: &DryRun,
) -> Result<Foreseen, Unavailable> {
    let plan = foresee::plan(d, key, Some(run)).await?.unwrap_or_default();
    let seconds = pins::load(d).await?.allowed(&key.product);
    let policy = d.policy().allowing(seconds);
    let (usual, _) = load_profile(d, key, Read::Eventual).await?;
    let usual = usual.map_or(policy.size, |past| past.machine(policy.size));
    let size = plan.memory.filter(|memory| !usual.fits(*memory)).map_or(usual, |memory| usual.with_memory_for(memory));
    let refused = foresee::too_long(d, &key.product, &policy, &plan).await?;
    let price = plan.expected().and_then(|time| priced(&policy, size, time));
    Ok(Foreseen { key: key.clone(), plan, size, limit_seconds: policy.job.seconds, price, refused })
}

fn priced(policy: &Policy, size: Size, time: Duration) -> Option<Micros> {
    (!policy.prices.are_none()).then(|| policy.price(size, time + policy.overhead))
}

/// What it would cost to build some packages: by each one's last build, and on average of those that were not built yet.
///
/// # Errors
/// [`Unavailable`].
pub(crate) async fn forecast<D: HasLedger + HasCatalogues>(
    d: &D,
    targets: Vec<Target>,
) -> Result<Forecast, Unavailable> {
    let (limits, _) = load_limits(d, Read::Eventual).await?;
    let mean = limits.pace().of_any();
    let mut all = Forecast {
        mean_seconds: mean.map(|mean| mean.as_secs()),
        mean_cost: mean.and_then(|mean| priced(d.policy(), d.policy().size, mean)),
        ..Forecast::default()
    };
    let looked = stream::iter(targets).map(|target| async move { look(d, &target).await });
    let looked: Vec<Look> = looked.buffer_unordered(AT_ONCE).try_collect().await?;
    for look in looked {
        match look {
            Look::Missing => all.missing += 1,
            Look::Ready => all.ready += 1,
            Look::Unknown => all.unknown += 1,
            Look::Known(size, time) => {
                all.known += 1;
                all.known_seconds += time.as_secs();
                all.known_cost = all.known_cost + priced(d.policy(), size, time).unwrap_or(Micros(0));
            }
        }
    }
    Ok(all)
}

/// What is known of a package.
enum Look {
    Missing,
    Ready,
    Known(Size, Duration),
    Unknown,
}

async fn look<D: HasLedger + HasCatalogues>(d: &D, target: &Target) -> Result<Look, Unavailable> {
    let key = match resolve::first(d, target).await {
        Ok(resolved) => resolved.key,
        Err(Denial::Unavailable(error)) => return Err(error),
        Err(_) => return Ok(Look::Missing),
    };
    let (Build { state, .. }, _) = load_build(d, &key).await?;
    if matches!(state, State::Ready(_)) {
        return Ok(Look::Ready);
    }
    let (past, _) = load_profile(d, &key, Read::Eventual).await?;
    Ok(past.map_or(Look::Unknown, |past| Look::Known(past.machine(d.policy().size), past.expected())))
}
