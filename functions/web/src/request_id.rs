//! `X-Request-Id`: users can quote it, and operators find it in the log.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

use axum::{http::HeaderValue, response::Response};

/// Names the process at random and counts its answers: unique, and without a call to the system for each.
pub(crate) async fn add(mut response: Response) -> Response {
    static PROCESS: OnceLock<u64> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let process = PROCESS.get_or_init(|| getrandom::u64().unwrap_or_default());
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    if let Ok(id) = HeaderValue::from_str(&format!("{process:016x}{count:08x}")) {
        response.headers_mut().insert("x-request-id", id);
    }
    response
}
