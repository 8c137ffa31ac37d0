//! The outcome table with real clients: each reason that can be had on one machine, in each column.

use std::{fs, path::Path};

use binplz_core::answer::outcomes::{Client, OUTCOMES, Reason, Shows};
use binplz_tests::{
    gate::Gate,
    server::{Server, fresh_set, program},
    site::wait_for,
};

use super::{
    machine::{Client as Fetcher, Machine, Shell},
    sh, text,
};

/// The message of an answer for a target, up to the seconds that it counts down.
fn message(server: &Server, target: &str) -> String {
    let problem = server.send("GET", &format!("/{target}"), &[("accept", "application/json")], b"");
    let json = problem.json();
    match json["choices"].is_array() {
        true => "this package has several programs; request one of: ".to_owned(),
        false => {
            let detail = json["detail"].as_str().unwrap_or_default();
            detail.split("; it can be tried again in ").next().unwrap_or_default().to_owned()
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
            let number = ["40", "42", "45", "50"].iter().any(|number| shown.contains(number));
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

fn shown(server: &Server, stub: &[u8], client: Client, reason: Reason, target: &str, message: &str) -> Shows {
    let dir = tempfile::tempdir().expect("a directory");
    let (origin, query) = (server.origin(), if target.contains('?') { '&' } else { '?' });
    let url = format!("'{origin}/{target}'");
    match client {
        Client::Curl => saved(dir.path(), &format!("curl -sSL {url} -o f"), message),
        Client::Strict => saved(dir.path(), &format!("curl -sSfL {url} -o f"), message),
        Client::Retries => {
            let url = format!("'{origin}/{target}{query}retry'");
            let line = format!("curl -sSL --retry 2 --retry-max-time 1 --fail-with-body {url} -o f");
            match saved(dir.path(), &line, message) {
                Shows::Status if reason == Reason::Pending => Shows::Waits,
                Shows::Status => Shows::Retries,
                shows => shows,
            }
        }
        Client::Wget => {
            let shows = saved(dir.path(), &format!("busybox wget {url} -O f"), message);
            assert_eq!(saved(dir.path(), &format!("wget -nv {url} -O f"), message), shows, "{target}");
            shows
        }
        Client::Stub => {
            let made = text(stub).replace("'tree' 'tree'", &format!("'{target}' 'tree'"));
            run(made.as_bytes(), message)
        }
        Client::Installer => run(&server.get(&format!("/-/install/{target}")).body, message),
        Client::Page => {
            // Only the page's button starts a build.
            let (method, path) = match reason {
                Reason::Allowance | Reason::Paused => ("POST", format!("/-/build/{target}")),
                _ => ("GET", format!("/{target}")),
            };
            let page = server.send(method, &path, &[("accept", "text/html")], b"").text();
            let plain = page.replace("&#39;", "'").replace("&quot;", "\"").replace("&#34;", "\"");
            let words = message.split(['<', '>', '&']).next().unwrap_or_default();
            if !message.is_empty() && plain.contains(words) { Shows::Message } else { Shows::Document }
        }
        Client::Json => {
            let json = server.send("GET", &format!("/{target}"), &[("accept", "application/json")], b"").json();
            let told = json["detail"].as_str().is_some_and(|detail| detail.starts_with(message));
            if told || json["choices"].is_array() { Shows::Message } else { Shows::Document }
        }
    }
}

fn check(server: &Server, stub: &[u8], cases: &[(Reason, &str)]) {
    for (reason, target) in cases {
        let outcome = reason.outcome();
        let message = message(server, target);
        for (client, _) in Client::ALL {
            let expected = client.shows(*reason);
            if expected == Shows::NotSent || (*reason == Reason::Choice && client == Client::Page) {
                continue;
            }
            let shows = shown(server, stub, client, *reason, target, &message);
            assert_eq!(shows, expected, "{} {client:?}", outcome.name);
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
        ("failing.wrongMain", 422),
        ("failing.diskFull", 503),
    ] {
        assert_eq!(server.settled(target).status, status, "{target}");
    }
    operator(&["takedown", "dash", "--why", "its authors ask for it", "--yes"]);
    assert_eq!(server.get("/failing.gated").status, 202);
    gate.arrived();
    let stub = server.get("/tree").body;
    let cases = [
        (Reason::Built, "tree"),
        (Reason::Pending, "failing.gated"),
        (Reason::Choice, "moreutils"),
        (Reason::Unserved, "tree?pin=absent"),
        (Reason::Unknown, "failing.nosuch"),
        (Reason::Refused, "failing.broken"),
        (Reason::BuildFailed, "failing.compileError"),
        (Reason::NotServable, "failing.wrongMain"),
        (Reason::TakenDown, "dash"),
        (Reason::CoolingDown, "failing.diskFull"),
    ];
    check(&server, &stub, &cases);
    operator(&["pause", "--drain", "--yes"]);
    check(&server, &stub, &[(Reason::Paused, "lz4")]);
    gate.open();
    // What no client of the table asks for, and what needs a service that is broken or of another kind.
    let elsewhere = [
        Reason::Waiting,
        Reason::Invalid,
        Reason::UnknownKey,
        Reason::CrossSite,
        Reason::Unbuilt,
        Reason::Method,
        Reason::LongWait,
        Reason::Host,
        Reason::Allowance,
        Reason::Defect,
        Reason::DownloadLimit,
        Reason::Unavailable,
    ];
    assert_eq!(cases.len() + 1 + elsewhere.len(), OUTCOMES.len());
}

#[test]
fn an_allowance_that_is_used_up_is_told_by_each_client() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(&binplz_tests::server::demo_set(), data.path(), &["--client-builds", "1"]);
    assert_eq!(server.settled("tree").status, 302);
    let stub = server.get("/tree").body;
    check(&server, &stub, &[(Reason::Allowance, "lz4")]);
}
