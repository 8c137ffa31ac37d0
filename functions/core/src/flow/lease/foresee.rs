//! The plan of a build, from its builder's dry run and the durations of earlier builds; and whether by that the attempt
//! would be in vain.

use std::time::Duration;

use crate::{
    build::{
        Build,
        failure::{Failure, Kind},
        plan::{DryRun, MARGIN, Plan, about},
        policy::Policy,
    },
    flow::{lease::learned::learned, load_limits, load_profile},
    id::{
        key::{BuildKey, Product},
        target::Wanted,
        text::bytes,
    },
    ports::{HasLedger, HasStore, Intake, Read, Unavailable},
};

/// The plan of a build.
///
/// # Errors
/// [`Unavailable`].
pub(crate) async fn plan<D: HasLedger>(
    d: &D,
    key: &BuildKey,
    run: Option<&DryRun>,
) -> Result<Option<Plan>, Unavailable> {
    let Some(run) = run else { return Ok(None) };
    let learned = learned(d, key.system, run.pnames()).await?;
    let (past, _) = load_profile(d, key, Read::Eventual).await?;
    // Flows of a lease decide by this row, so each of them reads it consistently.
    let (limits, _) = load_limits(d, Read::Consistent).await?;
    Ok(Some(Plan::of(run, &learned).with_estimate(past.as_ref(), limits.pace_of(&key.product))))
}

/// The failure that is foreseen for the current attempt, if it would be in vain.
///
/// # Errors
/// [`Unavailable`].
pub(crate) async fn in_vain<D: HasLedger + HasStore<Store: Intake>>(
    d: &D,
    build: &Build,
    plan: &Plan,
) -> Result<Option<Failure>, Unavailable> {
    // One that holds its derivation has begun.
    let Some(lease) = build.lease().filter(|lease| lease.derivation.is_none()) else { return Ok(None) };
    let policy = d.policy().allowing(lease.seconds);
    if let Some(failure) = too_long(d, &build.key.product, &policy, plan).await? {
        return Ok(Some(failure));
    }
    // Where building is free, the size of a machine has no effect. A build is moved to a larger machine once.
    let memory = plan.memory.filter(|_| !policy.prices.are_none() && build.declined_machines().next().is_none());
    let small = memory.filter(|memory| !lease.size.fits(*memory) && lease.size.with_memory_for(*memory) != lease.size);
    Ok(small.map(|memory| Failure::new(Kind::MachineTooSmall, format!("an earlier build used {}", bytes(memory)))))
}

/// The failure of a build that cannot finish within its time limit, by what its plan takes at least. With a cache or a shared
/// Nix store, it has several attempts for that.
///
/// # Errors
/// [`Unavailable`].
pub(crate) async fn too_long<D: HasStore<Store: Intake>>(
    d: &D,
    product: &Product,
    policy: &Policy,
    plan: &Plan,
) -> Result<Option<Failure>, Unavailable> {
    let limit = Duration::from_secs(policy.job.seconds);
    let parts = parts(d, policy).await?;
    Ok(plan.exceeds(limit, parts, MARGIN).map(|needed| {
        let hours = needed.as_secs().div_ceil(3600);
        let (needed, limit) = (about(needed), about(limit));
        // A word that begins with a `-` would be an option.
        let path = |wanted: Wanted| if wanted.is_bundle() { format!("/{wanted}") } else { wanted.to_string() };
        let what = Wanted::of(product).map(path).unwrap_or_default();
        let why = format!("it needs {needed}, and the limit is {limit}; the operator can allow more: binplz allow {what} --hours {hours}");
        Failure::new(Kind::TooLong, why)
    }))
}

/// How many attempts a build has to finish, each of which continues where the one before ended.
async fn parts<D: HasStore<Store: Intake>>(d: &D, policy: &Policy) -> Result<u32, Unavailable> {
    let continues = policy.shared_store || d.store().cache().await?.is_some();
    Ok(if continues { 1 + policy.continued_attempts } else { 1 })
}
