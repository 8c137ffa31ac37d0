//! What the account refuses is charged to no build: rows wait, say why in AWS's words, and go on by themselves.

use binplz_core::build::State;
use binplz_tests::{answers::Running, site::wait_for};
use serde_json::json;

use crate::{tasks::is_ready, watched::watched};

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn with_a_quota_of_six_vcpus_four_builds_at_a_time_wait_for_each_other_and_none_fails() {
    let package = |n| format!("quota{n} = package \"quota{n}\" {{ }};\n");
    let watched = watched(&(1..=4).map(package).collect::<String>(), &[]);
    // A task has four.
    watched.scenario.set(&json!({ "minute": null, "fargate": 6, "spot": 0 }));
    let targets = (1..=4).map(|n| format!("failing.quota{n}")).collect::<Vec<_>>();
    for target in &targets {
        assert_eq!(watched.get(&format!("/{target}")).status, 202);
    }
    for target in &targets {
        is_ready(&watched, target, &[None]);
    }
    assert!(watched.scenario.requests("ecs", "RunTask").len() > targets.len(), "none was refused");
    assert_eq!(watched.tasks(), targets.len());
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn a_refusal_that_lasts_is_told_in_awss_words_and_uses_no_attempt() {
    let watched = watched("", &[]);
    let message = "User: arn:aws:sts::000000000000:assumed-role/x/y is not authorized to perform: ecs:RunTask";
    let denied = json!([400, { "__type": "AccessDeniedException", "message": message }]);
    watched.scenario.set(&json!({ "minute": null, "refuses": denied }));
    assert_eq!(watched.get("/dash").status, 202);
    // On Spot and on demand at once, then again and again.
    wait_for("four tries", || (watched.scenario.requests("ecs", "RunTask").len() >= 4).then_some(()));
    let headline = wait_for("the reason", || {
        let status = watched.status("dash");
        Some(status["headline"].as_str()?.to_owned()).filter(|headline| headline.starts_with("waits"))
    });
    assert!(
        headline.ends_with("AccessDeniedException: User: … is not authorized to perform: ecs:RunTask"),
        "{headline}"
    );
    let build = watched.build("dash").expect("a row");
    assert!(matches!(build.state, State::Queued { attempt: 1, .. }) && build.history.is_empty(), "{build:?}");
    let told = watched.operator(&["status"]).output().expect("binplz");
    assert!(String::from_utf8_lossy(&told.stdout).contains("is not authorized to perform: ecs:RunTask"), "{told:?}");
    assert_eq!(watched.limits().0.taken(), 0);

    watched.scenario.set(&json!({ "minute": null }));
    is_ready(&watched, "dash", &[None]);
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn builds_of_a_pin_wait_for_its_tarball_and_start_when_it_is_uploaded() {
    let watched = watched("", &[]);
    let [rev] = watched.nixpkgs().try_into().expect("one nixpkgs");
    let key = format!("nixpkgs/{rev}.tar.gz");
    let tarball = watched.object(&key);
    watched.delete_as_the_account(&key);
    assert_eq!(watched.get("/dash").status, 202);
    wait_for("the dispatcher to say so", || (watched.get("/dash").status == 503).then_some(()));
    assert!(watched.get("/dash").text().contains("the tarball of the Nixpkgs commit is not uploaded yet"));
    let told = watched.operator(&["pin", "list"]).output().expect("binplz");
    assert!(String::from_utf8_lossy(&told.stdout).contains("its builds wait: the tarball of"), "{told:?}");
    assert_eq!(watched.scenario.requests("ecs", "RunTask").len(), 0);

    watched.put_as_the_account(&key, &tarball);
    watched.scenario.tick();
    is_ready(&watched, "dash", &[None]);
}
