//! The second claim: however many attributes, and however many commits of a nixpkgs, have one derivation, it is realised once; with
//! a second actor at work at exactly the wrong moment, and with lost replies.

mod adopting;
mod anything;
mod claiming;
mod following;

use std::sync::Arc;

use binplz_core::{
    build::{
        Build, State,
        failure::{Failure, Kind},
        policy::Policy,
        protocol::{Evaluated, Outcome, Report, Stats, Turn},
    },
    flow::{
        lease::{claim::claim, settle::settle},
        schedule::dispatch::dispatch,
    },
    id::key::DrvHash,
    objects::artifact::Declared,
    ports::Deployment,
};
use binplz_tests::world::{self, World, ask, building, hit};

fn world() -> Arc<World> {
    World::with(Policy { slots: 9, ..Policy::default() })
}

fn drv(letter: char) -> DrvHash {
    String::from_iter([letter; 32]).parse().expect("base 32")
}

fn evaluated(letter: char) -> Evaluated {
    world::evaluated(format!("/nix/store/{}-x-1.0.drv", drv(letter)))
}

/// What an attribute says of its main program and its output.
fn declares(main: &str, output: Option<&str>) -> Declared {
    let output = output.map(|name| name.parse().expect("an output's name"));
    Declared { main_program: Some(main.to_owned()), output }
}

/// What the builder of a target is told that has evaluated to a derivation.
async fn turn(w: &Arc<World>, path: &str, letter: char) -> Turn {
    claim(&**w, &w.bearer(path).await, evaluated(letter)).await.expect("a live lease")
}

/// Ends a build badly.
async fn fail(w: &Arc<World>, path: &str, kind: Kind) {
    let report =
        Report { outcome: Outcome::Failed(Failure::new(kind, "why")), stats: Stats::default(), materials: None };
    settle(&**w, &w.bearer(path).await, report).await.expect("a live lease");
}

/// Ends a build in passing until it rests.
async fn exhaust(w: &Arc<World>, path: &str, letter: char) {
    loop {
        fail(w, path, Kind::SourceUnavailable).await;
        let State::Queued { due, .. } = w.build(path).await.state else { return };
        w.pass(due - w.now());
        dispatch(&**w).await.expect("the ledger");
        assert_eq!(turn(w, path, letter).await, Turn::Go);
    }
}

fn started(w: &World) -> usize {
    w.launcher.started.lock().expect("a lock").len()
}

fn follows(build: &Build) -> bool {
    matches!(build.state, State::Joined { .. })
}
