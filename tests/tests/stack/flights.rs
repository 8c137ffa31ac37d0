//! However many ask at once, and however often they are heard: one row, one task, one build.
//!
//! So many processes of a function at once fill a machine: `scripts/e2e` runs these with nothing beside them, one at a time.

use binplz_tests::{crowd::at_once, scenario::Request};
use serde_json::json;

use crate::watched::{Watched, ends, watched};

const CLIENTS: usize = 200;

/// The functions of this machine that answer them at once. Lambda gives each its own processor; here, where all share two, 200 would
/// exceed their time limits on a busy day.
const AT_ONCE: usize = 24;

/// All ask at the same moment, as `curl --retry` does: again, where a busy back end says that this helps. The answers' statuses.
fn all_ask(watched: &Watched, target: &str) -> Vec<u16> {
    let (site, path) = ((***watched).clone(), format!("/{target}"));
    at_once(CLIENTS, |_| {
        let mut answers = std::iter::repeat_with(|| site.get(&path).status);
        answers.find(|status| *status != 503).expect("an answer")
    })
}

/// The requests that were carried out, and say this.
fn done(watched: &Watched, what: &str, with: &str) -> Vec<Request> {
    let said = |request: &Request| request.parameters.to_string().contains(with);
    let log = watched.scenario.log().into_iter();
    log.filter(|request| request.what() == what && request.status == Some(200) && said(request)).collect()
}

fn are_one_build(watched: &Watched, target: &str) {
    let statuses = all_ask(watched, target);
    // The quickest may be built before the slowest has asked.
    assert!(statuses.iter().all(|status| [202, 302].contains(status)), "{statuses:?}");
    let build = watched.ended(target);
    assert_eq!(ends(&build), [None], "one attempt, and it was good");
    assert_eq!(build.history[0].stats.derivations, 1, "one derivation was realised");
    let row = format!("build/{}", build.key);
    // One row came to be, by one of the requests; one claim; one task.
    assert_eq!(done(watched, "Api dynamodb:PutItem", &row).len(), 1);
    assert_eq!(done(watched, "Dispatcher dynamodb:TransactWriteItems", &row).len(), 1);
    assert_eq!(done(watched, "Dispatcher ecs:RunTask", &build.history[0].lease.to_string()).len(), 1);
    let tasks = watched.scenario.requests("ecs", "RunTask");
    assert_eq!(tasks.len(), 1, "{tasks:#?}");
    // Of all the rings, at least one was heard.
    assert!(!done(watched, "Api sqs:SendMessage", "ring").is_empty());
    assert_eq!(watched.settled(target).status, 302);
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn two_hundred_at_once_are_one_row_one_task_and_one_build() {
    let watched = watched("", &[]);
    watched.scenario.set(&json!({ "at_once": AT_ONCE }));
    are_one_build(&watched, "tree");
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn messages_that_come_twice_and_the_last_one_first_make_no_second_build() {
    let watched = watched("", &[]);
    watched.scenario.set(&json!({ "minute": null, "twice": true, "at_once": AT_ONCE }));
    are_one_build(&watched, "tree");
    let heard: Vec<String> = watched
        .scenario
        .log()
        .iter()
        .filter(|request| request.what() == "Dispatcher lambda:Invoke")
        .flat_map(|request| request.parameters["Records"].as_array().expect("messages").clone())
        .map(|message| message["messageId"].as_str().expect("a name").to_owned())
        .collect();
    let twice = |id: &&String| heard.iter().filter(|other| other == id).count() == 2;
    assert!(!heard.is_empty() && heard.iter().all(|id| twice(&id)), "{heard:?}");
}
