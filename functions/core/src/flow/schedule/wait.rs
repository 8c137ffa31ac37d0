//! Waiting builds: each is queued again when there is something that it can build. Nothing notifies it: every
//! dispatcher looks at it, and each end of a build, each promotion and each sweep wakes a dispatcher.
//!
//! Of many builds that wait for one dependency, one is queued: the dependency is promised to it. The others stay until
//! that is made, or the promise has expired.

use std::collections::BTreeMap;

use crate::{
    build::{
        Build, Event, State,
        dependency::{Dependency, Stage, Standing},
        waiting::Work,
    },
    flow::{AdvanceError, Advanced, decide, load_build, load_row, told},
    id::key::{BuildKey, DrvHash, System},
    ports::{HasLedger, Ledger, NotCommitted, Read, Unavailable},
    row::{Row, RowKey, Swap, Version},
};

/// A dependency's row, if it has one, and what it means.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) row: Option<Dependency>,
    pub(crate) seen: Version,
    pub(crate) standing: Standing,
    /// Whether it is its holder's own package.
    own: bool,
}

/// The claims on dependencies that a flow has read, each once.
pub(crate) struct Claims<'a, D> {
    d: &'a D,
    claims: BTreeMap<(System, DrvHash), Claim>,
    holders: BTreeMap<BuildKey, Build>,
}

impl<'a, D: HasLedger> Claims<'a, D> {
    /// None are read yet.
    pub(crate) fn new(d: &'a D) -> Claims<'a, D> {
        Claims { d, claims: BTreeMap::new(), holders: BTreeMap::new() }
    }

    /// The claim on a dependency.
    pub(crate) async fn of(&mut self, system: System, drv: &DrvHash) -> Result<Claim, Unavailable> {
        if let Some(known) = self.claims.get(&(system, drv.clone())) {
            return Ok(known.clone());
        }
        let (row, seen) =
            load_row::<D, Dependency>(self.d, &RowKey::Dependency(system, drv.clone()), Read::Consistent).await?;
        let (standing, own) = match &row {
            Some(row) => {
                let holder = self.holder(&row.holder).await?;
                let held = holder.lease().and_then(|lease| lease.derivation.as_ref());
                (row.stands(&holder, self.d.now()), held == Some(drv))
            }
            None => (Standing::Free, false),
        };
        let claim = Claim { row, seen, standing, own };
        self.claims.insert((system, drv.clone()), claim.clone());
        Ok(claim)
    }

    async fn holder(&mut self, key: &BuildKey) -> Result<Build, Unavailable> {
        if let Some(known) = self.holders.get(key) {
            return Ok(known.clone());
        }
        let (build, _) = load_build(self.d, key).await?;
        self.holders.insert(key.clone(), build.clone());
        Ok(build)
    }

    /// Records that another build needs what a package's own task builds.
    pub(crate) async fn want(&mut self, claim: &Claim) -> Result<(), Unavailable> {
        let held = claim.own && matches!(claim.standing, Standing::Held { .. });
        let Some(row) = claim.row.as_ref().filter(|row| held && !row.wanted) else { return Ok(()) };
        let wanted = Dependency { wanted: true, ..row.clone() };
        self.forget(row.holder.system, &row.drv);
        match self.d.ledger().commit(vec![Swap { seen: claim.seen, row: Row::Dependency(wanted) }]).await {
            // Its task has ended, or another build needs it too.
            Ok(()) | Err(NotCommitted::Conflict) => Ok(()),
            Err(NotCommitted::Unavailable(error)) => Err(error),
        }
    }

    /// Something else is written to it.
    pub(crate) fn forget(&mut self, system: System, drv: &DrvHash) {
        if let Some(claim) = self.claims.remove(&(system, drv.clone()))
            && let Some(row) = claim.row
        {
            self.holders.remove(&row.holder);
        }
    }
}

/// Queues a waiting build again if there is something that it can build, and promises that to it, in one commit.
///
/// # Errors
/// [`Unavailable`]: the next dispatcher looks at it again.
pub(crate) async fn wake<D: HasLedger>(
    d: &D,
    claims: &mut Claims<'_, D>,
    before: Build,
    seen: Version,
) -> Result<(), Unavailable> {
    let State::Waiting(waiting) = &before.state else { return Ok(()) };
    let system = before.key.system;
    let mut known = BTreeMap::new();
    for planned in &waiting.plan {
        known.insert(&planned.drv, claims.of(system, &planned.drv).await?);
    }
    let Some(work) = waiting.work(|drv| known[drv].standing.clone()) else {
        for claim in known.values() {
            claims.want(claim).await?;
        }
        return Ok(());
    };
    let (after, mut swaps) = match decide(d, &before, seen, &Event::Wake).await {
        Ok(Some(woken)) => woken,
        Ok(None) | Err(AdvanceError::Illegal(_) | AdvanceError::LimitExceeded(_)) => return Ok(()),
        Err(AdvanceError::Unavailable(error)) => return Err(error),
    };
    if let Work::Build(drv) = work {
        let promise = Dependency {
            drv: drv.clone(),
            holder: before.key.clone(),
            stage: Stage::Promised,
            since: d.now(),
            wanted: false,
        };
        swaps.push(Swap { seen: known[drv].seen, row: Row::Dependency(promise) });
        claims.forget(system, drv);
    }
    claims.holders.remove(&before.key);
    match d.ledger().commit(swaps).await {
        Ok(()) => {
            told(d, Advanced { before, after, paused: None });
            Ok(())
        }
        // The next dispatcher decides about it. A ring is on its way: another one has changed a row.
        Err(NotCommitted::Conflict) => Ok(()),
        Err(NotCommitted::Unavailable(error)) => Err(error),
    }
}
