//! The background loops. On AWS these are functions that a queue, a schedule and an event rule call.

use std::{
    future::{pending, poll_fn},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use binplz_core::{
    flow::{
        lease::settle::stopped,
        operator::gc::{gc, gc_if_nearly_full},
        schedule::{
            dispatch::dispatch,
            promote::promote,
            scrub::Scrub,
            sign::{NotSigned, sign, sign_all},
            sweep::sweep,
        },
    },
    id::time::Timestamp,
    ports::{Deployment, HasBell, HasDownloadStats, HasLauncher, Unavailable},
    quota::limits::COLLECT_EARLY,
    telemetry::About,
};
use binplz_local::{Ends, Local, LocalBinaryCache};
use futures_util::TryFutureExt;
use tokio::{
    task::AbortHandle,
    time::{sleep, timeout},
};

use crate::serve::supervise::{supervise, with_faults};

/// When garbage collection first runs after the start, and how often then.
const AFTER_START: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// The pause after a collection that did not finish.
const GC_RETRY: Duration = Duration::from_secs(600);
/// The pause after a backend did not answer.
const PAUSE: Duration = Duration::from_secs(2);
/// The same for the signer: until an operator accepts its keys, it fails.
const SIGNER_PAUSE: Duration = Duration::from_secs(10);
/// A round that takes longer hangs: it is abandoned, which is safe at any point, and the next one begins.
const HANGS: Duration = Duration::from_secs(300);
/// The same for a collection, which looks at every object.
const GC_HANGS: Duration = Duration::from_secs(6 * 3600);

const DISPATCHER: &str = "dispatcher";
const SWEEPER: &str = "sweeper";
const COLLECTOR: &str = "garbage collector";
const REAPER: &str = "reaper";
const PROMOTER: &str = "promoter";
const SCRUBBER: &str = "scrubber";
const SIGNER: &str = "signer";

/// The loops of a running server.
pub(crate) struct Loops {
    dispatcher: AbortHandle,
    others: [AbortHandle; 6],
}

impl Loops {
    /// Starts all loops. Each is restarted when it ends.
    pub(crate) fn start(d: &Arc<Local>, ends: Ends) -> Loops {
        let ends = Arc::new(Mutex::new(ends));
        // A restarted collector runs at once.
        let mut first = Some(AFTER_START);
        let [a, b, c, e, f, g, h] = [(); 7].map(|()| Arc::clone(d));
        Loops {
            dispatcher: supervise(d, DISPATCHER, move || with_faults(dispatcher(Arc::clone(&a)))).abort_handle(),
            others: [
                supervise(d, SWEEPER, move || with_faults(sweeper(Arc::clone(&b)))),
                supervise(d, COLLECTOR, move || with_faults(collector(Arc::clone(&c), first.take()))),
                supervise(d, REAPER, move || with_faults(reaper(Arc::clone(&e), Arc::clone(&ends)))),
                supervise(d, PROMOTER, move || with_faults(promoter(Arc::clone(&f)))),
                supervise(d, SCRUBBER, move || with_faults(scrubber(Arc::clone(&g)))),
                supervise(d, SIGNER, move || with_faults(signer(Arc::clone(&h)))),
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
        let due = round(&d, DISPATCHER, "the dispatcher did not finish", HANGS, dispatch(&*d)).await;
        let due = due.unwrap_or_else(|()| Some(d.now() + PAUSE));
        tokio::select! {
            () = d.bell().wait() => {}
            () = until(&d, due) => {}
        }
    }
}

/// Sweeps whenever a lease may have expired.
async fn sweeper(d: Arc<Local>) {
    loop {
        let next = round(&d, SWEEPER, "the sweep did not finish", HANGS, sweep(&*d)).await;
        let next = next.unwrap_or_else(|()| Some(d.now() + PAUSE));
        save_hits(&d);
        tokio::select! {
            () = until(&d, next) => {}
            // For leases given out meanwhile, and lost rings.
            () = sleep(d.policy().lease) => {}
        }
    }
}

/// Runs garbage collection once a day, for the first time after `first`, and in between while the store is nearly full.
async fn collector(d: Arc<Local>, first: Option<Duration>) {
    sleep(first.unwrap_or_default()).await;
    loop {
        let done = round(&d, COLLECTOR, "garbage collection did not finish", GC_HANGS, gc(&*d, false)).await;
        if done.is_err() {
            sleep(GC_RETRY).await;
            continue;
        }
        let next = d.now() + DAY;
        while d.now() < next {
            sleep(COLLECT_EARLY.min(next - d.now())).await;
            let early = gc_if_nearly_full(&*d);
            let _ = round(&d, COLLECTOR, "garbage collection did not finish", GC_HANGS, early).await;
        }
    }
}

/// Compares all objects with what they must be, once a day, at a pace that leaves the disk to others.
async fn scrubber(d: Arc<Local>) {
    loop {
        let mut scrub = Scrub::all();
        loop {
            let before = scrub.report().bytes;
            let stepped = round(&d, SCRUBBER, "objects were not compared", HANGS, scrub.step(&*d, 1)).await;
            let bytes = scrub.report().bytes - before;
            match stepped {
                Ok(true) => sleep(ROW + Duration::from_micros(bytes * 1_000_000 / SCRUBBED)).await,
                Ok(false) => break,
                Err(()) => sleep(PAUSE).await,
            }
        }
        sleep(DAY).await;
    }
}

/// Ends the attempts of builders that have exited.
async fn reaper(d: Arc<Local>, ends: Arc<Mutex<Ends>>) {
    d.health().works(REAPER);
    // The lock is held during a poll only, so a restarted reaper continues with the exits that were not handled.
    while let Some(end) = poll_fn(|cx| ends.lock().unwrap_or_else(PoisonError::into_inner).poll_recv(cx)).await {
        let recorded = stopped(&*d, &end.key, &end.lease, end.failure, Some(end.ran));
        if let Err(error) = within(HANGS, recorded).await {
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
        let what = "offers to the builders' cache were not promoted";
        let _ = round(&d, PROMOTER, what, GC_HANGS, promote_all(&d, binary_cache)).await;
        binary_cache.wait_for_offers().await;
    }
}

async fn promote_all(d: &Local, binary_cache: &LocalBinaryCache) -> Result<(), Unavailable> {
    for prefix in binary_cache.in_quarantine().await? {
        promote(d, binary_cache, &prefix).await?;
    }
    Ok(())
}

/// Signs and logs what is ready: at the start all that is not logged, and then each build that settles.
async fn signer(d: Arc<Local>) {
    let Some(signer) = d.signer() else { return pending().await };
    let what = "artifacts were not signed";
    let failed = |error: NotSigned| match error {
        NotSigned::Unavailable(error) => error,
        NotSigned::OtherKeys => Unavailable::new("signer", error),
    };
    // It begins before the rows are read, so that no build is missed.
    let mut settled = d.settled_builds();
    let mut unsigned = None;
    loop {
        let signed = async {
            match unsigned.take() {
                Some(keys) => sign(&*d, signer, keys).await,
                // Any may be unsigned: after the start, and after a failure.
                None => sign_all(&*d, signer).await,
            }
        };
        match round(&d, SIGNER, what, GC_HANGS, signed.map_err(failed)).await {
            Ok(_) => unsigned = settled.some().await,
            Err(()) => sleep(SIGNER_PAUSE).await,
        }
    }
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

/// One round of a loop: its result, after `/-/health` and the log have learnt how it went.
async fn round<T>(
    d: &Local,
    part: &'static str,
    what: &str,
    limit: Duration,
    work: impl Future<Output = Result<T, Unavailable>>,
) -> Result<T, ()> {
    match within(limit, work).await {
        Ok(done) => {
            d.health().works(part);
            Ok(done)
        }
        Err(error) => {
            d.health().fails(part, &error);
            d.warn(About::Service, what, &error);
            Err(())
        }
    }
}

/// The work's result, or an error if it hangs.
async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, Unavailable>>) -> Result<T, Unavailable> {
    let hangs = || Unavailable::new("loop", format!("a round did not end within {} s", limit.as_secs()));
    timeout(limit, work).await.unwrap_or_else(|_| Err(hangs()))
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;
    use crate::serve::tests::local;

    #[tokio::test(start_paused = true)]
    async fn a_round_that_hangs_is_abandoned_and_named_by_health_until_a_round_ends() {
        let (_dir, local, _ends) = local();
        let hangs = pending::<Result<(), Unavailable>>();
        assert_eq!(round(&local, SWEEPER, "the sweep did not finish", HANGS, hangs).await, Err(()));
        let faults = local.faults();
        assert_eq!((faults[0].part.as_str(), faults[0].why.contains("300 s")), (SWEEPER, true), "{faults:?}");
        assert_eq!(round(&local, SWEEPER, "the sweep did not finish", HANGS, ready(Ok(7))).await, Ok(7));
        assert!(local.faults().is_empty());
    }
}
