//! The function behind the HTTP API's default route: programs, status, logs, pages.

use std::sync::Arc;

use binplz_aws::{Serving, config::Settings, gateway};

// One request at a time: one thread is all that it needs.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let deployment = Arc::new(Serving::of_site(&Settings::of_process())?);
    deployment.warm().await;
    gateway::serve(binplz_web::with_request_ids(binplz_web::site(deployment))).await
}
