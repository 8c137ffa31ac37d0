//! The function behind the HTTP API's default route: programs, status, logs, pages.

use std::{process::ExitCode, sync::Arc};

use binplz_aws::{Serving, config::Settings, gateway, log};

// Lambda sends one request at a time, so one thread is enough.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let run = async {
        let settings = Settings::of_process();
        let deployment = Arc::new(Serving::open(&settings)?);
        deployment.warm().await;
        let site = binplz_web::catch_panics(binplz_web::site(Arc::clone(&deployment)), deployment);
        gateway::serve(binplz_web::behind_cdn(site, settings.find("BINPLZ_ORIGIN_SECRET"))).await
    };
    log::function(run).await
}
