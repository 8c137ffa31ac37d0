//! What the row of a catalogue keeps of it before it is complete, and of the one before.

use binplz_core::{
    build::{
        Build, Event, Illegal, State, Step, apply,
        failure::{Failure, Kind},
        partial::{Checkpoint, Partial, Published},
        policy::Policy,
        size::Size,
    },
    id::key::{BuildKey, Product},
};

use crate::{NOW, id, settle, token, unasked};

/// The row after some events, each at its time: a retry is due by then.
fn after(events: &[Event]) -> Build {
    let key = BuildKey { product: Product::Catalogue, ..unasked().key };
    let policy = Policy { attempts: 9, first_delay: std::time::Duration::ZERO, ..Policy::default() };
    events.iter().fold(Build::unasked(key), |build, event| match apply(&build, event, NOW, &policy) {
        Ok(Step::Move(next)) => next,
        Ok(Step::Stay) => build,
        Err(illegal) => panic!("{event:?}: {illegal}"),
    })
}

fn claim(n: u32) -> Event {
    Event::Claim { id: id(n), token: token(n), size: Size::default(), on_demand: false, seconds: None }
}

fn stored(n: u32, parts: u32, top_level: bool) -> Event {
    let checkpoint = Checkpoint { lease: id(n), parts, bytes: u64::from(parts) };
    Event::Checkpoint { checkpoint, top_level }
}

fn lost(n: u32) -> Event {
    Event::Stopped { id: id(n), failure: Failure::new(Kind::Killed, "") }
}

/// The published attempt, and whether it is a whole catalogue; and the attempt and parts of the checkpoint.
type Told = (Option<(u32, bool)>, Option<(u32, u32)>);

fn told(build: &Build) -> Told {
    let Partial { published, checkpoint, .. } = &build.partial;
    let number = |lease: &binplz_core::id::key::LeaseId| (1..9).find(|n| id(*n) == *lease).expect("a small number");
    (
        published.as_ref().map(|Published { lease, whole }| (number(lease), *whole)),
        checkpoint.as_ref().map(|checkpoint| (number(&checkpoint.lease), checkpoint.parts)),
    )
}

#[test]
fn an_attempt_continues_the_checkpoint_of_the_one_before_until_it_has_its_own() {
    let mut story = vec![Event::Ask, claim(1), stored(1, 1, false), stored(1, 3, true)];
    assert_eq!(told(&after(&story)), (Some((1, false)), Some((1, 3))));
    // An older report comes late.
    story.push(stored(1, 2, false));
    assert_eq!(told(&after(&story)), (Some((1, false)), Some((1, 3))));
    for ends in [lost(1), settle(1, Err(Failure::new(Kind::Interrupted, ""))), Event::Suspend] {
        let mut story = story.clone();
        story.extend([ends, claim(2)]);
        assert_eq!(told(&after(&story)), (Some((1, false)), Some((1, 3))));
        let needed: Vec<_> = after(&story).prefixes().into_iter().map(|prefix| prefix.lease).collect();
        assert_eq!(needed, [id(2), id(1), id(1)]);
        story.push(stored(2, 1, false));
        assert_eq!(told(&after(&story)), (Some((1, false)), Some((2, 1))));
        story.push(settle(2, Ok(())));
        let ready = after(&story);
        assert!(matches!(ready.state, State::Ready(_)) && ready.partial.is_empty());
        assert_eq!(ready.prefixes().len(), 1);
    }
}

#[test]
fn a_cancelled_or_failed_catalogue_continues_later_and_a_forgotten_one_begins_anew() {
    let story = vec![Event::Ask, claim(1), stored(1, 2, true)];
    let kept = (Some((1, false)), Some((1, 2)));
    let cancelled = [story.clone(), vec![Event::Cancel, Event::Ask, claim(2)]].concat();
    let broken = || settle(1, Err(Failure::new(Kind::EvaluationError, "")));
    let failed = [story.clone(), vec![broken(), Event::Retry, claim(2)]].concat();
    assert_eq!((told(&after(&cancelled)), told(&after(&failed))), (kept, kept));
    let forgotten = [story, vec![broken(), Event::Forget]].concat();
    assert_eq!(told(&after(&forgotten)), (None, None));
}

#[test]
fn a_catalogue_that_is_made_anew_stays_in_use_and_is_evaluated_from_the_start() {
    let story = vec![Event::Ask, claim(1), stored(1, 2, true), settle(1, Ok(()))];
    let prefix = after(&story).prefix().expect("it is ready");
    let story = [story, vec![Event::Withdraw { prefix }]].concat();
    assert_eq!(told(&after(&story)), (Some((1, true)), None));
    // Its successor's top level has fewer names.
    let story = [story, vec![claim(2), stored(2, 1, true)]].concat();
    assert_eq!(told(&after(&story)), (Some((1, true)), Some((2, 1))));
}

#[test]
fn only_the_live_lease_stores_a_part() {
    let live = after(&[Event::Ask, claim(1), lost(1), claim(2)]);
    let store = |n| apply(&live, &stored(n, 1, true), NOW, &Policy::default());
    assert_eq!(store(1), Err(Illegal::NotLive));
    assert!(matches!(store(2), Ok(Step::Move(_))));
}
