//! The function behind the table's stream that signs what builds have made, and appends it to the transparency log. No
//! other function has a permission for the keys.

use std::process::ExitCode;

use binplz_aws::{Receiving, config::Settings, event::Wake, log, signer::KmsSigner};
use binplz_core::{
    flow::schedule::sign::{NotSigned, ready, sign, sign_all},
    ports::Deployment,
    telemetry::About,
};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let run = async {
        let (deployment, signer) = Receiving::open_signing(&Settings::of_process())?;
        let woken = |event: LambdaEvent<Value>| {
            log::within(event.context.request_id, woken(&deployment, &signer, event.payload))
        };
        lambda_runtime::run(service_fn(woken)).await
    };
    log::function(run).await
}

/// An error makes Lambda repeat the event. What it gives up, the next scheduled run signs.
async fn woken(d: &Receiving, signer: &KmsSigner, event: Value) -> Result<(), Error> {
    let signed = match Wake::read(event)? {
        Wake::Written(rows) => sign(d, signer, rows.into_iter().filter_map(ready)).await,
        Wake::Tick => sign_all(d, signer).await,
        Wake::TaskStopped(_) | Wake::OtherTask => return Ok(()),
    };
    match signed {
        Ok(_) => Ok(()),
        Err(error) => {
            d.warn(About::Service, "artifacts were not signed", &error);
            match error {
                // It lasts until an operator does something. The next scheduled run signs what is ready by then.
                NotSigned::OtherKeys => Ok(()),
                NotSigned::Unavailable(error) => Err(error.into()),
            }
        }
    }
}
