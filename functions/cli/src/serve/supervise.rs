//! Keeps background loops running: one that panics or ends is named by `/-/health`, logged, and started again.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use binplz_core::{id::text::panic_message, ports::Deployment, telemetry::About};
use binplz_local::Local;
use futures_util::FutureExt;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

/// The pause before the first restart; each later one is twice as long.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// After running for so long, a loop's next restart counts as its first.
const STEADY: Duration = Duration::from_secs(60);

/// Runs the loop that `start` makes until the handle is aborted. The loop reports to [`Local::health`] when it works; until
/// then, a restarted one counts as not running.
pub(crate) fn supervise<F: Future<Output = ()> + Send>(
    d: &Arc<Local>,
    part: &'static str,
    mut start: impl FnMut() -> F + Send + 'static,
) -> JoinHandle<()> {
    let d = Arc::clone(d);
    tokio::spawn(async move {
        let mut delay = FIRST_DELAY;
        loop {
            let began = Instant::now();
            let ended = AssertUnwindSafe(async { start().await }).catch_unwind().await;
            let why = ended
                .map_or_else(|panic| format!("it panicked: {}", panic_message(&*panic)), |()| "it ended".to_owned());
            if began.elapsed() >= STEADY {
                delay = FIRST_DELAY;
            }
            d.health().fails(part, &why);
            d.warn(About::Service, &format!("the {part} is started again in {} s", delay.as_secs()), &why);
            sleep(delay).await;
            delay = (delay * 2).min(LONGEST_DELAY);
        }
    })
}

/// A loop that panics at random in the middle of its work, for `scripts/soak`.
#[cfg(feature = "faults")]
pub(crate) async fn with_faults(work: impl Future<Output = ()>) {
    let seconds = 5 + u64::from(binplz_clock::random::<1>()[0]) % 40;
    tokio::select! {
        () = work => {}
        () = sleep(Duration::from_secs(seconds)) => panic!("an injected fault"),
    }
}

/// The loop as it is.
#[cfg(not(feature = "faults"))]
pub(crate) async fn with_faults(work: impl Future<Output = ()>) {
    work.await;
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        sync::atomic::{AtomicU32, Ordering},
    };

    use axum::{body::Body, extract::Request, http::StatusCode};
    use http_body_util::BodyExt;
    use tokio::sync::Notify;
    use tower::ServiceExt;

    use super::*;
    use crate::serve::tests::local;

    async fn health(d: &Arc<Local>) -> (StatusCode, String) {
        let request = Request::get("/-/health").body(Body::empty()).expect("a request");
        let response = binplz_web::site(Arc::clone(d)).oneshot(request).await.expect("an answer");
        let status = response.status();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_panics_or_ends_is_named_by_health_until_it_has_been_started_again_and_works() {
        let (_dir, local, _ends) = local();
        assert_eq!(health(&local).await.0, StatusCode::OK);
        let (starts, started, go) = (Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()), Arc::new(Notify::new()));
        let seen = (Arc::clone(&starts), Arc::clone(&started), Arc::clone(&go), Arc::clone(&local));
        let supervised = supervise(&local, "sweeper", move || {
            let (starts, started, go, d) = seen.clone();
            async move {
                let start = starts.fetch_add(1, Ordering::Relaxed);
                started.notify_one();
                go.notified().await;
                match start {
                    0 => panic!("a secret"),
                    1 => {}
                    _ => {
                        d.health().works("sweeper");
                        started.notify_one();
                        pending().await
                    }
                }
            }
        });
        started.notified().await;
        assert_eq!(health(&local).await.0, StatusCode::OK);
        for ending in ["it panicked: a secret", "it ended"] {
            go.notify_one();
            started.notified().await;
            // It runs again, and has not shown that it works.
            let (status, body) = health(&local).await;
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
            assert!(body.contains("not running: sweeper") && !body.contains("secret"), "{body}");
            assert_eq!(local.faults()[0].why, ending);
        }
        go.notify_one();
        started.notified().await;
        assert_eq!(health(&local).await.0, StatusCode::OK);
        supervised.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn each_restart_waits_longer_up_to_a_minute() {
        let (_dir, local, _ends) = local();
        let (times, mut seen) = tokio::sync::mpsc::unbounded_channel();
        let supervised = supervise(&local, "reaper", move || {
            times.send(Instant::now()).expect("the test listens");
            async { panic!("at once") }
        });
        let mut last = seen.recv().await.expect("a start");
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            let next = seen.recv().await.expect("a start");
            assert_eq!((next - last).as_secs(), seconds);
            last = next;
        }
        supervised.abort();
    }
}
