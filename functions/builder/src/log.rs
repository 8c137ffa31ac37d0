//! The build's log: plain text, stored while the build runs as immutable numbered segments, and at its end once more as
//! one compressed object.
//!
//! It contains the output of Nix and of the builds, without terminal control codes. It contains no secret of the task:
//! Nix never sees the token, and if the token should appear all the same, it is masked.

use std::{
    mem,
    sync::{Condvar, Mutex},
    time::{Duration, Instant},
};

use binplz_core::{
    build::protocol::LOG_SEGMENT_MAX,
    id::{key::Token, text::clean_lines},
    objects::{artifact::ObjectName, gzip},
};

use crate::{
    lease::{CallPriority, Lease},
    progress_channel::ProgressChannel,
    stop::lock,
};

/// A segment is closed before it gets larger than this …
const SEGMENT_MAX: usize = LOG_SEGMENT_MAX as usize;
/// … or older than this, …
const SEGMENT_AGE: Duration = Duration::from_secs(2);
/// … the first one sooner, as a sign of life for the person who waits.
const FIRST_AGE: Duration = Duration::from_millis(500);
/// Longer lines are cut: they are data, not messages.
const LINE_MAX: usize = 16 << 10;
/// The room below the limit for the builder's own last lines.
const RESERVE: u64 = 4 << 10;

/// The log: lines go in here, and `ship` stores them.
pub(crate) struct Log {
    state: Mutex<State>,
    changed: Condvar,
    secret: String,
}

struct State {
    waiting: Vec<u8>,
    /// When the oldest waiting line arrived.
    since: Option<Instant>,
    /// Bytes accepted so far.
    taken: u64,
    max: u64,
    cut: bool,
    closed: bool,
}

impl Log {
    /// An empty log of at most `max` bytes.
    pub(crate) fn new(max: u64, token: &Token) -> Log {
        let state = State { waiting: Vec::new(), since: None, taken: 0, max, cut: false, closed: false };
        Log { state: Mutex::new(state), changed: Condvar::new(), secret: token.reveal().to_owned() }
    }

    /// Adds a line of the build's output.
    pub(crate) fn line(&self, text: &str) {
        let line = self.cleaned(text);
        let mut state = lock(&self.state);
        if state.cut {
            return;
        }
        if state.taken + line.len() as u64 > state.max.saturating_sub(RESERVE) {
            state.cut = true;
            let max = state.max;
            return self.take(&mut state, &format!("binplz: the log was cut here: it exceeded {max} bytes\n"));
        }
        self.take(&mut state, &line);
    }

    /// Adds a line of the builder's own; a few of them fit even when the log has reached its limit.
    pub(crate) fn say(&self, text: &str) {
        let line = self.cleaned(&format!("binplz: {text}"));
        let mut state = lock(&self.state);
        if state.taken + line.len() as u64 <= state.max {
            self.take(&mut state, &line);
        }
    }

    /// Closes the log.
    pub(crate) fn close(&self) {
        lock(&self.state).closed = true;
        self.changed.notify_all();
    }

    /// The lines that were not stored.
    pub(crate) fn into_text(self) -> Vec<u8> {
        self.state.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).waiting
    }

    /// The lines that were not stored yet.
    #[cfg(test)]
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&lock(&self.state).waiting).into_owned()
    }

    fn take(&self, state: &mut State, line: &str) {
        state.waiting.extend_from_slice(line.as_bytes());
        state.taken += line.len() as u64;
        state.since.get_or_insert_with(Instant::now);
        self.changed.notify_all();
    }

    /// The text as lines of the log, each with its newline.
    fn cleaned(&self, text: &str) -> String {
        let text = unsigned(&text.replace(&self.secret, "[token]"));
        text.split('\n').map(|line| plain(line) + "\n").collect()
    }

    /// Waits until the next segment is due and takes it; `None` when the log is closed and was taken completely.
    fn next_segment(&self, age: Duration) -> Option<Vec<u8>> {
        let mut state = lock(&self.state);
        loop {
            let left = state.since.map(|since| (since + age).saturating_duration_since(Instant::now()));
            let due = state.closed || state.waiting.len() >= SEGMENT_MAX || left.is_some_and(|left| left.is_zero());
            if due {
                return cut_segment(&mut state);
            }
            // Every change wakes it; without a line no segment is due.
            let wait = self.changed.wait_timeout(state, left.unwrap_or(Duration::from_secs(3600)));
            state = wait.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
    }
}

/// The text without the signatures of presigned URLs, which must not become public.
fn unsigned(text: &str) -> String {
    let mut parts = text.split("?X-Amz-");
    let first = parts.next().unwrap_or("").to_owned();
    parts.fold(first, |clean, signature| {
        let end = signature.find(|c: char| c.is_whitespace() || "'\"<>".contains(c)).unwrap_or(signature.len());
        clean + "?[signature]" + &signature[end..]
    })
}

/// Takes as many whole lines as a segment holds.
fn cut_segment(state: &mut State) -> Option<Vec<u8>> {
    let limit = state.waiting.len().min(SEGMENT_MAX);
    let end = match state.waiting[..limit].iter().rposition(|&byte| byte == b'\n') {
        _ if limit == state.waiting.len() => limit,
        Some(newline) => newline + 1,
        None => limit,
    };
    let rest = state.waiting.split_off(end);
    let segment = mem::replace(&mut state.waiting, rest);
    state.since = (!state.waiting.is_empty()).then(Instant::now);
    (!segment.is_empty()).then_some(segment)
}

/// Stores the log until it is closed, and then the whole of it once more, compressed. Returns how many segments were
/// stored, and what went wrong: an incomplete log, or an older endpoint that refuses a compressed one, does not fail
/// the build.
pub(crate) fn ship(log: &Log, lease: &Lease, progress_channel: &ProgressChannel) -> (u32, Option<String>) {
    let (mut stored, mut whole) = (0, Vec::new());
    while let Some(segment) = log.next_segment(if stored == 0 { FIRST_AGE } else { SEGMENT_AGE }) {
        if let Err(error) = lease.store_bytes(CallPriority::Final, ObjectName::Log(stored + 1), &segment) {
            return (stored, Some(format!("the log is not complete: {error}")));
        }
        whole.extend(gzip::member(&segment));
        stored += 1;
        progress_channel.update(|progress| progress.log_segments = stored);
    }
    let packed = lease.store_bytes(CallPriority::Final, ObjectName::WholeLog, &whole);
    (stored, packed.err().map(|error| format!("the log stays in its segments: {error}")))
}

/// A line without terminal control codes, cut at [`LINE_MAX`].
pub(crate) fn plain(line: &str) -> String {
    let mut out = clean_lines(line);
    if out.len() > LINE_MAX {
        out.truncate(out.floor_char_boundary(LINE_MAX));
        out.push_str(" … (the line was cut)");
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn log(max: u64) -> Log {
        Log::new(max, &"ab".repeat(32).parse().expect("a token"))
    }

    fn all(log: &Log) -> Vec<String> {
        log.close();
        let segments = std::iter::from_fn(|| log.next_segment(Duration::ZERO));
        segments.map(|segment| String::from_utf8(segment).expect("text")).collect()
    }

    #[test]
    fn terminal_codes_are_left_out_and_indentation_is_kept() {
        assert_eq!(plain("\x1b[31;1merror:\x1b[0m\tx  y\x07"), "error:\tx  y");
        assert_eq!(plain("\x1b]0;title\x07x"), "x");
    }

    #[test]
    fn a_cut_log_says_so_once_and_has_room_for_the_outcome() {
        let log = log(RESERVE + 100);
        (0..100).for_each(|_| log.line("0123456789"));
        log.say("built");
        let text = all(&log).concat();
        assert_eq!(text.matches("0123456789\n").count(), 9);
        assert_eq!(text.matches("the log was cut here").count(), 1);
        assert!(text.ends_with("binplz: built\n") && text.len() as u64 <= RESERVE + 100, "{text}");
    }

    #[test]
    fn the_token_never_gets_into_the_log() {
        let log = log(1 << 20);
        let token = "ab".repeat(32);
        log.line(&format!("BINPLZ_LEASE_TOKEN={token}"));
        assert_eq!(all(&log).concat(), "BINPLZ_LEASE_TOKEN=[token]\n");
    }

    #[test]
    fn no_url_in_the_log_is_signed() {
        for (said, told) in [
            (
                "unpacking 'http://b/n.tar.gz?X-Amz-Algorithm=A&X-Amz-Signature=1' into …",
                "unpacking 'http://b/n.tar.gz?[signature]' into …",
            ),
            ("a?X-Amz-b c?X-Amz-d", "a?[signature] c?[signature]"),
            ("http://b/x?y=1", "http://b/x?y=1"),
        ] {
            assert_eq!(unsigned(said), told);
        }
    }

    #[test]
    fn segments_end_with_a_line_and_are_not_larger_than_allowed() {
        let log = log(16 << 20);
        let line = "x".repeat(1000);
        (0..1000).for_each(|_| log.line(&line));
        let segments = all(&log);
        assert!(segments.iter().all(|segment| segment.len() <= SEGMENT_MAX && segment.ends_with('\n')));
        assert_eq!((segments.len(), segments.concat().len()), (4, 1001 * 1000));
    }

    proptest! {
        #[test]
        fn any_text_becomes_plain_lines(text in "\\PC*|[\\x00-\\x1f\\x1b\\[\\]a-c]*") {
            let log = log(1 << 20);
            log.line(&text);
            let out = all(&log).concat();
            prop_assert!(out.ends_with('\n'), "{:?}", out);
            for line in out.lines() {
                prop_assert!(!line.chars().any(|c| c.is_control() && c != '\t'), "{:?}", line);
                prop_assert!(line.len() <= LINE_MAX + 40);
            }
        }
    }
}
