//! A builder asks which dependencies it may build now, and reports those that it has built (single-flight for
//! dependencies: [`crate::build::dependency`]).

use crate::{
    build::{
        dependency::{Action, Dependency, Stage},
        protocol::{DependencyBuilt, DependencyRequest, DependencyTurn, Ready},
    },
    flow::{
        Tries, change_row,
        lease::{
            job::{Bearer, Denied, admit},
            learned,
        },
        ring,
        schedule::wait::Claims,
    },
    id::key::{Pname, Product},
    ports::{HasBell, HasLedger, HasStore, Intake, Ledger},
    row::{Row, RowKey, Swap},
    telemetry::About,
};

/// The most dependencies that one request looks at; a builder asks again for others.
const LOOK: usize = 64;
/// How many dependencies that take little time are given to a builder beside those that it builds at a time: each request
/// costs time too.
const CHEAP_MAX: usize = 8;

/// Records what the builder has built, and claims for it what it may build now.
///
/// # Errors
/// [`Denied`].
pub async fn dependencies<D: HasLedger + HasStore<Store: Intake> + HasBell>(
    d: &D,
    bearer: &Bearer,
    request: DependencyRequest,
) -> Result<DependencyTurn, Denied> {
    let (_, lease) = admit(d, bearer).await?;
    let Some(own) = lease.derivation.filter(|_| bearer.key.product != Product::Catalogue) else {
        return Err(Denied::Nonsense("dependencies are built for a claimed derivation"));
    };
    let cache = d.store().cache().await?;
    record(d, bearer, &request.built, cache.is_some()).await?;
    let mut turn = DependencyTurn { cache, ..DependencyTurn::default() };
    let mut claims = Claims::new(d);
    if request.ready.is_empty() {
        turn.wanted = claims.of(bearer.key.system, &own).await?.row.is_some_and(|row| row.wanted);
    }
    let looked_at = &request.ready[..request.ready.len().min(LOOK)];
    let names: Vec<&str> = looked_at.iter().map(|ready| ready.name.as_str()).collect();
    let cheap = learned::cheap(d, bearer.key.system, names).await?;
    let (mut slow, most) = (0, request.most.max(1));
    for ready in looked_at {
        let is_cheap = Pname::of(&ready.name).is_ok_and(|pname| cheap.contains(&pname));
        if slow >= most || turn.build.len() >= most + CHEAP_MAX {
            break;
        }
        match claim(d, bearer, &mut claims, ready, is_cheap).await? {
            Action::Build => {
                slow += usize::from(!is_cheap);
                turn.build.push(ready.drv.clone());
            }
            Action::Fetch => turn.fetch.push(ready.drv.clone()),
            action => {
                turn.held.push(ready.drv.clone());
                turn.soon |= action == Action::Wait;
            }
        }
    }
    Ok(turn)
}

/// Claims a dependency if no other task has it.
async fn claim<D: HasLedger>(
    d: &D,
    bearer: &Bearer,
    claims: &mut Claims<'_, D>,
    ready: &Ready,
    is_cheap: bool,
) -> Result<Action, Denied> {
    let mut tries = Tries::default();
    loop {
        let claim = claims.of(bearer.key.system, &ready.drv).await?;
        if claim.row.as_ref().is_some_and(|row| row.is_held_by(&bearer.key, &bearer.lease)) {
            return Ok(Action::Build);
        }
        let action = claim.standing.action(ready.missing, is_cheap, d.now());
        if action != Action::Build {
            claims.want(&claim).await?;
            return Ok(action);
        }
        let row = Dependency::building(ready.drv.clone(), &bearer.prefix(), d.now());
        claims.forget(bearer.key.system, &ready.drv);
        // Of two that claim it at once, one sees the other. If the lease ends meanwhile, so does the claim.
        match d.ledger().commit(vec![Swap { seen: claim.seen, row: Row::Dependency(row) }]).await {
            Ok(()) => return Ok(Action::Build),
            Err(error) => tries.again(error)?,
        }
    }
}

/// Records what was built. A builder without a cache shares its store with the others.
async fn record<D: HasLedger + HasStore<Store: Intake> + HasBell>(
    d: &D,
    bearer: &Bearer,
    built: &[DependencyBuilt],
    has_cache: bool,
) -> Result<(), Denied> {
    for built in built {
        let stage = match (has_cache, built.offered) {
            (true, true) => Stage::Offered { lease: bearer.lease.clone() },
            (true, false) => Stage::Left,
            (false, _) => Stage::Made,
        };
        let key = RowKey::Dependency(bearer.key.system, built.drv.clone());
        let change = |row: Option<&Dependency>| {
            let building = Stage::Building { lease: bearer.lease.clone() };
            let held = row.filter(|row| row.holder == bearer.key && row.stage == building);
            Ok::<_, Denied>(held.map(|row| Dependency { stage: stage.clone(), since: d.now(), ..row.clone() }))
        };
        change_row(d, &key, change).await?;
    }
    if built.iter().any(|built| built.offered)
        && let Err(error) = d.store().offered(&bearer.prefix()).await
    {
        d.warn(About::Attempt(&bearer.key, &bearer.lease), "the promoter was not notified of its offers", &error);
    }
    if built.iter().any(|built| !(has_cache && built.offered)) {
        ring(d).await;
    }
    Ok(())
}
