//! The function behind the HTTP API's default route: programs, status, logs, pages.

use std::{process::ExitCode, sync::Arc};

use binplz_aws::{Serving, config::Settings, gateway, log};

// One request at a time: one thread is all that it needs.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let run = async {
        let deployment = Arc::new(Serving::of_site(&Settings::of_process())?);
        deployment.warm().await;
        gateway::serve(binplz_web::site(deployment)).await
    };
    log::function(run).await
}
