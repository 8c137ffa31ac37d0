//! Problems: the reason why a request was denied, and the other facts of the answer.

use std::fmt;

use crate::{
    answer::{
        guess::guess,
        outcomes::{RETRY_MAX, Reason},
    },
    build::failure::Kind,
    flow::request::denial::Denial,
    id::{
        target::{BadTarget, Wanted},
        time::{Timestamp, seconds_up},
    },
    ports::Fault,
};

/// Why there is no program: a sentence for people, and the reason, which decides the HTTP status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The reason.
    pub reason: Reason,
    /// The sentence, without a full stop.
    pub sentence: String,
    /// Seconds after which the request can be repeated.
    pub retry_after: Option<u64>,
    /// The date of that, if it is known.
    pub until: Option<Timestamp>,
    /// Whether the build's log explains it.
    pub log: bool,
    /// Similar names, or names to choose from.
    pub names: Vec<Wanted>,
    /// The URL of the bundle, if it may still work.
    pub bundle: Option<String>,
}

/// The end of a sentence that names the URL of a bundle. The installer knows it (`answer/stub/steps.sh`).
pub(crate) fn as_bundle(url: &str) -> String {
    format!("; available as one file with all that it needs: {url}")
}

impl Problem {
    fn new(reason: Reason, sentence: impl fmt::Display) -> Problem {
        let sentence = sentence.to_string();
        Problem { reason, sentence, retry_after: None, until: None, log: false, names: Vec::new(), bundle: None }
    }

    /// Whether it lasts longer than a client should wait silently, or its end is unknown.
    pub fn is_long(&self) -> bool {
        let open = self.reason == Reason::Paused && self.until.is_none();
        open || self.retry_after.is_some_and(|seconds| seconds > RETRY_MAX)
    }

    /// The URL is not a target.
    pub fn bad_target(why: &BadTarget) -> Problem {
        match why {
            BadTarget::Unknown => Problem::new(Reason::Unknown, why),
            _ => Problem::new(Reason::Invalid, format!("the request is invalid: {why}")),
        }
    }

    /// The number of a log's segment is malformed.
    pub fn bad_segment() -> Problem {
        Problem::new(Reason::Invalid, "the parameter from is invalid: expected the number of a segment")
    }

    /// A program that was not requested yet.
    pub(crate) fn unbuilt(sentence: &str) -> Problem {
        Problem::new(Reason::Unbuilt, sentence)
    }

    /// The stub is from another version, whose second part this service does not have.
    pub fn other_stub(origin: &str) -> Problem {
        Problem::new(
            Reason::Unknown,
            format!("this script is from another version of the service; download it again from {origin}"),
        )
    }

    /// A path below `/-/` that does not exist.
    pub fn no_such_page() -> Problem {
        Problem::new(Reason::Unknown, "there is no such page")
    }

    /// The target's file has no signature.
    pub fn not_signed() -> Problem {
        Problem::new(
            Reason::Unknown,
            "this service has not signed this file: it has no signing keys, or got them after the build",
        )
    }

    /// No witness has cosigned a checkpoint of the log.
    pub fn not_witnessed() -> Problem {
        Problem::new(Reason::Unknown, "no witness has cosigned a checkpoint of this log")
    }

    /// The target is not built, so there is nothing to sign or to document yet.
    pub fn not_built() -> Problem {
        Problem::new(
            Reason::Unknown,
            "the program is not built yet, so it has no signature and no documents; download it first",
        )
    }

    /// An earlier version built the artifact, and did not record this.
    pub fn not_documented() -> Problem {
        Problem::new(
            Reason::Unknown,
            "an earlier version of this service built this file, and recorded no sources, SBOM or provenance; a newer build has them",
        )
    }

    /// The path does not accept the method; `other` is a method that it accepts.
    pub fn method(other: &str) -> Problem {
        Problem::new(Reason::Method, format!("this path does not accept the method; use {other}"))
    }

    /// Adds a guess at the name that the client meant. `name` is the typed name, and `base` the URL before it.
    #[must_use]
    pub fn guessing(mut self, base: &str, name: &str) -> Problem {
        if matches!(self.reason, Reason::Invalid | Reason::Unknown)
            && let Some(wanted) = guess(name)
            && !self.names.contains(&wanted)
        {
            self.sentence.push_str(&format!("; try {base}{wanted}"));
            self.names.push(wanted);
        }
        self
    }

    /// Adds the URL of the program's bundle, if it may still work.
    #[must_use]
    pub fn with_bundle(mut self, url: Option<String>) -> Problem {
        if let Some(url) = &url {
            self.sentence.push_str(&as_bundle(url));
        }
        Problem { bundle: url, ..self }
    }

    /// A request from another site's page.
    pub fn cross_site() -> Problem {
        Problem::new(Reason::CrossSite, "pages of other sites may not start builds")
    }

    /// A stored program is missing or damaged, and is being built again.
    pub fn not_whole() -> Problem {
        Problem {
            retry_after: Some(60),
            ..Problem::new(Reason::Unavailable, "the stored file is damaged; it is being built again")
        }
    }

    /// A request for another host than this service.
    pub fn host() -> Problem {
        Problem::new(
            Reason::Host,
            "this server does not serve the requested host name; its operator can add it with --host",
        )
    }

    /// Parts of the service do not work at the moment.
    pub fn not_running(faults: &[Fault]) -> Problem {
        let parts: Vec<_> = faults.iter().map(|fault| fault.part.as_str()).collect();
        let sentence = format!("not running: {}; the operator's log has the reason", parts.join(", "));
        Problem { retry_after: Some(10), ..Problem::new(Reason::Unavailable, sentence) }
    }

    /// A handler panicked; the log has the cause under the request's id.
    pub fn defect(request: Option<&str>) -> Problem {
        let id = request.map_or(String::new(), |id| format!("; the operator finds the cause in the log under {id}"));
        Problem::new(Reason::Defect, format!("internal error{id}"))
    }

    /// The kind of problem, in a word or two, for a page.
    pub fn state(&self) -> &'static str {
        match self.reason {
            Reason::Choice => "several programs",
            Reason::Invalid | Reason::Unserved => "invalid",
            Reason::UnknownKey | Reason::CrossSite | Reason::Method => "not allowed",
            Reason::Unknown => "not found",
            Reason::Refused | Reason::BuildFailed | Reason::NotServable if self.log => "failed",
            Reason::Refused | Reason::BuildFailed | Reason::NotServable => "not available",
            Reason::Allowance => "limit reached",
            Reason::TakenDown => "taken down",
            _ if self.log => "retry later",
            _ => "unavailable",
        }
    }
}

impl Denial {
    /// HTTP's status of the answer.
    pub fn status(&self) -> u16 {
        Problem::from(self).reason.status()
    }
}

impl From<&Denial> for Problem {
    fn from(denial: &Denial) -> Problem {
        if let Denial::Instead { denial: of_one, others } = denial {
            return Problem { sentence: denial.to_string(), names: others.clone(), ..Problem::from(&**of_one) };
        }
        let (reason, retry_after) = match denial {
            Denial::Ambiguous(_) => (Reason::Choice, None),
            Denial::Unserved(_) => (Reason::Unserved, None),
            Denial::UnknownKey => (Reason::UnknownKey, None),
            Denial::Unknown { .. } | Denial::NoSuchProgram { .. } => (Reason::Unknown, None),
            Denial::Failed { failure, .. } if failure.kind == Kind::NoSuchPackage => (Reason::Unknown, None),
            Denial::Unbuildable(..) => (Reason::Refused, None),
            Denial::Failed { failure, rest: None, .. } if failure.kind.is_refusal() => (Reason::Refused, None),
            Denial::Failed { failure, rest: None, .. } if failure.kind.is_of_product() => (Reason::NotServable, None),
            Denial::Failed { rest: None, .. } => (Reason::BuildFailed, None),
            Denial::MainMissing { .. } | Denial::NoPrograms(_) | Denial::NoArchive(_) | Denial::NotStatic(..) => {
                (Reason::NotServable, None)
            }
            Denial::RateLimited { rest, .. } => (Reason::Allowance, Some(seconds_up(*rest).max(1))),
            Denial::Withheld(..) => (Reason::TakenDown, None),
            Denial::Failed { rest: Some(rest), .. } => (Reason::CoolingDown, Some(seconds_up(*rest).max(1))),
            Denial::EgressCeiling { rest, .. } => (Reason::DownloadLimit, Some(seconds_up(*rest).max(1))),
            Denial::Paused { retry_after, .. } => (Reason::Paused, Some(*retry_after)),
            Denial::Unavailable(_) | Denial::Instead { .. } => (Reason::Unavailable, Some(10)),
        };
        let until = match denial {
            Denial::RateLimited { until, .. } => Some(until.start()),
            Denial::EgressCeiling { until, .. } => Some(*until),
            Denial::Paused { paused, .. } => paused.until,
            _ => None,
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
        Problem { retry_after, until, log, names, ..Problem::new(reason, denial) }
    }
}
