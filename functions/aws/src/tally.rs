//! Hits, counted from the lines that the function `api` has written of them: a hit itself writes nothing else. Reading them costs
//! nothing but time, some ten seconds for a million; CloudWatch shows a line some seconds after it was written.

use std::collections::BTreeMap;

use aws_sdk_cloudwatchlogs::Client;
use aws_types::SdkConfig;
use binplz_core::{
    key::Attr,
    ports::{Asked, Tally, Traffic, Unavailable},
    time::Timestamp,
};
use serde::Deserialize;

use crate::{account::Account, config::Settings, unavailable};

const ROLE: &str = "tally";
/// The lines of hits (`News`), as CloudWatch filters JSON.
const HITS: &str = r#"{ $.message = "a hit" }"#;

/// The log of hits.
#[derive(Debug)]
pub struct HitsLog {
    sdk: SdkConfig,
    group: Option<String>,
}

#[derive(Deserialize)]
struct Hit {
    package: Attr,
    bytes: u64,
}

impl HitsLog {
    /// The log group that `BINPLZ_HITS_LOG` names. Only an operator has one: no function reads a log.
    pub(crate) fn open(account: &Account, settings: &Settings) -> HitsLog {
        HitsLog { sdk: account.sdk().clone(), group: settings.find("BINPLZ_HITS_LOG").map(str::to_owned) }
    }

    /// Counts every hit since an instant.
    async fn each(&self, since: Timestamp, mut count: impl FnMut(Hit) + Send) -> Result<(), Unavailable> {
        let group = self.group.as_ref().ok_or_else(|| Unavailable::new(ROLE, "no log of hits is named"))?;
        let since = i64::try_from(since.0).unwrap_or(i64::MAX);
        let lines = Client::new(&self.sdk).filter_log_events().log_group_name(group);
        let lines = lines.filter_pattern(HITS).start_time(since);
        let mut pages = lines.into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| unavailable(ROLE, &error))?;
            let lines = page.events().iter().filter_map(|event| event.message());
            // An earlier version's line names no package.
            lines.filter_map(|line| serde_json::from_str(line).ok()).for_each(&mut count);
        }
        Ok(())
    }
}

impl Tally for HitsLog {
    async fn top(&self, since: Timestamp, most: usize) -> Result<Vec<Asked>, Unavailable> {
        let mut sums = BTreeMap::<Attr, u64>::new();
        self.each(since, |hit| *sums.entry(hit.package).or_default() += 1).await?;
        Ok(Asked::most(sums, most))
    }

    async fn served(&self, since: Timestamp) -> Result<Traffic, Unavailable> {
        let mut sum = Traffic::default();
        self.each(since, |hit| sum = sum + Traffic::hit(hit.bytes)).await?;
        Ok(sum)
    }
}
