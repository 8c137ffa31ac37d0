//! Any trouble, in any order.

use std::time::Duration;

use binplz_core::{
    build::{Event, failure::Kind, policy::Policy, protocol::Turn},
    flow::{
        advance,
        lease::claim::claim,
        request::outcome::RequestOutcome,
        schedule::{dispatch::dispatch, sweep::sweep},
    },
    id::key::LeaseId,
    ports::{Deployment, HasLedger, Ledger, Read},
    row::{Row, RowKey},
};
use binplz_tests::{random::Random, world::World};

use super::{ask, drv, evaluated, fail, turn};

/// Random attributes of two derivations, random trouble: of each derivation there is at no time more than one at work, and in the end
/// each attribute is ready.
#[tokio::test]
async fn whatever_happens_a_derivation_has_one_at_work_and_nobody_is_stuck() {
    const PATHS: [(&str, char); 5] = [("a1", 'a'), ("a2", 'a'), ("a3", 'a'), ("b1", 'b'), ("b2", 'b')];
    for seed in 0..12 {
        let w = World::with(Policy { slots: 3, ..Policy::default() });
        let mut random = Random(seed);
        for _ in 0..120 {
            let (path, letter) = PATHS[random.below(PATHS.len())];
            let build = w.build(path).await;
            let live = build.lease().is_some_and(|lease| w.now() < lease.expires);
            let holds = build.lease().is_some_and(|lease| lease.derivation.is_some());
            match random.below(12) {
                0..=2 => drop(ask(&w, path).await),
                3 | 4 => drop(dispatch(&*w).await.expect("the ledger")),
                5..=7 if live => {
                    if random.below(4) == 0 {
                        w.lose_replies(1);
                    }
                    claim(&*w, &w.bearer(path).await, evaluated(letter)).await.expect("a live lease");
                }
                8 if holds && live => w.finish(path).await,
                8 | 9 if live => fail(&w, path, Kind::SourceUnavailable).await,
                10 => drop(advance(&*w, &build.key, &Event::Cancel).await),
                _ => {
                    w.pass(Duration::from_secs(u64::try_from(random.below(40)).expect("a few")));
                    sweep(&*w).await.expect("the ledger");
                }
            }
            one_at_work(&w, &PATHS).await;
        }
        for _ in 0..20 {
            w.pass(w.policy().cool_down);
            sweep(&*w).await.expect("the ledger");
            for (path, letter) in PATHS {
                ask(&w, path).await;
                dispatch(&*w).await.expect("the ledger");
                if w.build(path).await.lease().is_some() && turn(&w, path, letter).await == Turn::Go {
                    w.finish(path).await;
                }
            }
        }
        for (path, _) in PATHS {
            assert!(matches!(ask(&w, path).await, RequestOutcome::Hit { .. }), "seed {seed}: {path}");
        }
        assert_eq!(w.limits().await.taken(), 0);
    }
}

/// Only the attempt that a derivation's row names works on it.
async fn one_at_work(w: &World, paths: &[(&str, char)]) {
    let mut at_work: Vec<(char, LeaseId)> = Vec::new();
    for (path, letter) in paths {
        let build = w.build(path).await;
        at_work
            .extend(build.lease().filter(|lease| lease.derivation.is_some()).map(|lease| (*letter, lease.id.clone())));
    }
    for letter in ['a', 'b'] {
        let row = w.ledger().load(&RowKey::Derivation(w.system(), drv(letter)), Read::Consistent).await;
        let named = match row.expect("the ledger") {
            Some((Row::Derivation(row), _)) => Some(row.prefix.lease),
            _ => None,
        };
        let of_it: Vec<_> = at_work.iter().filter(|(of, _)| *of == letter).map(|(_, lease)| lease.clone()).collect();
        assert!(of_it.len() <= 1 && of_it.iter().all(|lease| named.as_ref() == Some(lease)), "{at_work:?}");
    }
}
