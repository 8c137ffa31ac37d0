//! A panic in a request: the client gets an answer, and the operator's log the cause.

use std::panic::AssertUnwindSafe;

use axum::{extract::Request, middleware::Next, response::Response};
use binplz_core::{answer::problem::Problem, id::text::panic_message, ports::Deployment, telemetry::About};
use futures_util::FutureExt;

use crate::{request_id::RequestId, target::refusal};

/// The answer, or 500 if the handler panics.
pub(crate) async fn catch<D: Deployment>(d: &D, request: Request, next: Next) -> Response {
    let headers = request.headers().clone();
    let id = request.extensions().get::<RequestId>().map(RequestId::to_string);
    let uri = request.uri().clone();
    AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(|panic| {
        d.warn(About::Service, &format!("the answer to {} panicked", uri.path()), &panic_message(&*panic));
        refusal(d, &uri, Problem::defect(id.as_deref()), &headers)
    })
}
