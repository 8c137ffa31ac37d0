//! What was served, by what the function `api` has written of each hit: a hit itself waits for nothing else. How much it was, CloudWatch
//! has summed up by itself, in the metrics that stand in these lines. What it was, is in the lines alone, and reading them costs
//! nothing but time, some ten seconds for a million. Both show a hit a minute or two after it was.

use std::{collections::BTreeMap, time::Duration};

use aws_sdk_cloudwatch::{
    primitives::DateTime,
    types::{Dimension, Statistic},
};
use aws_types::SdkConfig;
use binplz_core::{
    id::{key::Attr, time::Timestamp},
    ports::{Asked, DownloadStats, Traffic, Unavailable},
};
use serde::Deserialize;

use crate::{
    account::Account,
    config::Settings,
    metrics::{DIMENSION, Metric, NAMESPACE},
    unavailable,
};

const ROLE: &str = "tally";
/// The lines of hits (`Signal`), as CloudWatch filters JSON.
const HITS: &str = r#"{ $.message = "a hit" }"#;
/// What is summed up is summed up by the hour: all instants that are asked for begin one, and a month has fewer than the 1,440 sums
/// that one answer holds.
const PERIOD: Duration = Duration::from_secs(3600);

/// The hits of a stack.
#[derive(Debug)]
pub struct LogDownloadStats {
    sdk: SdkConfig,
    stack: String,
    log: Option<String>,
}

#[derive(Deserialize)]
struct Hit {
    package: Attr,
}

impl LogDownloadStats {
    /// That of the stack that `BINPLZ_STACK` names, with the log group that `BINPLZ_HITS_LOG` does. Only an operator has that: no
    /// function reads a log.
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
        let mut sums = BTreeMap::<Attr, u64>::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| unavailable(ROLE, &error))?;
            let lines = page.events().iter().filter_map(|event| event.message());
            // An earlier version's line names no package.
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
            // Each hit has told the metric once.
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
