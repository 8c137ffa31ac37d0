//! Somebody waits for a build. Only looks.

use std::time::Duration;

use crate::{
    flow::load_build,
    key::BuildKey,
    news::About,
    pins::Unserved,
    ports::{Deployment, Watch},
    reply::Reply,
    target::Query,
    wait::{Patience, hop_path},
};

/// Where one who would like to wait goes, instead of taking `reply` for the answer: into the chain, while the build is under way.
pub fn first<D: Deployment>(d: &D, reply: &Reply, query: &Query, patience: Patience) -> Option<String> {
    let pending = matches!(reply, Reply::Pending(_));
    (pending && patience.hold(1, d.policy().hold).is_some()).then(|| hop_path(1, query))
}

/// Hop `number` of a chain: takes its time until the build is settled, and says where to go on: to the next hop, or, where there is
/// something to be told or the chain ends, back to the target. So a hop needs to know nothing but the row.
///
/// # Errors
/// [`Unserved`]: the target names another nixpkgs.
pub async fn hop<D: Deployment>(d: &D, query: &Query, number: u32, patience: Patience) -> Result<String, Unserved> {
    let key = d.pins().resolve(&query.target)?.key;
    let longer = match patience.hold(number, d.policy().hold) {
        Some(hold) => !settled(d, &key, hold).await && patience.hold(number + 1, d.policy().hold).is_some(),
        None => false,
    };
    Ok(if longer { hop_path(number + 1, query) } else { format!("/{query}") })
}

/// Waits until a build is neither queued nor building; false, where it still is after `patience`. Where as many wait as may, that
/// is at once no matter of waiting any more: true.
async fn settled<D: Deployment>(d: &D, key: &BuildKey, patience: Duration) -> bool {
    // Watched before it is looked at, so that nothing falls between.
    let Some(mut watch) = d.watch(key, patience) else { return true };
    loop {
        match load_build(d, key).await {
            Ok((build, _)) if build.shelf().is_none() => return true,
            Ok(_) => {}
            // The next look may do.
            Err(error) => d.note(About::Build(key), "a waiter could not look", &error),
        }
        if !watch.changed().await {
            return false;
        }
    }
}
