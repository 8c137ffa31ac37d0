//! A build's log: the same whichever form it lies in, and whenever it changes from one to the other.

use std::sync::{Arc, Mutex};

use binplz_core::{
    build::{
        State,
        protocol::{Progress, Report, Upload},
    },
    flow::{
        lease::{
            job::{self, Bearer, Denied},
            settle::settle,
        },
        request::{
            log::{ANSWER_MAX, DAMAGED, Part, Tail, log, tail},
            program::request,
        },
        schedule::{dispatch::dispatch, sweep::sweep},
    },
    id::text::clean_lines,
    objects::{
        artifact::{AttemptPrefix, ObjectName},
        gzip,
        stored::Method,
    },
    ports::{Deployment, HasLedger, HasStore, Inspect, Intake, Ledger},
    quota::client::Asker,
    telemetry::Signal,
};
use binplz_tests::world::{World, target};
use serde_json::json;
use tokio::sync::Notify;

/// A build under way.
async fn building() -> (Arc<World>, Bearer) {
    let w = World::new();
    request(&*w, &target("tree"), Method::Get, Some(&Asker::default())).await;
    dispatch(&*w).await.expect("the ledger");
    let bearer = w.bearer("tree").await;
    (w, bearer)
}

/// A log whose segments are of every length, and too long for two answers.
fn segments() -> Vec<Vec<u8>> {
    let text = |number: usize, length| format!("line of segment {number}\n").into_bytes().repeat(length);
    let mut segments: Vec<_> = (1..8).map(|number| text(number, number)).collect();
    segments.extend((8..48).map(|number| text(number, 12_000)));
    assert!(segments.concat().len() > 2 * ANSWER_MAX);
    segments
}

async fn store_segments(w: &World, prefix: &AttemptPrefix, segments: &[Vec<u8>]) {
    for (number, segment) in (1..).zip(segments) {
        w.store().write(&prefix.object(ObjectName::Log(number)), segment.clone()).await.expect("the store");
    }
    let progress = Progress { log_segments: u32::try_from(segments.len()).expect("few"), ..Progress::default() };
    w.ledger().put_progress(&prefix.lease, &progress).await.expect("the ledger");
}

async fn store_whole(w: &World, prefix: &AttemptPrefix, segments: &[Vec<u8>]) {
    let whole = segments.iter().flat_map(|segment| gzip::member(segment)).collect();
    w.store().write(&prefix.object(ObjectName::WholeLog), whole).await.expect("the store");
}

/// What a builder says at its end.
async fn report(w: &World, bearer: &Bearer, segments: &[Vec<u8>]) -> Report {
    let mut report = w.report(bearer).await;
    report.stats.log_segments = u32::try_from(segments.len()).expect("few");
    report
}

/// Ends the build as a builder does: the whole log, then its word.
async fn close(w: &World, bearer: &Bearer, segments: &[Vec<u8>]) {
    store_whole(w, &bearer.prefix(), segments).await;
    let report = report(w, bearer, segments).await;
    settle(w, bearer, report).await.expect("a live lease");
}

async fn is_ready(w: &World) -> bool {
    matches!(w.build("tree").await.state, State::Ready(_))
}

async fn part(w: &World, from: u32) -> Part {
    log(w, &target("tree"), from).await.expect("a build")
}

async fn end(w: &World) -> Tail {
    tail(w, &target("tree"), 5000).await.expect("a build")
}

/// How many of the segments are in the store.
async fn stored(w: &World, prefix: &AttemptPrefix, segments: &[Vec<u8>]) -> usize {
    let mut stored = 0;
    for (number, _) in (1..).zip(segments) {
        stored += usize::from(w.store().size(&prefix.object(ObjectName::Log(number))).await.expect("it").is_some());
    }
    stored
}

/// Reads on from a segment until the log is said to be over, as a client does.
async fn read_on(w: &World, mut from: u32) -> Vec<u8> {
    let mut text = Vec::new();
    loop {
        let part = part(w, from).await;
        text.extend(part.content);
        from = part.next;
        if part.complete {
            return text;
        }
    }
}

/// What went wrong in passing.
fn troubles(w: &World) -> Arc<Mutex<Vec<String>>> {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&heard);
    w.hear(move |_, telemetry| {
        if let Signal::Trouble { what, error } = telemetry {
            hears.lock().expect("a lock").push(format!("{what}: {error}"));
        }
    });
    heard
}

/// AWS Lambda developer guide, "Lambda quotas": 6 MB of JSON.
#[test]
fn the_longest_part_of_a_log_fits_into_the_answer_of_a_function() {
    for byte in [0xff, b'"', b'\\', b'\t', b'\n'] {
        let text = clean_lines(&String::from_utf8_lossy(&vec![byte; ANSWER_MAX]));
        assert!(json!(text).to_string().len() < 5_500_000, "{byte}");
    }
}

#[tokio::test]
async fn a_log_reads_the_same_from_every_segment_on_in_either_form() {
    let ((old, bearer), (new, other)) = (building().await, building().await);
    let segments = segments();
    for (w, bearer) in [(&old, &bearer), (&new, &other)] {
        store_segments(w, &bearer.prefix(), &segments).await;
    }
    // An older builder stores no whole.
    let report = report(&old, &bearer, &segments).await;
    settle(&*old, &bearer, report).await.expect("a live lease");
    close(&new, &other, &segments).await;
    assert_eq!(stored(&old, &bearer.prefix(), &segments).await, segments.len());
    assert_eq!(stored(&new, &other.prefix(), &segments).await, 0);
    for from in (0..segments.len() as u32 + 3).chain([u32::MAX]) {
        let (old, new) = (part(&old, from).await, part(&new, from).await);
        assert!(old == new, "from {from}: {} and {}", old.next, new.next);
    }
    assert_eq!(end(&old).await, end(&new).await);
    let first = part(&new, 1).await;
    assert!(!first.complete && first.content.len() <= ANSWER_MAX);
    assert!(read_on(&new, 1).await == segments.concat());
}

#[tokio::test]
async fn whoever_follows_a_log_misses_nothing_when_it_closes_between_two_segments() {
    let segments = segments();
    // Seen while its build is under way, or when that is over and the segments are still there.
    for late in [false, true] {
        for closes_at in [1, 2, 5, 47, 48] {
            let (w, bearer) = building().await;
            store_segments(&w, &bearer.prefix(), &segments).await;
            if late {
                w.store().keep_all(true);
                close(&w, &bearer, &segments).await;
                w.store().keep_all(false);
            }
            let (other, its, all) = (Arc::clone(&w), bearer.clone(), segments.clone());
            w.store().before_next_read(bearer.prefix().object(ObjectName::Log(closes_at)), async move {
                match late {
                    true => other.store().remove_segments(&its.prefix()).await.expect("the store"),
                    false => close(&other, &its, &all).await,
                }
            });
            assert!(read_on(&w, 1).await == segments.concat(), "{closes_at}");
            assert_eq!(stored(&w, &bearer.prefix(), &segments).await, 0);
        }
    }
}

#[tokio::test]
async fn a_page_shows_the_end_of_a_log_that_closes_while_it_looks() {
    let (w, bearer) = building().await;
    let segments = segments();
    store_segments(&w, &bearer.prefix(), &segments).await;
    let before = end(&w).await;
    assert!(!before.text.is_empty() && !before.complete);
    let (other, its, all) = (Arc::clone(&w), bearer.clone(), segments.clone());
    let first_that_it_reads = bearer.prefix().object(ObjectName::Log(before.next - 3));
    w.store().before_next_read(first_that_it_reads, async move { close(&other, &its, &all).await });
    assert_eq!(end(&w).await, before);
    assert_eq!(end(&w).await, Tail { complete: true, ..before });
}

#[tokio::test]
async fn a_settle_whose_reply_was_lost_and_that_is_said_again_leaves_one_whole_log() {
    let (w, bearer) = building().await;
    let segments = segments();
    store_segments(&w, &bearer.prefix(), &segments).await;
    store_whole(&w, &bearer.prefix(), &segments).await;
    let report = report(&w, &bearer, &segments).await;
    w.lose_replies(1);
    for _ in 0..2 {
        settle(&*w, &bearer, report.clone()).await.expect("its word");
        assert_eq!(stored(&w, &bearer.prefix(), &segments).await, 0);
        assert!(read_on(&w, 1).await == segments.concat());
    }
}

#[tokio::test]
async fn a_death_between_settling_and_removing_loses_nothing_and_the_builder_that_asks_again_tidies_up() {
    let (w, bearer) = building().await;
    let segments = segments();
    store_segments(&w, &bearer.prefix(), &segments).await;
    store_whole(&w, &bearer.prefix(), &segments).await;
    let report = report(&w, &bearer, &segments).await;
    let reached = Arc::new(Notify::new());
    let there = Arc::clone(&reached);
    w.store().before_next_removal(async move {
        there.notify_one();
        std::future::pending().await
    });
    tokio::select! {
        biased;
        _ = settle(&*w, &bearer, report.clone()) => panic!("no process died"),
        () = reached.notified() => {}
    }
    assert!(is_ready(&w).await);
    assert_eq!(stored(&w, &bearer.prefix(), &segments).await, segments.len());
    assert!(read_on(&w, 1).await == segments.concat());
    settle(&*w, &bearer, report).await.expect("its word");
    assert_eq!(stored(&w, &bearer.prefix(), &segments).await, 0);
    assert!(read_on(&w, 1).await == segments.concat());
}

#[tokio::test]
async fn a_log_of_which_some_segments_were_removed_reads_as_before() {
    let segments = segments();
    for gone in [1..=1, 1..=20, 2..=40, 48..=48, 3..=4] {
        let (w, bearer) = building().await;
        let prefix = bearer.prefix();
        store_whole(&w, &prefix, &segments).await;
        for (number, segment) in (1..).zip(&segments).filter(|(number, _)| !gone.contains(number)) {
            w.store().write(&prefix.object(ObjectName::Log(number)), segment.clone()).await.expect("the store");
        }
        w.finish("tree").await;
        assert!(read_on(&w, 1).await == segments.concat());
    }
}

#[tokio::test]
async fn segments_that_can_not_be_removed_are_no_reason_to_fail_and_are_told_of() {
    let (w, bearer) = building().await;
    let heard = troubles(&w);
    let segments = segments();
    store_segments(&w, &bearer.prefix(), &segments).await;
    w.store().keep_all(true);
    close(&w, &bearer, &segments).await;
    assert!(is_ready(&w).await);
    assert_eq!(
        *heard.lock().expect("a lock"),
        ["the segments of its log are still there: store: it removes nothing now"]
    );
    assert!(read_on(&w, 1).await == segments.concat());
}

#[tokio::test]
async fn the_segments_of_an_attempt_that_did_not_settle_stay() {
    let (w, bearer) = building().await;
    let segments = segments();
    store_segments(&w, &bearer.prefix(), &segments).await;
    store_whole(&w, &bearer.prefix(), &segments).await;
    let report = report(&w, &bearer, &segments).await;
    w.pass(w.policy().lease);
    sweep(&*w).await.expect("the ledger");
    assert_eq!(settle(&*w, &bearer, report).await, Err(Denied::NotLive));
    assert_eq!(stored(&w, &bearer.prefix(), &segments).await, segments.len());
    assert!(read_on(&w, 1).await == segments.concat());
}

#[tokio::test]
async fn of_a_damaged_log_there_is_what_comes_before_the_damage_and_a_line_that_says_so() {
    let segments = segments();
    let whole: Vec<_> = segments.iter().flat_map(|segment| gzip::member(segment)).collect();
    let first: usize = segments[..3].iter().map(|segment| gzip::member(segment).len()).sum();
    let bomb = gzip::member(&vec![b'\n'; 8 << 20]).repeat(9);
    for (damaged, reads) in [
        (whole[..first + 9].to_vec(), 3),
        ([&whole[..first], b"no gzip"].concat(), 3),
        ([&whole[..first], &bomb].concat(), 3),
        (bomb, 0),
        (Vec::new(), 0),
    ] {
        let (w, bearer) = building().await;
        let heard = troubles(&w);
        w.store().write(&bearer.prefix().object(ObjectName::WholeLog), damaged.clone()).await.expect("the store");
        w.finish("tree").await;
        let part = part(&w, 1).await;
        let mark = if damaged.is_empty() { &[] } else { DAMAGED };
        let content = [&segments[..reads].concat(), mark].concat();
        let expected = Part { content, next: reads as u32 + 1, complete: true };
        assert!(part == expected, "{} bytes, up to {}", part.content.len(), part.next);
        let told = heard.lock().expect("a lock").clone();
        assert_eq!(told.len(), usize::from(!damaged.is_empty()), "{told:?}");
        assert!(told.iter().all(|told| told.starts_with("its log is not whole: ")), "{told:?}");
    }
}

#[tokio::test]
async fn a_builder_may_store_a_whole_log_that_is_no_longer_than_a_log_may_be() {
    let (w, bearer) = building().await;
    let most = w.policy().job.log_bytes;
    for (size, granted) in [(1, true), (most, true), (most + 1, false)] {
        let sha256 = "0".repeat(64).parse().expect("hex");
        let upload = Upload { name: ObjectName::WholeLog, size, sha256 };
        assert_eq!(job::uploads(&*w, &bearer, &[upload]).await.is_ok(), granted, "{size}");
    }
}
