//! Every way to fail: its status, its reason, and what a second request does.

use std::time::Duration;

use binplz_core::build::{Attempt, failure::Kind, policy::Policy, protocol::JobLimits};

use super::{Running, Start, operating::json, quick};
use crate::{
    server::demo_set,
    site::wait_for,
    sources::{Sources, TARGET},
};

/// The package below `failing`, the status, the kind, and words of the reason.
const PERMANENT: &[(&str, u16, &str, &str)] = &[
    ("nosuch", 404, "no-such-package", "there is no package failing.nosuch"),
    ("broken", 422, "broken", "marked broken"),
    ("unsupported", 422, "unsupported", "not available on this system"),
    ("insecure", 422, "insecure", "CVE-1970-0001"),
    ("unfree", 422, "unfree", "licence is unfree"),
    ("evaluationError", 422, "evaluation-error", "this package cannot be evaluated"),
    ("infiniteRecursion", 422, "evaluation-error", "infinite recursion"),
    ("compileError", 422, "build-failed", "undeclared"),
    ("testFailure", 422, "test-failed", "expected 'better', got 'good'"),
    ("dependencyFails", 422, "build-failed", "compileError"),
    ("hashMismatch", 422, "hash-mismatch", "hash mismatch"),
    ("noOutput", 422, "no-output", "failed to produce output"),
    ("endlessLog", 422, "log-too-long", "log exceeded its size limit"),
    ("tooLarge", 422, "too-large", "larger than this service stores"),
    ("dynamic", 422, "not-static", "`dynamic` is dynamically linked"),
    ("script", 422, "not-static", "`script` is a script"),
    ("wrapper", 422, "not-static", "`wrapper` is a script"),
    ("outsideLink", 422, "not-static", "leads out of the package"),
    ("danglingLink", 422, "not-static", "not an executable program"),
    ("wrongMachine", 422, "not-static", "for another machine"),
    ("noProgram", 422, "no-program", "the program is missing"),
];

/// The same of a build that only a time limit ends.
const ENDLESS: &[(&str, u16, &str, &str)] =
    &[("hangs", 422, "timed-out", "exceeded its time limit"), ("silent", 422, "silent", "printed nothing")];

const TRANSIENT: &[(&str, &str, &str)] = &[
    ("memoryExhausted", "out-of-memory", "ran out of memory"),
    ("killed", "out-of-memory", "ran out of memory"),
    ("diskFull", "disk-full", "ran out of disk"),
    ("sourceGone", "source-unavailable", "could not be downloaded"),
];

/// Not patient with failures.
fn strict() -> Policy {
    let job = JobLimits { log_bytes: 300_000, program_bytes: 8_000_000, ..quick().job };
    Policy { attempts: 2, cool_down: Duration::from_secs(3600), job, ..quick() }
}

pub fn a_permanent_failure_is_told_with_its_reason_and_never_tried_again(at: &impl Start) {
    are_told_and_never_tried_again(&at.start(&demo_set(), &strict()), PERMANENT);
}

/// Apart from the others, which take long on a loaded machine.
pub fn a_build_that_would_never_end_is_ended_and_told_with_its_reason(at: &impl Start) {
    let job = JobLimits { seconds: 25, silent_seconds: 10, ..strict().job };
    are_told_and_never_tried_again(&at.start(&demo_set(), &Policy { job, ..strict() }), ENDLESS);
}

fn are_told_and_never_tried_again(site: &impl Running, failures: &[(&str, u16, &str, &str)]) {
    for (name, ..) in failures {
        assert_eq!(site.get(&format!("/failing.{name}")).status, 202, "{name}");
    }
    for (name, status, kind, reason) in failures {
        let target = format!("failing.{name}");
        let settled = site.settled(&target);
        assert_eq!(settled.status, *status, "{name}: {}", settled.text());
        // The line is shell: unquoted, it is what a person reads.
        let line = settled.text().replace("'\\''", "'");
        assert!(line.contains(reason), "{name}: {line}");
        assert_eq!(line.lines().count(), 1, "{name}: {line}");
        let document = site.status(&target);
        assert_eq!(document["failure"]["kind"], *kind, "{name}: {document}");
        if *status == 422 {
            assert_eq!(settled.header("link"), Some(format!("</-/log/{target}>; rel=\"describedby\"").as_str()));
            assert_eq!(site.get(&format!("/-/log/{target}")).status, 200);
        }
        let problem = site.send("GET", &format!("/{target}"), &[("accept", "application/json")], b"");
        assert_eq!(problem.header("content-type"), Some("application/problem+json"));
        assert_eq!(problem.json()["status"], *status);
        // Asked again and again, it is still the first attempt, and over.
        assert_eq!(site.get(&format!("/{target}")).status, *status);
        assert_eq!(site.status(&target)["attempt"], 1, "{name}");
    }
}

pub fn a_package_whose_main_program_is_missing_names_those_it_has(at: &impl Start) {
    let site = at.start(&demo_set(), &strict());
    let settled = site.settled("failing.wrongMain");
    assert_eq!(settled.status, 422);
    assert!(settled.text().contains("expected a program middle, found left, right"), "{}", settled.text());
    assert_eq!(site.get("/failing.wrongMain/left").status, 302);
}

pub fn a_program_beside_a_script_is_served_and_the_script_is_not(at: &impl Start) {
    let site = at.start(&demo_set(), &strict());
    assert_eq!(site.settled("failing.mixed").status, 302);
    assert_eq!(site.get("/failing.mixed/mixed-helper").status, 422);
}

pub fn a_passing_failure_is_tried_again_by_itself_then_cools_down(at: &impl Start) {
    // They take their time on a machine that is busy.
    let policy = Policy { job: quick().job, ..strict() };
    let site = at.start(&demo_set(), &policy);
    for (name, ..) in TRANSIENT {
        assert_eq!(site.get(&format!("/failing.{name}")).status, 202, "{name}");
    }
    for (name, kind, reason) in TRANSIENT {
        let target = format!("failing.{name}");
        let settled = site.settled(&target);
        assert_eq!(settled.status, 503, "{name}: {}", settled.text());
        assert!(settled.text().contains(reason), "{name}: {}", settled.text());
        let after: u64 = settled.header("retry-after").expect("a time").parse().expect("seconds");
        assert!((1..=3600).contains(&after));
        let document = site.status(&target);
        assert_eq!((&document["state"], &document["failure"]["kind"]), (&"cooling-down".into(), &(*kind).into()));
        assert_eq!(document["attempt"], 2, "{name}: {document}");
    }
}

pub fn what_fails_twice_for_the_network_and_then_passes_takes_three_attempts_and_nobody(at: &impl Start) {
    let sources = Sources::dying();
    let set = sources.set();
    let site = at.start(set.path(), &Policy { attempts: 3, first_delay: Duration::from_secs(2), ..quick() });
    assert_eq!(site.get(&format!("/{TARGET}")).status, 202);
    // From here on it is looked at, and not asked for.
    wait_for("the third attempt", || (site.status(TARGET)["attempt"] == 3).then_some(()));
    sources.mend();
    wait_for("its end", || (site.status(TARGET)["state"] == "ready").then_some(()));
    assert_eq!(site.get(&format!("/{TARGET}")).status, 302);
    assert_eq!(site.builders().len(), 3);

    let shown = json(&site, &["show", TARGET]);
    let history: Vec<Attempt> = serde_json::from_value(shown["history"].clone()).expect("attempts");
    let told: Vec<_> = history.iter().map(|attempt| (attempt.number, attempt.failure.as_ref())).collect();
    let [(1, Some(first)), (2, Some(second)), (3, None)] = told.as_slice() else { panic!("{shown}") };
    for failure in [first, second] {
        assert_eq!(failure.kind, Kind::SourceUnavailable);
        let sentence = failure.sentence();
        assert!(sentence.starts_with("a source could not be downloaded, in its dependency source-gone-"), "{sentence}");
    }
    let pause = |n: usize| history[n].claimed - history[n - 1].ended;
    assert!(pause(2) > pause(1) && pause(1) >= Duration::from_secs(2), "the delays do not grow: {shown}");
}

pub fn a_source_that_comes_back_turns_the_failure_into_a_hit(at: &impl Start) {
    let sources = Sources::absent();
    let set = sources.set();
    let policy = Policy { attempts: 1, cool_down: Duration::from_secs(1), ..quick() };
    let site = at.start(set.path(), &policy);
    let gone = site.settled(TARGET);
    assert_eq!(gone.status, 503, "{}", gone.text());
    // After the cool-down a request starts it again, where a permanent failure would stay.
    let ask = || site.get(&format!("/{TARGET}")).status;
    wait_for("a second attempt", || (ask() == 202).then_some(()));
    sources.begin();
    wait_for("a hit", || (ask() == 302).then_some(()));
}
