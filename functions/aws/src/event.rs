//! Events from queues, rules and schedules, as our own small structs of the foreign JSON. Unknown fields are ignored,
//! since such events gain fields.

use std::{collections::HashMap, time::Duration};

use aws_smithy_types::{DateTime, date_time::Format};
use binplz_core::{
    build::failure::{Failure, Kind},
    id::{
        key::{BuildKey, LeaseId},
        text::without_account,
        time::Timestamp,
    },
    row::{Row, RowKey},
};
use serde::{
    Deserialize, Serialize,
    de::{Error as _, IgnoredAny},
};
use serde_json::Value;

use crate::{
    bell::{RETRY, RING},
    launcher::LEASE_URL,
    lease_url,
};

/// A batch of SQS messages for the dispatcher.
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
    #[serde(default)]
    message_attributes: HashMap<String, IgnoredAny>,
}

/// The answer to an SQS batch (`ReportBatchItemFailures`): the messages to keep. SQS deletes the others.
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
    /// Whether the dispatcher itself has sent one of the messages, after a pass that failed.
    pub fn has_retry(&self) -> bool {
        self.records.iter().any(|message| message.message_attributes.contains_key(RETRY))
    }

    /// The messages that are not rings. SQS delivers them again, and moves them to the dead letter queue in the end.
    pub fn unrecognized(&self) -> SqsBatchResponse {
        let unrecognized = self.records.iter().filter(|message| message.body != RING);
        SqsBatchResponse {
            batch_item_failures: unrecognized.map(|m| Item { item_identifier: m.message_id.clone() }).collect(),
        }
    }
}

/// An event that wakes the reaper, the promoter or the signer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wake {
    /// A builder's task has stopped.
    TaskStopped(Box<TaskStopped>),
    /// A task of another service, or one that has not stopped.
    OtherTask,
    /// Rows were written: these, as they are now. The function's filter chooses them.
    Written(Vec<Row>),
    /// The schedule.
    Tick,
}

/// A task that has stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskStopped {
    /// The build.
    pub key: BuildKey,
    /// The attempt.
    pub lease: LeaseId,
    /// The failure that the stop means, unless the build had settled.
    pub failure: Failure,
    /// The time that Fargate charges for, if ECS reports it.
    pub ran: Option<Duration>,
    /// ECS's reason, for the operator.
    pub reason: String,
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "detail-type", default)]
    detail_type: String,
    #[serde(default)]
    detail: Value,
}

/// A batch of the table's stream.
#[derive(Deserialize)]
struct Changes {
    #[serde(rename = "Records")]
    records: Vec<Change>,
}

#[derive(Deserialize)]
struct Change {
    dynamodb: Written,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Written {
    /// None, if the row was removed.
    new_image: Option<Image>,
}

#[derive(Deserialize)]
struct Image {
    pk: Text,
    body: Text,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Text {
    s: String,
}

impl Changes {
    fn rows(self) -> Result<Vec<Row>, serde_json::Error> {
        let images = self.records.into_iter().filter_map(|change| change.dynamodb.new_image);
        let row = |image: Image| {
            let key: RowKey = image.pk.s.parse().map_err(serde_json::Error::custom)?;
            Row::from_json(&key, image.body.s.as_bytes())
        };
        images.map(row).collect()
    }
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
    /// Reads an event. An event without a task counts as the schedule's.
    ///
    /// # Errors
    /// If the event describes a task in an unknown form, or a row that has changed.
    pub fn read(event: Value) -> Result<Wake, serde_json::Error> {
        if event.get("Records").is_some() {
            return serde_json::from_value::<Changes>(event)?.rows().map(Wake::Written);
        }
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
                // What kept a task from starting says nothing about its build, and its words are for everyone.
                let detail = match task.kind() {
                    Kind::NotStarted => without_account(&task.stopped_reason),
                    _ => String::new(),
                };
                let failure = Failure::new(task.kind(), detail);
                Wake::TaskStopped(Box::new(TaskStopped { key, lease, failure, ran: task.ran(), reason: task.reason() }))
            }
            None => Wake::OtherTask,
        })
    }
}

impl Task {
    /// The kind of failure that the stop means, unless the build had settled.
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
                // SIGTERM arrived, and the builder could no longer settle.
                Some(143) => Kind::Interrupted,
                Some(code) if code > 128 => Kind::Killed,
                Some(_) => Kind::BuilderError,
                None => Kind::Killed,
            },
        }
    }

    /// Whether the image is missing, is for another machine, or may not be read by this task: a condition that lasts
    /// until an operator pushes an image. A slow or busy registry is a different failure. (Amazon ECS developer guide,
    /// "CannotPullContainer task errors".)
    fn has_no_image(&self) -> bool {
        let lasting =
            ["not found", "manifest unknown", "does not exist", "denied", "unauthorized", "403 forbidden", "platform"];
        let said = self.stopped_reason.to_ascii_lowercase();
        said.contains("cannotpull") && lasting.iter().any(|mark| said.contains(mark))
    }

    /// From the start of the image pull to the stop, which is the time that Fargate charges for. A task whose pull
    /// never began costs nothing.
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
