//! Events of AWS: a stopped task has its build, and no account; a message that is no ring is kept.

use binplz_aws::event::{DoorbellBatch, Wake};
use serde_json::Value;

use crate::input::{cleaned_once, is_line, one_form};

pub(crate) fn check(data: &[u8]) {
    let Ok(event) = serde_json::from_slice::<Value>(data) else { return };
    if let Ok(batch) = serde_json::from_value::<DoorbellBatch>(event.clone()) {
        let messages = event["Records"].as_array().map_or(0, Vec::len);
        let kept = serde_json::to_value(batch.unrecognized()).expect("JSON can express it");
        assert!(kept["batchItemFailures"].as_array().expect("a list").len() <= messages);
    }
    match Wake::read(event) {
        Ok(Wake::TaskStopped(stopped)) => {
            assert_eq!(one_form(&stopped.key.to_string()), Some(stopped.key));
            assert!(stopped.failure.detail.as_deref().is_none_or(|detail| !detail.contains("arn:")));
            let failure = cleaned_once(stopped.failure, |failure| failure.cleaned());
            assert!(is_line(&failure.sentence()));
        }
        Ok(Wake::Written(rows)) => rows.iter().for_each(|row| assert!(row.to_json().is_ok())),
        Ok(Wake::OtherTask | Wake::Tick) | Err(_) => {}
    }
}
