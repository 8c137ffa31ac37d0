//! Whichever process is killed, at whichever point: the build ends by itself, nothing partial is served, and what was stored is not built again.

use std::{fs, sync::Arc, thread};

use binplz_core::id::key::hex;
use binplz_tests::http::Answer;
use binplz_tests::{
    server::{Server, children, fresh_set, kill, name_of},
    site::wait_for,
};
use sha2::{Digest, Sha256};

/// A point of a build at which a process is killed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Point {
    /// The builder has been started.
    Started,
    /// Nix evaluates.
    Evaluating,
    /// The build has printed that step.
    Step(&'static str),
    /// Nix is done, and the programs go to the store.
    Uploading,
    /// The build is over.
    Ready,
}

/// Packages that take their time at each point: evaluation adds up numbers, the build goes step by step, the program is large.
fn slow_packages(count: usize) -> String {
    let package = |n| {
        format!(
            r#"
  slow{n} = package "slow{n}" {{
    sum = builtins.foldl' (a: _: builtins.foldl' (a: b: a + b) a (builtins.genList (x: x) 4000)) {n} (builtins.genList (x: x) 4000);
    buildPhase = "for step in one two three four; do echo step $step; sleep 1; done; $CC -o program ${{good}}";
    fixupPhase = "head -c 120000000 /dev/urandom >> $out/bin/slow{n}";
  }};
"#
        )
    };
    (0..count).map(package).collect()
}

fn wait_until(server: &Server, target: &str, point: Point) {
    let there = |answer: &Answer| match point {
        Point::Started => server.status(target)["state"] == "building",
        Point::Evaluating => server.status(target)["progress"]["phase"] == "evaluating",
        Point::Step(step) => server.get(&format!("/-/log/{target}")).text().contains(&format!("step {step}")),
        Point::Uploading => {
            ["inspecting", "uploading"].iter().any(|phase| server.status(target)["progress"]["phase"] == *phase)
        }
        Point::Ready => answer.status == 302,
    };
    wait_for(&format!("{target} at {point:?}"), || {
        let answer = server.get(&format!("/{target}"));
        let there = there(&answer);
        assert!(there || answer.status == 202, "{target} was over before {point:?} was seen: {}", answer.status);
        there.then_some(())
    });
}

/// The builder that works on a target: the launcher notes its process id under its lease's name.
fn builder_of(server: &Server, target: &str) -> u32 {
    wait_for("the builder's process", || {
        let status = server.status(target);
        assert_eq!(status["state"], "building", "{target} is over: {status}");
        let note = server.data.join("builders").join(format!("{}.pid", status["lease"].as_str()?));
        let pid = fs::read_to_string(note).ok()?.trim().parse().ok()?;
        children(server.pid()).contains(&pid).then_some(pid)
    })
}

/// Waits for the end, looking at every answer on the way: what is served is whole.
fn ends_well(server: &Server, target: &str) -> serde_json::Value {
    wait_for(target, || {
        let answer = server.get(&format!("/{target}"));
        match answer.status {
            202 | 503 => None,
            302 => {
                let program = server.download(target);
                assert_eq!(answer.header("x-binplz-sha256"), Some(hex(&Sha256::digest(&program)).as_str()), "{target}");
                Some(())
            }
            other => panic!("{target}: {other} {}", answer.text()),
        }
    });
    server.status(target)
}

/// Kills one process at each point of a build of its own, all builds side by side; gives the documents of their ends.
fn kill_at(
    points: &[Point],
    victim: impl Fn(&Server, &str) -> u32 + Sync + Send + Copy + 'static,
) -> Vec<serde_json::Value> {
    let set = fresh_set(&slow_packages(points.len()));
    let data = tempfile::tempdir().expect("a temporary directory");
    let server = Arc::new(Server::start(set.path(), data.path(), &["--jobs", "5", "--attempts", "5", "--lease", "30"]));
    let builds: Vec<_> = points
        .iter()
        .enumerate()
        .map(|(n, point)| {
            let (server, point) = (Arc::clone(&server), *point);
            thread::spawn(move || {
                let target = format!("failing.slow{n}");
                assert_eq!(server.get(&format!("/{target}")).status, 202);
                wait_until(&server, &target, point);
                kill(victim(&server, &target));
                ends_well(&server, &target)
            })
        })
        .collect();
    builds.into_iter().map(|build| build.join().expect("a build")).collect()
}

#[test]
fn a_builder_that_is_killed_at_any_point_is_replaced_and_what_nix_had_built_is_not_built_again() {
    let points = [Point::Started, Point::Evaluating, Point::Step("one"), Point::Step("three"), Point::Uploading];
    let ends = kill_at(&points, builder_of);
    for (point, end) in points.iter().zip(&ends) {
        assert_eq!((end["state"].as_str(), end["attempt"].as_u64()), (Some("ready"), Some(2)), "{point:?}: {end}");
    }
    let last = ends.last().expect("an end");
    assert_eq!(last["derivations_started"], 0, "built again: {last}");
}

#[test]
fn nix_that_is_killed_at_any_point_is_a_passing_failure() {
    let steps = [Point::Step("one"), Point::Step("two"), Point::Step("three"), Point::Step("four")];
    let points = [&[Point::Evaluating], steps.as_slice()].concat();
    let nix_of = |server: &Server, target: &str| {
        let builder = builder_of(server, target);
        wait_for("Nix", || children(builder).into_iter().find(|pid| name_of(*pid).starts_with("nix")))
    };
    for (point, end) in points.iter().zip(kill_at(&points, nix_of)) {
        assert_eq!((end["state"].as_str(), end["attempt"].as_u64()), (Some("ready"), Some(2)), "{point:?}: {end}");
    }
}

#[test]
fn a_server_that_is_killed_at_any_point_finds_its_builds_again() {
    let points = [Point::Started, Point::Evaluating, Point::Step("two"), Point::Uploading, Point::Ready];
    let set = fresh_set(&slow_packages(points.len()));
    let data = tempfile::tempdir().expect("a temporary directory");
    let mut server = Server::start(set.path(), data.path(), &["--attempts", "5", "--lease", "8"]);
    for (n, point) in points.into_iter().enumerate() {
        let target = format!("failing.slow{n}");
        assert_eq!(server.get(&format!("/{target}")).status, 202);
        wait_until(&server, &target, point);
        server.kill();
        server.restart();
        let end = ends_well(&server, &target);
        // The builder outlived its server and reported to the next one: one attempt, one build.
        let facts = (end["state"].as_str(), end["attempt"].as_u64(), end["derivations_started"].as_u64());
        assert_eq!(facts, (Some("ready"), Some(1), Some(1)), "{point:?}: {end}");
    }
}
