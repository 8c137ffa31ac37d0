//! The function behind the table's stream that signs what builds have made, and appends it to the transparency log. No
//! other function has a permission for the keys.

use std::process::ExitCode;

use binplz_aws::{Receiving, config::Settings, event::Wake, log, signer::KmsSigner};
use binplz_core::{
    build::{Build, State},
    flow::schedule::sign::{NotSigned, sign, sign_all},
    id::key::BuildKey,
    ports::{Deployment, HasStore},
    row::Row,
    telemetry::About,
};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let run = async {
        let settings = Settings::of_process();
        let deployment = Receiving::open_signing(&settings)?;
        let signer = KmsSigner::open(deployment.store(), &settings)?;
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

fn ready(row: Row) -> Option<BuildKey> {
    match row {
        Row::Build(Build { key, state: State::Ready(_), .. }) => Some(key),
        _ => None,
    }
}
