//! Outcomes of requests, as values. [`crate::answer`] gives them HTTP's status, headers and bodies.

use crate::{
    flow::request::{denial::Denial, status::Status},
    nixpkgs::served::Served,
    objects::stored::Location,
};

/// The outcome of a request for a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestOutcome {
    /// The program is there.
    Hit {
        /// The program.
        served: Served,
        /// Its file's URL.
        at: Location,
    },
    /// Queued or building.
    Pending(Status),
    /// It was not requested yet, and this request may not start it.
    Unbuilt {
        /// The nixpkgs has no catalogue yet, so the name was taken for an attribute.
        by_attribute: bool,
    },
    /// There is no such program, or not now.
    Denied(Denial),
}

impl RequestOutcome {
    /// The served program of a hit.
    pub fn served(&self) -> Option<&Served> {
        match self {
            RequestOutcome::Hit { served, .. } => Some(served),
            _ => None,
        }
    }

    /// Whether the name was taken for an attribute because the nixpkgs has no catalogue yet.
    pub fn by_attribute(&self) -> bool {
        match self {
            RequestOutcome::Pending(Status { by_attribute, .. })
            | RequestOutcome::Unbuilt { by_attribute }
            | RequestOutcome::Denied(Denial::Failed { by_attribute, .. }) => *by_attribute,
            RequestOutcome::Hit { .. } | RequestOutcome::Denied(_) => false,
        }
    }
}
