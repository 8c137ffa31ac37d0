//! Limits long polling across functions that know nothing of each other: waiters are counted in the table, so that a
//! waiter beyond the limit is refused by a function that still can answer. (For a request without a free function, the
//! gateway's answer would be an error.)
//!
//! A window of time has an item with two counts: waiters that came in, and waiters that went on to another hop. No hop
//! is longer than a window, so every current waiter either came in in this window or began a hop in the one before. The
//! sum never counts too few, no count is ever decremented, and a waiter that dies leaves no trace after two windows.
//!
//! A waiter gets no notification of the settle, so it polls, less and less often (backoff).

use std::time::Duration;

use aws_sdk_dynamodb::{Client, operation::update_item::UpdateItemError, types::AttributeValue};
use binplz_core::{
    id::{key::BuildKey, time::Timestamp},
    ports::{Unavailable, WaitLimiter, Watch},
};
use tokio::time::{Instant, sleep_until};

use crate::{
    config::{ConfigError, Settings},
    item::{self, Item, PK, TTL},
    ledger::DynamoLedger,
    unavailable,
};

const ROLE: &str = "lobby";

/// The first pause between two reads; each later one is half as long again …
const FIRST: Duration = Duration::from_millis(500);
/// … up to this.
const LONGEST: Duration = Duration::from_secs(4);

/// The counts.
#[derive(Clone, Debug)]
pub struct DynamoWaitLimiter {
    dynamo: Client,
    table: String,
    seats: u64,
    window: Duration,
}

/// How much longer than its hold a hop may take.
const SLACK: Duration = Duration::from_secs(5);
/// The count of waiters that came in.
const NEW: &str = "new";
/// The count of waiters that went on.
const MORE: &str = "more";

impl DynamoWaitLimiter {
    /// A limiter in the ledger's table, with as many permits as the settings say. It shares the ledger's client, so
    /// that a cold start makes only one.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn open(rows: &DynamoLedger, settings: &Settings) -> Result<DynamoWaitLimiter, ConfigError> {
        let policy = settings.policy()?;
        Ok(DynamoWaitLimiter {
            dynamo: rows.dynamo.clone(),
            table: rows.table.clone(),
            seats: policy.waiters as u64,
            // A hop takes a little longer than its hold: a read is under way, or a function starts.
            window: policy.hold + SLACK,
        })
    }

    /// [`WaitLimiter::admits`], at an instant.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn admits_at(&self, now: Timestamp) -> Result<bool, Unavailable> {
        if self.seats == 0 {
            return Ok(false);
        }
        let before = self.hops(self.window_at(now).saturating_sub(1)).await?;
        match self.seats.checked_sub(before) {
            Some(room @ 1..) => self.count(now, NEW, Some(room)).await,
            _ => Ok(false),
        }
    }

    /// [`WaitLimiter::keeps`], at an instant.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn keeps_at(&self, now: Timestamp) -> Result<(), Unavailable> {
        self.count(now, MORE, None).await.map(drop)
    }

    fn window_at(&self, now: Timestamp) -> u64 {
        now.0 / u64::try_from(self.window.as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// All hops that began in a window.
    async fn hops(&self, window: u64) -> Result<u64, Unavailable> {
        let get =
            self.dynamo.get_item().table_name(&self.table).key(PK, item::waiters_pk(window)).consistent_read(true);
        let found = get.send().await.map_err(|error| unavailable(ROLE, &error))?;
        Ok(found.item().map_or(0, |item| number(item, NEW) + number(item, MORE)))
    }

    /// Increments a count of the current window; false if it has reached `most`.
    async fn count(&self, now: Timestamp, what: &str, most: Option<u64>) -> Result<bool, Unavailable> {
        let ttl = (now + 4 * self.window).0 / 1000;
        let mut update =
            self.dynamo.update_item().table_name(&self.table).key(PK, item::waiters_pk(self.window_at(now)));
        update = update.update_expression("SET #ttl = :ttl ADD #what :one").expression_attribute_names("#what", what);
        update = update.expression_attribute_names("#ttl", TTL);
        update = update.expression_attribute_values(":one", AttributeValue::N("1".to_owned()));
        update = update.expression_attribute_values(":ttl", AttributeValue::N(ttl.to_string()));
        if let Some(most) = most {
            update = update.condition_expression("attribute_not_exists(#what) OR #what < :most");
            update = update.expression_attribute_values(":most", AttributeValue::N(most.to_string()));
        }
        match update.send().await {
            Ok(_) => Ok(true),
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(_)) => Ok(false),
                _ => Err(unavailable(ROLE, &error)),
            },
        }
    }
}

fn number(item: &Item, name: &str) -> u64 {
    item.get(name).and_then(|value| value.as_n().ok()?.parse().ok()).unwrap_or(0)
}

impl WaitLimiter for DynamoWaitLimiter {
    type Watch = Polling;

    async fn admits(&self) -> Result<bool, Unavailable> {
        self.admits_at(binplz_clock::now()).await
    }

    async fn keeps(&self) -> Result<(), Unavailable> {
        self.keeps_at(binplz_clock::now()).await
    }

    fn watch(&self, _: &BuildKey, patience: Duration) -> Option<Polling> {
        Some(Polling::new(patience))
    }
}

/// A waiter.
#[derive(Debug)]
pub struct Polling {
    until: Instant,
    pause: Duration,
}

impl Polling {
    /// Waits for `patience` at most from now.
    pub fn new(patience: Duration) -> Polling {
        Polling { until: Instant::now() + patience, pause: FIRST }
    }

    /// The instant of the next read after one that was made now. The last read is at the end of the wait.
    fn next(&mut self, now: Instant) -> Option<Instant> {
        let next = self.until.min(now + self.pause);
        self.pause = (self.pause * 3 / 2).min(LONGEST);
        (now < self.until).then_some(next)
    }
}

impl Watch for Polling {
    async fn changed(&mut self) -> bool {
        match self.next(Instant::now()) {
            Some(next) => sleep_until(next).await,
            None => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_looks_often_first_then_seldom_and_once_more_at_the_end() {
        let began = Instant::now();
        let mut watch = Polling { until: began + Duration::from_secs(25), pause: FIRST };
        let looks = std::iter::successors(Some(began), |now| watch.next(*now));
        let looks: Vec<_> = looks.map(|look| look.duration_since(began).as_millis()).collect();
        assert_eq!(looks[..4], [0, 500, 1250, 2375]);
        assert_eq!((looks.last(), looks.len()), (Some(&25_000), 11));
    }
}
