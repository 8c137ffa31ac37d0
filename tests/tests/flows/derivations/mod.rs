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
        failure::Kind,
        policy::Policy,
        protocol::{Evaluated, Turn},
    },
    flow::schedule::dispatch::dispatch,
    objects::artifact::Declared,
    ports::Deployment,
};
use binplz_tests::world::{self, World, ask, building, drv, fail, hit, turn};

fn world() -> Arc<World> {
    World::with(Policy { slots: 9, ..Policy::default() })
}

fn evaluated(letter: char) -> Evaluated {
    world::evaluated(format!("/nix/store/{}-x-1.0.drv", drv(letter)))
}

/// What an attribute says of its main program and its output.
fn declares(main: &str, output: Option<&str>) -> Declared {
    let output = output.map(|name| name.parse().expect("an output's name"));
    Declared { main_program: Some(main.to_owned()), output }
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
