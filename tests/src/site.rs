//! A running binplz as its users see it, wherever it runs: one URL, and what they ask it.

use std::{
    io,
    net::IpAddr,
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{
    http::{self, Answer},
    openapi,
};

/// How long anything may take before a test gives up; nothing is asserted about how long it takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);

/// A stub without what depends on the moment: the state of its program.
pub fn without_state(stub: &[u8]) -> String {
    let text = String::from_utf8_lossy(stub);
    text.lines().filter(|line| !line.starts_with("# State: ")).map(|line| format!("{line}\n")).collect()
}

/// A deployment's clients' side.
#[derive(Clone, Debug)]
pub struct Site {
    /// `127.0.0.1:PORT`.
    pub address: String,
    from: Option<IpAddr>,
}

impl Site {
    /// The one at `127.0.0.1:PORT`.
    pub fn at(address: impl Into<String>) -> Site {
        Site { address: address.into(), from: None }
    }

    /// The same, asked from that address: one of this machine's, of which 127.0.0.0/8 has many.
    #[must_use]
    pub fn asked_from(&self, address: &str) -> Site {
        Site { from: Some(address.parse().expect("an address")), ..self.clone() }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `GET`, as curl would.
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[("accept", "*/*")], b"")
    }

    /// The same, of a service that may be gone for a moment, or of which only the gateway may be there.
    ///
    /// # Errors
    /// The connection's.
    pub fn try_get(&self, path: &str) -> io::Result<Answer> {
        http::send(self.from, &self.address, "GET", path.as_bytes(), &[("accept", "*/*")], b"")
    }

    /// Any request; the code that answers it says so with a request's id, and what it says is in the OpenAPI document.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let answer = http::send(self.from, &self.address, method, path.as_bytes(), headers, body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        assert!(answer.header("x-request-id").is_some(), "{method} {path}: {answer:?}");
        openapi::assert_told(method, path, &answer);
        answer
    }

    /// The status document.
    pub fn status(&self, target: &str) -> serde_json::Value {
        self.send("GET", &format!("/-/status/{target}"), &[("accept", "application/json")], b"").json()
    }

    /// Asks for a target and waits until it is neither queued nor building; the answer that it then gets.
    pub fn settled(&self, target: &str) -> Answer {
        wait_for(target, || Some(self.get(&format!("/{target}"))).filter(|answer| answer.status != 202))
    }

    /// The binary behind a target that is served: where the redirect leads.
    pub fn download(&self, target: &str) -> Vec<u8> {
        let hit = self.get(&format!("/{target}"));
        assert_eq!(hit.status, 302, "{target}: {}", hit.text());
        let url = hit.header("location").expect("a location");
        let file = http::ask("GET", url, &[], b"");
        assert_eq!(file.status, 200, "{url}");
        file.body
    }
}

/// Waits until `look` sees something, looking often; panics after a long time.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(started.elapsed() < PATIENCE, "waited too long for {what}");
        sleep(Duration::from_millis(20));
    }
}
