//! The doorbell: an SQS message that wakes the dispatcher. It carries no data; the rows are the queue.

use std::{collections::HashMap, time::Duration};

use aws_sdk_sqs::{Client, types::MessageAttributeValue};
use binplz_core::ports::{Bell, Unavailable};

use crate::{
    account::Account,
    config::{ConfigError, Settings},
    unavailable,
};

/// The body of every message.
pub const RING: &str = "ring";
/// The message attribute of a dispatcher's retry.
pub(crate) const RETRY: &str = "retry";
/// The longest delay of a message. SQS allows 900 s, but the alarm `Deaf` watches the age of messages, and AWS counts
/// that from when they were sent.
pub const DELAY_MAX: Duration = Duration::from_secs(600);

/// The queue.
#[derive(Clone, Debug)]
pub struct SqsBell {
    sqs: Client,
    queue: String,
}

impl SqsBell {
    /// The queue that the settings name.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn open(account: &Account, settings: &Settings) -> Result<SqsBell, ConfigError> {
        Ok(SqsBell { sqs: Client::new(&account.sdk), queue: settings.need("BINPLZ_QUEUE_URL")? })
    }

    /// Rings after a delay, at most [`DELAY_MAX`]: for builds that are due later. A ring that comes too early rings
    /// again.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn ring_in(&self, delay: Duration) -> Result<(), Unavailable> {
        self.send(delay, None).await
    }

    /// Rings after a delay as [`SqsBell::ring_in`] does, with a message that is marked as a retry of a failed pass.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn retry_in(&self, delay: Duration) -> Result<(), Unavailable> {
        let yes = MessageAttributeValue::builder().data_type("String").string_value("yes").build();
        let yes = yes.map_err(|error| unavailable("bell", &error))?;
        self.send(delay, Some(HashMap::from([(RETRY.to_owned(), yes)]))).await
    }

    async fn send(
        &self,
        delay: Duration,
        attributes: Option<HashMap<String, MessageAttributeValue>>,
    ) -> Result<(), Unavailable> {
        // Rounded up: a message that arrives just before the time would have to be sent again.
        let seconds = delay.min(DELAY_MAX).as_millis().div_ceil(1000);
        let send = self.sqs.send_message().queue_url(&self.queue).message_body(RING);
        let send = send.set_message_attributes(attributes);
        let sent = send.set_delay_seconds(i32::try_from(seconds).ok().filter(|seconds| *seconds > 0)).send().await;
        sent.map(drop).map_err(|error| unavailable("bell", &error))
    }
}

impl Bell for SqsBell {
    async fn ring(&self) -> Result<(), Unavailable> {
        self.ring_in(Duration::ZERO).await
    }
}
