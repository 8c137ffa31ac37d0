//! The HTTP service of one machine: the shared routes, the store's objects, and what every request passes through.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::Request,
    middleware::{Next, from_fn},
    response::Response,
};
use binplz_local::Local;
use binplz_web::{Hosts, Network, RequestId};
use tower_http::timeout::RequestBodyTimeoutLayer;
use tracing::Instrument;

use crate::serve::{objects, spool::Spool};

/// How long a builder may send nothing of a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// The routes for clients, for requests to `hosts`. None of them reads a request's body.
pub(crate) fn for_clients(
    d: &Arc<Local>,
    hosts: Option<Hosts>,
    proxies: &Arc<[Network]>,
    spool: &Arc<Spool>,
) -> Router {
    let with = || Arc::clone(d);
    let (spool, pages) = (Arc::clone(spool), binplz_web::site(with()).merge(binplz_web::waits(with())));
    let spooled = pages.layer(from_fn(move |request, next| {
        let spool = Arc::clone(&spool);
        async move { spool.pass(request, next).await }
    }));
    let routes = binplz_web::behind_proxies(spooled.merge(objects::downloads(with())), Arc::clone(proxies));
    with_layers(d, hosts, routes)
}

/// The routes for builders.
pub(crate) fn for_builders(d: &Arc<Local>) -> Router {
    let routes = binplz_web::leases(Arc::clone(d)).merge(objects::uploads(Arc::clone(d)));
    with_layers(d, None, routes.layer(RequestBodyTimeoutLayer::new(BODY_TIMEOUT)))
}

fn with_layers(d: &Arc<Local>, hosts: Option<Hosts>, routes: Router) -> Router {
    let caught = binplz_web::catch_panics(routes, Arc::clone(d));
    let own = match hosts {
        Some(hosts) => binplz_web::only_for(hosts, caught, Arc::clone(d)),
        None => caught,
    };
    binplz_web::with_request_ids(own.layer(from_fn(in_span)))
}

/// Every line of the log that is about a request has its id.
async fn in_span(request: Request, next: Next) -> Response {
    let id = request.extensions().get::<RequestId>().map(tracing::field::display);
    let span = tracing::info_span!("request", id);
    next.run(request).instrument(span).await
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::StatusCode, routing::get};
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;
    use crate::serve::tests::local;

    #[tokio::test]
    async fn a_panic_in_a_request_is_a_500_with_the_requests_id_in_every_format() {
        let (_dir, local, _ends) = local();
        let routes = Router::new().route("/panics", get(async || -> &'static str { panic!("a secret") }));
        let service = with_layers(&local, None, routes);
        for (accept, media_type) in [
            ("*/*", "text/plain; charset=utf-8"),
            ("application/json", "application/problem+json"),
            ("text/html", "text/html; charset=utf-8"),
        ] {
            let request = Request::get("/panics").header("accept", accept).body(Body::empty()).expect("a request");
            let response = service.clone().oneshot(request).await.expect("an answer");
            assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
            assert_eq!(response.headers()["content-type"], media_type);
            let id = response.headers()["x-request-id"].to_str().expect("text").to_owned();
            let body = response.into_body().collect().await.expect("a body").to_bytes();
            let body = String::from_utf8_lossy(&body);
            assert!(body.contains(&id) && !body.contains("secret"), "{id}: {body}");
        }
    }
}
