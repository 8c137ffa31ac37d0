//! The function behind `/-/lease/…`: what builders ask for and report. It can sign uploads, and start nothing.

use std::sync::Arc;

use binplz_aws::{Serving, config::Settings, gateway};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let deployment = Arc::new(Serving::of_leases(&Settings::of_process())?);
    gateway::serve(binplz_web::with_request_ids(binplz_web::leases(deployment))).await
}
