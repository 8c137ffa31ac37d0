//! The background loops. On AWS these are functions that a queue, a schedule and an event rule call.

use std::{
    future::{pending, poll_fn},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

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
use tokio::{task::AbortHandle, time::sleep};

use crate::serve::supervise::{supervise, with_faults};

/// When garbage collection first runs after the start, and how often then.
const AFTER_START: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// The pause after a collection that did not finish.
const GC_RETRY: Duration = Duration::from_secs(600);
/// The pause after a backend did not answer.
const PAUSE: Duration = Duration::from_secs(2);

const DISPATCHER: &str = "dispatcher";
const SWEEPER: &str = "sweeper";
const COLLECTOR: &str = "garbage collector";
const REAPER: &str = "reaper";
const PROMOTER: &str = "promoter";
const SCRUBBER: &str = "scrubber";

/// The loops of a running server.
pub(crate) struct Loops {
    dispatcher: AbortHandle,
    others: [AbortHandle; 5],
}

impl Loops {
    /// Starts all loops. Each is restarted when it ends.
    pub(crate) fn start(d: &Arc<Local>, ends: Ends) -> Loops {
        let ends = Arc::new(Mutex::new(ends));
        // A restarted collector runs at once.
        let mut first = Some(AFTER_START);
        let [a, b, c, e, f, g] = [(); 6].map(|()| Arc::clone(d));
        Loops {
            dispatcher: supervise(d, DISPATCHER, move || with_faults(dispatcher(Arc::clone(&a)))).abort_handle(),
            others: [
                supervise(d, SWEEPER, move || with_faults(sweeper(Arc::clone(&b)))),
                supervise(d, COLLECTOR, move || with_faults(collector(Arc::clone(&c), first.take()))),
                supervise(d, REAPER, move || with_faults(reaper(Arc::clone(&e), Arc::clone(&ends)))),
                supervise(d, PROMOTER, move || with_faults(promoter(Arc::clone(&f)))),
                supervise(d, SCRUBBER, move || with_faults(scrubber(Arc::clone(&g)))),
            ]
            .map(|supervised| supervised.abort_handle()),
        }
    }

    /// Starts no more builders, stops those that run, and returns when they have settled and exited.
    pub(crate) async fn stop_builders(&self, d: &Local) {
        self.dispatcher.abort();
        d.launcher().stop_all().await;
    }
}

impl Drop for Loops {
    fn drop(&mut self) {
        self.dispatcher.abort();
        self.others.iter().for_each(AbortHandle::abort);
    }
}

/// Starts queued builds, when the doorbell rings or a build comes due.
async fn dispatcher(d: Arc<Local>) {
    loop {
        let due = noted(&d, DISPATCHER, "the dispatcher did not finish", dispatch(&*d).await);
        tokio::select! {
            () = d.bell().wait() => {}
            () = until(&d, due) => {}
        }
    }
}

/// Sweeps whenever a lease may have expired.
async fn sweeper(d: Arc<Local>) {
    loop {
        let next = noted(&d, SWEEPER, "the sweep did not finish", sweep(&*d).await);
        save_hits(&d);
        tokio::select! {
            () = until(&d, next) => {}
            // For leases given out meanwhile, and lost rings.
            () = sleep(d.policy().lease) => {}
        }
    }
}

/// Runs garbage collection once a day, for the first time after `first`.
async fn collector(d: Arc<Local>, first: Option<Duration>) {
    sleep(first.unwrap_or_default()).await;
    loop {
        let done = gc(&*d, false).await;
        noted(&d, COLLECTOR, "garbage collection did not finish", done.as_ref().map(|_| None).map_err(Clone::clone));
        sleep(if done.is_ok() { DAY } else { GC_RETRY }).await;
    }
}

/// Compares all objects with what they must be, once a day, at a pace that leaves the disk to others.
async fn scrubber(d: Arc<Local>) {
    loop {
        let mut scrub = Scrub::all();
        loop {
            let before = scrub.report().bytes;
            let stepped = scrub.step(&*d, 1).await;
            let bytes = scrub.report().bytes - before;
            let pause = if stepped.is_ok() { ROW + Duration::from_micros(bytes * 1_000_000 / SCRUBBED) } else { PAUSE };
            let more = stepped.as_ref().map_or(true, |more| *more);
            noted(&d, SCRUBBER, "objects were not compared", stepped.map(|_| None));
            if !more {
                break;
            }
            sleep(pause).await;
        }
        sleep(DAY).await;
    }
}

/// Ends the attempts of builders that have exited.
async fn reaper(d: Arc<Local>, ends: Arc<Mutex<Ends>>) {
    d.health().works(REAPER);
    // The lock is held during a poll only, so a restarted reaper continues with the exits that were not handled.
    while let Some(end) = poll_fn(|cx| ends.lock().unwrap_or_else(PoisonError::into_inner).poll_recv(cx)).await {
        if let Err(error) = stopped(&*d, &end.key, &end.lease, end.failure, Some(end.ran)).await {
            // The lease will expire, and a sweep then ends the attempt.
            d.warn(About::Attempt(&end.key, &end.lease), "the end of a builder was not recorded", &error);
        }
    }
    pending().await
}

/// Promotes offers of settled builds into the builders' cache, and those left from an earlier run.
async fn promoter(d: Arc<Local>) {
    let Some(binary_cache) = d.binary_cache() else { return pending().await };
    loop {
        let done = promote_all(&d, binary_cache).await;
        noted(&d, PROMOTER, "offers to the builders' cache were not promoted", done.map(|()| None));
        binary_cache.wait_for_offers().await;
    }
}

async fn promote_all(d: &Local, binary_cache: &LocalBinaryCache) -> Result<(), Unavailable> {
    for prefix in binary_cache.in_quarantine().await? {
        promote(d, binary_cache, &prefix).await?;
    }
    Ok(())
}

/// Saves the download statistics.
pub(crate) fn save_hits(d: &Local) {
    if let Err(error) = d.download_stats().save(d.now()) {
        d.warn(About::Service, "the download statistics were not saved", &error);
    }
}

/// The rest after each row of a scrub.
const ROW: Duration = Duration::from_millis(1);
/// The bytes of objects that a scrub reads in a second.
const SCRUBBED: u64 = 32 << 20;

async fn until(d: &Local, due: Option<Timestamp>) {
    match due {
        Some(due) => sleep(due - d.now()).await,
        None => pending().await,
    }
}

/// Reports how a round of a loop went; returns when the next one is due.
fn noted(
    d: &Local,
    part: &'static str,
    what: &str,
    result: Result<Option<Timestamp>, Unavailable>,
) -> Option<Timestamp> {
    match result {
        Ok(due) => {
            d.health().works(part);
            due
        }
        Err(error) => {
            d.health().fails(part, &error);
            d.warn(About::Service, what, &error);
            Some(d.now() + PAUSE)
        }
    }
}
