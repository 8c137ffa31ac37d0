//! The client's address. A server that knows its peer puts the address into the request's extensions, as an [`IpAddr`].
//! Behind a CDN the peer is the CDN, which names the client in a header.

use std::{net::IpAddr, str::FromStr};

use axum::extract::Request;
use ipnet::IpNet;
use thiserror::Error;

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

/// An address, or a network (`10.0.0.0/8`).
#[derive(Clone, Copy, Debug)]
pub struct Network(IpNet);

/// The text is neither an address nor a network.
#[derive(Clone, Copy, Debug, Error)]
#[error("expected an address or a network, such as 127.0.0.1 or 10.0.0.0/8")]
pub struct NotANetwork;

impl FromStr for Network {
    type Err = NotANetwork;
    fn from_str(s: &str) -> Result<Network, NotANetwork> {
        let one = |address: IpAddr| IpNet::from(address.to_canonical());
        s.parse().or_else(|_| s.parse().map(one)).map(Network).map_err(|_| NotANetwork)
    }
}

impl Network {
    /// Whether an address is in one of these networks.
    pub fn any_has(networks: &[Network], address: IpAddr) -> bool {
        networks.iter().any(|network| network.0.contains(&address.to_canonical()))
    }
}

/// The header to which proxies append the address of their peer.
const FORWARDED: &str = "x-forwarded-for";

/// Replaces the peer's address, if it is one of `proxies`, by the last address in `X-Forwarded-For` that is not one of them.
/// The client may have written the addresses before that.
pub(crate) fn behind(proxies: &[Network], mut request: Request) -> Request {
    let Some(peer) = request.extensions().get::<IpAddr>().copied() else { return request };
    let told = request.headers().get_all(FORWARDED).iter().filter_map(|value| value.to_str().ok());
    let hops: Vec<_> = told.flat_map(|value| value.split(',')).map(|hop| hop.trim().parse::<IpAddr>().ok()).collect();
    let mut viewer = peer;
    for hop in hops.into_iter().rev() {
        match hop.filter(|_| Network::any_has(proxies, viewer)) {
            Some(hop) => viewer = hop,
            None => break,
        }
    }
    request.extensions_mut().insert(viewer);
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
    async fn behind_proxies_the_last_address_that_is_none_of_theirs_is_the_viewers() {
        let proxies: Vec<Network> = ["192.0.2.0/24", "2001:db8::1"].map(|text| text.parse().expect("one")).into();
        for (peer, headers, viewer) in [
            ("192.0.2.1", &["198.51.100.7"][..], "198.51.100.7"),
            ("2001:db8::1", &["2001:db8:2::7"], "2001:db8:2::7"),
            ("::ffff:192.0.2.1", &["198.51.100.7"], "198.51.100.7"),
            // A chain of proxies, in one header or several.
            ("192.0.2.1", &["198.51.100.7, 192.0.2.9"], "198.51.100.7"),
            ("192.0.2.1", &["198.51.100.7", "192.0.2.9"], "198.51.100.7"),
            // What the client wrote itself.
            ("192.0.2.1", &["203.0.113.9, 198.51.100.7"], "198.51.100.7"),
            ("192.0.2.1", &["192.0.2.5, 198.51.100.7"], "198.51.100.7"),
            ("198.51.100.7", &["203.0.113.9"], "198.51.100.7"),
            // What is no address.
            ("192.0.2.1", &["203.0.113.9, unknown"], "192.0.2.1"),
            ("192.0.2.1", &["198.51.100.7, "], "192.0.2.1"),
            ("192.0.2.1", &[], "192.0.2.1"),
        ] {
            let request =
                headers.iter().fold(Request::get("/tree"), |request, value| request.header(FORWARDED, *value));
            let peer: IpAddr = peer.parse().expect("an address");
            let request = request.extension(peer).body(Body::empty()).expect("a request");
            let seen = behind(&proxies, request).extensions().get::<IpAddr>().copied();
            assert_eq!(seen, viewer.parse().ok(), "{peer} {headers:?}");
        }
        for text in ["10.0.0.0/33", "example.com", "", "10.0.0"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
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
