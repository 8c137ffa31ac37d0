//! What runs beside the requests. On AWS these are functions that a queue, a schedule and an event rule call.

use std::{sync::Arc, time::Duration};

use binplz_core::{
    flow::{
        lease::settle::stopped,
        operator::gc::gc,
        schedule::{dispatch::dispatch, promote::promote, scrub::Scrub, sweep::sweep},
    },
    id::time::Timestamp,
    ports::{Deployment, HasBell, HasDownloadStats, HasLauncher, Unavailable},
    telemetry::About,
};
use binplz_local::{Ends, Local, LocalBinaryCache};
use tokio::time::sleep;

/// How long after its start a service clears away first, and how long it waits then.
const AFTER_START: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// The pause after a backend did not answer.
const PAUSE: Duration = Duration::from_secs(2);

/// Starts what is queued, whenever the bell rings or something comes due.
pub(crate) async fn dispatcher(d: Arc<Local>) {
    loop {
        let due = noted(&d, "the dispatcher stopped half-way", dispatch(&*d).await);
        tokio::select! {
            () = d.bell().wait() => {}
            () = until(&d, due) => {}
        }
    }
}

/// Ends what nobody works on any more, whenever a lease may be over.
pub(crate) async fn sweeper(d: Arc<Local>) {
    loop {
        let next = noted(&d, "the sweep stopped half-way", sweep(&*d).await);
        save_hits(&d);
        tokio::select! {
            () = until(&d, next) => {}
            // Leases that were given out meanwhile, and rings that were lost.
            () = sleep(d.policy().lease) => {}
        }
    }
}

/// Clears away once a day what nobody needs any more; the first time when a service that has just begun has had its time to settle.
pub(crate) async fn collector(d: Arc<Local>) {
    sleep(AFTER_START).await;
    loop {
        if let Err(error) = gc(&*d, false).await {
            d.warn(About::Service, "garbage collection did not finish", &error);
        }
        sleep(DAY).await;
    }
}

/// Compares all objects with what they must be, at a pace that leaves the disk to others.
pub(crate) async fn scrubber(d: Arc<Local>) {
    loop {
        let mut scrub = Scrub::all();
        loop {
            let before = scrub.report().bytes;
            match scrub.step(&*d, 1).await {
                Ok(false) => break,
                Ok(true) => {
                    sleep(ROW + Duration::from_micros((scrub.report().bytes - before) * 1_000_000 / SCRUBBED)).await
                }
                Err(error) => {
                    d.warn(About::Service, "objects were not compared", &error);
                    sleep(PAUSE).await;
                }
            }
        }
        sleep(DAY).await;
    }
}

/// Hears of builders that have ended.
pub(crate) async fn reaper(d: Arc<Local>, mut ends: Ends) {
    while let Some(end) = ends.recv().await {
        if let Err(error) = stopped(&*d, &end.key, &end.lease, end.failure, Some(end.ran)).await {
            // The lease will lapse, and a sweep sees that it is gone: that comes to the same.
            d.warn(About::Attempt(&end.key, &end.lease), "the end of a builder was not written down", &error);
        }
    }
}

/// Lets into the builders' cache what they offer, when they have settled; and what was left from before.
pub(crate) async fn promoter(d: Arc<Local>) {
    let Some(binary_cache) = d.binary_cache() else { return };
    loop {
        if let Err(error) = promote_all(&d, binary_cache).await {
            d.warn(About::Service, "what builders offer to the cache was not looked at", &error);
        }
        binary_cache.wait_for_offers().await;
    }
}

async fn promote_all(d: &Local, binary_cache: &LocalBinaryCache) -> Result<(), Unavailable> {
    for prefix in binary_cache.in_quarantine().await? {
        promote(d, binary_cache, &prefix).await?;
    }
    Ok(())
}

/// Stops all builders, and returns when they have reported and ended.
pub(crate) async fn stop_builders(d: &Local) {
    d.launcher().stop_all().await;
}

/// Writes down what was counted of hits.
pub(crate) fn save_hits(d: &Local) {
    if let Err(error) = d.download_stats().save(d.now()) {
        d.warn(About::Service, "hits were not written down", &error);
    }
}

/// The rest after each row of a scrub.
const ROW: Duration = Duration::from_millis(1);
/// The bytes of objects that a scrub reads in a second.
const SCRUBBED: u64 = 32 << 20;

async fn until(d: &Local, due: Option<Timestamp>) {
    match due {
        Some(due) => sleep(due - d.now()).await,
        None => std::future::pending().await,
    }
}

fn noted(d: &Local, what: &str, result: Result<Option<Timestamp>, Unavailable>) -> Option<Timestamp> {
    result.unwrap_or_else(|error| {
        d.warn(About::Service, what, &error);
        Some(d.now() + PAUSE)
    })
}
