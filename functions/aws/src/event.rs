//! What queues, rules and schedules tell a function: our own small structs of foreign JSON. What is not named here is passed
//! over, for such events gain fields.

use std::time::Duration;

use aws_smithy_types::{DateTime, date_time::Format};
use binplz_core::{
    build::failure::{Failure, Kind},
    id::{
        key::{BuildKey, LeaseId},
        time::Timestamp,
    },
    objects::artifact::AttemptPrefix,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{bell::RING, launcher::LEASE_URL, lease_url};

/// A batch of messages from the queue.
#[derive(Clone, Debug, Deserialize)]
pub struct DoorbellBatch {
    #[serde(rename = "Records", default)]
    records: Vec<Message>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    message_id: String,
    #[serde(default)]
    body: String,
}

/// Which messages of a batch are to be kept: the queue deletes the others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SqsBatchResponse {
    batch_item_failures: Vec<Item>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    item_identifier: String,
}

impl DoorbellBatch {
    /// The messages that are no ring, whoever sent them: they come again, and end in the queue for such.
    pub fn unrecognized(&self) -> SqsBatchResponse {
        let unrecognized = self.records.iter().filter(|message| message.body != RING);
        SqsBatchResponse {
            batch_item_failures: unrecognized.map(|m| Item { item_identifier: m.message_id.clone() }).collect(),
        }
    }
}

/// What builders have offered to the cache that they share: a batch of messages, each of one attempt.
#[derive(Clone, Debug, Deserialize)]
pub struct Offered {
    #[serde(rename = "Records", default)]
    records: Vec<Message>,
}

impl Offered {
    /// The attempts, each with its message; `None` where that is about none.
    pub fn attempts(self) -> impl Iterator<Item = (Option<AttemptPrefix>, MessageId)> {
        self.records.into_iter().map(|message| (message.body.parse().ok(), MessageId(message.message_id)))
    }
}

/// A message's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageId(String);

impl SqsBatchResponse {
    /// This one comes again.
    pub fn keep(&mut self, MessageId(id): MessageId) {
        self.batch_item_failures.push(Item { item_identifier: id });
    }
}

/// What wakes the reaper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wake {
    /// A builder's task has ended.
    TaskStopped(Box<TaskStopped>),
    /// A task that is none of ours, or has not ended.
    OtherTask,
    /// The schedule.
    Tick,
}

/// A task that is no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskStopped {
    /// Which build it was for.
    pub key: BuildKey,
    /// Which attempt.
    pub lease: LeaseId,
    /// What its end means, if it had not settled.
    pub failure: Failure,
    /// For how long it is paid for, as far as ECS says.
    pub ran: Option<Duration>,
    /// What ECS says of it: for the operator.
    pub reason: String,
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "detail-type", default)]
    detail_type: String,
    #[serde(default)]
    detail: Value,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Task {
    last_status: String,
    stop_code: String,
    stopped_reason: String,
    pull_started_at: Option<String>,
    stopped_at: Option<String>,
    containers: Vec<Container>,
    overrides: Overrides,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    exit_code: Option<i64>,
    reason: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Overrides {
    container_overrides: Vec<Override>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Override {
    environment: Vec<Variable>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Variable {
    name: String,
    value: String,
}

impl Wake {
    /// Reads an event. One that tells of no task is the schedule's, whatever it looks like.
    ///
    /// # Errors
    /// Where it tells of a task in a way that nobody knows.
    pub fn read(event: Value) -> Result<Wake, serde_json::Error> {
        let Ok(envelope) = serde_json::from_value::<Envelope>(event) else { return Ok(Wake::Tick) };
        if envelope.detail_type != "ECS Task State Change" {
            return Ok(Wake::Tick);
        }
        let task: Task = serde_json::from_value(envelope.detail)?;
        if task.last_status != "STOPPED" {
            return Ok(Wake::OtherTask);
        }
        let variables = task.overrides.container_overrides.iter().flat_map(|container| &container.environment);
        let url = variables.filter(|variable| variable.name == LEASE_URL).map(|variable| &variable.value).next();
        Ok(match url.and_then(|url| lease_url::read(url)) {
            Some((key, lease)) => {
                let failure = Failure::new(task.kind(), "");
                Wake::TaskStopped(Box::new(TaskStopped { key, lease, failure, ran: task.ran(), reason: task.reason() }))
            }
            None => Wake::OtherTask,
        })
    }
}

impl Task {
    /// What its end means for a build that it did not settle.
    fn kind(&self) -> Kind {
        let out_of_memory = |container: &Container| container.reason.contains("OutOfMemory");
        match self.stop_code.as_str() {
            "TaskFailedToStart" if self.has_no_image() => Kind::NoImage,
            "TaskFailedToStart" => Kind::NotStarted,
            "SpotInterruption" | "TerminationNotice" | "UserInitiated" | "ServiceSchedulerInitiated" => {
                Kind::Interrupted
            }
            _ if self.containers.iter().any(out_of_memory) => Kind::OutOfMemory,
            _ => match self.containers.iter().find_map(|container| container.exit_code) {
                // SIGTERM came, and the builder could not say so any more.
                Some(143) => Kind::Interrupted,
                Some(code) if code > 128 => Kind::Killed,
                Some(_) => Kind::BuilderError,
                None => Kind::Killed,
            },
        }
    }

    /// Whether the image is not there, not for this machine, or not for this task to read: so it will be until somebody pushes one. A
    /// registry that is slow or busy is another matter. (Amazon ECS developer guide, "CannotPullContainer task errors".)
    fn has_no_image(&self) -> bool {
        let lasting =
            ["not found", "manifest unknown", "does not exist", "denied", "unauthorized", "403 forbidden", "platform"];
        let said = self.stopped_reason.to_ascii_lowercase();
        said.contains("cannotpull") && lasting.iter().any(|mark| said.contains(mark))
    }

    /// From the beginning of the image's pull to the end: that is what Fargate counts. One whose pull was never begun costs nothing.
    fn ran(&self) -> Option<Duration> {
        let at = |text: &String| {
            let at = DateTime::from_str(text, Format::DateTimeWithOffset).ok()?;
            u64::try_from(at.to_millis().ok()?).ok().map(Timestamp)
        };
        let stopped = self.stopped_at.as_ref().and_then(at)?;
        match &self.pull_started_at {
            None => Some(Duration::ZERO),
            Some(began) => Some(stopped - at(began)?),
        }
    }

    fn reason(&self) -> String {
        let codes: Vec<_> = self.containers.iter().filter_map(|container| container.exit_code).collect();
        format!("{}: {} {codes:?}", self.stop_code, self.stopped_reason)
    }
}
