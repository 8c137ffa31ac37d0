//! What holds after any sequence of events.

use std::time::Duration;

use binplz_core::{
    build::{
        Build, Event, HISTORY_MAX, Illegal, State, Step, apply,
        continued::Continued,
        derivation::Realisation,
        failure::{Class, Failure, Kind},
        partial::{Checkpoint, Partial},
        plan::Plan,
        policy::Policy,
        protocol::Stats,
        size::Size,
        waiting::Planned,
    },
    id::{
        key::{BuildKey, LeaseId},
        time::Timestamp,
    },
    objects::artifact::{AttemptPrefix, Declared},
};
use proptest::prelude::*;

use crate::{NOW, drv, id, settle, token, unasked};

/// A random event: of which lease, counted from the newest one back, and after how much time.
#[derive(Clone, Debug)]
struct Happening {
    after: Duration,
    back: u32,
    verb: Verb,
}

#[derive(Clone, Debug)]
enum Verb {
    Ask,
    Warm,
    Claim,
    Launched,
    Heartbeat,
    Checkpoint(u32, bool),
    Hold(char),
    Join(char, Realisation),
    Follow(char, Realisation),
    Wait,
    Wake,
    Doom,
    Decline(bool),
    Adopt,
    Settle(Result<(), Kind>),
    RanOut(u32),
    Stopped(Kind),
    Refused,
    Lapse,
    Retry,
    Cancel,
    Suspend,
    Forget,
    Withdraw,
}

fn any_happening() -> impl Strategy<Value = Happening> {
    let kind = || prop::sample::select(&Kind::ALL[..]);
    let drv = || prop::sample::select(&['a', 'a', 'a', 'b'][..]);
    let verb = prop_oneof![
        4 => Just(Verb::Ask),
        1 => Just(Verb::Warm),
        6 => Just(Verb::Claim),
        2 => Just(Verb::Launched),
        2 => Just(Verb::Heartbeat),
        2 => (1..4u32, any::<bool>()).prop_map(|(parts, top_level)| Verb::Checkpoint(parts, top_level)),
        3 => drv().prop_map(Verb::Hold),
        3 => (drv(), any_realisation()).prop_map(|(drv, stands)| Verb::Join(drv, stands)),
        3 => (drv(), any_realisation()).prop_map(|(drv, stands)| Verb::Follow(drv, stands)),
        3 => Just(Verb::Wait),
        3 => Just(Verb::Wake),
        1 => Just(Verb::Doom),
        1 => any::<bool>().prop_map(Verb::Decline),
        1 => Just(Verb::Adopt),
        1 => Just(Verb::Settle(Ok(()))),
        4 => kind().prop_map(|kind| Verb::Settle(Err(kind))),
        2 => (0..3u32).prop_map(Verb::RanOut),
        2 => kind().prop_map(Verb::Stopped),
        2 => Just(Verb::Refused),
        3 => Just(Verb::Lapse),
        1 => Just(Verb::Retry),
        1 => Just(Verb::Cancel),
        1 => Just(Verb::Suspend),
        1 => Just(Verb::Forget),
        1 => Just(Verb::Withdraw),
    ];
    // Below a lease and above it, below a delay and above it, up to a cool-down.
    let after = prop_oneof![5 => Just(0), 3 => 1..2_000u64, 3 => 2_000..70_000u64, 1 => 70_000..1_000_000u64];
    (after, 0..3u32, verb).prop_map(|(ms, back, verb)| Happening { after: Duration::from_millis(ms), back, verb })
}

fn any_realisation() -> impl Strategy<Value = Realisation> {
    let permanent = Kind::ALL.into_iter().filter(|kind| kind.class() == Class::Permanent).collect::<Vec<_>>();
    prop_oneof![
        2 => Just(Realisation::Free),
        3 => Just(Realisation::UnderWay),
        1 => Just(Realisation::Made(another())),
        1 => prop::sample::select(permanent).prop_map(|kind| Realisation::Failed(Failure::new(kind, "z"))),
    ]
}

/// Where another build has made something.
fn another() -> AttemptPrefix {
    AttemptPrefix {
        key: BuildKey { product: "another".parse().expect("a package"), ..unasked().key },
        lease: id(u32::MAX),
    }
}

/// What is left to build of a build that waits for a dependency.
fn plan() -> Vec<Planned> {
    vec![Planned { drv: drv('c'), name: "c-1.0".to_owned(), needs: vec![] }]
}

fn follow(letter: char, realisation: Realisation) -> Event {
    Event::Follow { derivation: drv(letter), realisation }
}

/// A build, what has happened to it, and when.
struct World {
    build: Build,
    now: Timestamp,
    /// Leases given out so far; each claim brings a new one.
    leases: u32,
    policy: Policy,
}

impl World {
    fn new() -> World {
        World { build: unasked(), now: NOW, leases: 0, policy: Policy::default() }
    }

    fn event(&mut self, happening: &Happening) -> Event {
        let n = self.leases.saturating_sub(happening.back);
        match &happening.verb {
            Verb::Ask => Event::Ask,
            Verb::Warm => Event::Warm,
            Verb::Claim => {
                self.leases += 1;
                Event::Claim {
                    id: id(self.leases),
                    token: token(self.leases),
                    size: Size::default(),
                    on_demand: false,
                    seconds: None,
                }
            }
            Verb::Launched => Event::Launched { id: id(n), task: format!("task {n}") },
            Verb::Heartbeat => Event::Heartbeat { id: id(n) },
            Verb::Checkpoint(parts, top_level) => {
                let checkpoint = Checkpoint { lease: id(n), parts: *parts, bytes: 7 };
                Event::Checkpoint { checkpoint, top_level: *top_level }
            }
            Verb::Hold(letter) => Event::Hold { id: id(n), derivation: drv(*letter), plan: None },
            Verb::Join(letter, realisation) => Event::Join {
                id: id(n),
                derivation: drv(*letter),
                declared: Declared { main_program: Some("x".to_owned()), output: None },
                realisation: realisation.clone(),
            },
            Verb::Follow(letter, realisation) => follow(*letter, realisation.clone()),
            Verb::Wait => Event::Wait { id: id(n), plan: plan(), first: 0, stats: Stats::default() },
            Verb::Wake => Event::Wake,
            Verb::Doom => Event::Doom { id: id(n), failure: Failure::new(Kind::BuildFailed, "z"), seen_in: another() },
            Verb::Decline(small) => Event::Decline {
                id: id(n),
                plan: Plan { memory: Some(9 << 30), ..Plan::default() },
                failure: Failure::new(if *small { Kind::MachineTooSmall } else { Kind::TooLong }, "w"),
            },
            Verb::Adopt => Event::Adopt { prefix: another(), declared: Declared::default() },
            Verb::Settle(end) => settle(n, end.map_err(|kind| Failure::new(kind, "x"))),
            Verb::RanOut(built) => match settle(n, Err(Failure::new(Kind::TimedOut, "x"))) {
                Event::Settle { id, end, stats } => Event::Settle { id, end, stats: Stats { built: *built, ..stats } },
                other => other,
            },
            Verb::Stopped(kind) => Event::Stopped { id: id(n), failure: Failure::new(*kind, "y") },
            Verb::Refused => Event::Refused { id: id(n), failure: Failure::new(Kind::NotStarted, "y") },
            Verb::Lapse => Event::Lapse,
            Verb::Retry => Event::Retry,
            Verb::Cancel => Event::Cancel,
            Verb::Suspend => Event::Suspend,
            Verb::Forget => Event::Forget,
            Verb::Withdraw => Event::Withdraw { prefix: self.build.prefix().unwrap_or_else(another) },
        }
    }

    fn apply(&self, event: &Event) -> Result<Step, Illegal> {
        apply(&self.build, event, self.now, &self.policy)
    }

    /// Applies it, and tells whether the row changed.
    fn take(&mut self, event: &Event) -> bool {
        match self.apply(event) {
            Ok(Step::Move(after)) => {
                self.build = after;
                true
            }
            Ok(Step::Stay) | Err(_) => false,
        }
    }
}

/// Runs a story, and looks at the world before and after each event.
fn tell(
    story: Vec<Happening>,
    mut look: impl FnMut(&World, &Event, &World) -> Result<(), TestCaseError>,
) -> Result<World, TestCaseError> {
    let mut world = World::new();
    for happening in story {
        world.now = world.now + happening.after;
        let event = world.event(&happening);
        let before = World { build: world.build.clone(), policy: world.policy.clone(), ..world };
        world.take(&event);
        look(&before, &event, &world)?;
    }
    Ok(world)
}

fn any_story() -> impl Strategy<Value = Vec<Happening>> {
    prop::collection::vec(any_happening(), 0..80)
}

proptest! {
    #[test]
    fn at_most_one_lease_is_heard(story in any_story()) {
        tell(story, |_, _, world| {
            // Older ones than the last few are as those.
            let leases = world.leases.saturating_sub(4)..=world.leases;
            let pulses = leases.clone().filter(|n| world.apply(&Event::Heartbeat { id: id(*n) }).is_ok()).count();
            let settles = leases.filter(|n| matches!(world.apply(&settle(*n, Ok(()))), Ok(Step::Move(_)))).count();
            prop_assert!(pulses <= 1);
            prop_assert_eq!(settles, pulses);
            Ok(())
        })?;
    }

    #[test]
    fn a_lease_that_is_over_settles_nothing_and_lives_no_longer(story in any_story()) {
        tell(story, |before, event, after| {
            let of_the_past = |lease: &LeaseId| {
                before.build.lease().is_none_or(|held| &held.id != lease || before.now >= held.expires)
            };
            if let Event::Settle { id, .. } | Event::Heartbeat { id } = event
                && of_the_past(id)
            {
                prop_assert_eq!(&before.build, &after.build);
            }
            Ok(())
        })?;
    }

    #[test]
    fn what_is_ready_stays_as_it_is_until_its_own_objects_are_withdrawn(story in any_story()) {
        tell(story, |before, event, after| {
            if matches!(before.build.state, State::Ready { .. }) && before.build != after.build {
                let prefix = before.build.prefix().expect("what is ready has objects");
                prop_assert_eq!(event, &Event::Withdraw { prefix });
                let queued = matches!(after.build.state, State::Queued { attempt: 1, .. });
                prop_assert!(queued);
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_round_has_no_more_attempts_than_the_policy_allows(story in any_story()) {
        let mut claims = 0;
        tell(story, |before, event, after| {
            match (&before.build.state, &after.build.state) {
                // A round begins.
                (
                    State::Unasked | State::Failed { .. } | State::Joined { .. } | State::Ready(_),
                    State::Queued { .. },
                ) => claims = 0,
                // It is as if that attempt had not begun.
                (State::Building(lease), State::Queued { attempt, .. }) if *attempt == lease.attempt => claims -= 1,
                (State::Building(lease), State::Waiting(waiting)) => {
                    prop_assert_eq!(waiting.attempt, lease.attempt);
                    claims -= 1;
                }
                (State::Queued { .. }, State::Building(lease)) => {
                    claims += 1;
                    prop_assert_eq!(lease.attempt, claims);
                    let claim = matches!(event, Event::Claim { .. });
                    prop_assert!(claim);
                }
                _ => {}
            }
            prop_assert!(claims <= before.policy.attempts);
            Ok(())
        })?;
    }

    /// It waits until it is woken or cancelled, then goes on as the same attempt, before what was queued after its claim.
    #[test]
    fn a_build_that_waits_holds_no_lease_and_goes_on_as_the_same_attempt_in_its_old_place(story in any_story()) {
        let mut place = (NOW, 0);
        tell(story, |before, event, after| {
            if let (Some(lease), State::Waiting(_)) = (before.build.lease(), &after.build.state) {
                place = (lease.claimed, lease.attempt);
                let awaited = after.build.history.last().and_then(|attempt| attempt.awaited.clone());
                prop_assert!(after.build.lease().is_none() && awaited == Some(drv('c')));
            }
            if matches!(before.build.state, State::Waiting(_)) && before.build != after.build {
                match (event, &after.build.state) {
                    (Event::Cancel, State::Unasked) => {}
                    (Event::Wake, State::Queued { due, attempt, .. }) => prop_assert_eq!((*due, *attempt), place),
                    _ => prop_assert!(false, "{:?} by {:?}", after.build.state, event),
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_task_that_was_not_started_uses_no_attempt(story in any_story()) {
        tell(story, |before, event, after| {
            let refused = matches!(event, Event::Stopped { failure, .. } | Event::Refused { failure, .. }
                if failure.kind.class() == Class::Launcher);
            if let Some(lease) = before.build.lease().filter(|_| refused && before.build != after.build) {
                let waits = matches!(after.build.state, State::Queued { attempt, .. } if attempt == lease.attempt);
                prop_assert!(waits, "{:?}", after.build.state);
                prop_assert_eq!(&before.build.history, &after.build.history);
            }
            Ok(())
        })?;
    }

    #[test]
    fn an_event_that_is_applied_again_at_once_brings_nothing_new(story in any_story()) {
        tell(story, |before, event, after| {
            if before.build != after.build {
                prop_assert_eq!(after.apply(event), Ok(Step::Stay), "{:?}", event);
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_move_always_changes_the_row(story in any_story()) {
        tell(story, |before, event, after| {
            prop_assert_eq!(matches!(before.apply(event), Ok(Step::Move(_))), before.build != after.build);
            Ok(())
        })?;
    }

    #[test]
    fn the_history_is_short_and_in_order(story in any_story()) {
        tell(story, |before, event, after| {
            let history = &after.build.history;
            if *event == Event::Forget && before.build != after.build {
                prop_assert!(history.is_empty());
                return Ok(());
            }
            prop_assert!(history.len() <= HISTORY_MAX);
            prop_assert!(history.iter().all(|attempt| attempt.claimed <= attempt.ended));
            prop_assert!(history.windows(2).all(|pair| pair[0].ended <= pair[1].claimed));
            // At most one more, at its end; what was known stays, save that one who has left its derivation hears how that ended.
            let mut known = before.build.history.clone();
            if let (State::Joined { .. }, Some(last)) = (&before.build.state, known.last_mut()) {
                let heard = history.last().and_then(|attempt| attempt.failure.clone());
                prop_assert!(last.failure.is_none());
                last.failure = heard;
            }
            let known = &known;
            let kept = known.len().min(history.len() - usize::from(history.last() != known.last()));
            prop_assert_eq!(&known[known.len() - kept..], &history[..kept]);
            Ok(())
        })?;
    }

    #[test]
    fn a_permanent_failure_starts_again_for_nobody_but_an_operator(story in any_story()) {
        tell(story, |before, event, after| {
            if let State::Failed { failure, until, .. } = &before.build.state {
                prop_assert_eq!(until.is_none(), failure.kind.class() == Class::Permanent);
                if until.is_none() && before.build != after.build {
                    prop_assert!(matches!(event, Event::Retry | Event::Forget));
                }
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_lease_takes_on_one_derivation_or_leaves_one_and_then_it_is_over(story in any_story()) {
        tell(story, |before, event, after| {
            let (old, new) = (before.build.lease(), after.build.lease());
            if let (Some(old), Some(new)) = (old, new)
                && old.id == new.id
            {
                prop_assert!(old.derivation.is_none() || old.derivation == new.derivation);
            }
            if let (Event::Join { derivation, .. }, Some(lease)) = (event, old)
                && before.build != after.build
            {
                prop_assert!(new.is_none() && lease.derivation.as_ref().is_none_or(|held| held == derivation));
                prop_assert_eq!(after.build.left(), Some(derivation));
            }
            Ok(())
        })?;
    }

    /// A follower takes over the result of the build that it follows, and nothing else makes it ready or failed.
    #[test]
    fn one_who_follows_ends_as_the_realisation_does(story in any_story()) {
        tell(story, |before, event, after| {
            if let State::Joined { derivation: own, .. } = &before.build.state
                && before.build != after.build
            {
                let prefix = after.build.prefix();
                let as_it_should = match (event, &after.build.state) {
                    (Event::Cancel, State::Unasked) => true,
                    (Event::Follow { derivation, realisation }, state) if derivation == own => match (realisation, state) {
                        (Realisation::Free, State::Queued { attempt: 1, .. }) => true,
                        (Realisation::Made(made), State::Ready(_)) => prefix.as_ref() == Some(made),
                        (Realisation::Failed(why), State::Failed { failure, until: None, .. }) => why == failure,
                        _ => false,
                    },
                    _ => false,
                };
                prop_assert!(as_it_should, "{:?}", after.build.state);
            }
            Ok(())
        })?;
    }

    /// What is stored of a catalogue is kept until it is complete or forgotten: each attempt continues another.
    #[test]
    fn parts_are_replaced_by_parts_and_dropped_with_their_build(story in any_story()) {
        tell(story, |before, event, after| {
            let (old, new) = (&before.build.partial, &after.build.partial);
            let parts = |partial: &Partial| Partial { continued: Continued::default(), ..partial.clone() };
            if parts(old) != parts(new) {
                let live = before.build.lease().map(|lease| &lease.id);
                match event {
                    Event::Checkpoint { checkpoint, .. } => {
                        prop_assert_eq!(live, Some(&checkpoint.lease));
                        prop_assert!(old.checkpoint.is_none() || new.checkpoint.is_some());
                        prop_assert!(old.published.is_none() || new.published.is_some());
                    }
                    Event::Forget => prop_assert!(new.is_empty()),
                    _ => prop_assert!(new.is_empty() && matches!(after.build.state, State::Ready(_))),
                }
            }
            prop_assert!(new.is_empty() || !matches!(after.build.state, State::Ready(_)));
            Ok(())
        })?;
    }

    /// Each continued attempt is counted, and no build has more than the policy allows, until an operator retries it.
    #[test]
    fn a_build_is_continued_no_more_often_than_the_policy_allows(story in any_story()) {
        tell(story, |before, event, after| {
            let (old, new) = (before.build.partial.continued, after.build.partial.continued);
            prop_assert!(new.attempts <= after.policy.continued_attempts);
            match event {
                _ if old == new => {}
                Event::Settle { stats, .. } if matches!(after.build.state, State::Queued { .. }) => {
                    prop_assert!(new.attempts == old.attempts + 1 && new.built == old.built + stats.built);
                    prop_assert!(after.build.history.last().is_some_and(|last| last.continued));
                }
                Event::Retry | Event::Forget => prop_assert!(new.is_none()),
                _ => prop_assert!(new.is_none() && matches!(after.build.state, State::Ready(_))),
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_row_is_read_back_as_it_was_written(story in any_story()) {
        tell(story, |_, _, world| {
            let json = serde_json::to_vec(&world.build).expect("a row is JSON");
            prop_assert_eq!(&serde_json::from_slice::<Build>(&json).expect("a row"), &world.build);
            Ok(())
        })?;
    }

    /// From every state, time, a request, a sweep, a dispatcher and one working builder lead to an end.
    #[test]
    fn nothing_is_stuck_where_a_builder_works(story in any_story()) {
        let mut world = tell(story, |_, _, _| Ok(()))?;
        for _ in 0..2 {
            pass_time(&mut world);
            world.take(&Event::Lapse);
            leave_alone(&mut world);
            rest(&mut world);
            world.take(&Event::Ask);
            claim(&mut world);
            world.take(&settle(world.leases, Ok(())));
        }
        let ended = matches!(world.build.state, State::Ready { .. } | State::Failed { until: None, .. });
        prop_assert!(ended, "{:?}", world.build.state);
    }

    /// From every state, if each builder starts and dies silently, the sweep alone leads to an end in time.
    #[test]
    fn nothing_is_stuck_where_every_builder_dies(story in any_story()) {
        let mut world = tell(story, |_, _, _| Ok(()))?;
        world.take(&Event::Ask);
        // The first one may not have started.
        for _ in 0..=world.policy.attempts + 1 {
            pass_time(&mut world);
            world.take(&Event::Lapse);
            leave_alone(&mut world);
            claim(&mut world);
            world.take(&Event::Launched { id: id(world.leases), task: "task".to_owned() });
        }
        let ended = matches!(world.build.state, State::Ready { .. } | State::Failed { .. });
        prop_assert!(ended, "{:?}", world.build.state);
    }
}

#[test]
fn of_many_attempts_the_newest_are_remembered() {
    let mut world = World::new();
    for _ in 0..=HISTORY_MAX * 2 {
        rest(&mut world);
        world.take(&Event::Ask);
        claim(&mut world);
        world.take(&settle(world.leases, Err(Failure::new(Kind::DiskFull, ""))));
    }
    let remembered: Vec<LeaseId> = world.build.history.iter().map(|attempt| attempt.lease.clone()).collect();
    let newest = 1 + u32::try_from(HISTORY_MAX).expect("a few");
    assert_eq!(remembered, (1 + newest..=world.leases).map(id).collect::<Vec<_>>());
    assert_eq!(remembered.len(), HISTORY_MAX);
}

/// On to when the queued is due, or the lease over.
fn pass_time(world: &mut World) {
    if let Some((_, at)) = world.build.status_index().filter(|_| world.build.is_under_way()) {
        world.now = world.now.max(at);
    }
}

/// Whomever it follows or waits for is gone.
fn leave_alone(world: &mut World) {
    world.take(&Event::Wake);
    if let State::Joined { derivation, .. } = world.build.state.clone() {
        world.take(&Event::Follow { derivation, realisation: Realisation::Free });
    }
}

/// On to when a request may start again what has failed for now.
fn rest(world: &mut World) {
    if let State::Failed { until: Some(until), .. } = world.build.state {
        world.now = world.now.max(until);
    }
}

fn claim(world: &mut World) {
    pass_time(world);
    if matches!(world.build.state, State::Queued { .. }) {
        world.leases += 1;
        let claim = Event::Claim {
            id: id(world.leases),
            token: token(world.leases),
            size: Size::default(),
            on_demand: false,
            seconds: None,
        };
        assert!(world.take(&claim), "what is due can be claimed");
    }
}
