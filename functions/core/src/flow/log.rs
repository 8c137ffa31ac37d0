//! A build's log, from its segments. Only looks.

use crate::{
    artifact::{ObjectName, ObjectPath},
    build::Build,
    flow::{load_build, pins},
    pins::Unserved,
    ports::{Deployment, Store, Unavailable},
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
/// [`Unserved`] inside, where it names another nixpkgs; [`Unavailable`], where a backend does not answer.
pub async fn log<D: Deployment>(d: &D, target: &Target, from: u32) -> Result<Result<Part, Unserved>, Unavailable> {
    match pins::load(d).await?.resolve(target, d.system()) {
        Ok(resolved) => {
            let (build, _) = load_build(d, &resolved.key).await?;
            Ok(Ok(read(d, &build, from).await?))
        }
        Err(unserved) => Ok(Err(unserved)),
    }
}

/// The log of a build's newest attempt from segment `from` (1 is the first) on, at most [`ANSWER_MAX`] bytes, and always at least one
/// segment where there is one.
///
/// # Errors
/// [`Unavailable`]: the store does not answer.
async fn read<D: Deployment>(d: &D, build: &Build, from: u32) -> Result<Part, Unavailable> {
    let mut part = Part { content: Vec::new(), next: from.max(1), complete: build.lease().is_none() };
    let Some(lease) = build.newest_lease() else { return Ok(part) };
    loop {
        let path = ObjectPath { key: build.key.clone(), lease: lease.clone(), name: ObjectName::Log(part.next) };
        let Some(segment) = d.store().read(&path).await? else { return Ok(part) };
        if !part.content.is_empty() && part.content.len() + segment.len() > ANSWER_MAX {
            part.complete = false;
            return Ok(part);
        }
        part.content.extend_from_slice(&segment);
        part.next += 1;
    }
}
