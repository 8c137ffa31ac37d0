//! THE state machine of a build. This is the only place that decides what is legal: adapters write the result of
//! [`apply`] if no other writer came before them (optimistic concurrency).
//!
//! ```text
//! Unasked ─ask, warm→ Queued ─claim→ Building ─settle→ Ready
//!    ↑            ↑ ↑             │  ├─(permanent)→ Failed ─retry→ Queued
//!    │            │ └─(transient,─┘  └─(exhausted)→ Failed until… ─ask→ Queued
//!    │            │    continued)
//!    └─cancel─────┴───────────────┘   ─suspend→ Queued
//!
//! Building ─doom→ Failed                                       a dependency of it is known to fail
//! Building ─decline→ Failed, Queued                          by its plan it would take too long, or needs a larger machine
//! Building ─join→ Joined ─follow→ Ready, Failed, Queued      follows the build of its derivation, at once if that has ended
//! Building ─wait→ Waiting ─wake→ Queued                       others build all that it could build; uses no attempt
//! Unasked, Queued, Failed until… ─adopt→ Ready               the derivation was known before, and is built
//! Ready ─withdraw→ Queued                                    its objects are missing or damaged, or not wanted any more
//! Building ─checkpoint→ Building                             a part of a catalogue is stored; it is kept until the build is Ready
//! ```

use crate::{
    build::{
        Attempt, Borrowed, Build, Event, HISTORY_MAX, Illegal, Lease, Made, State, Step,
        continued::{Continued, Next},
        derivation::Realisation,
        failed_dependencies::LIFE,
        failure::{Class, Failure, Kind},
        partial::{Partial, Published},
        policy::{Policy, REFUSED_MAX},
        protocol::Stats,
        size::Size,
        waiting::Waiting,
    },
    id::{
        key::{DrvHash, LeaseId, Product},
        time::Timestamp,
    },
    objects::artifact::{AttemptPrefix, Declared},
};

impl Build {
    fn with(&self, state: State) -> Step {
        Step::Move(Build { partial: self.kept(&state), state, ..self.clone() })
    }

    /// The stored parts that are still needed in a state.
    fn kept(&self, state: &State) -> Partial {
        if matches!(state, State::Ready(_)) { Partial::default() } else { self.partial.clone() }
    }

    /// The row after `lease` ended with `end`.
    fn ended(&self, lease: &Lease, end: Result<(), Failure>, stats: Stats, now: Timestamp, policy: &Policy) -> Step {
        let next = end.as_ref().err().and_then(|failure| self.next_part(lease, failure.kind, &stats, now, policy));
        let state = match (&end, &next) {
            (Ok(()), _) => State::Ready(Made { lease: lease.id.clone(), borrowed: None, since: now }),
            // It uses no attempt, since nothing has failed.
            (Err(_), Some(Next::Continue(_))) => {
                State::Queued { since: now, due: now, attempt: lease.attempt, warming: false }
            }
            // The dependency that it was at may be built in less time than the limit.
            (Err(failure), Some(Next::Limit(why))) => {
                State::Failed { failure: Failure::new(failure.kind, why), since: now, until: None }
            }
            (Err(failure), _) => self.after_failure(failure.clone(), lease.attempt, now, policy),
        };
        let continued = matches!(next, Some(Next::Continue(_)));
        let mut after = self.after(Attempt { failure: end.err(), stats, continued, ..over(lease, now) }, state);
        if let Some(Next::Continue(next)) = next {
            after.partial.continued = next;
        }
        Step::Move(after)
    }

    fn after_failure(&self, failure: Failure, attempt: u32, now: Timestamp, policy: &Policy) -> State {
        match failure.kind.class() {
            Class::Permanent => State::Failed { failure, since: now, until: None },
            // The launcher's word, by which the system is paused or backs off.
            Class::Launcher | Class::Operator if failure.kind.is_of_no_builder() => {
                State::Queued { since: now, due: now, attempt, warming: false }
            }
            // The attempt does not count, since the package may not be at fault. It is tried again later and later, and
            // after as many failures in a row as there are attempts it cools down.
            Class::Operator if self.operator_failures() + 1 < policy.attempts => {
                let due = now + policy.delay_after(self.operator_failures() + 1);
                State::Queued { since: now, due, attempt, warming: false }
            }
            // Backoff: each retry waits longer.
            Class::Transient | Class::TransientLarger if attempt < policy.attempts => {
                let due = now + policy.delay_after(attempt);
                State::Queued { since: now, due, attempt: attempt + 1, warming: false }
            }
            Class::Operator | Class::Launcher | Class::Transient | Class::TransientLarger | Class::Deployment => {
                State::Failed { failure, since: now, until: Some(now + policy.cool_down) }
            }
        }
    }

    /// How many of its last attempts, in a row, ended with a failure that only an operator can fix.
    fn operator_failures(&self) -> u32 {
        let of_operator =
            |attempt: &&Attempt| attempt.failure.as_ref().is_some_and(|it| it.kind.class() == Class::Operator);
        self.tries().take_while(of_operator).count() as u32
    }

    /// Its ended attempts, the newest first, without those that ended to wait.
    fn tries(&self) -> impl Iterator<Item = &Attempt> {
        self.history.iter().rev().filter(|attempt| attempt.awaited.is_none())
    }

    /// The row after an attempt.
    fn after(&self, attempt: Attempt, state: State) -> Build {
        let mut history = self.history.clone();
        history.push(attempt);
        history.drain(..history.len().saturating_sub(HISTORY_MAX));
        Build { key: self.key.clone(), partial: self.kept(&state), state, history }
    }

    /// What stays in use of a build that is made anew: a catalogue, since requests need one meanwhile.
    fn withdrawn(&self, made: &Made) -> Partial {
        let published = Published { lease: made.lease.clone(), whole: true };
        Partial { published: (self.key.product == Product::Catalogue).then_some(published), ..Partial::default() }
    }

    /// Ready, with objects that may be another build's.
    fn ready(&self, prefix: &AttemptPrefix, declared: &Declared, now: Timestamp) -> State {
        let borrow = || Borrowed { from: prefix.key.clone(), declared: declared.clone() };
        let borrowed = (prefix.key != self.key).then(borrow);
        State::Ready(Made { lease: prefix.lease.clone(), borrowed, since: now })
    }

    /// Whether it may adopt another build's result for its derivation: no attempt is under way, and it has not failed
    /// permanently.
    pub fn may_adopt(&self) -> bool {
        matches!(self.state, State::Unasked | State::Queued { .. } | State::Failed { until: Some(_), .. })
    }

    /// Whether it failed without a try, since a dependency of it is known to fail, or it would take too long.
    fn is_doomed(&self) -> bool {
        let foreseen = |last: &Attempt| last.failure.as_ref().is_some_and(|failure| failure.kind.is_foreseen());
        self.history.last().is_some_and(|last| last.seen_in.is_some() || foreseen(last))
    }

    /// The machine of an attempt: that of a first attempt, enlarged as the failures before and the plan of one that was
    /// declined require.
    fn next_size(&self, attempt: u32, first: Size) -> Size {
        let size = match self.tries().next() {
            Some(Attempt { size, failure: Some(failure), .. }) if attempt > 1 => size.after(failure.kind),
            _ => first,
        };
        let needed = self.declined_machines().filter_map(|declined| declined.plan?.memory).max();
        needed.map_or(size, |memory| size.with_memory_for(memory))
    }

    /// The attempts that were declined since their machine was too small.
    pub(crate) fn declined_machines(&self) -> impl Iterator<Item = &Attempt> {
        let is_such = |failure: &Failure| failure.kind == Kind::MachineTooSmall;
        self.history.iter().filter(move |attempt| attempt.failure.as_ref().is_some_and(is_such))
    }

    /// Whether the newest ended attempt is that lease's and ended the same way: then this report was applied before,
    /// and only its reply was lost (idempotent).
    fn heard(&self, id: &LeaseId, end: &Result<(), Failure>) -> bool {
        let heard = |last: &Attempt| &last.lease == id && last.failure.as_ref() == end.as_ref().err();
        self.history.last().is_some_and(|last| heard(last) && !last.has_left_work())
    }

    /// Whether the newest ended attempt is that lease's, and ended to wait.
    fn has_waited(&self, id: &LeaseId) -> bool {
        self.history.last().is_some_and(|last| &last.lease == id && last.awaited.is_some())
    }

    /// Whether the newest ended attempt is that lease's, and left that derivation to another build.
    fn has_left(&self, id: &LeaseId, derivation: &DrvHash) -> bool {
        self.history.last().is_some_and(|last| &last.lease == id && last.left.as_ref() == Some(derivation))
    }
}

/// The attempt of a lease that ended at `now`.
fn over(lease: &Lease, now: Timestamp) -> Attempt {
    Attempt {
        lease: lease.id.clone(),
        number: lease.attempt,
        size: lease.size,
        claimed: lease.claimed,
        ended: now,
        task: lease.task.clone(),
        failure: None,
        continued: false,
        left: None,
        awaited: None,
        seen_in: None,
        plan: lease.plan,
        stats: Stats::default(),
    }
}

/// Applies `event` to `build` at `now`. Pure and idempotent: the same arguments give the same step, and a second
/// application of an event gives [`Step::Stay`], so a write whose reply was lost can be repeated.
///
/// ```
/// use binplz_core::{
///     build::{Build, Event, State, Step, apply},
///     id::time::Timestamp,
///     build::policy::Policy,
/// };
///
/// let (now, policy) = (Timestamp(1_796_083_200_000), Policy::default());
/// let unasked = Build::unasked("34268251cf5547d39063f2c5ea9a196246f7f3a6/x86_64-linux/tree".parse()?);
///
/// let Step::Move(queued) = apply(&unasked, &Event::Ask, now, &policy)? else { panic!("a first request queues the build") };
/// assert!(matches!(queued.state, State::Queued { attempt: 1, .. }));
/// assert_eq!(apply(&queued, &Event::Ask, now, &policy)?, Step::Stay);
///
/// let heartbeat = Event::Heartbeat { id: "0123456789abcdef0123456789abcdef".parse()? };
/// assert!(apply(&queued, &heartbeat, now, &policy).is_err(), "a build without a lease has no builder");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Illegal`], if the event must change nothing.
pub fn apply(build: &Build, event: &Event, now: Timestamp, policy: &Policy) -> Result<Step, Illegal> {
    let queued = || build.with(queued_at(now));
    match (event, &build.state) {
        (Event::Ask, State::Unasked) => Ok(queued()),
        (Event::Ask, State::Failed { since, until: Some(until), .. }) if now >= *until || since.is_ahead_of(now) => {
            Ok(queued())
        }
        // An earlier version has taken it for a permanent failure.
        (Event::Ask, State::Failed { failure, until: None, .. }) if failure.kind.class() == Class::Deployment => {
            Ok(queued())
        }
        (Event::Ask, State::Failed { since, .. }) if build.is_doomed() && now >= *since + LIFE => Ok(queued()),
        (Event::Ask, State::Queued { since, attempt, .. }) if since.is_ahead_of(now) => {
            Ok(build.with(State::Queued { since: now, due: now, attempt: *attempt, warming: false }))
        }
        (Event::Ask, State::Queued { since, due, attempt, warming: true }) => {
            Ok(build.with(State::Queued { since: *since, due: *due, attempt: *attempt, warming: false }))
        }
        (Event::Ask, _) => Ok(Step::Stay),

        (Event::Warm, State::Unasked) => {
            Ok(build.with(State::Queued { since: now, due: now, attempt: 1, warming: true }))
        }
        (Event::Warm, _) => Ok(Step::Stay),

        (Event::Claim { id, .. }, State::Building(lease)) if &lease.id == id => Ok(Step::Stay),
        (Event::Claim { .. }, State::Queued { due, .. }) if now < *due => Err(Illegal::NotDue),
        (Event::Claim { id, token, size, on_demand, seconds }, State::Queued { attempt, .. }) => {
            Ok(build.with(State::Building(Lease {
                id: id.clone(),
                token: token.clone(),
                attempt: *attempt,
                size: build.next_size(*attempt, *size),
                claimed: now,
                expires: now + policy.lease,
                task: None,
                on_demand: *on_demand,
                derivation: None,
                seconds: *seconds,
                plan: None,
            })))
        }
        (Event::Claim { .. }, _) => Err(Illegal::NotQueued),

        (Event::Lapse, State::Building(lease)) if now >= lease.expires => match lease.has_started(policy) {
            true => Ok(build.ended(lease, Err(Failure::new(Kind::LostHeartbeat, "")), Stats::default(), now, policy)),
            false => Ok(build.with(unstarted(lease, now, policy))),
        },
        (Event::Lapse, _) => Ok(Step::Stay),

        (Event::Launched { id, task }, State::Building(lease)) if &lease.id == id => match &lease.task {
            Some(known) if known == task => Ok(Step::Stay),
            _ => Ok(build.with(State::Building(Lease { task: Some(task.clone()), ..lease.clone() }))),
        },
        (Event::Heartbeat { id }, State::Building(lease)) if live(lease, id, now) => match now + policy.lease {
            expires if expires > lease.expires || lease.expires.is_ahead_of(expires) => {
                Ok(build.with(State::Building(Lease { expires, ..lease.clone() })))
            }
            _ => Ok(Step::Stay),
        },
        (Event::Checkpoint { checkpoint, top_level }, State::Building(lease))
            if live(lease, &checkpoint.lease, now) =>
        {
            match build.partial.with(checkpoint, *top_level) {
                partial if partial == build.partial => Ok(Step::Stay),
                partial => Ok(Step::Move(Build { partial, ..build.clone() })),
            }
        }
        (Event::Hold { id, derivation, plan }, State::Building(lease)) if live(lease, id, now) => {
            match &lease.derivation {
                None => {
                    let derivation = Some(derivation.clone());
                    Ok(build.with(State::Building(Lease { derivation, plan: *plan, ..lease.clone() })))
                }
                Some(held) if held == derivation => Ok(Step::Stay),
                Some(_) => Err(Illegal::OtherDerivation),
            }
        }
        (Event::Decline { id, plan, failure }, State::Building(lease)) if live(lease, id, now) => {
            let state = match failure.kind {
                // It uses no attempt, since nothing was built.
                Kind::MachineTooSmall => queued_again(lease, now),
                _ => build.after_failure(failure.clone(), lease.attempt, now, policy),
            };
            let attempt = Attempt { failure: Some(failure.clone()), plan: Some(*plan), ..over(lease, now) };
            Ok(Step::Move(build.after(attempt, state)))
        }
        (Event::Decline { id, failure, .. }, _) if build.heard(id, &Err(failure.clone())) => Ok(Step::Stay),
        (Event::Join { id, derivation, .. }, State::Building(lease))
            if live(lease, id, now) && lease.derivation.as_ref().is_some_and(|held| held != derivation) =>
        {
            Err(Illegal::OtherDerivation)
        }
        (Event::Join { id, derivation, declared, realisation }, State::Building(lease)) if live(lease, id, now) => {
            let attempt = Attempt { left: Some(derivation.clone()), ..over(lease, now) };
            let (derivation, declared) = (derivation.clone(), declared.clone());
            let joined = build.after(attempt, State::Joined { derivation, declared, since: now });
            match realisation {
                Realisation::Free => Err(Illegal::NotHeld),
                realisation => Ok(Step::Move(followed(&joined, realisation, now).unwrap_or(joined))),
            }
        }
        (Event::Join { id, derivation, .. }, _) if build.has_left(id, derivation) => Ok(Step::Stay),
        (Event::Wait { id, plan, first, stats }, State::Building(lease)) if live(lease, id, now) => {
            let awaited = plan.get(*first).map(|planned| planned.drv.clone()).ok_or(Illegal::NotHeld)?;
            let attempt = Attempt { awaited: Some(awaited), stats: *stats, ..over(lease, now) };
            let (due, attempt_number) = (lease.claimed, lease.attempt);
            let waiting = Waiting { since: now, due, attempt: attempt_number, first: *first, plan: plan.clone() };
            Ok(Step::Move(build.after(attempt, State::Waiting(waiting))))
        }
        (Event::Wait { id, .. }, _) if build.has_waited(id) => Ok(Step::Stay),
        (Event::Wake, State::Waiting(Waiting { due, attempt, .. })) => {
            // Its old place in the queue.
            Ok(build.with(State::Queued { since: *due, due: *due, attempt: *attempt, warming: false }))
        }
        (Event::Wake, _) => Ok(Step::Stay),
        (Event::Doom { id, failure, seen_in }, State::Building(lease)) if live(lease, id, now) => {
            let (told, failure) = (Some(failure.clone()), failure.clone());
            let attempt = Attempt { failure: told, seen_in: Some(seen_in.clone()), ..over(lease, now) };
            Ok(Step::Move(build.after(attempt, State::Failed { failure, since: now, until: None })))
        }
        (Event::Doom { id, failure, .. }, _) if build.heard(id, &Err(failure.clone())) => Ok(Step::Stay),
        (Event::Follow { derivation, realisation }, State::Joined { derivation: left, .. }) if left == derivation => {
            Ok(followed(build, realisation, now).map_or(Step::Stay, Step::Move))
        }
        (Event::Follow { .. }, _) => Ok(Step::Stay),
        (Event::Adopt { prefix, declared }, _) if build.may_adopt() => {
            Ok(build.with(build.ready(prefix, declared, now)))
        }
        (Event::Adopt { .. }, _) => Ok(Step::Stay),

        (Event::Settle { id, end, stats }, State::Building(lease)) if live(lease, id, now) => {
            Ok(build.ended(lease, end.clone(), *stats, now, policy))
        }
        (Event::Settle { id, end, .. }, _) if build.heard(id, end) => Ok(Step::Stay),
        (Event::Stopped { id, failure }, State::Building(lease))
            if &lease.id == id && failure.kind.class() == Class::Launcher =>
        {
            Ok(build.with(unstarted(lease, now, policy)))
        }
        (Event::Stopped { id, failure }, State::Building(lease)) if &lease.id == id => {
            Ok(build.ended(lease, Err(failure.clone()), Stats::default(), now, policy))
        }
        // A task that stops after its build has ended is normal.
        (Event::Stopped { .. }, _) => Ok(Step::Stay),
        (Event::Refused { id, .. }, State::Building(lease)) if &lease.id == id && !lease.has_started(policy) => {
            Ok(build.with(unstarted(lease, now, policy)))
        }
        // A sweep may have started it meanwhile.
        (Event::Refused { .. }, _) => Ok(Step::Stay),
        (
            Event::Launched { .. }
            | Event::Heartbeat { .. }
            | Event::Checkpoint { .. }
            | Event::Hold { .. }
            | Event::Decline { .. }
            | Event::Join { .. }
            | Event::Wait { .. }
            | Event::Doom { .. }
            | Event::Settle { .. },
            _,
        ) => Err(Illegal::NotLive),

        // An operator allows as many attempts as a first request has.
        (Event::Retry, State::Failed { .. }) => {
            let partial = Partial { continued: Continued::default(), ..build.partial.clone() };
            Ok(Step::Move(Build { state: queued_at(now), partial, ..build.clone() }))
        }
        (Event::Retry, State::Queued { since, due, attempt, .. }) if now < *due => {
            Ok(build.with(State::Queued { since: *since, due: now, attempt: *attempt, warming: false }))
        }
        (Event::Retry, State::Queued { .. } | State::Building(_) | State::Joined { .. } | State::Waiting(_)) => {
            Ok(Step::Stay)
        }
        (Event::Retry, _) => Err(Illegal::NotFailed),

        (Event::Cancel, State::Queued { .. } | State::Building(_) | State::Joined { .. } | State::Waiting(_)) => {
            Ok(build.with(State::Unasked))
        }
        (Event::Cancel, State::Unasked) => Ok(Step::Stay),
        (Event::Cancel, _) => Err(Illegal::NotUnderWay),

        (Event::Suspend, State::Building(lease)) => {
            Ok(build.with(State::Queued { since: now, due: now, attempt: lease.attempt, warming: false }))
        }
        (Event::Suspend, _) => Ok(Step::Stay),

        (Event::Forget, State::Unasked) if build.history.is_empty() => Ok(Step::Stay),
        (Event::Forget, State::Failed { .. } | State::Unasked) => Ok(Step::Move(Build::unasked(build.key.clone()))),
        (Event::Forget, _) => Err(Illegal::NotFailed),

        // A report about objects that it does not have, or not any more, is late.
        (Event::Withdraw { prefix }, State::Ready(made)) if made.prefix(&build.key) == *prefix => {
            Ok(Step::Move(Build { state: queued_at(now), partial: build.withdrawn(made), ..build.clone() }))
        }
        (Event::Withdraw { .. }, _) => Ok(Step::Stay),
    }
}

/// The state of a build that follows another one; `None` while that one is under way. If the other one gave up, this
/// build begins anew, and may take the derivation on itself.
fn followed(joined: &Build, realisation: &Realisation, now: Timestamp) -> Option<Build> {
    let State::Joined { declared, .. } = &joined.state else { return None };
    let mut followed = joined.clone();
    followed.state = match realisation {
        Realisation::UnderWay => return None,
        Realisation::Free => queued_at(now),
        Realisation::Made(prefix) => joined.ready(prefix, declared, now),
        Realisation::Failed(failure) => {
            // Remembers that this failure was reported before.
            if let Some(attempt) = followed.history.last_mut() {
                attempt.failure = Some(failure.clone());
            }
            State::Failed { failure: failure.clone(), since: now, until: None }
        }
    };
    followed.partial = joined.kept(&followed.state);
    Some(followed)
}

fn queued_at(now: Timestamp) -> State {
    State::Queued { since: now, due: now, attempt: 1, warming: false }
}

/// Queued again at once, as the same attempt.
fn queued_again(lease: &Lease, now: Timestamp) -> State {
    State::Queued { since: now, due: now, attempt: lease.attempt, warming: false }
}

/// Queued as before the claim: no task was started. What is refused for every build is tried again for another one first,
/// and the system backs off (`quota::limits::refusals`). A machine that is larger than usual may be refused for its size, so
/// that build alone waits for longer.
fn unstarted(lease: &Lease, now: Timestamp, policy: &Policy) -> State {
    let delayed = lease.size != policy.size && lease.is_on_demand();
    let due = if delayed { now + REFUSED_MAX } else { now };
    State::Queued { since: now, due, attempt: lease.attempt, warming: false }
}

fn live(lease: &Lease, id: &LeaseId, now: Timestamp) -> bool {
    &lease.id == id && now < lease.expires
}
