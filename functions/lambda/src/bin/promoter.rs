//! The function behind the table's stream and ECS's "task stopped" events. It verifies the files that a builder offered to the shared
//! Nix cache, signs them, and copies them there.

use std::{collections::BTreeSet, process::ExitCode};

use binplz_aws::{Receiving, binary_cache::S3BinaryCache, config::Settings, event::Wake, log};
use binplz_core::{
    build::dependency::{Dependency, Stage},
    flow::schedule::promote::{Promoted, promote},
    objects::artifact::AttemptPrefix,
    ports::{Deployment, HasStore, Unavailable},
    row::Row,
    telemetry::About,
};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let run = async {
        let settings = Settings::of_process();
        let deployment = Receiving::open(&settings)?;
        let binary_cache = S3BinaryCache::open(deployment.store(), &settings)?;
        let woken = |event: LambdaEvent<Value>| {
            log::within(event.context.request_id, woken(&deployment, &binary_cache, event.payload))
        };
        lambda_runtime::run(service_fn(woken)).await
    };
    log::function(run).await
}

/// If this returns an error, Lambda retries the event twice, and then sends it to the dead letter queue.
async fn woken(d: &Receiving, binary_cache: &S3BinaryCache, event: Value) -> Result<(), Error> {
    match Wake::read(event)? {
        Wake::TaskStopped(end) => {
            match look_at(d, binary_cache, &AttemptPrefix { key: end.key, lease: end.lease }).await? {
                Promoted::Done { .. } => Ok(()),
                // The builder could not settle, and the reaper ends the attempt at this moment.
                Promoted::NotYet { .. } => Err("the attempt has not ended".into()),
            }
        }
        Wake::Written(rows) => {
            // One look at an attempt's offers is enough for all of them.
            for prefix in rows.into_iter().filter_map(offered).collect::<BTreeSet<_>>() {
                look_at(d, binary_cache, &prefix).await?;
            }
            Ok(())
        }
        Wake::OtherTask | Wake::Tick => Ok(()),
    }
}

fn offered(row: Row) -> Option<AttemptPrefix> {
    match row {
        Row::Dependency(Dependency { holder, stage: Stage::Offered { lease }, .. }) => {
            Some(AttemptPrefix { key: holder, lease })
        }
        _ => None,
    }
}

async fn look_at(d: &Receiving, binary_cache: &S3BinaryCache, prefix: &AttemptPrefix) -> Result<Promoted, Unavailable> {
    let promoted = async {
        // First: builds that wait are started when something is promoted, and trust the key from then on.
        binary_cache.announce().await?;
        promote(d, binary_cache, prefix).await
    };
    promoted.await.inspect_err(|error| {
        d.warn(About::Attempt(&prefix.key, &prefix.lease), "its offers to the cache were not promoted", error);
    })
}
