//! What a hit costs, as AWS sees it.

use std::fs;

use binplz_tests::{
    scenario::Request,
    server::{fresh_set, kill},
    site::wait_for,
};

use serde_json::Value;

use crate::watched::{Watched, watched};

/// What the function that answers people asked, and was asked, from the `from`th request on, until its process asked for the next one.
fn answering(watched: &Watched, from: usize) -> Vec<Request> {
    wait_for("the process to be done", || {
        let log = watched.scenario.log().into_iter().skip(from);
        let its: Vec<_> = log.filter(|r| r.function.as_deref() == Some("Api") && !r.presigned).collect();
        let done = its
            .iter()
            .skip_while(|r| r.parameters["Key"]["pk"]["S"] == Value::Null || r.parameters["Key"]["pk"]["S"] == "limits")
            .any(|r| r.operation == "Next");
        done.then_some(its)
    })
}

fn what(requests: &[Request]) -> Vec<String> {
    requests.iter().map(Request::what).collect()
}

fn is_eventual(read: &Request, of: &str) {
    assert_ne!(read.parameters["ConsistentRead"], true, "{read:?}");
    assert!(read.parameters["Key"]["pk"]["S"].as_str().is_some_and(|pk| pk.starts_with(of)), "{read:?}");
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn a_hit_is_one_eventually_consistent_read_and_no_other_request_warm_and_cold_by_any_name_of_three_pins() {
    let sets = ["second", "third"].map(|name| (name, fresh_set("")));
    let pins = sets.each_ref().map(|(name, set)| format!("--pin={name}={}", set.path().display()));
    let mut more: Vec<_> = pins.iter().map(String::as_str).collect();
    more.push("--parameter=Names=known");
    let watched = watched("", &more);
    let mut targets = vec!["tree".to_owned(), "tree?pin=second".to_owned()];
    assert_eq!(watched.settled(&targets[1]).status, 302);
    let third = watched.settled("tree?pin=third");
    targets.push(format!("tree?nixpkgs-commit={}", third.header("x-binplz-nixpkgs").expect("a commit")));
    for target in &targets {
        assert_eq!(watched.settled(target).status, 302, "{target}");
    }
    // A program's own name, which the catalogue knows. A hit by it does not read that, however large it is.
    wait_for("the catalogue", || {
        let look = watched.send("HEAD", "/no-such-thing-exists", &[], b"");
        look.header("x-binplz-catalogue").is_none().then_some(())
    });
    targets.push("xxhsum".to_owned());
    assert_eq!(watched.settled("xxhsum").status, 302);

    // Warm: the process has answered before.
    for (target, method) in targets.iter().flat_map(|target| ["GET", "HEAD", "GET"].map(|method| (target, method))) {
        let from = watched.scenario.log().len();
        assert_eq!(watched.send(method, &format!("/{target}"), &[("accept", "*/*")], b"").status, 302);
        let asked = answering(&watched, from);
        assert_eq!(what(&asked), ["Api lambda:Invoke", "Api dynamodb:GetItem", "Api lambda:Next"], "{method} {target}");
        is_eventual(&asked[1], "served/");
    }

    for target in &targets {
        one_read_of_a_cold_process(&watched, target);
    }
}

/// No process of the function is left, and then a request comes.
fn one_read_of_a_cold_process(watched: &Watched, target: &str) {
    let log = watched.scenario.log();
    let mut gone: Vec<_> = log.iter().filter(|r| r.function.as_deref() == Some("Api")).filter_map(|r| r.pid).collect();
    gone.sort_unstable();
    gone.dedup();
    for pid in &gone {
        // Those that were ended before have no such file, and a process that got an old number is none of ours.
        let exe = fs::read_link(format!("/proc/{pid}/exe"));
        if exe.is_ok_and(|program| program.ends_with("bootstrap")) {
            kill(u32::try_from(*pid).expect("a process id"));
            // Its parent notices an end only when it is a zombie.
            wait_for("the process to end", || {
                let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with(['Z', 'X'])).then_some(())
            });
        }
    }
    assert_eq!(watched.get(&format!("/{target}")).status, 302);
    let asked = answering(watched, log.len());
    assert!(asked.iter().filter_map(|request| request.pid).all(|pid| !gone.contains(&pid)), "{asked:#?}");
    // Until it asks for its first event it starts up: a read opens its connection. Then it is as if it were warm.
    let started = asked.iter().position(|request| request.operation == "Next").expect("its first event");
    assert_eq!(what(&asked[..started]), ["Api lambda:Invoke", "Api dynamodb:GetItem"]);
    is_eventual(&asked[1], "limits");
    assert_eq!(what(&asked[started + 1..]), ["Api dynamodb:GetItem", "Api lambda:Next"]);
    is_eventual(&asked[started + 1], "served/");
}
