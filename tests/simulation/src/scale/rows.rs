//! The upkeep of many rows: the sweep, a moved pin, and garbage collection, as they are shipped.

use std::{sync::Arc, time::Duration};

use binplz_core::{
    build::{Build, protocol::Nixpkgs},
    flow::{
        operator::orders::{Operator, Order},
        schedule::sweep::sweep,
    },
    id::{key::Product, target::Query},
    nixpkgs::{
        pins::Change,
        served::{Served, ServedKey},
    },
    row::{Row, StatusIndex, Swap, Version},
};

use super::load;
use crate::{
    meter::Usage,
    objects::Object,
    packages::rev,
    site::{Process, Site},
};

/// What each took and used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Upkeep {
    /// Builds; and as many served rows.
    pub rows: u64,
    /// A sweep.
    pub sweep: Duration,
    /// A pin that is moved: all served rows are marked.
    pub moved: Duration,
    /// Garbage collection.
    pub collection: Duration,
    /// What the sweep uses.
    pub sweep_uses: Usage,
    /// What the moved pin uses.
    pub move_uses: Usage,
    /// What the collection uses.
    pub collection_uses: Usage,
}

/// Runs them over so many builds.
pub(super) fn upkeep(seed: u64, rows: usize) -> Upkeep {
    load::run(async move {
        let site = load::site(seed, 20);
        load::starts(&site).await;
        load::client(Arc::clone(&site), 1).await;
        fill(&site, rows);
        let (sweep, sweep_uses) = timed(&site, "swept", async |p| {
            sweep(p).await.expect("calm weather");
        })
        .await;
        let nixpkgs = Nixpkgs::Path("/set".to_owned()).into();
        let change = Change::Move("unstable".parse().expect("a name"), rev(2), nixpkgs, None);
        let order = Order::ChangePins(change);
        let (moved, move_uses) =
            timed(&site, "moved", async |p| drop(p.carry_out(order.clone()).await.expect("calm weather"))).await;
        let (collection, collection_uses) = timed(&site, "collected", async |p| {
            drop(p.carry_out(Order::Gc { rehearsal: false }).await.expect("calm weather"));
        })
        .await;
        Upkeep { rows: rows as u64, sweep, moved, collection, sweep_uses, move_uses, collection_uses }
    })
}

async fn timed(site: &Arc<Site>, name: &'static str, act: impl AsyncFn(&Process)) -> (Duration, Usage) {
    let process = site.process(name);
    let most = Duration::from_secs(86_400);
    process.run(most, act(&process)).await.expect("less than a day");
    let state = site.state();
    let meter = state.meter.as_ref().expect("it is metered");
    (meter.took[name][0], meter.functions[name])
}

/// Copies of a build that is there, each with its served row and its objects.
fn fill(site: &Arc<Site>, rows: usize) {
    let now = site.now();
    let mut state = site.state();
    state.rows.catch_up(now);
    let listed = state.rows.latest(StatusIndex::Ready, 10);
    let key = listed.into_iter().map(|listed| listed.key).find(|key| key.product != Product::Catalogue).expect("one");
    let row = |state: &crate::site::State, key| state.rows.get(&key).map(|(row, _)| row.clone()).expect("a row");
    let build = Build::try_from(row(&state, binplz_core::row::RowKey::Build(key.clone()))).expect("a build");
    let asked = Query::parse("p1", None).expect("a target").target;
    let served = row(&state, binplz_core::row::RowKey::Served(ServedKey::of(&asked, key.system)));
    let served = Served::try_from(served).expect("a served row");
    let prefix = build.prefix().expect("it is ready");
    let objects: Vec<_> = state.objects.names(&prefix).cloned().collect();
    let objects: Vec<(_, Object)> = objects
        .into_iter()
        .map(|name| (name.clone(), state.objects.get(&prefix.object(name)).expect("it is there").clone()))
        .collect();
    for number in 0..rows {
        let name = format!("q{number}");
        let key =
            binplz_core::id::key::BuildKey { product: Product::Package(name.parse().expect("a name")), ..key.clone() };
        let target = Query::parse(&name, None).expect("a target").target;
        let copy = Build { key: key.clone(), ..build.clone() };
        let prefix = copy.prefix().expect("it is ready");
        let served = Served {
            asked: ServedKey::of(&target, key.system),
            object: prefix.object(served.object.name.clone()),
            ..served.clone()
        };
        for (name, object) in &objects {
            state.objects.put(&prefix.object(name.clone()), object.clone());
        }
        let swaps = [Row::Build(copy), Row::Served(served)].map(|row| Swap { seen: Version(0), row });
        state.rows.commit(&swaps, now, now).expect("they are new");
        let before = [None, None].map(|none| (binplz_core::row::RowKey::Pins, none));
        let before: Vec<_> = before.into_iter().zip(&swaps).map(|((_, none), swap)| (swap.row.key(), none)).collect();
        state.meter.as_mut().expect("it is metered").writes("filled", &swaps, &before, true, now);
    }
}
