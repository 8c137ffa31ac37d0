//! The builder's rounds: what it asks for, what it builds, what it leaves to others, and how long it waits.

use binplz_core::{
    build::protocol::{DependencyBuilt, DependencyRequest, Outcome, Turn},
    id::key::DrvHash,
};

use crate::support::{Bench, endpoint::Endpoint};

/// What a builder asked for, and reported: `? NAME` could be built, `+ NAME` was built.
fn said(endpoint: &Endpoint) -> Vec<String> {
    endpoint.see(|seen| {
        let mut names = std::collections::BTreeMap::new();
        let requests = seen.dependencies.iter().map(|request: &DependencyRequest| {
            let ready = request.ready.iter().map(|ready| {
                names.insert(ready.drv.clone(), ready.name.clone());
                format!("? {}{}", ready.name, if ready.missing { " (missing)" } else { "" })
            });
            let ready: Vec<String> = ready.collect();
            let built = |built: &DependencyBuilt| {
                let name = names.get(&built.drv).cloned().unwrap_or_default();
                format!("+ {name}{}", if built.offered { " (offered)" } else { "" })
            };
            let built: Vec<String> = request.built.iter().map(built).collect();
            [built, ready].concat().join(" ")
        });
        requests.collect()
    })
}

fn derivations(endpoint: &Endpoint) -> u32 {
    let report = endpoint.report();
    assert!(matches!(report.outcome, Outcome::Built(_)), "{:?}", report.outcome);
    report.stats.derivations
}

#[test]
fn a_dependency_is_asked_for_built_and_reported_and_then_comes_the_package() {
    let bench = Bench::with_own_store();
    let endpoint = bench.work(bench.job("good"));
    assert_eq!(derivations(&endpoint), 2);
    assert_eq!(said(&endpoint), ["? dependency-1.0", "+ dependency-1.0"]);
    let progress = endpoint.see(|seen| seen.pulses.last().cloned().expect("a pulse"));
    assert_eq!(progress.expected, 2);
    // Its dependency is there by now: nothing is asked.
    let again = Endpoint::new(bench.job("halfway"));
    bench.start(&again).end();
    assert_eq!(said(&again), Vec::<String>::new());
}

#[test]
fn a_task_that_could_only_wait_for_long_ends_and_says_what_is_left_to_build() {
    let bench = Bench::with_own_store();
    let endpoint = Endpoint::new(bench.job("good"));
    endpoint.holds(&["dependency-1.0"], false);
    assert_eq!(bench.start(&endpoint).end(), (Some(0), String::new()));
    let report = endpoint.report();
    let Outcome::Waits { plan, first: 0 } = &report.outcome else { panic!("{:?}", report.outcome) };
    let text: Vec<_> = plan.iter().map(|planned| (planned.name.as_str(), planned.needs.clone())).collect();
    assert_eq!(text, [("dependency-1.0", vec![]), ("good-1.0", vec![0])]);
    assert_eq!((report.stats.derivations, report.stats.waited), (0, 0));
    // The package's own derivation is the last one, and the one that was claimed.
    let claimed = endpoint.see(|seen| DrvHash::of_path(&seen.claims[0].drv_path));
    assert_eq!(Ok(&plan[1].drv), claimed.as_ref());
    let log = endpoint.see(|seen| seen.log());
    assert!(log.contains("waits for dependency-1.0, which another build builds; this task ends"), "{log}");
}

#[test]
fn a_task_that_could_only_wait_for_a_moment_waits_and_goes_on() {
    let bench = Bench::with_own_store();
    let endpoint = Endpoint::new(bench.job("good"));
    endpoint.holds(&["dependency-1.0"], true);
    let builder = bench.start(&endpoint);
    endpoint.wait("a second question", |seen| seen.dependencies.len() > 1);
    endpoint.holds(&[], false);
    assert_eq!(builder.end(), (Some(0), String::new()));
    assert_eq!(derivations(&endpoint), 2);
}

#[test]
fn what_is_said_to_be_made_is_looked_for_again_and_built_where_it_is_not_there() {
    let bench = Bench::with_own_store();
    let endpoint = Endpoint::new(bench.job("good"));
    endpoint.has_made(&["dependency-1.0"]);
    assert_eq!(bench.start(&endpoint).end(), (Some(0), String::new()));
    assert_eq!(derivations(&endpoint), 2);
    assert_eq!(said(&endpoint), ["? dependency-1.0", "? dependency-1.0 (missing)", "+ dependency-1.0"]);
    // Another one has it in the store that they share.
    let bench = Bench::with_own_store();
    let endpoint = Endpoint::new(bench.job("good"));
    endpoint.holds(&["dependency-1.0"], true);
    let builder = bench.start(&endpoint);
    endpoint.wait("a question", |seen| !seen.dependencies.is_empty());
    let other = bench.work(bench.job("halfway"));
    assert_eq!(other.report().stats.derivations, 2);
    endpoint.has_made(&["dependency-1.0"]);
    assert_eq!(builder.end(), (Some(0), String::new()));
    assert_eq!(derivations(&endpoint), 1);
}

#[test]
fn a_package_without_dependencies_is_asked_for_only_if_another_task_builds_it() {
    let bench = Bench::with_own_store();
    // What both need is there.
    bench.work(bench.job("halfway"));
    let endpoint = bench.work(bench.job("good"));
    assert_eq!((derivations(&endpoint), said(&endpoint)), (1, vec![]));
    let bench = Bench::with_own_store();
    bench.work(bench.job("halfway"));
    let endpoint = Endpoint::new(bench.job("good"));
    endpoint.builds_it_elsewhere();
    assert_eq!(endpoint.see(|seen| seen.turn), Turn::Ask);
    endpoint.holds(&["good-1.0"], false);
    bench.start(&endpoint).end();
    let Outcome::Waits { plan, .. } = endpoint.report().outcome else { panic!("it is built elsewhere") };
    assert_eq!((plan.len(), said(&endpoint)), (1, vec!["? good-1.0".to_owned()]));
    let endpoint = Endpoint::new(bench.job("good"));
    endpoint.builds_it_elsewhere();
    bench.start(&endpoint).end();
    assert_eq!((derivations(&endpoint), said(&endpoint)), (1, vec!["? good-1.0".to_owned()]));
}
