//! The month's cost so far, and a forecast. Reads only.

use serde::{Deserialize, Serialize};

use crate::{
    billing::{
        bill::{self, Bill, Taken, Used},
        prices::PriceList,
        traffic::Traffic,
    },
    flow::{load_limits, operator::inspect::shelved},
    id::time::Timestamp,
    ports::{DownloadStats, HasDownloadStats, HasLedger, Read, Unavailable},
    row::StatusIndex,
};

/// How many of the most expensive packages are listed.
const DEAREST: usize = 10;

/// What the month has cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// The month, in UTC: `2026-11`.
    pub month: String,
    /// Its first instant, in milliseconds since 1970.
    pub since: Timestamp,
    /// When this was read.
    pub at: Timestamp,
    /// The first instant of the next one.
    pub until: Timestamp,
    /// The bill; `None` on a machine where building is free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bill: Option<Bill>,
    /// The month's downloads, as far as they are recorded.
    pub traffic: Traffic,
    /// Bytes in the store, as far as known.
    pub stored: u64,
    /// How many builds were looked at for what follows: the latest of those that came to an end this month, up to [`super::inspect::LOOK`]
    /// of those that are ready and as many that have failed.
    pub looked_at: usize,
    /// How long the attempts at those have run this month, in seconds.
    pub building_seconds: u64,
    /// The packages on which the most of that was spent, the dearest first; ten at most.
    pub dearest: Vec<Taken>,
}

/// What the month has cost.
///
/// # Errors
/// [`Unavailable`].
pub(crate) async fn cost<D: HasLedger + HasDownloadStats>(d: &D) -> Result<Cost, Unavailable> {
    let (policy, at) = (d.policy(), d.now());
    let month = at.month();
    let (since, until) = (month.first().start(), month.next().first().start());

    let limits = load_limits(d, Read::Consistent).await?.0.in_month(at);
    let traffic = d.download_stats().served(since).await?;
    let used = Used {
        spent: limits.spent(),
        reserved: limits.reserved(),
        budget: limits.budget(policy, at),
        traffic,
        stored: limits.stored(),
    };
    let bill = match policy.prices.are_none() {
        true => None,
        false => {
            let prices = PriceList::known().map_err(|why| Unavailable::new("price file", why))?;
            Some(Bill::of(&prices, &used, at - since, until - since))
        }
    };

    let mut builds = shelved(d, StatusIndex::Ready, since).await?;
    builds.extend(shelved(d, StatusIndex::Failed, since).await?);
    let mut dearest = bill::taken(&builds, since, policy);
    let building_seconds = dearest.iter().map(|taken| taken.seconds).sum();
    dearest.truncate(DEAREST);
    Ok(Cost {
        month: month.to_string(),
        since,
        at,
        until,
        bill,
        traffic,
        stored: used.stored,
        looked_at: builds.len(),
        building_seconds,
        dearest,
    })
}
