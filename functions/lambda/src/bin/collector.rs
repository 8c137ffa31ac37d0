//! The function behind a daily schedule: garbage collection, and then the scrub.

use std::process::ExitCode;

use binplz_aws::{Receiving, config::Settings, log};
use binplz_core::{
    flow::{operator::gc::gc, schedule::scrub::verify},
    ports::Deployment,
    telemetry::About,
};
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

/// Runs one collection, and compares what is left with what it must be. The next day's run continues where this one
/// failed.
async fn clear(d: &Receiving) -> Result<(), Error> {
    if let Err(error) = gc(d, false).await {
        d.warn(About::Service, "garbage collection did not finish", &error);
        return Err(error.into());
    }
    if let Err(error) = verify(d, None).await {
        d.warn(About::Service, "objects were not compared", &error);
        return Err(error.into());
    }
    Ok(())
}
