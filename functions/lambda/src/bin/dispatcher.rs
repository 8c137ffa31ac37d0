//! The function behind the queue `Queue`: it starts a builder for each due build, within the slots and the budget.

use std::process::ExitCode;

use binplz_aws::{
    Working,
    config::Settings,
    event::{DoorbellBatch, SqsBatchResponse},
    log,
};
use binplz_core::{
    flow::schedule::dispatch::dispatch,
    ports::{Deployment, HasBell},
    telemetry::About,
};
use lambda_runtime::{Error, LambdaEvent, service_fn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let run = async {
        let deployment = Working::open(&Settings::of_process())?;
        let woken = |event: LambdaEvent<DoorbellBatch>| {
            log::within(event.context.request_id, woken(&deployment, event.payload))
        };
        lambda_runtime::run(service_fn(woken)).await
    };
    log::function(run).await
}

/// Handles a batch of messages with one pass over the due rows. The sweep's next message, a minute later at most, retries a failed
/// pass: a message for each failure would make the passes more frequent with each sweep, for as long as the trouble lasts. So the
/// function returns to the queue only the messages that it did not recognize.
async fn woken(d: &Working, rings: DoorbellBatch) -> Result<SqsBatchResponse, Error> {
    let later = match dispatch(d).await {
        Ok(due) => due.map(|due| due - d.now()),
        Err(error) => {
            d.warn(About::Service, "the dispatcher did not finish", &error);
            None
        }
    };
    if let Some(delay) = later
        && let Err(error) = d.bell().ring_in(delay).await
    {
        // The reaper's sweep sends a message too.
        d.warn(About::Service, "the bell was not rung for later", &error);
    }
    Ok(rings.unrecognized())
}
