//! Hits, counted from the lines that the function `api` has written of them: a hit itself writes nothing else. Reading them costs
//! nothing but time, some ten seconds for a million; CloudWatch shows a line some seconds after it was written.

use std::collections::BTreeMap;

use aws_sdk_cloudwatchlogs::Client;
use aws_types::SdkConfig;
use binplz_core::{
    key::Attr,
    ports::{Asked, Tally, Unavailable},
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
}

impl HitsLog {
    /// The log group that `BINPLZ_HITS_LOG` names. Only an operator has one: no function reads a log.
    pub(crate) fn open(account: &Account, settings: &Settings) -> HitsLog {
        HitsLog { sdk: account.sdk().clone(), group: settings.find("BINPLZ_HITS_LOG").map(str::to_owned) }
    }
}

impl Tally for HitsLog {
    async fn top(&self, since: Timestamp, most: usize) -> Result<Vec<Asked>, Unavailable> {
        let group = self.group.as_ref().ok_or_else(|| Unavailable::new(ROLE, "no log of hits is named"))?;
        let since = i64::try_from(since.0).unwrap_or(i64::MAX);
        let lines = Client::new(&self.sdk).filter_log_events().log_group_name(group);
        let lines = lines.filter_pattern(HITS).start_time(since);
        let mut pages = lines.into_paginator().send();
        let mut sums = BTreeMap::<Attr, u64>::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| unavailable(ROLE, &error))?;
            for line in page.events().iter().filter_map(|event| event.message()) {
                // An earlier version's line names no package.
                if let Ok(Hit { package }) = serde_json::from_str(line) {
                    *sums.entry(package).or_default() += 1;
                }
            }
        }
        Ok(Asked::most(sums, most))
    }
}
