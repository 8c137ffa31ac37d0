//! The function that a queue wakes with builds that are over: what their builders offer to the cache that all of them share is
//! looked at, signed, and let in. It alone has the key, and may write there.

use std::process::ExitCode;

use binplz_aws::{
    Receiving,
    config::Settings,
    event::{Kept, Offered},
    log,
    vault::S3Vault,
};
use binplz_core::{
    artifact::Home,
    flow::promote::promote,
    news::About,
    ports::{Deployment, Unavailable},
};
use lambda_runtime::{Error, LambdaEvent, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let run = async {
        let settings = Settings::of_process();
        let deployment = Receiving::open(&settings)?;
        let vault = S3Vault::open(deployment.store(), &settings)?;
        let woken = |event: LambdaEvent<Offered>| {
            log::within(event.context.request_id, woken(&deployment, &vault, event.payload))
        };
        lambda_runtime::run(service_fn(woken)).await
    };
    log::function(run).await
}

/// A message stays that could not be dealt with: it comes again, and ends in the queue for such.
async fn woken(d: &Receiving, vault: &S3Vault, offered: Offered) -> Result<Kept, Error> {
    let mut kept = Kept::default();
    for (home, message) in offered.attempts() {
        let Some(home) = home else {
            kept.keep(message);
            continue;
        };
        if let Err(error) = look_at(d, vault, &home).await {
            d.note(About::Attempt(&home.key, &home.lease), "what it offers to the cache was not looked at", &error);
            kept.keep(message);
        }
    }
    Ok(kept)
}

async fn look_at(d: &Receiving, vault: &S3Vault, home: &Home) -> Result<(), Unavailable> {
    promote(d, vault, home).await?;
    // Last: before there is anything, a builder need not look.
    vault.announce().await
}
