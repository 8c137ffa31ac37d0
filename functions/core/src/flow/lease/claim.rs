//! A builder has evaluated, and claims the derivation (single-flight): one build realises each derivation, and all
//! others follow it.

use crate::{
    build::{
        Build, Event, Illegal,
        dependency::{Action, Dependency, Standing},
        derivation::{Derivation, Realisation},
        protocol::{Evaluated, Turn},
    },
    flow::{
        AdvanceError, Tries, advance, decide,
        lease::{
            foresee,
            job::{Bearer, Denied, admit},
        },
        load_build, ring,
        schedule::{failed_dependencies, follow, wait::Claims},
    },
    id::key::{DrvHash, Product, StoreHash},
    objects::artifact::ObjectName,
    ports::{HasBell, HasLedger, HasStore, Intake, Ledger, Unavailable},
    row::{Row, Swap},
};

/// Decides who realises the derivation. Before [`Turn::Go`] is returned, the derivation's row has been written on the
/// condition that no other attempt held it; so of two concurrent claims, one sees the other. The same holds for its row
/// as a dependency of other packages: if another task builds it as one, the answer is [`Turn::Ask`]. With [`Turn::Elsewhere`],
/// the build is joined, ready or failed by then, and its slot is free.
///
/// # Errors
/// [`Denied`]; then nothing may be realised.
pub async fn claim<D: HasLedger + HasStore<Store: Intake> + HasBell>(
    d: &D,
    bearer: &Bearer,
    found: Evaluated,
) -> Result<Turn, Denied> {
    if bearer.key.product == Product::Catalogue {
        return Err(Denied::Nonsense("a catalogue has no derivation"));
    }
    let own = DrvHash::of_path(&found.drv_path).map_err(|_| Denied::Nonsense("the derivation's path is malformed"))?;
    let drv = bearer.key.product.claims(own.clone());
    match admit(d, bearer).await {
        // It may have left the derivation before, and missed the reply.
        Err(Denied::NotLive) => {}
        admitted => drop(admitted?),
    }
    let foreseen = foresee::plan(d, &bearer.key, found.dry_run.as_ref()).await?;
    let mine = bearer.prefix();
    let mut tries = Tries::default();
    loop {
        let (row, seen) = follow::load(d, bearer.key.system, &drv).await?;
        let realisation = follow::stands(d, row.as_ref(), &bearer.key).await?;
        let (build, version) = load_build(d, &bearer.key).await?;
        // It was declined before, and missed the reply.
        if build.failure_of(&bearer.lease).is_some_and(|failure| failure.kind.is_foreseen()) {
            return Ok(Turn::Elsewhere);
        }
        if realisation == Realisation::Free || was_told(&build, &drv, &realisation) {
            if let Some((failure, seen_in)) = failed_dependencies::among(d, bearer.key.system, &found.to_build).await? {
                let doom = Event::Doom { id: bearer.lease.clone(), failure, seen_in };
                advance(d, &bearer.key, &doom).await.map_err(denied)?;
                ring(d).await;
                return Ok(Turn::Elsewhere);
            }
            if let Some(plan) = foreseen
                && let Some(failure) = foresee::in_vain(d, &build, &plan).await?
            {
                let decline = Event::Decline { id: bearer.lease.clone(), plan, failure };
                advance(d, &bearer.key, &decline).await.map_err(denied)?;
                ring(d).await;
                return Ok(Turn::Elsewhere);
            }
            let hold = Event::Hold { id: bearer.lease.clone(), derivation: drv.clone(), plan: foreseen };
            let mut swaps =
                decide(d, &build, version, &hold).await.map_err(denied)?.map_or(Vec::new(), |(_, swaps)| swaps);
            let (turn, dependency) = as_dependency(d, bearer, &own, found.asks).await?;
            if row.is_some_and(|row| row.prefix == mine) {
                return Ok(turn);
            }
            plan(d, &build, bearer, &found.to_offer).await?;
            // One commit, so the lease was live when it got the derivation.
            swaps.push(Swap { seen, row: Row::Derivation(Derivation { drv: drv.clone(), prefix: mine.clone() }) });
            swaps.extend(dependency);
            match d.ledger().commit(swaps).await {
                Ok(()) => return Ok(turn),
                Err(error) => tries.again(error)?,
            }
        } else {
            let declared = found.declared.cleaned();
            let join = Event::Join { id: bearer.lease.clone(), derivation: drv, declared, realisation };
            advance(d, &bearer.key, &join).await.map_err(denied)?;
            ring(d).await;
            return Ok(Turn::Elsewhere);
        }
    }
}

/// Claims the package's derivation as a dependency of others, unless another task builds it as one.
async fn as_dependency<D: HasLedger>(
    d: &D,
    bearer: &Bearer,
    drv: &DrvHash,
    asks: bool,
) -> Result<(Turn, Option<Swap>), Unavailable> {
    let claim = Claims::new(d).of(bearer.key.system, drv).await?;
    if claim.row.as_ref().is_some_and(|row| row.is_held_by(&bearer.key, &bearer.lease)) {
        return Ok((Turn::Go, None));
    }
    let promised = matches!(&claim.standing, Standing::Promised { to, .. } if *to == bearer.key);
    match claim.standing.action(true, false, d.now()) {
        action if promised || action == Action::Build => {
            let row = Dependency::building(drv.clone(), &bearer.prefix(), d.now());
            Ok((Turn::Go, Some(Swap { seen: claim.seen, row: Row::Dependency(row) })))
        }
        _ => Ok((if asks { Turn::Ask } else { Turn::Go }, None)),
    }
}

/// Stores the plan of what the attempt may offer to the binary cache, unless it holds a derivation already: by then
/// builds may run, and it is too late.
async fn plan<D: HasStore<Store: Intake>>(
    d: &D,
    build: &Build,
    bearer: &Bearer,
    to_offer: &[StoreHash],
) -> Result<(), Denied> {
    let begins = build.lease().is_some_and(|lease| lease.id == bearer.lease && lease.derivation.is_none());
    if !begins || to_offer.is_empty() || d.store().cache().await?.is_none() {
        return Ok(());
    }
    let json = serde_json::to_vec(to_offer).map_err(|error| Unavailable::new("plan", error))?;
    Ok(d.store().write(&bearer.prefix().object(ObjectName::Plan), json).await?)
}

/// Whether a build was given this very failure before. Then an operator wants the derivation tried again.
fn was_told(build: &Build, drv: &DrvHash, realisation: &Realisation) -> bool {
    let Realisation::Failed(failure) = realisation else { return false };
    build.history.last().is_some_and(|last| last.left.as_ref() == Some(drv) && last.failure.as_ref() == Some(failure))
}

fn denied(halt: AdvanceError) -> Denied {
    match halt {
        AdvanceError::Illegal(Illegal::OtherDerivation) => Denied::Forbidden("a lease is for one derivation"),
        halt => halt.into(),
    }
}
