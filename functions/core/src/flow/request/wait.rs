//! A client waits for a build (long polling). Reads only.

use std::time::Duration;

use crate::{
    flow::request::{denial::Denial, outcome::RequestOutcome, resolve, trust},
    id::{
        key::BuildKey,
        target::Query,
        wait::{Patience, hop_path},
    },
    ports::{HasCatalogues, HasLedger, HasWaitLimiter, WaitLimiter, Watch},
    telemetry::About,
};

/// The first hop for a client that wants to wait, in place of an answer: if the build is under way and a permit is free.
pub async fn first<D: HasWaitLimiter>(
    d: &D,
    outcome: &RequestOutcome,
    query: &Query,
    patience: Patience,
) -> Option<String> {
    let under_way = matches!(outcome, RequestOutcome::Pending(status) if status.paused.is_none());
    if !under_way || patience.hold(1, d.policy().hold).is_none() {
        return None;
    }
    let admitted = d.wait_limiter().admits().await.unwrap_or_else(|error| {
        d.warn(About::Service, "the number of waiting requests is unknown", &error);
        false
    });
    admitted.then(|| hop_path(1, query))
}

/// Hop `number` of a chain: waits until the build is settled and signed, and returns the next redirect: the next hop, or back to
/// the target if there is an answer or the chain ends. So a hop needs only the target and the build's row.
pub async fn hop<D: HasLedger + HasCatalogues + HasWaitLimiter>(
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

/// The build to wait for; `None` if there is none, which the target's answer explains.
async fn key<D: HasLedger + HasCatalogues>(d: &D, query: &Query) -> Option<BuildKey> {
    match resolve::under_way(d, &query.target).await {
        Ok(key) => key,
        Err(Denial::Unavailable(error)) => {
            d.warn(About::Service, "a waiter could not resolve its target", &error);
            None
        }
        Err(_) => None,
    }
}

/// Waits until a build is neither queued nor building; false if it still is after `patience`. Without a permit it
/// returns true at once.
async fn settled<D: HasLedger + HasWaitLimiter>(d: &D, key: &BuildKey, patience: Duration) -> bool {
    // The watch begins before the row is read, so that no change is missed.
    let Some(mut watch) = d.wait_limiter().watch(key, patience) else { return true };
    loop {
        match trust::is_under_way(d, key).await {
            Ok(false) => return true,
            Ok(true) => {}
            // The next read may succeed.
            Err(error) => d.warn(About::Build(key), "a waiter could not look", &error),
        }
        if !watch.changed().await {
            return false;
        }
    }
}
