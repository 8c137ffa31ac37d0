//! A build's log: from its segments, and after its end from the whole log. Reads only.

use crate::{
    build::{Build, State},
    flow::{
        load_build,
        request::{denial::Denial, serving},
        schedule::follow,
    },
    id::{target::Target, text::clean_lines},
    objects::{
        artifact::{AttemptPrefix, ObjectName},
        gzip,
    },
    ports::{HasCatalogues, HasLedger, HasStore, Ledger, Store, Unavailable},
    telemetry::About,
};

/// The most bytes of log in one answer. A Lambda function's answer may have 6 MB (AWS Lambda developer guide, "Lambda
/// quotas"), as JSON: a quote becomes two bytes, and a byte that is not UTF-8 three.
pub const ANSWER_MAX: usize = 3 << 19;
/// The most bytes of a log that are read if the deployment's limit is lower: it may have been higher when the log was
/// written.
const LOG_MAX: usize = 64 << 20;

/// The line in the place of what is damaged.
pub const DAMAGED: &[u8] = b"binplz: the rest of this log is missing or damaged\n";

/// A part of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The segments' bytes, as they were stored.
    pub content: Vec<u8>,
    /// The number of the first segment behind it: where to continue.
    pub next: u32,
    /// Whether the log has ended, so that nothing follows.
    pub complete: bool,
}

impl Part {
    /// Takes the next segment, unless the answer would get too long; returns whether it did.
    fn takes(&mut self, segment: &[u8]) -> bool {
        let fits = self.content.is_empty() || self.content.len() + segment.len() <= ANSWER_MAX;
        if fits {
            self.content.extend_from_slice(segment);
            self.next += 1;
        } else {
            self.complete = false;
        }
        fits
    }
}

/// The log of what a target means, from segment `from` (1 is the first) on.
///
/// # Errors
/// [`Denial`]: it means no build, or a backend does not answer.
pub async fn log<D: HasLedger + HasStore + HasCatalogues>(d: &D, target: &Target, from: u32) -> Result<Part, Denial> {
    let (build, prefix) = source(d, target).await?;
    Ok(read(d, &build, prefix.as_ref(), from).await?)
}

/// The build that a target means, and where its log is.
async fn source<D: HasLedger + HasStore + HasCatalogues>(
    d: &D,
    target: &Target,
) -> Result<(Build, Option<AttemptPrefix>), Denial> {
    let resolved = serving::of(d, target).await?;
    let (build, _) = load_build(d, &resolved.key).await?;
    let prefix = follow::log_source(d, &build).await?;
    Ok((build, prefix))
}

/// The end of a log, for a page that follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Its last lines, made harmless. Empty: there is no log, so far.
    pub text: String,
    /// Whether there is more before them.
    pub cut: bool,
    /// The number of the segment that comes next.
    pub next: u32,
    /// Whether the log is over.
    pub complete: bool,
}

impl Tail {
    /// Of a log that has not begun.
    pub fn none() -> Tail {
        Tail { text: String::new(), cut: false, next: 1, complete: false }
    }
}

/// Most segments that the end of a log is looked for in.
const TAIL_SEGMENTS: u32 = 3;

/// The last lines of the log of what a target means, at most `max` bytes.
///
/// # Errors
/// As [`log`]'s.
pub async fn tail<D: HasLedger + HasStore + HasCatalogues>(d: &D, target: &Target, max: usize) -> Result<Tail, Denial> {
    let (build, prefix) = source(d, target).await?;
    let told = match &prefix {
        Some(prefix) => segments(d, prefix).await?,
        None => 0,
    };
    let from = told.saturating_sub(TAIL_SEGMENTS - 1).max(1);
    let Part { content, next, complete } = read(d, &build, prefix.as_ref(), from).await?;
    let text = clean_lines(&String::from_utf8_lossy(&content));
    let start = last_lines(&text, max);
    Ok(Tail { text: text[start..].to_owned(), cut: from > 1 || start > 0, next, complete })
}

/// How many segments the log of an attempt has, as far as its builder has told. One that was lost has told, but not in its attempt.
async fn segments<D: HasLedger>(d: &D, prefix: &AttemptPrefix) -> Result<u32, Unavailable> {
    let (build, _) = load_build(d, &prefix.key).await?;
    let attempt = build.history.iter().rfind(|attempt| attempt.lease == prefix.lease);
    let told = d.ledger().progress(&prefix.lease).await?.map_or(0, |progress| progress.log_segments);
    Ok(told.max(attempt.map_or(0, |attempt| attempt.stats.log_segments)))
}

/// Where the last lines begin that have at most `max` bytes. Of a line that is longer than that, its end.
fn last_lines(text: &str, max: usize) -> usize {
    let Some(least) = text.len().checked_sub(max).filter(|least| *least > 0) else { return 0 };
    // Where a line ends right before them, they begin with a whole one.
    let before = text.floor_char_boundary(least - 1);
    match text[before..].find('\n').map(|end| before + end + 1) {
        Some(start) if (least..text.len()).contains(&start) => start,
        _ => text.ceil_char_boundary(least),
    }
}

/// The log of a build, which is that of the attempt that [tells](follow::teller) of it and has its home there, from segment `from` (1 is the first) on, at most [`ANSWER_MAX`]
/// bytes, and always at least one segment where there is one.
///
/// # Errors
/// [`Unavailable`]: the store does not answer.
pub(crate) async fn read<D: HasStore>(
    d: &D,
    build: &Build,
    prefix: Option<&AttemptPrefix>,
    from: u32,
) -> Result<Part, Unavailable> {
    let complete = !matches!(build.state, State::Building(_) | State::Joined { .. } | State::Waiting(_));
    let mut part = Part { content: Vec::new(), next: from.max(1), complete };
    let Some(prefix) = prefix else { return Ok(part) };
    while let Some(segment) = d.store().read(&prefix.object(ObjectName::Log(part.next))).await? {
        if !part.takes(&segment) {
            return Ok(part);
        }
    }
    // A segment is removed only after the whole log was stored. So a reader that looks for the segment first, and then
    // for the whole log, misses nothing.
    let mut whole_to_its_end = true;
    if let Some(whole) = d.store().read(&prefix.object(ObjectName::WholeLog)).await? {
        let most = usize::try_from(d.policy().job.log_bytes).unwrap_or(usize::MAX).max(LOG_MAX);
        for segment in gzip::segments(&whole, most).skip(part.next as usize - 1) {
            match segment {
                Ok(segment) if part.takes(&segment) => {}
                Ok(_) => return Ok(part),
                Err(damaged) => {
                    d.warn(About::Attempt(&prefix.key, &prefix.lease), "its log is not whole", &damaged);
                    whole_to_its_end = false;
                }
            }
        }
    }
    // What its builder has reported of its own log.
    let attempt = build.history.iter().rfind(|attempt| prefix.key == build.key && attempt.lease == prefix.lease);
    let told = attempt.map_or(0, |attempt| attempt.stats.log_segments);
    if !whole_to_its_end || (complete && part.next <= told) {
        part.content.extend_from_slice(DAMAGED);
    }
    Ok(part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_last_lines_are_whole_unless_one_is_too_long() {
        for (text, max, last) in [
            ("one\ntwo\nthree\n", 99, "one\ntwo\nthree\n"),
            ("one\ntwo\nthree\n", 10, "two\nthree\n"),
            ("one\ntwo\nthree\n", 9, "three\n"),
            ("one\ntwo\nthree", 9, "two\nthree"),
            ("one\ntwo\nthree\n", 3, "ee\n"),
            ("", 3, ""),
        ] {
            assert_eq!(&text[last_lines(text, max)..], last, "{text:?} {max}");
        }
    }

    proptest! {
        #[test]
        fn no_more_is_shown_than_may_be(text in "(\u{e4}{0,9}|x{0,9}|\n){0,30}", max in 1usize..60) {
            let shown = &text[last_lines(&text, max)..];
            prop_assert!(shown.len() <= max && text.ends_with(shown));
            prop_assert!(text.is_empty() || !shown.is_empty() || max < 2);
        }
    }
}
