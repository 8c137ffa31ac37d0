//! The function behind `/-/wait/…`: holds those who wait for a build, apart from all others, so that they take nobody's place. It
//! looks at what is meant and at builds' rows, counts who waits, and its role lets it do nothing else.

use std::{process::ExitCode, sync::Arc};

use binplz_aws::{Serving, config::Settings, gateway, log};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let run = async {
        let deployment = Arc::new(Serving::open(&Settings::of_process())?);
        gateway::serve(binplz_web::waits(deployment)).await
    };
    log::function(run).await
}
