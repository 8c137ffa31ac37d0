//! The function behind the queue `Queue`: it starts a builder for each due build, within the slots and the budget.

use std::{process::ExitCode, time::Duration};

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

/// How long the dispatcher waits before it retries, if an AWS service does not answer.
const PAUSE: Duration = Duration::from_secs(10);

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

/// Handles a batch of messages with one pass over the due rows. The function returns to the queue only the messages that it did not
/// recognize.
async fn woken(d: &Working, rings: DoorbellBatch) -> Result<SqsBatchResponse, Error> {
    let rung = match dispatch(d).await {
        Ok(None) => Ok(()),
        Ok(Some(due)) => d.bell().ring_in(due - d.now()).await,
        Err(error) => {
            d.warn(About::Service, "the dispatcher did not finish", &error);
            // Once. If each failure were retried, passes would become more frequent with each sweep, for as long as the trouble lasts.
            match rings.has_retry() {
                false => d.bell().retry_in(PAUSE).await,
                true => Ok(()),
            }
        }
    };
    if let Err(error) = rung {
        // The reaper's sweep sends a message too.
        d.warn(About::Service, "the bell was not rung for later", &error);
    }
    Ok(rings.unrecognized())
}
