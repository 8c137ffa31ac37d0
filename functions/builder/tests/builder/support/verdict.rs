//! The service's reaction to a failure that a builder has settled with.

use binplz_core::{
    build::{
        Build, Event, State, Step, apply,
        failure::{Class, Failure, Kind},
        policy::Policy,
        protocol::{Job, Outcome, Stats},
        size::Size,
    },
    id::{key::LeaseId, time::Timestamp},
};

use super::endpoint::Endpoint;

/// The next step after such a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// None, until an operator retries it.
    Nothing,
    /// The same attempt again, later: only an operator can fix the cause.
    Mended,
    /// Another attempt, on the same kind of machine.
    Again,
    /// One with twice the memory.
    MoreMemory,
    /// One with twice the disk.
    MoreDisk,
}

/// The failure that the builder reports.
#[track_caller]
pub(crate) fn failure(endpoint: &Endpoint) -> Failure {
    match endpoint.outcome() {
        Outcome::Failed(failure) => failure,
        other => panic!("it did not fail: {other:?}\n{}", endpoint.see(|seen| seen.log())),
    }
}

/// Asserts that the builder settled with such a failure, whose sentence begins so, and that this is the next step.
#[track_caller]
pub(crate) fn assert_failed(endpoint: &Endpoint, kind: Kind, next: Next, sentence: &str) {
    let failure = failure(endpoint);
    let log = endpoint.see(|seen| seen.log());
    assert_eq!((failure.kind, next_after(endpoint.job(), &failure)), (kind, next), "{failure:?}\n{log}");
    assert!(failure.sentence().starts_with(sentence), "{}\n{log}", failure.sentence());
    // It is the log's last line too.
    assert!(log.trim_end().ends_with(failure.detail.as_deref().unwrap_or(kind.sentence())), "{log}");
}

/// Through the state machine: asked, claimed, settled, and claimed again when due.
fn next_after(job: &Job, failure: &Failure) -> Next {
    let (policy, now) = (Policy::default(), Timestamp(0));
    let lease = |digit: char| String::from_iter([digit; 32]).parse::<LeaseId>().expect("a name");
    let claim = |digit| Event::Claim {
        id: lease(digit),
        token: "0".repeat(64).parse().expect("a token"),
        size: Size::default(),
        on_demand: false,
        seconds: None,
    };
    let step = |build: &Build, event: &Event, now| match apply(build, event, now, &policy) {
        Ok(Step::Move(build)) => build,
        other => panic!("{event:?} of {build:?}: {other:?}"),
    };
    let claimed = step(&step(&Build::unasked(job.key.clone()), &Event::Ask, now), &claim('1'), now);
    let settle = Event::Settle { id: lease('1'), end: Err(failure.clone()), stats: Stats::default() };
    let settled = step(&claimed, &settle, now);
    let State::Queued { due, attempt, .. } = settled.state else { return Next::Nothing };
    match (failure.kind.class(), attempt) {
        (Class::Operator, 1) => return Next::Mended,
        (Class::Transient | Class::TransientLarger, 2) => assert!(due > now, "it waits before it tries again"),
        other => panic!("{other:?}"),
    }
    let (first, second) = (policy.size, step(&settled, &claim('2'), due).lease().expect("a claim").size);
    match (second.memory() / first.memory(), second.disk() / first.disk()) {
        (1, 1) => Next::Again,
        (2, 1) => Next::MoreMemory,
        (1, 2) => Next::MoreDisk,
        _ => panic!("{second} after {first}"),
    }
}
