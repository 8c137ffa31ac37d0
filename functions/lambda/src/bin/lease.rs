//! The function behind `/-/lease/…`: the builders' API. Its role may sign uploads and may not start tasks.

use std::{process::ExitCode, sync::Arc};

use binplz_aws::{Receiving, config::Settings, gateway, log};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let run = async {
        let deployment = Arc::new(Receiving::open(&Settings::of_process())?);
        let leases = binplz_web::leases(Arc::clone(&deployment));
        gateway::serve(binplz_web::catch_panics(leases, deployment)).await
    };
    log::function(run).await
}
