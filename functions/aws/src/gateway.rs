//! HTTP API events as requests to a router.
//!
//! An HTTP API hands over the path *decoded* (every escape but `%25`), and lambda_http makes a URL of it unchanged: a
//! `?` in the path would become a query, `/a/..` the home page, and a path that is not a URL would panic. So this
//! module first encodes the path, and all else that a URL cannot contain.
//!
//! The gateway has given the request an id for its own log. The answer (`X-Request-Id`) and our log use the same id.
//! The gateway also knows the peer, whose address the router finds in the request's extensions.

use std::{borrow::Cow, convert::Infallible, net::IpAddr};

use lambda_http::{
    Adapter, Error, IntoResponse, LambdaEvent, Request, RequestExt, Response, Service,
    http::{HeaderName, HeaderValue},
    lambda_runtime,
    request::{LambdaRequest, RequestContext},
    service_fn,
    tower::ServiceExt,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use crate::log;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The characters of a path; `%` is one, since it still begins an escape.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/').remove(b'%');
/// The characters of a query, by RFC 3986.
const QUERY: &AsciiSet = &PATH
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@')
    .remove(b'?');

/// Answers events with a router until the sandbox ends.
///
/// # Errors
/// The runtime's.
pub async fn serve<S, B>(router: S) -> Result<(), Error>
where
    S: Service<Request, Response = Response<B>, Error = Infallible> + Clone + Send,
    S::Future: Send + 'static,
    Response<B>: IntoResponse + Send + 'static,
{
    lambda_runtime::run(service_fn(|event| answer(router.clone(), event))).await
}

/// Answers one event.
async fn answer<S, B>(router: S, event: LambdaEvent<LambdaRequest>) -> Result<impl Serialize, Infallible>
where
    S: Service<Request, Response = Response<B>, Error = Infallible> + Send,
    S::Future: Send + 'static,
    Response<B>: IntoResponse + Send + 'static,
{
    let id = request_id(&event);
    let header = HeaderValue::from_str(&id).ok();
    let named = router.map_request(with_peer).map_response(|mut response: Response<B>| {
        response.headers_mut().extend(header.map(|id| (X_REQUEST_ID, id)));
        response
    });
    log::within(id, Adapter::from(named).oneshot(tidied(event))).await
}

/// Adds the peer's address to the request.
fn with_peer(mut request: Request) -> Request {
    let peer = match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV2(context)) => context.http.source_ip.as_deref().and_then(|ip| ip.parse().ok()),
        _ => None,
    };
    if let Some(peer) = peer {
        request.extensions_mut().insert::<IpAddr>(peer);
    }
    request
}

/// The gateway's request id, or Lambda's if there is none.
fn request_id(event: &LambdaEvent<LambdaRequest>) -> String {
    let named = match &event.payload {
        LambdaRequest::ApiGatewayV2(request) => request.request_context.request_id.clone(),
        _ => None,
    };
    named.unwrap_or_else(|| event.context.request_id.clone())
}

/// A segment such as `..` or `%2e` must reach the router as an odd name, which it refuses; no URL parser may resolve it
/// before.
fn kept(segment: &str) -> Cow<'_, str> {
    match segment.to_ascii_lowercase().replace("%2e", ".").as_str() {
        dots @ ("." | "..") => dots.replace('.', "%252e").into(),
        _ => segment.into(),
    }
}

fn tidied(mut event: LambdaEvent<LambdaRequest>) -> LambdaEvent<LambdaRequest> {
    if let LambdaRequest::ApiGatewayV2(request) = &mut event.payload {
        if let Some(path) = &mut request.raw_path {
            let path_as_asked = utf8_percent_encode(path, PATH).to_string();
            *path = path_as_asked.split('/').map(kept).collect::<Vec<_>>().join("/");
        }
        if let Some(query) = &mut request.raw_query_string {
            *query = utf8_percent_encode(query, QUERY).to_string();
        }
        // The service's host comes from the configuration. The client's `Host` becomes part of no URL.
        request.headers.remove("host");
        request.request_context.domain_name = None;
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log;
    use binplz_core::{
        id::time::Timestamp,
        quota::limits::LimitExceeded,
        telemetry::{About, Signal},
    };
    use lambda_http::Context;

    fn event(path: &str, query: &str) -> LambdaEvent<LambdaRequest> {
        let event = serde_json::json!({
            "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": query,
            "headers": { "host": "a b/c?d", "accept": "*/*" }, "isBase64Encoded": false,
            "requestContext": { "stage": "$default", "domainName": "127.0.0.1", "requestId": "JKJaXmPLvHcESHA=",
                "http": { "method": "GET", "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1" } },
        });
        let payload = serde_json::from_value(event).expect("an event of an HTTP API");
        LambdaEvent { payload, context: Context::default() }
    }

    /// The URI that the router sees.
    fn uri(path: &str, query: &str) -> String {
        Request::from(tidied(event(path, query)).payload).uri().to_string()
    }

    #[test]
    fn an_event_of_the_gateway_is_a_request_with_its_peer_and_with_what_the_cdn_says() {
        let payload = serde_json::from_str(include_str!("../tests/events/http-api.json")).expect("an event");
        let router = service_fn(async |request: Request| {
            let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
            let peer = request.extensions().get::<IpAddr>().map(IpAddr::to_string);
            let seen =
                [Some(request.uri().to_string()), peer, header("x-binplz-viewer"), header("x-binplz-origin-secret")];
            Ok::<_, Infallible>(Response::new(seen.map(Option::unwrap_or_default).join(" ")))
        });
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let answer = runtime.block_on(answer(router, LambdaEvent { payload, context: Context::default() }));
        let answer = serde_json::to_value(answer.expect("an answer")).expect("JSON");
        assert_eq!(answer["body"], "/coreutils/%5B?sys=x86_64-linux 130.176.0.7 2001:db8::7 Rr0wMbq8vJ2H");
    }

    #[test]
    fn an_answer_and_the_log_have_the_gateways_own_name_of_the_request() {
        let router = service_fn(async |_| {
            let line = log::line("binplz", About::Service, &Signal::Held(LimitExceeded::Slots), Timestamp(0));
            Ok::<_, Infallible>(Response::new(line))
        });
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let answer = runtime.block_on(answer(router, event("/tree", ""))).expect("an answer");
        let answer = serde_json::to_value(answer).expect("JSON");
        let body: serde_json::Value = serde_json::from_str(answer["body"].as_str().expect("a body")).expect("JSON");
        let id = "JKJaXmPLvHcESHA=";
        assert_eq!((&answer["headers"]["x-request-id"], &body["request_id"]), (&id.into(), &id.into()));
    }

    #[test]
    fn a_path_arrives_as_it_was_asked() {
        for (handed_over, seen) in [
            ("/tree", "/tree"),
            ("/", "/"),
            ("/coreutils/[", "/coreutils/%5B"),
            ("/gcc/c++", "/gcc/c%2B%2B"),
            ("/a%25b", "/a%25b"),
            ("/a?b#c", "/a%3Fb%23c"),
            ("/-/status/a b", "/-/status/a%20b"),
            ("//tree", "//tree"),
            ("/tree/..", "/tree/%252e%252e"),
            ("/.", "/%252e"),
            ("/%2E./tree", "/%252e%252e/tree"),
            ("/a..b", "/a..b"),
            ("/\u{e4}\u{202e}", "/%C3%A4%E2%80%AE"),
            ("/a\\b|\"<>^`{}", "/a%5Cb%7C%22%3C%3E%5E%60%7B%7D"),
        ] {
            assert_eq!(uri(handed_over, ""), seen);
        }
        assert_eq!(uri("/tree", "sys=x86_64-linux&pin=a"), "/tree?sys=x86_64-linux&pin=a");
    }

    #[test]
    fn nothing_that_arrives_is_a_panic() {
        for c in (0..=0x2ff).filter_map(char::from_u32) {
            for text in [format!("{c}"), format!("a{c}b"), format!("%{c}"), format!("//{c}"), format!("/..{c}/")] {
                let seen = uri(&format!("/{text}"), &text);
                assert!(seen.starts_with('/'), "{seen}");
            }
        }
    }
}
