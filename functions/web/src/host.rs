//! The `Host` of requests. A page can make its own name resolve to a loopback address (DNS rebinding), and then reads and
//! posts as if it were this service's own page. The `Host` of its requests is still its own name.

use std::net::IpAddr;

use axum::{extract::Request, http::header};

/// The names that a service answers to.
#[derive(Clone, Debug)]
pub struct Hosts(Vec<String>);

impl Hosts {
    /// The host of `origin`, and these others. `None`, and every request is answered, if the origin is public and no
    /// others are named: what a page of another name can reach then, everyone can reach.
    pub fn of(origin: &str, others: &[String]) -> Option<Hosts> {
        let own = name(origin.split_once("://").map_or(origin, |(_, authority)| authority));
        let checked = is_loopback(&own) || !others.is_empty();
        checked.then(|| Hosts(others.iter().map(|other| name(other)).chain([own]).collect()))
    }

    /// Whether a request is for this service. Loopback names are always its own: no page has one. A request without a
    /// `Host` comes from no browser.
    pub(crate) fn include(&self, request: &Request) -> bool {
        let host = match (request.uri().authority(), request.headers().get(header::HOST)) {
            (Some(authority), _) => name(authority.as_str()),
            (None, Some(host)) => name(&String::from_utf8_lossy(host.as_bytes())),
            (None, None) => return true,
        };
        is_loopback(&host) || self.0.contains(&host)
    }
}

/// An authority's host, without its port, and without the brackets of an IPv6 address.
fn name(authority: &str) -> String {
    let host = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    host.trim_end_matches('.').to_ascii_lowercase()
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn include(hosts: &Hosts, uri: &str, host: Option<&str>) -> bool {
        let request = host.into_iter().fold(Request::get(uri), |request, host| request.header("host", host));
        hosts.include(&request.body(Body::empty()).expect("a request"))
    }

    #[test]
    fn a_request_for_another_host_is_not_this_services() {
        let hosts = Hosts::of("http://127.0.0.1:8080", &["Box.lan".to_owned()]).expect("a local origin");
        for own in
            ["127.0.0.1:8080", "localhost:8080", "LOCALHOST", "localhost.", "[::1]:80", "127.3.4.5", "box.lan:80"]
        {
            assert!(include(&hosts, "/tree", Some(own)), "{own}");
        }
        for other in [
            "evil.example",
            "evil.example:8080",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "",
            "10.0.0.1",
            "x@127.0.0.1:80@evil",
        ] {
            assert!(!include(&hosts, "/tree", Some(other)), "{other}");
        }
        // What stands in the request's line counts, as HTTP has it.
        assert!(!include(&hosts, "http://evil.example/tree", Some("127.0.0.1:8080")));
        assert!(include(&hosts, "http://127.0.0.1/tree", Some("evil.example")));
        assert!(include(&hosts, "/tree", None));
    }

    #[test]
    fn a_public_service_checks_hosts_only_if_it_was_told_its_names() {
        assert!(Hosts::of("https://binplz.example", &[]).is_none());
        let hosts = Hosts::of("https://binplz.example", &["www.binplz.example".to_owned()]).expect("names");
        for (host, own) in [("binplz.example", true), ("www.binplz.example:443", true), ("evil.example", false)] {
            assert_eq!(include(&hosts, "/", Some(host)), own, "{host}");
        }
    }
}
