//! The client's address. A server that knows its peer puts the address into the request's extensions, as an [`IpAddr`].
//! Behind a CDN the peer is the CDN, which names the client in a header.

use std::net::IpAddr;

use axum::extract::Request;

/// The header that proves that a request came through the CDN.
const SECRET: &str = "x-binplz-origin-secret";
/// The header by which the CDN names the client.
const VIEWER: &str = "x-binplz-viewer";

/// Replaces the peer's address by the client's. A client can send both headers too, so they count only with the secret that
/// the CDN and this service share. They are removed.
pub(crate) fn believe(secret: Option<&str>, mut request: Request) -> Request {
    let told = request.headers_mut().remove(SECRET);
    let viewer = request.headers_mut().remove(VIEWER);
    let proved = matches!((secret, told), (Some(secret), Some(told)) if same(secret.as_bytes(), told.as_bytes()));
    let viewer = viewer.and_then(|viewer| viewer.to_str().ok()?.parse::<IpAddr>().ok());
    if let Some(viewer) = viewer.filter(|_| proved) {
        request.extensions_mut().insert(viewer);
    }
    request
}

/// Compares in constant time for equal lengths.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{Extension, Router, body::Body, http::HeaderMap};
    use tower::ServiceExt;

    /// What a handler sees of a request from 192.0.2.1 that says it comes from elsewhere: whom, and any header.
    async fn handler(Extension(viewer): Extension<IpAddr>, headers: HeaderMap) -> String {
        headers.keys().fold(viewer.to_string(), |seen, name| format!("{seen} {name}"))
    }

    async fn seen(secret: Option<&str>, headers: &[(&str, &str)]) -> String {
        let request =
            headers.iter().fold(Request::get("/tree"), |request, (name, value)| request.header(*name, *value));
        let peer: IpAddr = "192.0.2.1".parse().expect("an address");
        let request = request.extension(peer).body(Body::empty()).expect("a request");
        let router = crate::behind_cdn(Router::new().fallback(handler), secret);
        let answer = router.oneshot(request).await.expect("an answer");
        let body = axum::body::to_bytes(answer.into_body(), 1000).await.expect("a body");
        String::from_utf8(body.to_vec()).expect("text")
    }

    #[tokio::test]
    async fn a_viewers_address_is_believed_only_with_the_origins_secret() {
        let viewer = (VIEWER, "2001:db8::7");
        assert_eq!(seen(Some("secret"), &[viewer, (SECRET, "secret")]).await, "2001:db8::7");
        for (secret, headers) in [
            (Some("secret"), &[viewer][..]),
            (Some("secret"), &[viewer, (SECRET, "secreT")]),
            (Some("secret"), &[viewer, (SECRET, "secret2")]),
            (Some("secret"), &[viewer, (SECRET, "")]),
            (Some("secret"), &[(VIEWER, "no address"), (SECRET, "secret")]),
            (Some("secret"), &[(SECRET, "secret")]),
            // Without a CDN no header is trusted.
            (None, &[viewer, (SECRET, "")]),
            (None, &[viewer, (SECRET, "secret")]),
            (None, &[viewer]),
        ] {
            assert_eq!(seen(secret, headers).await, "192.0.2.1", "{secret:?} {headers:?}");
        }
    }
}
