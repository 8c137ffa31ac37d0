//! The function behind `/-/wait/…`: long polling. It holds clients until their build is over. It is separate from `api`, so that
//! waiting clients do not use up `api`'s concurrency. Its role may resolve names, read builds' rows and count waiting clients.

use std::{process::ExitCode, sync::Arc};

use binplz_aws::{Serving, config::Settings, gateway, log};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let run = async {
        let deployment = Arc::new(Serving::open(&Settings::of_process())?);
        let waits = binplz_web::waits(Arc::clone(&deployment));
        gateway::serve(binplz_web::catch_panics(waits, deployment)).await
    };
    log::function(run).await
}
