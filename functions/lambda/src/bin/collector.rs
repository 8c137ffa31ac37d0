//! The function behind two schedules. Once a day, it runs garbage collection, and then the scrub. In between, it runs garbage
//! collection while the store is nearly full.

use std::process::ExitCode;

use binplz_aws::{Receiving, config::Settings, log};
use binplz_core::{
    flow::{
        operator::gc::{gc, gc_if_nearly_full},
        schedule::scrub::verify,
    },
    ports::Deployment,
    telemetry::About,
};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let run = async {
        let deployment = Receiving::open(&Settings::of_process())?;
        let woken =
            |event: LambdaEvent<Value>| log::within(event.context.request_id, woken(&deployment, event.payload));
        lambda_runtime::run(service_fn(woken)).await
    };
    log::function(run).await
}

/// The input of the second schedule. EventBridge's own input is an object.
const EARLY: &str = "early";

async fn woken(d: &Receiving, event: Value) -> Result<(), Error> {
    if event != EARLY {
        return clear(d).await;
    }
    // It is not retried: the next one does the same.
    if let Err(error) = gc_if_nearly_full(d).await {
        d.warn(About::Service, "garbage collection did not finish", &error);
    }
    Ok(())
}

/// Runs one collection, and compares the remaining objects with their checksums. If it fails, the next day's run continues.
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
