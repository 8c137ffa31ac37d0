//! Somebody waits for a build. Only looks.

use std::time::Duration;

use crate::{
    answer::reply::Reply,
    flow::{load_build, request::resolve},
    id::{
        key::BuildKey,
        target::Query,
        wait::{Patience, hop_path},
    },
    ports::{HasBell, HasCatalogues, HasLedger, HasWaitLimiter, WaitLimiter, Watch},
    telemetry::About,
};

/// Where one who would like to wait goes, instead of taking `reply` for the answer: into the chain, while the build is under way and a seat
/// is free.
pub async fn first<D: HasWaitLimiter>(d: &D, reply: &Reply, query: &Query, patience: Patience) -> Option<String> {
    let under_way = matches!(reply, Reply::Pending(status) if status.paused.is_none());
    if !under_way || patience.hold(1, d.policy().hold).is_none() {
        return None;
    }
    let admitted = d.wait_limiter().admits().await.unwrap_or_else(|error| {
        d.warn(About::Service, "nobody knows how many wait", &error);
        false
    });
    admitted.then(|| hop_path(1, query))
}

/// Hop `number` of a chain: takes its time until the build is settled, and says where to go on: to the next hop, or, where there is
/// something to be told or the chain ends, back to the target. So a hop needs to know nothing but what is meant and the build's row.
pub async fn hop<D: HasLedger + HasBell + HasCatalogues + HasWaitLimiter>(
    d: &D,
    query: &Query,
    number: u32,
    patience: Patience,
) -> String {
    if let Some(hold) = patience.hold(number, d.policy().hold)
        && let Some(key) = key(d, query).await
    {
        if number > 1
            && let Err(error) = d.wait_limiter().keeps().await
        {
            d.warn(About::Build(&key), "a waiter was not counted", &error);
        }
        if !settled(d, &key, hold).await && patience.hold(number + 1, d.policy().hold).is_some() {
            return hop_path(number + 1, query);
        }
    }
    format!("/{query}")
}

/// What is waited for; `None` where that can not be said, and the target's answer says why.
async fn key<D: HasLedger + HasBell + HasCatalogues>(d: &D, query: &Query) -> Option<BuildKey> {
    match resolve::of(d, &query.target, false).await {
        Ok(resolve) => Some(resolve.ok()?.key),
        Err(error) => {
            d.warn(About::Service, "a waiter could not look what is meant", &error);
            None
        }
    }
}

/// Waits until a build is neither queued nor building; false, where it still is after `patience`. Without a seat there is nothing to
/// wait for: true.
async fn settled<D: HasLedger + HasWaitLimiter>(d: &D, key: &BuildKey, patience: Duration) -> bool {
    // Watched before it is looked at, so that nothing falls between.
    let Some(mut watch) = d.wait_limiter().watch(key, patience) else { return true };
    loop {
        match load_build(d, key).await {
            Ok((build, _)) if !build.is_under_way() => return true,
            Ok(_) => {}
            // The next look may do.
            Err(error) => d.warn(About::Build(key), "a waiter could not look", &error),
        }
        if !watch.changed().await {
            return false;
        }
    }
}
