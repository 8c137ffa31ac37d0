//! A function that is killed, a request or an answer that is lost: what was asked for comes to its end by itself. The schedule
//! stands still, but for the minutes that a test lets pass: so each test says who noticed, and how soon.
//! `tests/README.md` has the table.

use binplz_core::build::{State, failure::Kind};
use binplz_tests::http;
use serde_json::{Value, json};

use crate::watched::{Watched, ends, watched};

/// What has to happen beside what runs already.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Takes {
    /// Nothing.
    Nothing,
    /// The schedule's next minute.
    AMinute,
}

/// One that goes wrong once.
struct Case {
    /// In words, as in the table.
    what: &'static str,
    fault: Value,
    /// The function lives, and answers the request.
    answered: bool,
    takes: Takes,
    /// How the attempts end.
    ends: &'static [Option<Kind>],
    /// The requests that started its task, by whom: more than one where the first one's answer was lost.
    started_by: &'static [&'static str],
}

fn at(function: &str, service: &str, operation: &str) -> Value {
    json!({ "function": function, "service": service, "operation": operation })
}

fn cases() -> Vec<Case> {
    let case = |what, fault, answered, takes, ends, started_by| Case { what, fault, answered, takes, ends, started_by };
    let (good, once): (&[_], &[_]) = (&[None], &["Dispatcher"]);
    use Takes::{AMinute, Nothing};
    let claim = || at("Dispatcher", "dynamodb", "TransactWriteItems");
    let lease = |with: &str, what: &str| {
        let at = json!({ "function": "Lease", "service": "dynamodb", "operation": "TransactWriteItems", "with": with });
        json!({ "at": at, "do": what })
    };
    let (hold, settle) = (|what| lease("derivation/", what), |what| lease("limits", what));
    let run = || at("Dispatcher", "ecs", "RunTask");
    let full =
        json!([200, { "tasks": [], "failures": [{ "arn": "arn", "reason": "Capacity is unavailable at this time" }] }]);
    let throttled = json!([400, { "__type": "ThrottlingException", "message": "Rate exceeded" }]);
    let broken = json!([500, { "__type": "ServerException", "message": "an unexpected error" }]);
    vec![
        case(
            "api, after its write and before its send",
            json!({ "at": at("Api", "sqs", "SendMessage"), "do": "kill-before" }),
            false,
            AMinute,
            good,
            once,
        ),
        case(
            "the message, once it was taken",
            json!({ "at": at("Api", "sqs", "SendMessage"), "do": "lose" }),
            true,
            AMinute,
            good,
            once,
        ),
        case("dispatcher, before its claim", json!({ "at": claim(), "do": "kill-before" }), true, AMinute, good, once),
        case(
            "dispatcher, after its claim and before RunTask",
            json!({ "at": claim(), "do": "kill-after" }),
            true,
            AMinute,
            good,
            &["Reaper"],
        ),
        case(
            "dispatcher, at RunTask, which is not carried out",
            json!({ "at": run(), "do": "kill-before" }),
            true,
            AMinute,
            good,
            &["Dispatcher", "Reaper"],
        ),
        case(
            "dispatcher, after RunTask and before its write",
            json!({ "at": run(), "do": "kill-after" }),
            true,
            Nothing,
            good,
            once,
        ),
        case(
            "RunTask's answer",
            json!({ "at": run(), "do": "answer-after", "answer": broken }),
            true,
            Nothing,
            good,
            &["Dispatcher", "Dispatcher"],
        ),
        case(
            "capacity: RunTask says 200, and failures[]",
            json!({ "at": run(), "do": "answer", "answer": full }),
            true,
            Nothing,
            good,
            &["Dispatcher", "Dispatcher"],
        ),
        case(
            "RunTask is throttled, whenever the SDK tries",
            json!({ "at": run(), "do": "answer", "times": 3, "answer": throttled }),
            true,
            Nothing,
            good,
            &["Dispatcher"; 4],
        ),
        case("lease, after it wrote whose a derivation is", hold("kill-after"), true, Nothing, good, once),
        case("lease, before it wrote whose a derivation is", hold("kill-before"), true, Nothing, good, once),
        case("lease, after it wrote what the builder settled", settle("kill-after"), true, Nothing, good, once),
        case("lease, before it wrote what the builder settled", settle("kill-before"), true, Nothing, good, once),
    ]
}

#[test]
#[ignore = "needs AWS beside it: tests/bed/up --tasks"]
fn whoever_is_killed_or_not_heard_the_build_ends_by_itself() {
    let cases = cases();
    let package = |n| format!("case{n} = package \"case{n}\" {{ }};\n");
    let watched = watched(&(0..cases.len()).map(package).collect::<String>(), &[]);
    for (n, case) in cases.iter().enumerate() {
        println!("{}", case.what);
        goes_on(&watched, &format!("failing.case{n}"), case);
    }
}

fn goes_on(watched: &Watched, target: &str, case: &Case) {
    let fault = watched.scenario.fault(&case.fault);
    let logged = watched.scenario.log().len();
    let answer = http::ask("GET", &format!("{}/{target}", watched.origin()), &[], b"");
    // Where its function dies, the gateway answers by itself.
    assert!(
        if case.answered { answer.status == 202 } else { answer.status >= 500 },
        "{}: {}",
        case.what,
        answer.status
    );
    fault.happened();
    if case.takes == Takes::AMinute {
        watched.scenario.tick();
    }
    let build = watched.ended(target);
    assert!(matches!(build.state, State::Ready { .. }), "{}: {build:?}", case.what);
    assert_eq!(ends(&build), case.ends, "{}", case.what);
    assert_eq!(watched.get(&format!("/{target}")).status, 302, "{}", case.what);

    let log = &watched.scenario.log()[logged..];
    let minutes = log.iter().filter(|request| request.operation == "Scheduled Event").count();
    assert_eq!(minutes, usize::from(case.takes == Takes::AMinute), "{}", case.what);
    let started: Vec<_> =
        log.iter().filter(|r| r.operation == "RunTask").filter_map(|r| r.function.as_deref()).collect();
    assert_eq!(started, case.started_by, "{}", case.what);
    // However often it was asked for, each attempt had one task; where AWS said no, none.
    let tasks: Vec<_> = build.history.iter().map(|attempt| watched.tasks_of(&attempt.lease)).collect();
    let had: Vec<_> = case.ends.iter().map(|end| usize::from(end.is_none())).collect();
    assert_eq!(tasks, had, "{}", case.what);
}
