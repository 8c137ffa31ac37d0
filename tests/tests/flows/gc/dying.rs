//! The collector is killed at each of its writes; the next run ends as if there had been no run before.

use std::{sync::Arc, time::Duration};

use binplz_core::{build::failure::Kind, flow::operator::gc::gc};
use binplz_tests::world::{World, rev};

use super::{add, again, building, catalogued, everything, fail, grace, made, retire, world};

/// A service that has lived: a pin stays, and one that has a bit of everything is retired.
async fn lived() -> Arc<World> {
    let w = world();
    w.change(add("old", '6')).await;
    for (path, letter) in [("tree", 'a'), ("shared?pin=old", 's'), ("shared", 's'), ("dash?pin=old", 'b')] {
        made(&w, path, letter).await;
    }
    catalogued(&w, rev('6')).await;
    building(&w, "twice?pin=old").await;
    fail(&w, "twice?pin=old", Kind::SourceUnavailable).await;
    again(&w, "twice?pin=old").await;
    w.finish("twice?pin=old").await;
    building(&w, "bad?pin=old").await;
    fail(&w, "bad?pin=old", Kind::BuildFailed).await;
    retire(&w, "old", Duration::ZERO).await;
    w.pass(grace(&w));
    w
}

/// Runs it twice, a grace apart; in one of the two the collector is killed after so many writes, and another one runs then.
/// Tells what is there in the end, and whether anybody was killed.
async fn killed(run: usize, writes: usize) -> (String, bool) {
    let (w, mut killed) = (lived().await, false);
    for this in 0..2 {
        if this == run {
            w.die_after(Some(writes));
            killed = gc(&*w, false).await.is_err();
            w.die_after(None);
        }
        gc(&*w, false).await.expect("this run is not killed");
        w.pass(grace(&w));
    }
    (format!("{:#?}", everything(&w).await), killed)
}

#[tokio::test]
async fn killed_after_any_write_and_run_again_it_ends_the_same() {
    let (whole, _) = killed(9, 0).await;
    for (run, least) in [(0, 12), (1, 10)] {
        let mut writes = 0;
        loop {
            let (end, died) = killed(run, writes).await;
            assert_eq!(end, whole, "run {run}, killed after {writes} writes");
            if !died {
                break;
            }
            writes += 1;
        }
        assert!(writes >= least, "run {run} makes {writes} writes only");
    }
}
