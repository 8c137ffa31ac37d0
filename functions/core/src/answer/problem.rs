//! Problems: a denied request's HTTP status, and what else an answer says about it.

use std::fmt;

use crate::{
    build::failure::Kind,
    flow::request::denial::Denial,
    id::{
        target::{BadTarget, Wanted},
        time::seconds_up,
    },
    ports::Fault,
};

/// Why there is no program: a sentence for people, with HTTP's status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// HTTP's status.
    pub status: u16,
    /// The sentence, without a full stop.
    pub sentence: String,
    /// Seconds after which the request can be repeated.
    pub retry_after: Option<u64>,
    /// Whether the build's log explains it.
    pub log: bool,
    /// Similar names, or those to choose from.
    pub names: Vec<Wanted>,
}

impl Problem {
    fn new(status: u16, sentence: impl fmt::Display) -> Problem {
        Problem { status, sentence: sentence.to_string(), retry_after: None, log: false, names: Vec::new() }
    }

    /// The URL is not a target.
    pub fn bad_target(why: &BadTarget) -> Problem {
        match why {
            BadTarget::Unknown => Problem::new(404, why),
            _ => Problem::new(400, format!("the request is invalid: {why}")),
        }
    }

    /// The number of a log's segment is malformed.
    pub fn bad_segment() -> Problem {
        Problem::new(400, "the parameter from is invalid: expected the number of a segment")
    }

    /// A path below `/-/` that does not exist.
    pub fn no_such_page() -> Problem {
        Problem::new(404, "there is no such page")
    }

    /// A method that a path does not have.
    pub fn method() -> Problem {
        Problem::new(405, "this path does not accept the method")
    }

    /// A request from another site's page.
    pub fn cross_site() -> Problem {
        Problem::new(403, "a page of another site may not start a build")
    }

    /// A stored program was found missing or damaged, and is built anew.
    pub fn not_whole() -> Problem {
        Problem { retry_after: Some(60), ..Problem::new(503, "the stored file is damaged; it is being built again") }
    }

    /// A request for another host than this service.
    pub fn host() -> Problem {
        Problem::new(421, "this server has another host name; its operator can add this one with --host")
    }

    /// Parts of the service do not work at present.
    pub fn not_running(faults: &[Fault]) -> Problem {
        let parts: Vec<_> = faults.iter().map(|fault| fault.part.as_str()).collect();
        let sentence = format!("not running: {}; the operator's log has the reason", parts.join(", "));
        Problem { retry_after: Some(10), ..Problem::new(503, sentence) }
    }

    /// A handler panicked; the log has the cause under the request's id.
    pub fn defect(request: Option<&str>) -> Problem {
        let id = request.map_or(String::new(), |id| format!("; the operator finds the cause in the log under {id}"));
        Problem::new(500, format!("internal error{id}"))
    }

    /// The kind of problem, in a word or two, for a page.
    pub fn state(&self) -> &'static str {
        match self.status {
            300 => "several programs",
            400 => "invalid",
            401 | 403 | 405 => "not allowed",
            404 => "not found",
            422 if self.log => "failed",
            422 => "not available",
            429 => "limit reached",
            451 => "taken down",
            _ if self.log => "retry later",
            _ => "unavailable",
        }
    }
}

impl Denial {
    /// HTTP's status of the answer.
    pub fn status(&self) -> u16 {
        Problem::from(self).status
    }
}

impl From<&Denial> for Problem {
    fn from(denial: &Denial) -> Problem {
        if let Denial::Instead { denial: of_one, others } = denial {
            return Problem { sentence: denial.to_string(), names: others.clone(), ..Problem::from(&**of_one) };
        }
        let (status, retry_after) = match denial {
            Denial::Ambiguous(_) => (300, None),
            Denial::Unserved(_) => (400, None),
            Denial::UnknownKey => (401, None),
            Denial::Unknown { .. } | Denial::NoSuchProgram { .. } => (404, None),
            Denial::Failed { failure, .. } if failure.kind == Kind::NoSuchPackage => (404, None),
            Denial::Unbuildable(..)
            | Denial::MainMissing { .. }
            | Denial::NoPrograms(_)
            | Denial::NoArchive(_)
            | Denial::NotStatic(..)
            | Denial::Failed { rest: None, .. } => (422, None),
            Denial::RateLimited { rest, .. } => (429, Some(seconds_up(*rest).max(1))),
            Denial::Withheld(..) => (451, None),
            Denial::Failed { rest: Some(rest), .. } | Denial::EgressCeiling { rest, .. } => {
                (503, Some(seconds_up(*rest).max(1)))
            }
            Denial::Paused { retry_after, .. } => (503, Some(*retry_after)),
            Denial::Unavailable(_) | Denial::Instead { .. } => (503, Some(10)),
        };
        let log = match denial {
            Denial::MainMissing { .. } | Denial::NoPrograms(_) | Denial::NotStatic(..) => true,
            Denial::Failed { failure, .. } => failure.kind != Kind::NoSuchPackage,
            _ => false,
        };
        let names = match denial {
            Denial::Unknown { near: names, .. } | Denial::Ambiguous(names) => names.clone(),
            _ => Vec::new(),
        };
        Problem { retry_after, log, names, ..Problem::new(status, denial) }
    }
}
