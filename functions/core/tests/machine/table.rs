//! Every event in every state.

use binplz_core::{
    build::{
        Attempt, Borrowed, Build, Event, Illegal, Lease, Made, State, Step, apply,
        derivation::Realisation,
        failure::{Failure, Kind},
        partial::Checkpoint,
        plan::Plan,
        policy::Policy,
        protocol::Stats,
        size::Size,
        waiting::{Planned, Waiting},
    },
    id::{key::BuildKey, time::Timestamp},
    objects::artifact::{AttemptPrefix, Declared},
};

use crate::{NOW, drv, id, settle, token, unasked};

/// Each column a state, each row an event. `mine` is the lease that the state speaks of, `other` holds the build in the
/// column of that name. Every instant in a state is the earliest or the latest that makes it what its name says.
///
/// `=` stays; `!…` is illegal (`!queued`: not queued, `!due`: not due, `!live`: not the live lease, `!failed`: has not
/// failed, `!way`: not under way, `!other`: the lease has another derivation, `!held`: no build has it); `queue1` queued at once as
/// attempt 1, `delay2` queued after a delay as attempt 2, `claim` a lease, `task` the lease has its task, `heartbeat` the lease
/// is longer, `part` a part of it is stored, `hold` the lease has its derivation, `join` follows another build, `wait` waits for a dependency as the same attempt, `wake` queued as
/// that attempt in its old place, `borrow` ready by another build, `rest`
/// failed until it has cooled down, `again` queued at once as the same attempt, `vain` likewise, and the attempt is remembered, `warm`
/// queued without a request, `wanted` requested since, `now` without further delay. There are two derivations, `a` and `b`; the states know `a`.
const TABLE: &str = "
                unasked  queued   waiting  claimed  heard    launched holding  last     other    expired  joined   parted   ready    borrowed failed   cooling  cooled   warming
ask             queue1   =        =        =        =        =        =        =        =        =        =        =        =        =        =        =        queue1   wanted
warm            warm     =        =        =        =        =        =        =        =        =        =        =        =        =        =        =        =        =
claim-mine      !queued  claim    !due     =        =        =        =        =        !queued  =        !queued  !queued  !queued  !queued  !queued  !queued  !queued  claim
claim-third     !queued  claim    !due     !queued  !queued  !queued  !queued  !queued  !queued  !queued  !queued  !queued  !queued  !queued  !queued  !queued  !queued  claim
launched-mine   !live    !live    !live    task     task     =        =        =        !live    =        !live    !live    !live    !live    !live    !live    !live    !live
launched-other  !live    !live    !live    !live    !live    !live    !live    !live    =        !live    !live    !live    !live    !live    !live    !live    !live    !live
relaunched-mine !live    !live    !live    task     task     task     task     task     !live    task     !live    !live    !live    !live    !live    !live    !live    !live
pulse-mine      !live    !live    !live    pulse    pulse    pulse    pulse    pulse    !live    !live    !live    !live    !live    !live    !live    !live    !live    !live
pulse-other     !live    !live    !live    !live    !live    !live    !live    !live    pulse    !live    !live    !live    !live    !live    !live    !live    !live    !live
part-mine       !live    !live    !live    part     part     part     part     part     !live    !live    !live    !live    !live    !live    !live    !live    !live    !live
part-other      !live    !live    !live    !live    !live    !live    !live    !live    part     !live    !live    !live    !live    !live    !live    !live    !live    !live
hold-mine       !live    !live    !live    hold     hold     hold     =        hold     !live    !live    !live    !live    !live    !live    !live    !live    !live    !live
hold-other      !live    !live    !live    !live    !live    !live    !live    !live    hold     !live    !live    !live    !live    !live    !live    !live    !live    !live
hold2-mine      !live    !live    !live    hold     hold     hold     !other   hold     !live    !live    !live    !live    !live    !live    !live    !live    !live    !live
join-mine       !live    !live    !live    join     join     join     join     join     !live    !live    =        !live    !live    =        !live    !live    !live    !live
joinmade-mine   !live    !live    !live    borrow   borrow   borrow   borrow   borrow   !live    !live    =        !live    !live    =        !live    !live    !live    !live
joinbad-mine    !live    !live    !live    failed   failed   failed   failed   failed   !live    !live    =        !live    !live    =        !live    !live    !live    !live
joinfree-mine   !live    !live    !live    !held    !held    !held    !held    !held    !live    !live    =        !live    !live    =        !live    !live    !live    !live
join2-mine      !live    !live    !live    join     join     join     !other   join     !live    !live    !live    !live    !live    !live    !live    !live    !live    !live
join-other      !live    !live    !live    !live    !live    !live    !live    !live    join     !live    !live    !live    !live    !live    !live    !live    !live    !live
wait-mine       !live    !live    !live    wait     wait     wait     wait     wait     !live    !live    !live    =        !live    !live    !live    !live    !live    !live
wait-other      !live    !live    !live    !live    !live    !live    !live    !live    wait     !live    !live    !live    !live    !live    !live    !live    !live    !live
waitnone-mine   !live    !live    !live    !held    !held    !held    !held    !held    !live    !live    !live    =        !live    !live    !live    !live    !live    !live
wake            =        =        =        =        =        =        =        =        =        =        =        wake     =        =        =        =        =        =
doom-mine       !live    !live    !live    failed   failed   failed   failed   failed   !live    !live    !live    !live    !live    !live    =        !live    !live    !live
doom-other      !live    !live    !live    !live    !live    !live    !live    !live    failed   !live    !live    !live    !live    !live    !live    !live    !live    !live
toolong-mine    !live    !live    !live    failed   failed   failed   failed   failed   !live    !live    !live    !live    !live    !live    =        !live    !live    !live
toolong-other   !live    !live    !live    !live    !live    !live    !live    !live    failed   !live    !live    !live    !live    !live    !live    !live    !live    !live
small-mine      !live    !live    !live    vain     vain     vain     vain     vain     !live    !live    !live    !live    !live    !live    !live    !live    !live    !live
small-other     !live    !live    !live    !live    !live    !live    !live    !live    vain     !live    !live    !live    !live    !live    !live    !live    !live    !live
follow          =        =        =        =        =        =        =        =        =        =        =        =        =        =        =        =        =        =
follownone      =        =        =        =        =        =        =        =        =        =        queue1   =        =        =        =        =        =        =
followmade      =        =        =        =        =        =        =        =        =        =        borrow   =        =        =        =        =        =        =
followbad       =        =        =        =        =        =        =        =        =        =        failed   =        =        =        =        =        =        =
follow2made     =        =        =        =        =        =        =        =        =        =        =        =        =        =        =        =        =        =
adopt           borrow   borrow   borrow   =        =        =        =        =        =        =        =        =        =        =        =        borrow   borrow   borrow
built-mine      !live    !live    !live    ready    ready    ready    ready    ready    !live    !live    !live    !live    =        !live    !live    !live    !live    !live
built-other     !live    !live    !live    !live    !live    !live    !live    !live    ready    !live    !live    !live    !live    !live    !live    !live    !live    !live
broken-mine     !live    !live    !live    failed   failed   failed   failed   failed   !live    !live    !live    !live    !live    !live    =        !live    !live    !live
broken-other    !live    !live    !live    !live    !live    !live    !live    !live    failed   !live    !live    !live    !live    !live    !live    !live    !live    !live
unlucky-mine    !live    !live    =        delay2   delay2   delay2   delay2   rest     !live    !live    !live    !live    !live    !live    !live    =        =        !live
unlucky-other   !live    !live    !live    !live    !live    !live    !live    !live    delay2   !live    !live    !live    !live    !live    !live    !live    !live    !live
image-mine      !live    !live    !live    vain     vain     vain     vain     vain     !live    !live    !live    !live    !live    !live    !live    !live    !live    !live
stopped-mine    =        =        =        delay2   delay2   delay2   delay2   rest     =        delay2   =        =        =        =        =        =        =        =
stopped-other   =        =        =        =        =        =        =        =        delay2   =        =        =        =        =        =        =        =        =
refused-mine    =        =        =        again    =        =        =        =        =        =        =        =        =        =        =        =        =        =
refused-other   =        =        =        =        =        =        =        =        =        =        =        =        =        =        =        =        =        =
lapse           =        =        =        =        =        =        =        =        =        delay2   =        =        =        =        =        =        =        =
retry           !failed  =        now      =        =        =        =        =        =        =        =        =        !failed  !failed  queue1   queue1   queue1   =
cancel          =        unasked  unasked  unasked  unasked  unasked  unasked  unasked  unasked  unasked  unasked  unasked  !way     !way     !way     !way     !way     unasked
suspend         =        =        =        again    again    again    again    again    again    again    =        =        =        =        =        =        =        =
withdraw-mine   =        =        =        =        =        =        =        =        =        =        =        =        queue1   =        =        =        =        =
withdraw-other  =        =        =        =        =        =        =        =        =        =        =        =        =        queue1   =        =        =        =
forget          =        !failed  !failed  !failed  !failed  !failed  !failed  !failed  !failed  !failed  !failed  !failed  !failed  !failed  unasked  unasked  unasked  !failed
";

const MINE: u32 = 1;
const OTHER: u32 = 2;
const THIRD: u32 = 3;

fn it() -> Declared {
    Declared { main_program: Some("it".to_owned()), output: None }
}

fn broken() -> Failure {
    Failure::new(Kind::BuildFailed, "tree.c:1: error")
}

fn unlucky() -> Failure {
    Failure::new(Kind::SourceUnavailable, "")
}

/// Where another build has made the derivation.
fn prefix() -> AttemptPrefix {
    let key = BuildKey { product: "another".parse().expect("a package"), ..unasked().key };
    AttemptPrefix { key, lease: id(THIRD) }
}

fn join(n: u32, derivation: char, realisation: Realisation) -> Event {
    Event::Join { id: id(n), derivation: drv(derivation), declared: it(), realisation }
}

/// What is left to build of a build that waits for a dependency.
fn plan() -> Vec<Planned> {
    vec![Planned { drv: drv('b'), name: "b-1.0".to_owned(), needs: vec![] }]
}

fn follow(derivation: char, realisation: Realisation) -> Event {
    Event::Follow { derivation: drv(derivation), realisation }
}

/// The build of a column of the table.
fn state(name: &str, policy: &Policy) -> Build {
    let (next, long_ago) = (Timestamp(NOW.0 + 1), Timestamp(NOW.0 - 1_000_000));
    let lease = |n, attempt, expires, task: Option<&str>| {
        let task = task.map(str::to_owned);
        let (size, token) = (Size::default(), token(n));
        Lease {
            id: id(n),
            token,
            attempt,
            size,
            claimed: long_ago,
            expires,
            task,
            on_demand: false,
            derivation: None,
            seconds: None,
            plan: None,
        }
    };
    let queued = |attempt, due| State::Queued { since: long_ago, due, attempt, warming: false };
    let failed = |failure, until| State::Failed { failure, since: long_ago, until };
    let after = |failure| {
        let (size, stats) = (Size::default(), Stats::default());
        let (claimed, ended, left) = (long_ago, long_ago, None);
        let (task, awaited, seen_in, continued, plan) = (None, None, None, false, None);
        let (number, lease) = (1, id(MINE));
        vec![Attempt {
            lease,
            number,
            size,
            claimed,
            ended,
            task,
            failure,
            continued,
            left,
            awaited,
            seen_in,
            plan,
            stats,
        }]
    };
    let left = || after(None).into_iter().map(|attempt| Attempt { left: Some(drv('a')), ..attempt }).collect();
    let waited = || after(None).into_iter().map(|attempt| Attempt { awaited: Some(drv('b')), ..attempt }).collect();
    let made = |borrowed| State::Ready(Made { lease: id(MINE), borrowed, since: long_ago });
    let (state, history) = match name {
        "unasked" => (State::Unasked, vec![]),
        "queued" => (queued(1, NOW), vec![]),
        "warming" => (State::Queued { since: long_ago, due: NOW, attempt: 1, warming: true }, vec![]),
        "waiting" => (queued(2, next), after(Some(unlucky()))),
        "claimed" => {
            let claimed = Timestamp(next.0 - policy.lease.as_millis() as u64);
            (State::Building(Lease { claimed, ..lease(MINE, 1, next, None) }), vec![])
        }
        // Of its builder, though not of its task.
        "heard" => (State::Building(lease(MINE, 1, next, None)), vec![]),
        "launched" => (State::Building(lease(MINE, 1, next, Some("task"))), vec![]),
        "holding" => {
            let lease = Lease { derivation: Some(drv('a')), ..lease(MINE, 1, next, Some("task")) };
            (State::Building(lease), vec![])
        }
        "last" => (State::Building(lease(MINE, policy.attempts, next, Some("task"))), vec![]),
        "other" => (State::Building(lease(OTHER, 1, next, Some("task"))), vec![]),
        "expired" => (State::Building(lease(MINE, 1, NOW, Some("task"))), vec![]),
        "joined" => (State::Joined { derivation: drv('a'), declared: Declared::default(), since: long_ago }, left()),
        "parted" => {
            let waiting = Waiting { since: long_ago, due: long_ago, attempt: 2, first: 0, plan: plan() };
            (State::Waiting(waiting), waited())
        }
        "ready" => (made(None), after(None)),
        "borrowed" => (made(Some(Borrowed { from: prefix().key, declared: Declared::default() })), left()),
        "failed" => (failed(broken(), None), after(Some(broken()))),
        "cooling" => (failed(unlucky(), Some(next)), after(Some(unlucky()))),
        "cooled" => (failed(unlucky(), Some(NOW)), after(Some(unlucky()))),
        other => panic!("no state is called {other}"),
    };
    Build { state, history, ..unasked() }
}

/// The event of a row of the table.
fn event(name: &str) -> Event {
    let (verb, who) = name.split_once('-').unwrap_or((name, "mine"));
    let n = match who {
        "mine" => MINE,
        "other" => OTHER,
        "third" => THIRD,
        other => panic!("no lease is called {other}"),
    };
    match verb {
        "ask" => Event::Ask,
        "warm" => Event::Warm,
        "claim" => Event::Claim { id: id(n), token: token(n), size: Size::default(), on_demand: false, seconds: None },
        "launched" => Event::Launched { id: id(n), task: "task".to_owned() },
        "relaunched" => Event::Launched { id: id(n), task: "another task".to_owned() },
        "pulse" => Event::Heartbeat { id: id(n) },
        "built" => settle(n, Ok(())),
        "broken" => settle(n, Err(broken())),
        "unlucky" => settle(n, Err(unlucky())),
        "image" => settle(n, Err(Failure::new(Kind::NoImage, ""))),
        "toolong" => Event::Decline { id: id(n), plan: Plan::default(), failure: broken() },
        "small" => {
            Event::Decline { id: id(n), plan: Plan::default(), failure: Failure::new(Kind::MachineTooSmall, "why") }
        }
        "doom" => Event::Doom { id: id(n), failure: broken(), seen_in: prefix() },
        "part" => {
            let checkpoint = Checkpoint { lease: id(n), parts: 1, bytes: 1 };
            Event::Checkpoint { checkpoint, top_level: true }
        }
        "hold" => Event::Hold { id: id(n), derivation: drv('a'), plan: None },
        "hold2" => Event::Hold { id: id(n), derivation: drv('b'), plan: None },
        "join" => join(n, 'a', Realisation::UnderWay),
        "joinmade" => join(n, 'a', Realisation::Made(prefix())),
        "joinbad" => join(n, 'a', Realisation::Failed(broken())),
        "joinfree" => join(n, 'a', Realisation::Free),
        "join2" => join(n, 'b', Realisation::UnderWay),
        "wait" => Event::Wait { id: id(n), plan: plan(), first: 0, stats: Stats::default() },
        "waitnone" => Event::Wait { id: id(n), plan: vec![], first: 0, stats: Stats::default() },
        "wake" => Event::Wake,
        "follow" => follow('a', Realisation::UnderWay),
        "follownone" => follow('a', Realisation::Free),
        "followmade" => follow('a', Realisation::Made(prefix())),
        "followbad" => follow('a', Realisation::Failed(broken())),
        "follow2made" => follow('b', Realisation::Made(prefix())),
        "adopt" => Event::Adopt { prefix: prefix(), declared: it() },
        "stopped" => Event::Stopped { id: id(n), failure: Failure::new(Kind::Killed, "") },
        "refused" => Event::Refused { id: id(n), failure: Failure::new(Kind::NotStarted, "") },
        "lapse" => Event::Lapse,
        "retry" => Event::Retry,
        "cancel" => Event::Cancel,
        "suspend" => Event::Suspend,
        "forget" => Event::Forget,
        // What it has made itself, and what it has of the other one.
        "withdraw" if n == MINE => Event::Withdraw { prefix: AttemptPrefix { key: unasked().key, lease: id(MINE) } },
        "withdraw" => Event::Withdraw { prefix: AttemptPrefix { lease: id(MINE), ..prefix() } },
        other => panic!("no event is called {other}"),
    }
}

/// A cell of the table; what no cell may say is spelt out.
fn cell(before: &Build, outcome: Result<Step, Illegal>, policy: &Policy) -> String {
    let after = match outcome {
        Err(Illegal::NotQueued) => return "!queued".to_owned(),
        Err(Illegal::NotDue) => return "!due".to_owned(),
        Err(Illegal::NotLive) => return "!live".to_owned(),
        Err(Illegal::OtherDerivation) => return "!other".to_owned(),
        Err(Illegal::NotHeld) => return "!held".to_owned(),
        Err(Illegal::NotFailed) => return "!failed".to_owned(),
        Err(Illegal::NotUnderWay) => return "!way".to_owned(),
        Ok(Step::Stay) => return "=".to_owned(),
        Ok(Step::Move(after)) => after,
    };
    assert_eq!(after.key, before.key);
    let resting = NOW + policy.cool_down;
    match (before.lease(), &after.state) {
        (_, State::Unasked) => "unasked".to_owned(),
        (None, State::Queued { since, due: NOW, attempt: 1, warming: false })
            if before.state == (State::Queued { since: *since, due: NOW, attempt: 1, warming: true }) =>
        {
            "wanted".to_owned()
        }
        (None, State::Queued { due: NOW, attempt: 2, warming: false, .. })
            if matches!(before.state, State::Queued { attempt: 2, .. }) =>
        {
            "now".to_owned()
        }
        (None, State::Queued { since: NOW, due: NOW, attempt: 1, warming: true }) => "warm".to_owned(),
        (Some(lease), State::Queued { since: NOW, due: NOW, attempt, warming: false }) if *attempt == lease.attempt => {
            if after.history == before.history {
                "again".to_owned()
            } else {
                "vain".to_owned()
            }
        }
        (_, State::Queued { since: NOW, due: NOW, attempt: 1, warming: false }) => "queue1".to_owned(),
        (Some(lease), State::Queued { since: NOW, due, attempt, warming: false })
            if *attempt == lease.attempt + 1 && *due == NOW + policy.delay_after(lease.attempt) =>
        {
            format!("delay{attempt}")
        }
        (None, State::Building(lease)) if lease.claimed == NOW && lease.expires == NOW + policy.lease => {
            assert!(lease.task.is_none() && lease.attempt == 1);
            "claim".to_owned()
        }
        (Some(old), State::Building(new)) if old == new && after.partial.of(&old.id).is_some() => "part".to_owned(),
        (Some(old), State::Building(new)) if *new == (Lease { task: new.task.clone(), ..old.clone() }) => {
            "task".to_owned()
        }
        (Some(old), State::Building(new)) if *new == (Lease { expires: NOW + policy.lease, ..old.clone() }) => {
            "pulse".to_owned()
        }
        (Some(old), State::Building(new)) if *new == (Lease { derivation: new.derivation.clone(), ..old.clone() }) => {
            "hold".to_owned()
        }
        (Some(old), State::Joined { derivation, declared, since: NOW }) => {
            assert_eq!((declared, after.left()), (&it(), Some(derivation)));
            assert_eq!(after.newest_lease(), Some(&old.id));
            "join".to_owned()
        }
        (Some(old), State::Waiting(waiting)) => {
            let place = Waiting { since: NOW, due: old.claimed, attempt: old.attempt, first: 0, plan: plan() };
            assert_eq!((waiting, after.newest_lease()), (&place, Some(&old.id)));
            assert_eq!(after.history.last().and_then(|attempt| attempt.awaited.as_ref()), Some(&drv('b')));
            "wait".to_owned()
        }
        (None, State::Queued { since, due, attempt: 2, warming: false }) if matches!(&before.state, State::Waiting(waiting) if waiting.due == *due && due == since) => {
            "wake".to_owned()
        }
        (Some(old), State::Ready(Made { lease, borrowed: None, since: NOW })) if lease == &old.id => "ready".to_owned(),
        (_, State::Ready(made @ Made { borrowed: Some(_), since: NOW, .. })) if made.prefix(&after.key) == prefix() => {
            "borrow".to_owned()
        }
        (_, State::Failed { failure, since: NOW, until: None }) if *failure == broken() => {
            assert_eq!(after.history.last().and_then(|attempt| attempt.failure.as_ref()), Some(failure));
            "failed".to_owned()
        }
        (Some(_), State::Failed { since: NOW, until: Some(until), .. }) if *until == resting => "rest".to_owned(),
        _ => format!("{:?}", after.state),
    }
}

#[test]
fn every_event_in_every_state_does_what_the_table_says() {
    let policy = Policy::default();
    let mut lines = TABLE.trim().lines();
    let states: Vec<&str> = lines.next().expect("a head").split_whitespace().collect();
    let mut wrong = Vec::new();
    let mut tried = 0;
    for line in lines {
        let (name, cells) = line.split_once(' ').expect("a name and its cells");
        let cells: Vec<&str> = cells.split_whitespace().collect();
        assert_eq!(cells.len(), states.len(), "{name}");
        for (column, expected) in states.iter().zip(cells) {
            let build = state(column, &policy);
            let got = cell(&build, apply(&build, &event(name), NOW, &policy), &policy);
            tried += 1;
            if got != expected {
                wrong.push(format!("{name} while {column}: {got}, not {expected}"));
            }
        }
    }
    assert_eq!((wrong, tried), (Vec::new(), 18 * 54));
}

#[test]
fn a_lease_that_ends_is_remembered_as_one_attempt_and_nothing_else_is() {
    let policy = Policy::default();
    let ends = ["built-mine", "broken-mine", "unlucky-mine", "stopped-mine"];
    for name in ends {
        let before = state("launched", &policy);
        let Ok(Step::Move(after)) = apply(&before, &event(name), NOW, &policy) else { panic!("{name}") };
        let [attempt] = after.history.as_slice() else { panic!("{name}: {:?}", after.history) };
        assert_eq!((&attempt.lease, attempt.number, attempt.ended), (&id(MINE), 1, NOW));
        assert_eq!(attempt.failure.is_none(), name == "built-mine");
        // A launcher knows no numbers.
        assert_eq!(attempt.stats.derivations, if name == "stopped-mine" { 0 } else { 3 });
    }
    for (name, column) in [("claim-third", "queued"), ("pulse-mine", "launched"), ("retry", "failed")] {
        let before = state(column, &policy);
        let Ok(Step::Move(after)) = apply(&before, &event(name), NOW, &policy) else { panic!("{name}") };
        assert_eq!(after.history, before.history, "{name}");
    }
}

#[test]
fn a_lease_that_lapses_uses_its_attempt_only_if_its_task_was_started() {
    let policy = Policy::default();
    let lapsed = |change: &dyn Fn(&mut Lease)| {
        let mut build = state("expired", &policy);
        if let State::Building(lease) = &mut build.state {
            (lease.task, lease.claimed) = (None, Timestamp(NOW.0 - 60_000));
            change(lease);
        }
        let Ok(Step::Move(after)) = apply(&build, &Event::Lapse, NOW, &policy) else { panic!("it has expired") };
        let State::Queued { attempt, .. } = after.state else { panic!("it is tried again") };
        (attempt, after.history.last().and_then(|attempt| attempt.failure.clone()).map(|failure| failure.kind))
    };
    assert_eq!(lapsed(&|_| {}), (1, None));
    // The launcher said so, or a heartbeat, or a claim.
    let lost = (2, Some(Kind::LostHeartbeat));
    assert_eq!(lapsed(&|lease| lease.task = Some("task".to_owned())), lost);
    assert_eq!(lapsed(&|lease| lease.claimed = Timestamp(NOW.0 - 60_001)), lost);
    assert_eq!(lapsed(&|lease| lease.derivation = Some(drv('a'))), lost);
}

#[test]
fn no_time_that_was_written_under_a_wrong_clock_keeps_a_build_waiting() {
    let (policy, ahead) = (Policy::default(), Timestamp(NOW.0 + 10 * 365 * 86_400_000));
    let queued = State::Queued { since: NOW, due: NOW, attempt: 2, warming: false };
    let waiting = State::Queued { since: ahead, due: ahead + policy.cool_down, attempt: 2, warming: false };
    let cooling = State::Failed { failure: unlucky(), since: ahead, until: Some(ahead + policy.cool_down) };
    let State::Building(lease) = state("launched", &policy).state else { panic!("it is being built") };
    let renewed = State::Building(Lease { expires: NOW + policy.lease, ..lease.clone() });
    let building = State::Building(Lease { expires: ahead, ..lease });
    for (before, event, after) in [
        (waiting, "ask", queued),
        (cooling, "ask", State::Queued { since: NOW, due: NOW, attempt: 1, warming: false }),
        (building, "pulse-mine", renewed),
    ] {
        let build = Build { state: before, ..unasked() };
        let Ok(Step::Move(moved)) = apply(&build, &self::event(event), NOW, &policy) else { panic!("{build:?}") };
        assert_eq!(moved.state, after);
        assert_eq!(apply(&moved, &self::event(event), NOW, &policy), Ok(Step::Stay));
    }
}
