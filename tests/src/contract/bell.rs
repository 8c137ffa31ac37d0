//! The doorbell: `wait` is the adapter's own way to hear it.

use binplz_core::ports::Bell;

use super::Kept;

/// Rung before anybody waits, it is still heard: a dispatcher that is busy misses nothing. Where it is not, this never returns.
pub async fn a_ring_that_came_early_is_heard(bell: &impl Bell, wait: impl AsyncFn()) -> Kept {
    bell.ring().await?;
    wait().await;
    bell.ring().await?;
    bell.ring().await?;
    wait().await;
    Ok(())
}

/// A ring wakes a waiter.
pub async fn a_ring_wakes_who_waits(bell: &impl Bell, wait: impl AsyncFn()) -> Kept {
    let (rung, ()) = tokio::join!(bell.ring(), wait());
    Ok(rung?)
}
