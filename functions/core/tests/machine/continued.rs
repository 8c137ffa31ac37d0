//! What ran out of time and made progress is continued, within limits of its own.

use std::time::Duration;

use binplz_core::{
    build::{
        Build, Event, State, Step, apply,
        continued::Continued,
        failure::{Failure, Kind},
        partial::Checkpoint,
        policy::{Policy, Prices},
        protocol::Stats,
        size::Size,
    },
    id::{
        key::{BuildKey, Product},
        money::Micros,
        time::Timestamp,
    },
};

use crate::{NOW, drv, id, settle, token, unasked};

/// A dollar an hour, and an hour for an attempt.
fn policy(attempts: u32, dollars: Option<u64>) -> Policy {
    let mut policy = Policy {
        continued_attempts: attempts,
        package_budget: dollars.map(|dollars| Micros(dollars * 1_000_000)),
        prices: Prices { task: Micros(1_000_000), ..Prices::default() },
        lease: Duration::from_secs(9 * 3600),
        first_delay: Duration::ZERO,
        ..Policy::default()
    };
    policy.job.seconds = 3600;
    policy
}

/// A lease's time is over, and it has built so many derivations.
fn timed_out(n: u32, built: u32) -> Event {
    let failure = Failure { drv: Some(drv('g')), ..Failure::new(Kind::TimedOut, "the job's time limit was reached") };
    match settle(n, Err(failure)) {
        Event::Settle { id, end, stats } => Event::Settle { id, end, stats: Stats { built, ..stats } },
        other => other,
    }
}

/// A build, and the time.
struct Life {
    build: Build,
    now: Timestamp,
    policy: Policy,
}

impl Life {
    fn of(product: Product, policy: Policy) -> Life {
        Life { build: Build::unasked(BuildKey { product, ..unasked().key }), now: NOW, policy }
    }

    fn new(policy: Policy) -> Life {
        Life::of(unasked().key.product, policy)
    }

    /// Applies it, twice: the second time changes nothing.
    fn take(&mut self, event: &Event) -> &mut Life {
        match apply(&self.build, event, self.now, &self.policy) {
            Ok(Step::Move(next)) => self.build = next,
            Ok(Step::Stay) => {}
            Err(illegal) => panic!("{event:?}: {illegal}"),
        }
        assert_eq!(apply(&self.build, event, self.now, &self.policy), Ok(Step::Stay));
        self
    }

    /// An attempt of half an hour.
    fn attempt(&mut self, n: u32, end: &Event) -> &mut Life {
        self.take(&Event::Ask);
        self.take(&Event::Claim { id: id(n), token: token(n), size: Size::default(), on_demand: false, seconds: None });
        self.now = self.now + Duration::from_secs(1800);
        self.take(end)
    }

    fn continued(&self) -> Continued {
        self.build.partial.continued
    }

    fn failure(&self) -> &Failure {
        match &self.build.state {
            State::Failed { failure, until: None, .. } => failure,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_attempt_that_ran_out_of_time_is_continued_at_once_and_uses_no_attempt() {
    let mut life = Life::new(policy(9, None));
    life.attempt(1, &timed_out(1, 12));
    assert_eq!(life.build.state, State::Queued { since: life.now, due: life.now, attempt: 1, warming: false });
    assert_eq!(life.continued(), Continued { attempts: 1, built: 12, seconds: 1800, cost: Micros(500_000) });
    assert!(life.build.history[0].continued);
    // A transient failure between is one of another kind: it is counted as ever.
    life.attempt(2, &settle(2, Err(Failure::new(Kind::Interrupted, ""))));
    assert!(matches!(life.build.state, State::Queued { attempt: 2, .. }), "{:?}", life.build.state);
    assert!(!life.build.history[1].continued);
    life.attempt(3, &timed_out(3, 5));
    assert!(matches!(life.build.state, State::Queued { attempt: 2, .. }), "{:?}", life.build.state);
    assert_eq!(life.continued(), Continued { attempts: 2, built: 17, seconds: 3600, cost: Micros(1_000_000) });
    assert_eq!(life.continued().part().as_deref(), Some("3rd part"));
    life.attempt(4, &settle(4, Ok(())));
    assert!(matches!(life.build.state, State::Ready(_)) && life.build.partial.is_empty());
}

#[test]
fn an_attempt_that_made_no_progress_fails_permanently() {
    let mut life = Life::new(policy(9, None));
    life.attempt(1, &timed_out(1, 3)).attempt(2, &timed_out(2, 0));
    assert_eq!(life.failure().detail.as_deref(), Some("the job's time limit was reached"));
    // What it was at had the whole time.
    assert_eq!(life.build.dependency(), Some(&drv('g')));
    assert_eq!((life.build.history[0].continued, life.build.history[1].continued), (true, false));
    // Other failures are final, also if dependencies were built before.
    let mut life = Life::new(policy(9, None));
    life.attempt(1, &settle(1, Err(Failure::new(Kind::Silent, ""))));
    assert_eq!(life.failure().kind, Kind::Silent);
}

#[test]
fn the_number_of_continued_attempts_and_their_price_are_limited() {
    // Of a policy, how many attempts there are, each of half a dollar, and why there is no other one.
    for (policy, attempts, why) in [
        (policy(0, None), 1, "it has had 1 attempts, and no more are allowed"),
        (policy(2, None), 3, "it has had 3 attempts, and no more are allowed"),
        (policy(9, Some(2)), 3, "it has cost $1.50, and another attempt could exceed $2.00"),
        (policy(9, Some(1)), 1, "it has cost $0.50, and another attempt could exceed $1.00"),
        (policy(9, Some(0)), 1, "it has cost $0.50, and another attempt could exceed $0.00"),
    ] {
        let mut life = Life::new(policy);
        for n in 1..=attempts {
            assert!(n == 1 || matches!(life.build.state, State::Queued { .. }), "{why}: {n}");
            life.attempt(n, &timed_out(n, 1));
        }
        assert_eq!((life.failure().kind, life.failure().detail.as_deref()), (Kind::TimedOut, Some(why)));
        // The dependency that it was at is not to blame.
        assert_eq!(life.build.dependency(), None);
        // An operator's retry begins with the limits of a first request.
        life.take(&Event::Retry);
        assert_eq!(life.continued(), Continued::default());
    }
}

#[test]
fn a_cancelled_build_keeps_its_count_and_a_forgotten_one_does_not() {
    let mut life = Life::new(policy(1, None));
    life.attempt(1, &timed_out(1, 1)).take(&Event::Cancel).attempt(2, &timed_out(2, 1));
    assert!(life.failure().detail.as_deref().is_some_and(|why| why.contains("no more are allowed")));
    life.take(&Event::Forget);
    assert!(life.build.partial.is_empty());
}

#[test]
fn a_catalogue_is_continued_by_its_checkpoint() {
    let part = |n| Event::Checkpoint { checkpoint: Checkpoint { lease: id(n), parts: 1, bytes: 1 }, top_level: false };
    let mut life = Life::of(Product::Catalogue, policy(9, None));
    life.take(&Event::Ask);
    life.take(&Event::Claim { id: id(1), token: token(1), size: Size::default(), on_demand: false, seconds: None });
    life.take(&part(1)).take(&timed_out(1, 0));
    assert!(matches!(life.build.state, State::Queued { attempt: 1, .. }));
    // The next one has stored nothing of its own.
    life.attempt(2, &timed_out(2, 0));
    assert_eq!(life.failure().kind, Kind::TimedOut);
}
