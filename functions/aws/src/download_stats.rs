//! Download statistics from the log lines that the function `api` writes for each hit, so that a hit makes no further
//! request. CloudWatch sums up the counts and bytes as metrics. Which package was served is in the lines alone; reading
//! them is free but slow, about ten seconds for a million. Both lag a hit by a minute or two.

use std::{collections::BTreeMap, time::Duration};

use aws_sdk_cloudwatch::{
    primitives::DateTime,
    types::{Dimension, Statistic},
};
use aws_types::SdkConfig;
use binplz_core::{
    billing::traffic::{Asked, Traffic},
    id::{key::Product, time::Timestamp},
    ports::{DownloadStats, Unavailable},
};
use serde::Deserialize;

use crate::{
    account::Account,
    config::Settings,
    metrics::{DIMENSION, Metric, NAMESPACE},
    unavailable,
};

const ROLE: &str = "tally";
/// CloudWatch's filter for the log lines of hits.
const HITS: &str = r#"{ $.message = "a hit" }"#;
/// The period of the sums. All requested instants begin an hour, and a month has fewer than the 1,440 hours that one
/// answer holds.
const PERIOD: Duration = Duration::from_secs(3600);

/// The download statistics of a stack.
#[derive(Debug)]
pub struct LogDownloadStats {
    sdk: SdkConfig,
    stack: String,
    log: Option<String>,
}

#[derive(Deserialize)]
struct Hit {
    package: Product,
}

impl LogDownloadStats {
    /// Opens the statistics of the stack that `BINPLZ_STACK` names, with the log group in `BINPLZ_HITS_LOG`. Only
    /// operators have the latter: no function reads a log.
    pub fn open(account: &Account, settings: &Settings) -> LogDownloadStats {
        let log = settings.find("BINPLZ_HITS_LOG").map(str::to_owned);
        LogDownloadStats { sdk: account.sdk().clone(), stack: settings.stack().to_owned(), log }
    }
}

impl DownloadStats for LogDownloadStats {
    async fn top(&self, since: Timestamp, most: usize) -> Result<Vec<Asked>, Unavailable> {
        let log = self.log.as_ref().ok_or_else(|| Unavailable::new(ROLE, "no log of hits is named"))?;
        let since = i64::try_from(since.0).unwrap_or(i64::MAX);
        let lines = aws_sdk_cloudwatchlogs::Client::new(&self.sdk).filter_log_events().log_group_name(log);
        let mut pages = lines.filter_pattern(HITS).start_time(since).into_paginator().send();
        let mut sums = BTreeMap::<Product, u64>::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| unavailable(ROLE, &error))?;
            let lines = page.events().iter().filter_map(|event| event.message());
            // An earlier version's line has no package.
            for Hit { package } in lines.filter_map(|line| serde_json::from_str(line).ok()) {
                *sums.entry(package).or_default() += 1;
            }
        }
        Ok(Asked::most(sums, most))
    }

    async fn served(&self, since: Timestamp) -> Result<Traffic, Unavailable> {
        let instant = |at: Timestamp| DateTime::from_millis(i64::try_from(at.0).unwrap_or(i64::MAX));
        let sums = aws_sdk_cloudwatch::Client::new(&self.sdk)
            .get_metric_statistics()
            .namespace(NAMESPACE)
            .metric_name(Metric::ServedBytes.name())
            .dimensions(Dimension::builder().name(DIMENSION).value(&self.stack).build())
            .start_time(instant(since))
            .end_time(instant(binplz_clock::now() + PERIOD))
            .period(i32::try_from(PERIOD.as_secs()).unwrap_or(i32::MAX))
            .statistics(Statistic::Sum)
            // Each hit put one value into the metric.
            .statistics(Statistic::SampleCount);
        let sums = sums.send().await.map_err(|error| unavailable(ROLE, &error))?;
        let whole = |sum: Option<f64>| sum.unwrap_or_default() as u64;
        let hour = |sum: &aws_sdk_cloudwatch::types::Datapoint| Traffic {
            hits: whole(sum.sample_count()),
            bytes: whole(sum.sum()),
        };
        Ok(sums.datapoints().iter().map(hour).sum())
    }
}
