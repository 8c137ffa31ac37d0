//! The function behind `/-/lease/…`: what builders ask for and report. It can sign uploads, and start nothing.

use std::{process::ExitCode, sync::Arc};

use binplz_aws::{Receiving, config::Settings, gateway, log};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let run = async {
        let deployment = Arc::new(Receiving::open(&Settings::of_process())?);
        gateway::serve(binplz_web::leases(deployment)).await
    };
    log::function(run).await
}
