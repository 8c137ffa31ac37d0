//! The third claim: a dependency that several packages need is built once; with a second actor at work at exactly the wrong moment,
//! and with holders that die, are cancelled, lie, are slow, are paused, or fail.

mod fleet;
mod turns;
mod waiting;

use std::sync::Arc;

use binplz_core::{
    build::{
        State,
        policy::Policy,
        protocol::{
            DependencyBuilt, DependencyRequest, DependencyTurn, Evaluated, Outcome, Ready, Report, Stats, Turn,
        },
        waiting::Planned,
    },
    flow::{
        lease::{claim::claim, dependencies::dependencies, job::Bearer, settle::settle},
        request::outcome::RequestOutcome,
        schedule::{
            dispatch::dispatch,
            promote::{Promoted, promote},
        },
    },
    id::key::DrvHash,
};
use binplz_tests::{
    offers::Offer,
    world::{self, World, ask},
};

fn world(slots: usize) -> Arc<World> {
    World::with(Policy { slots, ..Policy::default() })
}

/// The `n`th derivation. That of the package `pN` is the hundredth after it.
fn drv(n: usize) -> DrvHash {
    format!("{n:032}").parse().expect("digits are base 32")
}

/// Requested and claimed, with a builder that has evaluated it, and will make those dependencies if it gets them.
async fn building(w: &Arc<World>, package: usize, makes: &[usize]) -> Bearer {
    let path = format!("p{package}");
    assert!(matches!(ask(w, &path).await, RequestOutcome::Pending(_)), "{path}");
    dispatch(&**w).await.expect("the ledger");
    evaluated(w, package, makes).await
}

/// The builder has evaluated.
async fn evaluated(w: &Arc<World>, package: usize, makes: &[usize]) -> Bearer {
    let bearer = w.bearer(&format!("p{package}")).await;
    let found = Evaluated {
        to_build: makes.iter().map(|n| drv(*n)).collect(),
        to_offer: makes.iter().map(|n| drv(*n).as_str().parse().expect("base 32")).collect(),
        ..world::evaluated(format!("/nix/store/{}-p{package}.drv", drv(100 + package)))
    };
    assert_eq!(claim(&**w, &bearer, found).await, Ok(Turn::Go));
    bearer
}

/// What a builder is told that could build these.
async fn turn(w: &Arc<World>, bearer: &Bearer, ready: &[usize]) -> DependencyTurn {
    let ready = ready.iter().map(|n| Ready { drv: drv(*n), name: format!("d{n}-1.0"), missing: false }).collect();
    let request = DependencyRequest { ready, most: 1, built: Vec::new() };
    dependencies(&**w, bearer, request).await.expect("a live lease")
}

/// What it builds, fetches and may not build.
fn said(turn: &DependencyTurn) -> String {
    let list = |drvs: &[DrvHash]| {
        let numbers = drvs.iter().map(|drv| drv.as_str().trim_start_matches('0').to_owned());
        numbers.collect::<Vec<_>>().join(" ")
    };
    let soon = if turn.soon { " soon" } else { "" };
    format!("builds {}, fetches {}, held {}{soon}", list(&turn.build), list(&turn.fetch), list(&turn.held))
}

/// It has built one, and says whether it has offered it.
async fn built(w: &Arc<World>, bearer: &Bearer, n: usize, offered: bool) {
    let built = vec![DependencyBuilt { drv: drv(n), offered }];
    let request = DependencyRequest { built, ..DependencyRequest::default() };
    dependencies(&**w, bearer, request).await.expect("a live lease");
}

/// It has built one and offered it, and the promoter has looked at it.
async fn makes(w: &Arc<World>, bearer: &Bearer, n: usize) {
    Offer::new(drv(n).as_str().parse().expect("base 32"), format!("{n}").as_bytes()).put(w, bearer).await;
    built(w, bearer, n, true).await;
    let promoted = promote(&**w, &w.binary_cache, &bearer.prefix()).await.expect("the cache");
    assert_eq!(promoted, Promoted::NotYet { new: 1, refused: 0 });
}

/// Its task ends, since it could only wait for the first one of this plan.
async fn waits(w: &Arc<World>, bearer: &Bearer, plan: &[(usize, &[usize])]) {
    let planned =
        |(n, needs): &(usize, &[usize])| Planned { drv: drv(*n), name: format!("d{n}-1.0"), needs: needs.to_vec() };
    let outcome = Outcome::Waits { plan: plan.iter().map(planned).collect(), first: 0 };
    settle(&**w, bearer, Report { outcome, stats: Stats::default(), materials: None }).await.expect("a live lease");
    w.reap().await;
}

/// A dispatcher has run; which of these packages wait, are queued and are being built.
async fn after_dispatch(w: &Arc<World>, packages: &[usize]) -> String {
    dispatch(&**w).await.expect("the ledger");
    let mut states = Vec::new();
    for package in packages {
        states.push(match w.build(&format!("p{package}")).await.state {
            State::Waiting(_) => "waits",
            State::Queued { .. } => "queued",
            State::Building(_) => "builds",
            State::Ready(_) => "ready",
            State::Failed { .. } => "failed",
            State::Unasked | State::Joined { .. } => "else",
        });
    }
    states.join(" ")
}
