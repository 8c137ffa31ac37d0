//! What is learned of derivations, and what follows for the builds that need them: plans, estimates, builds that would not
//! finish, and machines.

use std::{sync::Arc, time::Duration};

use binplz_core::{
    build::{
        State,
        failure::Kind,
        learned::{LIFE, Learned, Measured},
        plan::DryRun,
        policy::{Policy, Prices},
        protocol::{Evaluated, Stats, Turn},
    },
    flow::{
        lease::{
            claim::claim,
            job::{Bearer, Denied, job},
            learned::measured,
            settle::settle,
        },
        operator::{
            gc::gc,
            orders::{Operator, Order},
        },
        request::status::{Status, status},
        schedule::dispatch::dispatch,
    },
    id::money::Micros,
    ports::{Deployment, HasLedger, Ledger, Read},
    row::{Row, RowKey},
};
use binplz_tests::world::{World, building, evaluated, target};

const HOUR: u64 = 3600;

/// A derivation, the seconds that it took, and its gibibytes.
fn took(name: &str, seconds: u64, gibibytes: u64) -> Measured {
    let milliseconds = seconds * 1000;
    Measured { name: name.to_owned(), milliseconds, share: milliseconds, memory: Some(gibibytes << 30) }
}

/// A package is built, and these derivations are measured meanwhile. It takes ten seconds more than they do.
async fn built(w: &Arc<World>, path: &str, all: &[Measured]) {
    building(w, &[path]).await;
    let building: u64 = all.iter().map(|one| one.share).sum();
    w.pass(Duration::from_millis(building + 10_000));
    let bearer = w.bearer(path).await;
    measured(&**w, &bearer, all.to_vec()).await.expect("a live lease");
    let mut report = w.report(&bearer).await;
    report.stats = Stats { building: Some(building), ..report.stats };
    settle(&**w, &bearer, report).await.expect("a live lease");
    w.reap().await;
}

/// A package evaluates, and these derivations are to be built for it.
async fn turn(w: &Arc<World>, path: &str, build: &[&str]) -> Turn {
    turn_of(w, &w.bearer(path).await, path, build).await
}

async fn turn_of(w: &Arc<World>, bearer: &Bearer, path: &str, build: &[&str]) -> Turn {
    let letter = path.chars().find(|letter| !"eout".contains(*letter)).expect("a letter");
    let drv_path = format!("/nix/store/{}-x.drv", String::from_iter([letter; 32]));
    let run = DryRun { build: build.iter().map(ToString::to_string).collect(), fetch: 12, bytes: 80_000_000 };
    let found = Evaluated { dry_run: Some(run), ..evaluated(drv_path) };
    claim(&**w, bearer, found).await.expect("a live lease")
}

async fn shown(w: &World, path: &str) -> Status {
    status(w, &target(path)).await.expect("a build")
}

async fn learned(w: &World, pname: &str) -> Option<Learned> {
    let key = RowKey::Learned(w.system(), pname.parse().expect("a name"));
    let row = w.ledger().load(&key, Read::Consistent).await.expect("the ledger");
    row.map(|(row, _)| if let Row::Learned(learned) = row { learned } else { panic!("another row") })
}

/// Heartbeats are not needed here.
fn patient() -> Policy {
    Policy { lease: Duration::from_secs(24 * HOUR), ..Policy::default() }
}

#[tokio::test]
async fn what_derivations_took_is_learned_even_if_their_build_fails_and_is_forgotten_in_the_end() {
    let w = World::with(Policy::default());
    building(&w, &["tree"]).await;
    let bearer = w.bearer("tree").await;
    w.pass(Duration::from_secs(30));
    for _ in 0..2 {
        measured(&*w, &bearer, vec![took("musl-1.2.5", 20, 1), took("gcc-14.2.0", 4000, 3)])
            .await
            .expect("a live lease");
    }
    let known = learned(&w, "musl").await.expect("it is learned");
    assert_eq!((known.milliseconds, known.samples, known.memory, known.is_cheap()), (20_000, 1, Some(1 << 30), true));
    // Neither can have taken longer than the attempt.
    assert_eq!(learned(&w, "gcc").await.map(|gcc| (gcc.milliseconds, gcc.share)), Some((30_000, 10_000)));
    w.pass(Duration::from_secs(3600));
    assert_eq!(measured(&*w, &bearer, vec![]).await, Err(Denied::NotLive));
    w.pass(LIFE);
    gc(&*w, false).await.expect("the ledger");
    assert_eq!(learned(&w, "musl").await, None);
}

#[tokio::test]
async fn once_a_build_has_evaluated_its_status_shows_its_plan_and_the_estimate_is_that_plans() {
    let w = World::with(patient());
    built(&w, "tree", &[took("musl-1.2.5", 60, 1), took("tree-static-2.1.1", 30, 1)]).await;
    w.move_pin('b').await;
    building(&w, &["tree"]).await;
    // Until it has evaluated, the last build counts.
    assert_eq!((shown(&w, "tree").await.estimate_seconds, shown(&w, "tree").await.plan), (Some(100), None));
    // This time only itself is to be built.
    assert_eq!(turn(&w, "tree", &["tree-static-2.2.1"]).await, Turn::Go);
    w.pass(Duration::from_secs(5));
    let told = shown(&w, "tree").await;
    assert_eq!(told.estimate_seconds, Some(35));
    assert!(
        told.headline().ends_with("about 35 seconds left (in all: 1 to build, about 30 seconds; 12 to fetch, 80.0 MB)")
    );
    w.pass(Duration::from_secs(35));
    w.finish("tree").await;
    let last = w.build("tree").await.history.last().cloned().expect("an attempt");
    assert_eq!(last.plan.and_then(|plan| plan.expected), Some(40_000));
    // It was built after exactly the time of its estimate.
    assert_eq!(w.limits().await.errors().map(|errors| errors.estimate), Some(0));

    // What is not known makes the estimate a lower bound.
    building(&w, &["dash"]).await;
    assert_eq!(turn(&w, "dash", &["musl-1.2.6", "dash-0.5"]).await, Turn::Go);
    let told = shown(&w, "dash").await;
    assert!(
        told.headline().contains("2 to build, at least 1 minute and 1 of unknown duration;"),
        "{}",
        told.headline()
    );
}

#[tokio::test]
async fn a_build_that_cannot_finish_is_refused_before_it_begins_until_the_operator_allows_it_more_time() {
    let prices = Prices { task: Micros(1000), ..Prices::default() };
    let w = World::with(Policy { prices, continued_attempts: 0, ..patient() });
    let limit = w.policy().job.seconds;
    let heavy = ["gcc-14", "llvm-19", "rustc-1.81", "new-1"];
    for (n, paths) in [["a", "b", "c"], ["d", "e", "f"]].into_iter().enumerate() {
        for (path, name) in paths.into_iter().zip(heavy) {
            building(&w, &[path]).await;
            let bearer = w.bearer(path).await;
            w.pass(Duration::from_secs(limit));
            measured(&*w, &bearer, vec![took(name, limit, 4)]).await.expect("a live lease");
            w.finish(path).await;
        }
        if n == 0 {
            // What one attempt says of each is no reason to refuse another package.
            building(&w, &["sl"]).await;
            assert_eq!(turn(&w, "sl", &heavy).await, Turn::Go);
            w.finish("sl").await;
        }
    }
    // Twice the limit might be an error of the estimate.
    building(&w, &["dash"]).await;
    assert_eq!(turn(&w, "dash", &["gcc-14", "llvm-19", "new-1"]).await, Turn::Go);
    w.finish("dash").await;
    building(&w, &["hx"]).await;
    assert_eq!(turn(&w, "hx", &heavy).await, Turn::Elsewhere);
    w.reap().await;
    let State::Failed { failure, until: None, .. } = w.build("hx").await.state else { panic!("it is refused") };
    assert_eq!(failure.kind, Kind::TooLong);
    let told = failure.sentence();
    assert!(
        told.contains("needs 6 hours, and the limit is 120 minutes;") && told.ends_with("binplz allow hx --hours 6"),
        "{told}"
    );
    let reserved = async || w.limits().await.reserved();
    assert_eq!(reserved().await, Micros(0));

    let allow = async |seconds| w.carry_out(Order::Allow { of: target("hx").into(), seconds }).await;
    let build = allow(Some(6 * HOUR)).await.expect("it is allowed").build().expect("a build");
    assert_eq!(build.state, "queued");
    dispatch(&*w).await.expect("the ledger");
    assert_eq!(turn(&w, "hx", &["gcc-14", "llvm-19", "rustc-1.81", "new-1"]).await, Turn::Go);
    let limits = job(&*w, &w.bearer("hx").await).await.expect("a live lease").limits;
    assert_eq!((limits.seconds, reserved().await), (6 * HOUR, Micros(6000)));
    let shown = w.carry_out(Order::Show(target("hx").into())).await.expect("known").show().expect("a build");
    assert_eq!(shown.allowed_seconds, Some(6 * HOUR));
    allow(None).await.expect("it is cleared");
    w.finish("hx").await;
    let shown = w.carry_out(Order::Show(target("hx").into())).await.expect("known").show().expect("a build");
    assert_eq!((shown.allowed_seconds, shown.listing.state.as_str()), (None, "ready"));
}

#[tokio::test]
async fn a_build_whose_heaviest_derivation_needs_more_memory_gets_a_larger_machine_once_and_keeps_its_attempt() {
    let priced = Prices { memory: Micros(1000), ..Prices::default() };
    let w = World::with(Policy { prices: priced, size: "4096/30720/50".parse().expect("a size"), ..patient() });
    built(&w, "a", &[took("llvm-19", 100, 20)]).await;
    let small = Policy { prices: priced, ..patient() };
    let w = w.redeployed(small);
    building(&w, &["dash"]).await;
    let bearer = w.bearer("dash").await;
    assert_eq!(turn(&w, "dash", &["llvm-19"]).await, Turn::Elsewhere);
    // The reply was lost.
    assert_eq!(turn_of(&w, &bearer, "dash", &["llvm-19"]).await, Turn::Elsewhere);
    w.reap().await;
    assert!(matches!(w.build("dash").await.state, State::Queued { attempt: 1, .. }));
    dispatch(&*w).await.expect("the ledger");
    let lease = w.build("dash").await.lease().cloned().expect("a lease");
    assert_eq!((lease.attempt, lease.size.to_string().as_str()), (1, "4096/22528/50"));
    assert_eq!(turn(&w, "dash", &["llvm-19"]).await, Turn::Go);
    assert_eq!(w.build("dash").await.history.len(), 1);

    // Where building is free, a machine's size has no effect.
    let w = w.redeployed(Policy::default());
    building(&w, &["hx"]).await;
    assert_eq!(turn(&w, "hx", &["llvm-19"]).await, Turn::Go);
}
