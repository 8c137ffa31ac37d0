//! A build's log, from its segments. Only looks.

use crate::{
    artifact::ObjectName,
    build::{Build, State},
    flow::{follow, load_build, meaning},
    ports::{Deployment, Store, Unavailable},
    reply::Reply,
    target::Target,
};

/// Most bytes of log in one answer.
pub const ANSWER_MAX: usize = 4 << 20;

/// A part of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The segments' bytes, as they were stored.
    pub content: Vec<u8>,
    /// The number of the first segment that is not in it: where to go on.
    pub next: u32,
    /// Whether the log is over, so that nothing will follow.
    pub complete: bool,
}

/// The log of what a target means, from segment `from` (1 is the first) on.
///
/// # Errors
/// A [`Reply`] inside, where it means no build; [`Unavailable`], where a backend does not answer.
pub async fn log<D: Deployment>(d: &D, target: &Target, from: u32) -> Result<Result<Part, Reply>, Unavailable> {
    match meaning::of(d, target, false).await? {
        Ok(meaning) => {
            let (build, _) = load_build(d, &meaning.key).await?;
            Ok(Ok(read(d, &build, from).await?))
        }
        Err(nothing) => Ok(Err(nothing.into())),
    }
}

/// The log of the attempt that [tells](follow::teller) of a build, from segment `from` (1 is the first) on, at most [`ANSWER_MAX`]
/// bytes, and always at least one segment where there is one.
///
/// # Errors
/// [`Unavailable`]: the store does not answer.
async fn read<D: Deployment>(d: &D, build: &Build, from: u32) -> Result<Part, Unavailable> {
    let complete = !matches!(build.state, State::Building(_) | State::Joined { .. });
    let mut part = Part { content: Vec::new(), next: from.max(1), complete };
    let Some(home) = follow::teller(d, build).await? else { return Ok(part) };
    loop {
        let Some(segment) = d.store().read(&home.object(ObjectName::Log(part.next))).await? else { return Ok(part) };
        if !part.content.is_empty() && part.content.len() + segment.len() > ANSWER_MAX {
            part.complete = false;
            return Ok(part);
        }
        part.content.extend_from_slice(&segment);
        part.next += 1;
    }
}
