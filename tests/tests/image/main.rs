//! The builder's image, run for real, as Fargate would run it. `scripts/image test` makes the image and the network that this
//! takes; `cargo test` alone leaves it out.

mod endpoint;
mod task;

use std::process::Command;

use binplz_tests::server::{demo_set, fresh_set, write_program};

use crate::{endpoint::Endpoint, task::Deployment};

/// Runs a program that was served.
fn run(program: &[u8], args: &[&str]) -> String {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("program");
    write_program(&path, program);
    let output = Command::new(&path).args(args).output().expect("a program for this machine");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
#[ignore = "run by scripts/image test"]
fn a_build_in_the_image_becomes_ready_and_is_served() {
    let deployment = Deployment::start(&demo_set(), &[]);
    let answer = deployment.server.settled("tree");
    assert_eq!(answer.status, 302, "{}\n{}", answer.text(), deployment.server.get("/-/log/tree").text());
    assert!(run(&deployment.server.download("tree"), &["--version"]).starts_with("tree v"));
    let log = deployment.server.get("/-/log/tree").text();
    assert!(log.contains("by Nix 2.2"), "it was built by the image's Nix: {log}");
}

#[test]
#[ignore = "run by scripts/image test"]
fn a_hostile_build_learns_no_secret_and_changes_nothing() {
    let canary = "c0ffee00-5ec2e7-of-the-task";
    let (ecs, ec2) = (Endpoint::start("169.254.170.2", canary), Endpoint::start("169.254.169.254", canary));
    let path = format!("/v2/credentials/{canary}");
    let set = fresh_set(include_str!("hostile.nix"));
    let deployment = Deployment::start(
        set.path(),
        &[
            ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", &path),
            ("ECS_CONTAINER_METADATA_URI_V4", &format!("http://169.254.170.2/v4/{canary}")),
            ("AWS_SECRET_ACCESS_KEY", canary),
        ],
    );

    let answer = deployment.server.settled("failing.victim");
    let log = deployment.server.get("/-/log/failing.victim").text();
    let told = told(&log);
    assert_eq!(answer.status, 302, "{}\n{told}", answer.text());

    // What is served is the honest package's own, and not what lay in ambush at its path.
    assert!(log.contains("laid an ambush at /nix/store/"), "{told}");
    assert_eq!(run(&deployment.server.download("failing.victim"), &[]), "good\n");

    // Everything was tried, and nothing could be done.
    let attempts: Vec<_> = log.lines().filter(|line| line.contains("ATTEMPT ")).collect();
    assert!(attempts.len() > 40, "{told}");
    let done: Vec<_> = attempts.iter().filter(|line| !line.ends_with(": refused")).collect();
    assert!(done.is_empty(), "{done:#?}");

    // It saw neither the token nor anything else that only the builder was given.
    let token = deployment.token();
    assert!(token.len() > 20);
    for who in ["thief", "asker"] {
        let saw = bytes_seen(&log, who);
        assert!(find(&saw, b"NIX_BUILD_TOP=").is_some(), "{who} looked: {told}");
        for secret in [token.as_bytes(), canary.as_bytes(), b"BINPLZ_LEASE_TOKEN=", b"BINPLZ_LEASE_URL=".as_slice()] {
            // The variables' names stand in asker's own derivation, its environment, as names; with `=` they are a leak if a
            // value follows.
            let leak =
                find(&saw, secret).filter(|at| saw.get(at + secret.len()).is_some_and(|next| !b"\n\0".contains(next)));
            assert_eq!(leak, None, "{who} saw {}", String::from_utf8_lossy(secret));
        }
    }
    // The endpoints were reachable, and were asked for the wrong paths.
    for endpoint in [&ecs, &ec2] {
        let asked = endpoint.asked();
        assert!(!asked.is_empty(), "{} was not asked", endpoint.address);
        assert!(!asked.iter().any(|request| request.contains(canary)), "{asked:?}");
    }

    // What it left behind was ended before the next build began.
    assert!(log.contains("LEFT BEHIND 2") && log.contains("STILL THERE 0"), "{told}");

    // Neither the builder nor a build can ever gain a privilege.
    assert!(log.contains("/proc/1/status:NoNewPrivs: 1") && log.contains("/proc/self/status:NoNewPrivs: 1"), "{told}");
    assert!(log.contains("/proc/self/status:CapEff: 0000000000000000"), "{told}");
    assert!(log.contains("/proc/1/status:CapBnd: 00000000000000eb"), "{told}");

    // Of what the image holds, nothing was changed and nothing removed, but directories in which Nix works.
    let mine = [
        "/nix/store",
        "/nix/var",
        "/nix/var/nix",
        "/nix",
        "/tmp",
        "/root",
        "/run",
        "/etc",
        "/dev",
        "/proc",
        "/sys",
        "/var",
    ];
    for change in deployment.changes() {
        let (kind, path) = change.split_once(' ').expect("a kind and a path");
        let fine = match kind {
            "A" => ["/nix/", "/tmp/", "/root/.", "/run/", "/etc/mtab"].iter().any(|below| path.starts_with(below)),
            "C" => mine.contains(&path) || path.starts_with("/nix/var/nix/") || path == "/nix/store/.links",
            _ => false,
        };
        assert!(fine, "{change}");
    }
}

/// The log without what was seen.
fn told(log: &str) -> String {
    log.lines().filter(|line| !line.contains("SAW-")).collect::<Vec<_>>().join("\n")
}

/// What a build saw: hexadecimal digits in lines of the log.
fn bytes_seen(log: &str, who: &str) -> Vec<u8> {
    let mark = format!("SAW-{who} ");
    let digits: String = log.lines().filter_map(|line| Some(line.split_once(&mark)?.1.trim())).collect();
    digits
        .as_bytes()
        .chunks(2)
        .filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
