//! The background loops. On AWS these are functions that a queue, a schedule and an event rule call.

use std::{sync::Arc, time::Duration};

use binplz_core::{
    flow::{
        lease::settle::stopped,
        operator::gc::gc,
        schedule::{dispatch::dispatch, promote::promote, sweep::sweep},
    },
    id::time::Timestamp,
    ports::{Deployment, HasBell, HasDownloadStats, HasLauncher, Unavailable},
    telemetry::About,
};
use binplz_local::{Ends, Local, LocalBinaryCache};
use tokio::time::sleep;

/// When garbage collection first runs after the start, and how often then.
const AFTER_START: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// The pause after a backend did not answer.
const PAUSE: Duration = Duration::from_secs(2);

/// Starts queued builds, when the doorbell rings or a build comes due.
pub(crate) async fn dispatcher(d: Arc<Local>) {
    loop {
        let due = noted(&d, "the dispatcher did not finish", dispatch(&*d).await);
        tokio::select! {
            () = d.bell().wait() => {}
            () = until(&d, due) => {}
        }
    }
}

/// Sweeps whenever a lease may have expired.
pub(crate) async fn sweeper(d: Arc<Local>) {
    loop {
        let next = noted(&d, "the sweep did not finish", sweep(&*d).await);
        save_hits(&d);
        tokio::select! {
            () = until(&d, next) => {}
            // For leases given out meanwhile, and lost rings.
            () = sleep(d.policy().lease) => {}
        }
    }
}

/// Runs garbage collection once a day.
pub(crate) async fn collector(d: Arc<Local>) {
    sleep(AFTER_START).await;
    loop {
        if let Err(error) = gc(&*d, false).await {
            d.warn(About::Service, "garbage collection did not finish", &error);
        }
        sleep(DAY).await;
    }
}

/// Ends the attempts of builders that have exited.
pub(crate) async fn reaper(d: Arc<Local>, mut ends: Ends) {
    while let Some(end) = ends.recv().await {
        if let Err(error) = stopped(&*d, &end.key, &end.lease, end.failure, Some(end.ran)).await {
            // The lease will expire, and a sweep then ends the attempt.
            d.warn(About::Attempt(&end.key, &end.lease), "the end of a builder was not recorded", &error);
        }
    }
}

/// Promotes offers of settled builds into the builders' cache, and those left from an earlier run.
pub(crate) async fn promoter(d: Arc<Local>) {
    let Some(binary_cache) = d.binary_cache() else { return };
    loop {
        if let Err(error) = promote_all(&d, binary_cache).await {
            d.warn(About::Service, "offers to the builders' cache were not promoted", &error);
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

/// Stops all builders, and returns when they have settled and exited.
pub(crate) async fn stop_builders(d: &Local) {
    d.launcher().stop_all().await;
}

/// Saves the download statistics.
pub(crate) fn save_hits(d: &Local) {
    if let Err(error) = d.download_stats().save(d.now()) {
        d.warn(About::Service, "the download statistics were not saved", &error);
    }
}

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
