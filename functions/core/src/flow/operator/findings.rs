//! What `binplz doctor` finds, on one machine and on AWS.

use serde::Serialize;

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check's name, one or two words.
    pub check: String,
    /// The result.
    pub state: State,
    /// The result as a sentence.
    pub told: String,
    /// The command that fixes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

/// The state of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The check passed.
    Ok,
    /// It must be fixed before the service works.
    Missing,
    /// An optional feature is not set up.
    Optional,
    /// The check could not be made.
    Unknown,
}

impl Finding {
    /// The check passed.
    pub fn ok(check: &str, told: impl Into<String>) -> Finding {
        Finding { check: check.to_owned(), state: State::Ok, told: told.into(), mend: None }
    }

    /// It must be fixed, by the command `mend`.
    pub fn missing(check: &str, told: impl Into<String>, mend: impl Into<String>) -> Finding {
        Finding { state: State::Missing, mend: Some(mend.into()), ..Finding::ok(check, told) }
    }

    /// The check could not be made.
    pub fn unknown(check: &str, told: impl Into<String>) -> Finding {
        Finding { state: State::Unknown, ..Finding::ok(check, told) }
    }
}
