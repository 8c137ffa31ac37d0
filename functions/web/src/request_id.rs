//! `X-Request-Id`: users can quote it, and operators find it in the log.

use std::{
    fmt,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{extract::Request, http::HeaderValue, middleware::Next, response::Response};

/// A request's id, among the request's extensions. It names the process at random and counts its requests: unique, and
/// without a call to the system for each.
#[derive(Clone, Copy, Debug)]
pub struct RequestId {
    process: u64,
    count: u64,
}

impl RequestId {
    fn next() -> RequestId {
        static PROCESS: OnceLock<u64> = OnceLock::new();
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let process = *PROCESS.get_or_init(|| getrandom::u64().unwrap_or_default());
        RequestId { process, count: COUNT.fetch_add(1, Ordering::Relaxed) }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:08x}", self.process, self.count)
    }
}

/// Gives the request an id, and its answer the same.
pub(crate) async fn add(mut request: Request, next: Next) -> Response {
    let id = RequestId::next();
    request.extensions_mut().insert(id);
    let mut response = next.run(request).await;
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert("x-request-id", id);
    }
    response
}
