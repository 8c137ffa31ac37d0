//! A client's allowance belongs to its address; no header that a client sends changes that.

use binplz_core::build::policy::Policy;

use super::{Running, Start, quick};
use crate::{http::Answer, server::demo_set, site::Site};

/// The headers with which a client claims another address: at `as_if`.
fn forged(as_if: &str) -> Vec<Vec<(&'static str, String)>> {
    let one = |name, value: &str| vec![(name, value.to_owned())];
    let chain = format!("203.0.113.9, {as_if}");
    let mut all = vec![
        one("X-Forwarded-For", &chain),
        one("X-Forwarded-For", &format!("{as_if}, 127.0.0.1")),
        vec![("X-Forwarded-For", as_if.to_owned()), ("X-Forwarded-For", "203.0.113.9".to_owned())],
        one("Forwarded", &format!("for={as_if};proto=https, for=203.0.113.9")),
        one("CloudFront-Viewer-Address", &format!("{as_if}:4711")),
        // Where a CDN stands in front, it says so, and who it is.
        vec![("X-Binplz-Viewer", as_if.to_owned()), ("X-Binplz-Origin-Secret", String::new())],
        vec![("X-Binplz-Viewer", as_if.to_owned()), ("X-Binplz-Origin-Secret", "guess".to_owned())],
    ];
    let names =
        ["X-Forwarded-For", "X-Real-IP", "X-Client-IP", "CF-Connecting-IP", "True-Client-IP", "Via", "X-Binplz-Viewer"];
    all.extend(names.map(|name| one(name, as_if)));
    all
}

/// Asks for a program with such headers.
fn asks(site: &Site, path: &str, headers: &[(&'static str, String)]) -> Answer {
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    site.send("GET", path, &headers, b"")
}

fn is_refused(answer: &Answer) {
    let seconds = answer.header("retry-after").and_then(|seconds| seconds.parse::<u64>().ok());
    assert!(answer.status == 429 && seconds.is_some_and(|s| (1..=86_400).contains(&s)), "{answer:?}");
    assert!(
        answer.text().contains("the limit of one new build a day from your address is reached"),
        "{}",
        answer.text()
    );
}

/// A client with an allowance of one. Another client's allowance is separate, whichever headers either of them sends.
pub fn has_an_allowance_of_its_own(site: &Site, other: &Site, own: &str, others: &str) {
    let [mut first, forged_mine] = [forged(others), forged(own)];
    // Not at the other's expense.
    assert_eq!(asks(site, "/tree", &first.remove(0)).status, 202);
    for headers in &first {
        is_refused(&asks(site, "/dash", headers));
    }
    is_refused(&site.get("/dash"));
    is_refused(&site.send("POST", "/-/build/dash", &[("accept", "*/*")], b""));
    // A build that another client started costs nothing, and a known failure is answered.
    assert_eq!((site.status("dash")["state"].as_str(), site.get("/tree").status == 429), (Some("unasked"), false));
    assert_eq!(asks(other, "/dash", &forged_mine[0]).status, 202);
    for headers in &forged_mine {
        is_refused(&asks(other, "/lz4", headers));
    }
}

pub fn whatever_a_client_writes_into_its_headers_its_allowance_is_that_of_its_address(at: &impl Start) {
    let policy = Policy { client_builds: Some(1), ..quick() };
    let site = at.start(&demo_set(), &policy);
    let [one, other] = ["127.0.0.2", "127.0.0.3"];
    has_an_allowance_of_its_own(&site.asked_from(one), &site.asked_from(other), one, other);
    for target in ["tree", "dash"] {
        assert_eq!(site.settled(target).status, 302, "{target}");
    }
    assert_eq!((site.builders().len(), site.status("lz4")["state"].as_str()), (2, Some("unasked")));
}
