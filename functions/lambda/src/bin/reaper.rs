//! The function behind ECS's "task stopped" events and a schedule: it ends attempts whose task is gone or whose lease has expired.

use std::process::ExitCode;

use binplz_aws::{Working, config::Settings, event::Wake, log};
use binplz_core::{
    flow::{lease::settle::stopped, schedule::sweep::sweep},
    ports::Deployment,
    telemetry::About,
};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let run = async {
        let deployment = Working::open(&Settings::of_process())?;
        let woken =
            |event: LambdaEvent<Value>| log::within(event.context.request_id, woken(&deployment, event.payload));
        lambda_runtime::run(service_fn(woken)).await
    };
    log::function(run).await
}

/// If this returns an error, Lambda retries the event twice, and then sends it to the dead letter queue. The lease expires meanwhile,
/// and a sweep ends it.
async fn woken(d: &Working, event: Value) -> Result<(), Error> {
    let done = act(d, event).await;
    if let Err(error) = &done {
        d.warn(About::Service, "the reaper did not finish", error);
    }
    done
}

async fn act(d: &Working, event: Value) -> Result<(), Error> {
    match Wake::read(event)? {
        Wake::TaskStopped(end) => {
            if stopped(d, &end.key, &end.lease, end.failure, end.ran).await? {
                d.warn(About::Attempt(&end.key, &end.lease), "its builder ended without a report", &end.reason);
            }
        }
        Wake::OtherTask | Wake::Written(_) => {}
        // It is not retried: the next minute's does the same.
        Wake::Tick => {
            if let Err(error) = sweep(d).await {
                d.warn(About::Service, "a sweep did not finish", &error);
            }
        }
    }
    Ok(())
}
