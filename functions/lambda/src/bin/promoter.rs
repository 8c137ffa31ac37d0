//! The function behind the queue `Offers`: for each finished build, it verifies what the builder offered to the shared Nix cache,
//! signs it and publishes it. Only this function has the signing key and may write to the cache.

use std::process::ExitCode;

use binplz_aws::{
    Receiving,
    binary_cache::S3BinaryCache,
    config::Settings,
    event::{Offered, SqsBatchResponse},
    log,
};
use binplz_core::{
    flow::schedule::promote::promote,
    objects::artifact::AttemptPrefix,
    ports::{Deployment, HasStore, Unavailable},
    telemetry::About,
};
use lambda_runtime::{Error, LambdaEvent, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let run = async {
        let settings = Settings::of_process();
        let deployment = Receiving::open(&settings)?;
        let binary_cache = S3BinaryCache::open(deployment.store(), &settings)?;
        let woken = |event: LambdaEvent<Offered>| {
            log::within(event.context.request_id, woken(&deployment, &binary_cache, event.payload))
        };
        lambda_runtime::run(service_fn(woken)).await
    };
    log::function(run).await
}

/// Returns to the queue the messages that failed. SQS delivers them again, and at last moves them to the dead letter queue.
async fn woken(d: &Receiving, binary_cache: &S3BinaryCache, offered: Offered) -> Result<SqsBatchResponse, Error> {
    let mut kept = SqsBatchResponse::default();
    for (prefix, message) in offered.attempts() {
        let Some(prefix) = prefix else {
            kept.keep(message);
            continue;
        };
        if let Err(error) = look_at(d, binary_cache, &prefix).await {
            d.warn(About::Attempt(&prefix.key, &prefix.lease), "its offers to the cache were not promoted", &error);
            kept.keep(message);
        }
    }
    Ok(kept)
}

async fn look_at(d: &Receiving, binary_cache: &S3BinaryCache, prefix: &AttemptPrefix) -> Result<(), Unavailable> {
    promote(d, binary_cache, prefix).await?;
    // Last, so that builders do not query an empty cache.
    binary_cache.announce().await
}
