//! What a builder's token opens, on one machine and on AWS: its own build, and nothing else. The test is the builder.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use binplz_core::id::key::hex;

use crate::{
    http::{self, Answer},
    site::Site,
};

/// A lease as its builder was told of it.
pub struct Lease {
    /// Where the builders' endpoint is.
    endpoint: Site,
    /// Its URL's path.
    pub path: String,
    /// Its secret.
    pub token: String,
}

impl Lease {
    /// What is told in `BINPLZ_LEASE_URL` and `BINPLZ_LEASE_TOKEN`; `None` where the URL is another service's.
    pub fn read(site: &Site, url: &str, token: &str) -> Option<Lease> {
        url.starts_with(&format!("{}/", site.origin())).then(|| Lease::at(url, token))
    }

    /// The same of a server on this machine, which has an address for its builders.
    ///
    /// # Panics
    /// The URL is none.
    pub fn at(url: &str, token: &str) -> Lease {
        let rest = url.strip_prefix("http://").expect("a URL of plain http");
        let (address, path) = rest.split_at(rest.find('/').expect("a path"));
        Lease { endpoint: Site::at(address), path: path.to_owned(), token: token.to_owned() }
    }

    /// Uploads an object with a grant for it; the store's answer's status.
    pub fn upload(&self, name: &str, content: &[u8]) -> u16 {
        self.upload_to(name, content, |url| url)
    }

    /// The same, to another URL than was granted.
    pub fn upload_to(&self, name: &str, content: &[u8], other: impl Fn(String) -> String) -> u16 {
        let object = json!([{ "name": name, "size": content.len(), "sha256": hex(&Sha256::digest(content)) }]);
        let granted = self.call("POST", "/uploads", &self.token, &object);
        assert_eq!(granted.status, 200, "{}", granted.text());
        let grant = &granted.json()[0];
        let url = other(grant["url"].as_str().expect("a URL").to_owned());
        http::ask("PUT", &url, &headers(grant), content).status
    }

    /// Says that it has failed, and has offered something to the cache; the answer's status.
    pub fn settle_as_failed(&self, offers: u32) -> u16 {
        let mut report = failed();
        report["stats"]["offers"] = offers.into();
        self.call("POST", "/settle", &self.token, &report).status
    }

    fn call(&self, method: &str, verb: &str, token: &str, body: &Value) -> Answer {
        let authorization = format!("Bearer {token}");
        let headers = [("authorization", authorization.as_str())];
        self.endpoint.send(method, &format!("{}{verb}", self.path), &headers, body.to_string().as_bytes())
    }

    /// `ATTR/LEASE`, as in the names of its objects.
    fn prefix(&self) -> &str {
        let attr = self.path.rsplit('/').nth(1).expect("an attribute");
        &self.path[self.path.rfind(attr).expect("it is there")..]
    }
}

/// What a grant's URL is to be used with, beside what every client says by itself: its body's length.
fn headers(grant: &Value) -> Vec<(&str, &str)> {
    let pairs = grant["headers"].as_array().into_iter().flatten();
    let pairs = pairs.filter_map(|pair| Some((pair[0].as_str()?, pair[1].as_str()?)));
    pairs.filter(|(name, _)| *name != "content-length").collect()
}

const PROGRAM: &[u8] = b"bad";

fn object() -> Value {
    json!([{ "name": "bin/tree", "size": PROGRAM.len(), "sha256": hex(&Sha256::digest(PROGRAM)) }])
}

fn progress() -> Value {
    json!({ "phase": "building", "done": 0, "expected": 1, "bytes_fetched": 0, "log_segments": 0 })
}

fn checkpoint() -> Value {
    json!({ "parts": 1 })
}

fn failed() -> Value {
    json!({ "outcome": { "failed": { "kind": "build-failed" } }, "stats": { "derivations": 1, "log_segments": 0 } })
}

fn built() -> Value {
    let programs =
        [json!({ "bin": "tree", "verdict": "static", "sha256": hex(&Sha256::digest(PROGRAM)), "size": PROGRAM.len() })];
    json!({ "outcome": { "built": { "pname": "tree", "version": "1", "drv_path": "x", "programs": programs } },
        "stats": { "derivations": 1, "log_segments": 0 } })
}

/// `a` is a live lease of `tree`, `b` one of `hello`; `cache`: builders share one. Afterwards a's build has failed, by its own word.
pub fn a_token_opens_its_own_build_and_nothing_else(site: &Site, a: &Lease, b: &Lease, cache: bool) {
    let nothing = json!({});
    for (method, verb, body) in [
        ("GET", "", &nothing),
        ("POST", "/pulse", &progress()),
        ("POST", "/uploads", &object()),
        ("POST", "/checkpoint", &checkpoint()),
        ("POST", "/settle", &failed()),
    ] {
        assert_eq!(b.call(method, verb, &a.token, body).status, 401, "{verb} with another's token");
        assert_eq!(b.call(method, verb, "", body).status, 401, "{verb} without a token");
        assert_eq!(b.call(method, verb, &"0".repeat(64), body).status, 401, "{verb} with a guess");
        // A's lease under B's build is not a lease.
        let mixed =
            Lease { endpoint: b.endpoint.clone(), path: b.path.replace("/hello/", "/tree/"), token: a.token.clone() };
        assert_eq!(mixed.call(method, verb, &a.token, body).status, 409, "{verb} of no lease");
    }
    assert_eq!(site.status("hello")["state"], "building");
    assert_eq!(site.status("tree")["state"], "building");

    // Its own objects: programs and log segments, nothing else, no way out.
    let allowed = |name: &str| {
        let object = json!([{ "name": name, "size": 3, "sha256": "0".repeat(64) }]);
        let status = a.call("POST", "/uploads", &a.token, &object).status;
        assert!([200, 400, 403].contains(&status), "{name}: {status}");
        status == 200
    };
    for name in ["manifest.json", "../../x", "bin/../../hello", "/etc/passwd", "bin/", "log/0", "partial/000001"] {
        assert!(!allowed(name), "{name}");
    }
    assert_eq!(a.call("POST", "/checkpoint", &a.token, &checkpoint()).status, 403, "it is for catalogues");
    // Blobs and references to them are the service's.
    for name in ["blob", "ref", "new"] {
        assert!(!allowed(&format!("{name}/{}", "0".repeat(64))), "{name}");
    }
    // What it offers to a cache, where there is one: by the name of its content, and nothing else that a cache has.
    let (nar, narinfo) = (format!("nar/{}.nar.gz", "0".repeat(64)), format!("{}.narinfo", "0".repeat(32)));
    for name in [nar, narinfo] {
        assert_eq!(allowed(&name), cache, "{name}");
    }
    let other = format!("nar/{}.nar.gz", "1".repeat(64));
    for name in [&other, "plan.json", "cache/nix-cache-info", "public-key"] {
        assert!(!allowed(name), "{name}");
    }
    // The very bytes that were announced, in the very place.
    let granted = a.call("POST", "/uploads", &a.token, &object());
    assert_eq!(granted.status, 200, "{}", granted.text());
    let grant = granted.json()[0].clone();
    let good = grant["url"].as_str().expect("a URL");
    let headers = headers(&grant);
    let put = |url: &str, body: &[u8]| http::ask("PUT", url, &headers, body).status;
    for (url, body) in [
        (good.to_owned(), &b"BAD"[..]),
        (good.to_owned(), &b"bad!"[..]),
        (good.replace("size=3", "size=4"), b"bad!"),
        (good.replace(a.prefix(), b.prefix()), PROGRAM),
        (good.replace("/tree/", "/hello/"), PROGRAM),
        (good.replacen(&hex(&Sha256::digest(PROGRAM)), &"0".repeat(64), 1), PROGRAM),
    ] {
        // The URL of a blob may not name its attempt.
        if url == good && body == PROGRAM {
            continue;
        }
        let refused = put(&url, body);
        assert!([400, 403].contains(&refused), "{url}: {refused}");
    }
    // What it says it has stored and has not is not believed.
    assert_eq!(a.call("POST", "/settle", &a.token, &built()).status, 400);
    assert_eq!(site.status("tree")["state"], "building");
    assert!([200, 201, 204].contains(&put(good, PROGRAM)), "it was a good one");

    // With its own token its word counts, once or twice; then its lease is over.
    for _ in 0..2 {
        assert_eq!(a.call("POST", "/settle", &a.token, &failed()).status, 200);
        assert_eq!(site.status("tree")["state"], "failed");
    }
    assert_eq!(a.call("POST", "/settle", &a.token, &built()).status, 409);
    assert_eq!(a.call("POST", "/uploads", &a.token, &object()).status, 409);
    assert_eq!(site.status("tree")["failure"]["kind"], "build-failed");
}

/// `lease`, of `tree`, has lapsed, and its build waits to be tried again.
pub fn a_lease_that_is_over_is_not_heard(site: &Site, lease: &Lease) {
    let calls = [("/settle", failed()), ("/pulse", progress()), ("/uploads", object()), ("/checkpoint", checkpoint())];
    for (verb, body) in calls {
        assert_eq!(lease.call("POST", verb, &lease.token, &body).status, 409, "{verb}");
    }
    let status = site.status("tree");
    assert_eq!((&status["state"], &status["attempt"]), (&"queued".into(), &2.into()), "{status}");
    assert_eq!(status["failure"]["kind"], "lost-heartbeat");
}
