//! The function that a schedule wakes once a day: it clears away what nobody needs any more.

use std::process::ExitCode;

use binplz_aws::{Receiving, config::Settings, log};
use binplz_core::{flow::operator::gc::gc, ports::Deployment, telemetry::About};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let run = async {
        let deployment = Receiving::open(&Settings::of_process())?;
        let woken = |event: LambdaEvent<Value>| log::within(event.context.request_id, clear(&deployment));
        lambda_runtime::run(service_fn(woken)).await
    };
    log::function(run).await
}

/// What is not done today is done tomorrow.
async fn clear(d: &Receiving) -> Result<(), Error> {
    if let Err(error) = gc(d, false).await {
        d.warn(About::Service, "what nobody needs was not all cleared away", &error);
        return Err(error.into());
    }
    Ok(())
}
