//! The outcome table with real clients: each reason, in each column.

use std::{fs, net::TcpListener, os::unix::fs::symlink, path::Path, thread};

use axum::Router;
use binplz_core::answer::{
    outcomes::{Client, OUTCOMES, RETRY_MAX, Reason, Retry, Shows},
    stub,
};
use binplz_tests::{
    gate::Gate,
    http::{Answer, send},
    server::{Server, demo_set, fresh_set, program},
    site::{Site, wait_for},
    world::{World, target},
};

use super::{
    machine::{Client as Fetcher, Machine, Shell},
    sh, text,
};

/// A request that is answered for a reason.
#[derive(Clone, Copy)]
struct Ask<'a> {
    reason: Reason,
    method: &'a str,
    /// Path and query, without the first slash.
    target: &'a str,
    headers: &'a [(&'a str, &'a str)],
    /// The host in the URL. 0.0.0.0 leads here too.
    host: &'a str,
}

/// The usual request for a target.
fn ask(reason: Reason, target: &str) -> Ask<'_> {
    Ask { reason, method: "GET", target, headers: &[], host: "127.0.0.1" }
}

impl Ask<'_> {
    /// A text of the server's, with this URL's origin.
    fn here(&self, text: &str) -> String {
        text.replace("127.0.0.1", self.host)
    }

    fn send(&self, site: &Site, method: &str, path: &str, accept: &str) -> Answer {
        let host = self.here(&site.address);
        let headers: Vec<_> =
            [("host", host.as_str()), ("accept", accept)].iter().chain(self.headers).copied().collect();
        send(None, &site.address, method, path.as_bytes(), &headers, b"").expect("an answer")
    }

    fn json(&self, site: &Site) -> serde_json::Value {
        self.send(site, self.method, &format!("/{}", self.target), "application/json").json()
    }

    /// The message, up to the seconds that it counts down.
    fn message(&self, site: &Site) -> String {
        let json = self.json(site);
        match json["choices"].is_array() {
            true => "his package has several programs".to_owned(),
            false => {
                let detail = json["detail"].as_str().unwrap_or_default();
                // A defect has the id of its request.
                let varies = ["; try again in ", "; the operator finds the cause in "];
                varies.iter().fold(detail, |detail, tail| detail.split(tail).next().unwrap_or_default()).to_owned()
            }
        }
    }

    /// What the client of a column shows of the reason, by the table.
    fn expected(&self, site: &Site, client: Client) -> Shows {
        let soon = || {
            let json = self.json(site);
            json["retry_at"].is_string() && json["retry_after"].as_u64().is_some_and(|seconds| seconds <= RETRY_MAX)
        };
        match client {
            // Shortly before midnight it is worth to poll.
            Client::Retries if self.reason.outcome().retry == Retry::AtDate && soon() => Shows::Retries,
            client => client.shows(self.reason),
        }
    }
}

/// What a line of curl or wget has saved and shown.
fn saved(dir: &Path, line: &str, message: &str) -> Shows {
    let out = sh(dir, line);
    let (content, shown) = (fs::read(dir.join("f")).unwrap_or_default(), text(&out.stderr));
    match content.as_slice() {
        b"" => {
            assert_ne!(out.status.code(), Some(0), "{line}");
            // GNU wget has words of its own for 401.
            let number = ["40", "42", "45", "50", "Authentication Failed"].iter().any(|number| shown.contains(number));
            assert!(number, "{line}: {shown}");
            Shows::Status
        }
        elf if elf.starts_with(b"\x7fELF") => Shows::Program,
        stub if stub.starts_with(b"#!/bin/sh\n") => Shows::Stub,
        saved => {
            let run = sh(dir, "sh ./f");
            let said = text(&run.stderr);
            assert_eq!(run.status.code(), Some(1), "{line}: {}", text(saved));
            assert!(!message.is_empty() && said.contains(message), "{line}: {said}, not {message}");
            Shows::Message
        }
    }
}

/// What one of our scripts shows of a target.
fn run(script: &[u8], message: &str) -> Shows {
    let machine = Machine::new(Shell::Dash, Fetcher::BusyboxWget, Some("sha256sum"));
    machine.save("f", script);
    let shim = machine.replace("wget", "exec $real \"$@\"");
    let mut running = machine.start("exec sh ./f");
    // It ends by itself, or goes on asking: a script that does not wait calls wget five times at most.
    let waits = wait_for("a script to end, or to wait", || {
        let waits = shim.calls() > 6;
        (waits || running.is_over()).then_some(waits)
    });
    if waits {
        running.signal("TERM");
    }
    let (said, (code, _)) = (running.said(), running.end());
    match code {
        Some(0) => Shows::Program,
        Some(143) => Shows::Waits,
        _ => {
            assert!(code == Some(1) && !message.is_empty() && said.contains(message), "{said}, not {message}");
            Shows::Message
        }
    }
}

fn shown(site: &Site, stub: &[u8], client: Client, ask: &Ask, message: &str) -> Shows {
    let dir = tempfile::tempdir().expect("a directory");
    let Ask { reason, method, target, headers, .. } = *ask;
    let (origin, query) = (ask.here(&site.origin()), if target.contains('?') { '&' } else { '?' });
    let url = format!("'{origin}/{target}'");
    let options = |post: &str, header: &str| -> String {
        let headers = headers.iter().map(|(name, value)| format!(" {header} '{name}: {value}'"));
        [if method == "POST" { post } else { "" }.to_owned()].into_iter().chain(headers).collect()
    };
    let (curl, wget) = (options(" -X POST", "-H"), options(" --post-data x", "--header"));
    match client {
        Client::Curl => saved(dir.path(), &format!("curl -sSL{curl} {url} -o f"), message),
        Client::Strict => saved(dir.path(), &format!("curl -sSfL{curl} {url} -o f"), message),
        Client::Retries => {
            let url = format!("'{origin}/{target}{query}retry'");
            let line = format!("curl -sSL{curl} --retry 2 --retry-max-time 1 --fail-with-body {url} -o f");
            match saved(dir.path(), &line, message) {
                Shows::Status if reason == Reason::Pending => Shows::Waits,
                Shows::Status => Shows::Retries,
                shows => shows,
            }
        }
        Client::Wget => {
            let shows = saved(dir.path(), &format!("busybox wget{wget} {url} -O f"), message);
            assert_eq!(saved(dir.path(), &format!("wget -nv{wget} {url} -O f"), message), shows, "{target}");
            shows
        }
        Client::Stub => {
            let made = ask.here(&text(stub)).replace("'tree' 'tree'", &format!("'{target}' 'tree'"));
            run(made.as_bytes(), message)
        }
        Client::Installer => {
            let script = ask.send(site, "GET", &format!("/-/install/{target}"), "*/*").text();
            run(ask.here(&script).as_bytes(), message)
        }
        Client::Page => {
            // Only the page's button starts a build.
            let (method, path) = match reason {
                Reason::Allowance | Reason::Paused | Reason::UnknownKey => ("POST", format!("/-/build/{target}")),
                _ => (method, format!("/{target}")),
            };
            let page = ask.send(site, method, &path, "text/html").text();
            let plain = page.replace("&#39;", "'").replace("&quot;", "\"").replace("&#34;", "\"");
            let words = message.split(['<', '>', '&']).next().unwrap_or_default();
            if !message.is_empty() && plain.contains(words) { Shows::Message } else { Shows::Document }
        }
        Client::Json => {
            let json = ask.json(site);
            let told = json["detail"].as_str().is_some_and(|detail| detail.starts_with(message));
            if told || json["choices"].is_array() { Shows::Message } else { Shows::Document }
        }
    }
}

fn check(site: &Site, stub: &[u8], asks: &[Ask]) {
    for ask in asks {
        let name = ask.reason.outcome().name;
        let message = match ask.reason {
            Reason::Unbuilt => "program has not been requested yet".to_owned(),
            _ => ask.message(site),
        };
        for (client, _) in Client::ALL {
            let expected = ask.expected(site, client);
            if expected == Shows::NotSent {
                continue;
            }
            assert_eq!(shown(site, stub, client, ask, &message), expected, "{name} {client:?}");
        }
    }
}

#[test]
fn each_client_shows_of_each_reason_what_the_outcome_table_says() {
    let (gate, data) = (Gate::new("gated"), tempfile::tempdir().expect("a temporary directory"));
    let set = fresh_set(&gate.package());
    let at = data.path().join("data");
    let server = Server::start(set.path(), &at, &["--attempts", "1", "--cool-down", "600", "--jobs", "4"]);
    let operator = |arguments: &[&str]| {
        let out = std::process::Command::new(program("binplz")).args(arguments).arg("--data").arg(&at).output();
        let out = out.expect("binplz");
        assert!(out.status.success(), "{arguments:?}: {}", text(&out.stderr));
    };
    for (target, status) in [
        ("tree", 302),
        ("dash", 302),
        ("moreutils", 300),
        ("failing.nosuch", 404),
        ("failing.broken", 422),
        ("failing.compileError", 422),
        // The installer tries the bundles of these two, and there are none.
        ("-/bundle/failing.broken", 404),
        ("-/bundle/failing.compileError", 404),
        ("failing.wrongMain", 422),
        ("failing.diskFull", 503),
    ] {
        assert_eq!(server.settled(target).status, status, "{target}");
    }
    operator(&["takedown", "dash", "--why", "its authors ask for it", "--yes"]);
    assert_eq!(server.get("/failing.gated").status, 202);
    gate.arrived();
    let stub = server.get("/tree").body;
    let asks = [
        ask(Reason::Built, "tree"),
        ask(Reason::Pending, "failing.gated"),
        ask(Reason::Choice, "moreutils"),
        ask(Reason::Invalid, "tree?sys=pdp11-linux"),
        ask(Reason::Unserved, "tree?pin=absent"),
        Ask { headers: &[("Authorization", "Bearer 0123")], ..ask(Reason::UnknownKey, "lz4") },
        Ask { method: "POST", headers: &[("Sec-Fetch-Site", "cross-site")], ..ask(Reason::CrossSite, "-/build/lz4") },
        ask(Reason::Unknown, "failing.nosuch"),
        ask(Reason::Unbuilt, "lz4"),
        Ask { method: "POST", ..ask(Reason::Method, "tree") },
        Ask { host: "0.0.0.0", ..ask(Reason::Host, "tree") },
        ask(Reason::Refused, "failing.broken"),
        ask(Reason::BuildFailed, "failing.compileError"),
        ask(Reason::NotServable, "failing.wrongMain"),
        ask(Reason::TakenDown, "dash"),
        ask(Reason::CoolingDown, "failing.diskFull"),
    ];
    check(&server, &stub, &asks);
    operator(&["pause", "--drain", "--yes"]);
    let paused = [ask(Reason::Paused, "lz4"), ask(Reason::LongWait, "lz4")];
    check(&server, &stub, &paused);
    gate.open();
    // The next tests.
    let elsewhere = [Reason::Allowance, Reason::DownloadLimit, Reason::Waiting, Reason::Defect, Reason::Unavailable];
    assert_eq!(asks.len() + paused.len() + elsewhere.len(), OUTCOMES.len());
}

#[test]
fn a_download_limit_is_told_by_each_client() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let start = |options: &[&str]| Server::start(&demo_set(), data.path(), options);
    let mut server = start(&[]);
    assert_eq!(server.settled("tree").status, 302);
    let stub = text(&server.get("/tree").body).replace(&server.origin(), "ORIGIN");
    server.kill();
    let server = start(&["--egress", "1"]);
    wait_for("the ceiling", || (server.get("/tree").status == 503).then_some(()));
    check(&server, stub.replace("ORIGIN", &server.origin()).as_bytes(), &[ask(Reason::DownloadLimit, "tree")]);
}

#[test]
fn an_allowance_that_is_used_up_is_told_by_each_client() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(&demo_set(), data.path(), &["--client-builds", "1"]);
    assert_eq!(server.settled("tree").status, 302);
    let stub = server.get("/tree").body;
    check(&server, &stub, &[ask(Reason::Allowance, "lz4")]);
}

#[test]
fn each_client_that_waits_gets_the_program() {
    let gates = ["one", "two", "three", "four", "five"].map(Gate::new);
    let (set, data) =
        (fresh_set(&gates.iter().map(Gate::package).collect::<String>()), tempfile::tempdir().expect("one"));
    let server = Server::start(set.path(), data.path(), &["--jobs", "4"]);
    let url = |gate: &Gate| format!("'{}/{}?wait'", server.origin(), gate.target());
    let [curl, strict, busybox, wget, json] = &gates;
    for (gate, client, line) in [
        (curl, Client::Curl, format!("curl -sSL {} -o f", url(curl))),
        (strict, Client::Strict, format!("curl -sSfL {} -o f", url(strict))),
        (busybox, Client::Wget, format!("busybox wget {} -O f", url(busybox))),
        (wget, Client::Wget, format!("wget -nv {} -O f", url(wget))),
    ] {
        let dir = tempfile::tempdir().expect("a directory");
        let shown = thread::scope(|threads| {
            // The client's own request starts the build, which goes on when that has been answered by a redirect.
            threads.spawn(|| {
                gate.arrived();
                gate.open();
            });
            saved(dir.path(), &line, "")
        });
        assert_eq!(shown, client.shows(Reason::Waiting), "{line}");
    }
    let asked = [("accept", "application/json")];
    let hop = server.send("GET", &format!("/{}?wait", json.target()), &asked, b"");
    assert!(hop.status == Reason::Waiting.status() && hop.json()["next"].is_string(), "{hop:?}");
    assert_eq!(Client::Json.shows(Reason::Waiting), Shows::Document);
}

#[test]
fn a_service_that_has_a_problem_says_so_to_each_client() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(&demo_set(), data.path(), &[]);
    let hit = server.settled("tree");
    let file = data.path().join("objects/blobs").join(hit.header("x-binplz-sha256").expect("a hit"));
    // The file system has an answer for this path that is neither a file nor none.
    fs::remove_file(&file).and_then(|()| symlink(&file, &file)).expect("a link to itself");
    check(&server, &hit.body, &[ask(Reason::Unavailable, "tree")]);
}

/// A service in which each request runs into a bug, behind the layers of every deployment.
fn of_bugs() -> Site {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let site = Site::at(listener.local_addr().expect("an address").to_string());
    listener.set_nonblocking(true).expect("a socket");
    let routes = Router::new().fallback(async || -> &'static str { panic!("a bug") });
    let routes = binplz_web::with_request_ids(binplz_web::catch_panics(routes, World::new()));
    thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async { axum::serve(tokio::net::TcpListener::from_std(listener)?, routes).await })
    });
    site
}

#[test]
fn a_defect_is_told_by_each_client() {
    let site = of_bugs();
    let stub = stub::stub(&site.origin(), &target("tree"), "built", false);
    check(&site, stub.as_bytes(), &[ask(Reason::Defect, "tree")]);
}
