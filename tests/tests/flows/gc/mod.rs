//! Garbage collection removes what is no longer needed, and nothing else: also when it is killed, and when a second actor interferes at exactly the wrong
//! moment. What may go is said in `functions/core/src/gc/mod.rs`.

mod dying;
mod keeping;
mod racing;
mod retiring;
mod sharing;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use binplz_core::{
    build::{
        Event, State,
        policy::Policy,
        protocol::{Nixpkgs, Outcome, Phase, Progress, Report as Told, Stats, Turn},
    },
    flow::{
        advance,
        lease::{job::Bearer, settle::settle},
        operator::gc::gc,
        request::outcome::RequestOutcome,
        schedule::dispatch::dispatch,
    },
    gc::Report,
    id::{
        key::{BuildKey, Product, Rev, System},
        time::Timestamp,
    },
    nixpkgs::{pins::Change, served::Served},
    objects::artifact::{AttemptPrefix, ObjectName},
    ports::{Collect, Deployment, HasLedger, HasStore, Inspect, Intake, Ledger},
    row::{Row, RowKey},
};
use binplz_tests::world::{World, ask, fail, rev, turn};

fn world() -> Arc<World> {
    World::with(Policy { slots: 9, ..Policy::default() })
}

/// Asks for what is there, with all that a client would then fetch.
async fn hit(w: &World, path: &str) -> Served {
    let RequestOutcome::Hit { served, .. } = ask(w, path).await else { panic!("{path}: no hit") };
    let size = w.store().size(&served.object).await.expect("the store");
    assert_eq!(size, Some(served.size), "{path}: its object is not there");
    served
}

/// Asked for, claimed, launched, and at work: something is in its log.
async fn building(w: &World, path: &str) -> Bearer {
    ask(w, path).await;
    dispatch(w).await.expect("the ledger");
    let bearer = w.bearer(path).await;
    works(w, &bearer).await;
    bearer
}

async fn works(w: &World, bearer: &Bearer) {
    w.store().write(&bearer.prefix().object(ObjectName::Log(1)), b"it works\n".to_vec()).await.expect("the store");
    let (phase, step) = (Phase::Building, None);
    let progress =
        Progress { phase, step, done: 0, expected: 1, bytes_fetched: 0, log_segments: 1, ..Progress::default() };
    w.ledger().put_progress(&bearer.lease, &progress).await.expect("the ledger");
}

/// Built, or left to who has its derivation, and asked for once more.
async fn made(w: &World, path: &str, letter: char) {
    building(w, path).await;
    if turn(w, path, letter).await == Turn::Go {
        w.finish(path).await;
    }
    hit(w, path).await;
}

/// Waits for its next attempt, which begins.
async fn again(w: &World, path: &str) {
    let State::Queued { due, .. } = w.build(path).await.state else { panic!("{path} is not tried again") };
    w.pass(due - w.now());
    dispatch(w).await.expect("the ledger");
    works(w, &w.bearer(path).await).await;
}

/// Makes what names mean in a nixpkgs.
async fn catalogued(w: &World, rev: Rev) {
    let key = BuildKey { rev, system: System::X86_64Linux, product: Product::Catalogue };
    advance(w, &key, &Event::Ask).await.expect("the ledger");
    dispatch(w).await.expect("the ledger");
    let lease = w.build_of(&key).await.lease().cloned().expect("a live lease");
    let bearer = Bearer { key, lease: lease.id, token: lease.token };
    works(w, &bearer).await;
    for name in [ObjectName::Details, ObjectName::Lookup] {
        w.store().write(&bearer.prefix().object(name), b"a catalogue".to_vec()).await.expect("the store");
    }
    let report = Told { outcome: Outcome::Catalogued, stats: Stats::default(), materials: None };
    settle(w, &bearer, report).await.expect("a live lease");
}

fn add(name: &str, digit: char) -> Change {
    Change::Add(name.parse().expect("a name"), rev(digit), Nixpkgs::Path("/set".to_owned()).into(), None)
}

/// Retires a pin; what it has left is kept for so long.
async fn retire(w: &World, name: &str, keep: Duration) {
    let name = || name.parse().expect("a name");
    w.change(Change::Keep(name(), keep)).await;
    w.change(Change::Retire(name())).await;
}

async fn run(w: &World) -> Report {
    gc(w, false).await.expect("nothing is in its way")
}

/// So long is all let alone.
fn grace(w: &World) -> Duration {
    w.policy().grace
}

/// Lets the grace pass, and runs: once for the rows, and once more for the objects.
async fn run_to_the_end(w: &World) {
    for _ in 0..2 {
        w.pass(grace(w));
        run(w).await;
    }
}

/// All that there is: rows, and the homes with how many objects they hold. Blobs are in `sharing.rs`. Claims on dependencies stand for
/// nothing once their attempt has ended; they go by their age.
async fn everything(w: &World) -> (BTreeMap<RowKey, Row>, BTreeMap<AttemptPrefix, u64>) {
    let rows = w.ledger().scan(None, 999).await.expect("the ledger").rows;
    let prefixes = w.store().prefixes(None, 999).await.expect("the store");
    (
        rows.into_iter()
            .map(|(row, _)| (row.key(), unmeasured(row)))
            .filter(|(_, row)| !matches!(row, Row::Dependency(_)))
            .collect(),
        prefixes.into_iter().map(|held| (held.prefix, held.objects)).collect(),
    )
}

/// How much the store is thought to hold depends on the time of the last look.
fn unmeasured(row: Row) -> Row {
    match row {
        Row::Limits(limits) => Row::Limits(limits.measured(0, u64::MAX, Timestamp(0))),
        row => row,
    }
}

/// The homes that there are.
async fn prefixes(w: &World) -> BTreeSet<AttemptPrefix> {
    everything(w).await.1.into_keys().collect()
}

/// Where what a target means lies.
async fn prefix(w: &World, path: &str) -> AttemptPrefix {
    w.build(path).await.prefix().expect("it is ready")
}

/// The names of the rows that have to do with a revision.
async fn rows_of(w: &World, digit: char) -> Vec<String> {
    let rows = everything(w).await.0.into_iter();
    let of = |(key, row): (RowKey, Row)| {
        let about = match &row {
            Row::Pins(_) | Row::Limits(_) => String::new(),
            Row::Served(served) => served.rev.to_string(),
            _ => format!("{key} {row:?}"),
        };
        about.contains(rev(digit).as_str()).then(|| key.to_string())
    };
    rows.filter_map(of).collect()
}
