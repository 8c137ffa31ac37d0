//! Lists of running, queued and recent builds. Reads only.

use std::{borrow::Cow, time::Duration};

use futures_util::future::try_join_all;
use serde::Serialize;

use crate::{
    flow::{load_build, operator::pins, queued, request::status},
    id::{
        key::{Product, Rev, System},
        text::span,
        time::Timestamp,
    },
    nixpkgs::pins::Pins,
    ports::{Deployment, HasLedger, Ledger, Unavailable},
    row::{Listed, StatusIndex},
};

/// The most builds of a kind in an answer.
pub const MOST: usize = 20;

/// The builds of a deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Builds {
    /// Under way.
    pub building: Vec<Line>,
    /// Queued, in queue order.
    pub queued: Vec<Line>,
    /// Failed, the latest first.
    pub failed: Vec<Line>,
    /// Ready, the latest first.
    pub ready: Vec<Line>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// What is built.
    pub package: Product,
    /// For which system.
    pub system: System,
    /// From which nixpkgs.
    pub nixpkgs: Rev,
    /// The target; `None` if no pin stands for its nixpkgs any more, or it is not a package.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Started, due, or settled at, in milliseconds since 1970.
    pub at: Timestamp,
    /// How long ago that is, in seconds; 0 where it is still to come.
    pub age_seconds: u64,
    /// What is happening, or why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub told: Option<String>,
}

impl Line {
    /// What is built, for people.
    pub fn name(&self) -> Cow<'_, str> {
        match &self.package {
            Product::Package(attr) => attr.as_str().into(),
            Product::Bundle { attr, full: false } => format!("{attr} (bundle)").into(),
            Product::Bundle { attr, full: true } => format!("{attr} (bundle with all files)").into(),
            Product::Catalogue => "the catalogue".into(),
        }
    }

    /// How long ago it started or came to an end, for people.
    pub fn age(&self) -> String {
        span(Duration::from_secs(self.age_seconds))
    }
}

/// The builds of a deployment.
///
/// # Errors
/// [`Unavailable`].
pub async fn builds<D: HasLedger>(d: &D) -> Result<Builds, Unavailable> {
    let pins = pins::load(d).await?;
    let running = d.ledger().list(StatusIndex::Building, None, MOST).await?;
    let failed = d.ledger().latest(StatusIndex::Failed, MOST).await?;
    Ok(Builds {
        building: told(d, &pins, StatusIndex::Building, &running).await?,
        queued: queued(d, MOST).await?.iter().map(|listed| line(d, &pins, listed)).collect(),
        failed: told(d, &pins, StatusIndex::Failed, &failed).await?,
        ready: ready(d, &pins, MOST).await?,
    })
}

/// The packages that were built last, of nixpkgs that are served.
///
/// # Errors
/// [`Unavailable`].
pub async fn lately<D: HasLedger>(d: &D, most: usize) -> Result<Vec<Line>, Unavailable> {
    // Catalogues are not requested by clients, so they are left out.
    let mut lines = ready(d, &pins::load(d).await?, most + 2).await?;
    lines.retain(|line| line.target.is_some());
    lines.truncate(most);
    Ok(lines)
}

async fn ready<D: HasLedger>(d: &D, pins: &Pins, most: usize) -> Result<Vec<Line>, Unavailable> {
    Ok(d.ledger().latest(StatusIndex::Ready, most).await?.iter().map(|listed| line(d, pins, listed)).collect())
}

fn line<D: Deployment>(d: &D, pins: &Pins, listed: &Listed) -> Line {
    let key = &listed.key;
    Line {
        package: key.product.clone(),
        system: key.system,
        nixpkgs: key.rev.clone(),
        target: pins.target(key, d.system()).map(|target| target.to_string()),
        at: listed.at,
        age_seconds: (d.now() - listed.at).as_secs(),
        told: None,
    }
}

/// The lines with what their rows say. A list may be late: a build whose row is in another state by now is left out.
async fn told<D: HasLedger>(
    d: &D,
    pins: &Pins,
    status_index: StatusIndex,
    list: &[Listed],
) -> Result<Vec<Line>, Unavailable> {
    let lines = try_join_all(list.iter().map(|listed| async move {
        let (build, _) = load_build(d, &listed.key).await?;
        if build.status_index().is_none_or(|(now, _)| now != status_index) {
            return Ok(None);
        }
        let at = build.lease().map_or(listed.at, |lease| lease.claimed);
        let told = Some(status::view(d, build, false).await?.headline());
        Ok(Some(Line { told, at, age_seconds: (d.now() - at).as_secs(), ..line(d, pins, listed) }))
    }));
    Ok(lines.await?.into_iter().flatten().collect())
}
