//! The request side of an answer: the form that the client accepts, and the target.

use crate::{
    answer::stub,
    id::{shell, target::Target},
};

/// The form of an answer, from the client's `Accept`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A command-line client: its body must be safe to save and run.
    Shell,
    /// A program: `application/json`.
    Json,
    /// A browser: `text/html`.
    Html,
}

impl Format {
    /// Reads an `Accept` header. One that names neither HTML nor JSON is a command-line client's.
    pub fn of(accept: Option<&str>) -> Format {
        let accept = accept.unwrap_or("");
        if accept.contains("text/html") {
            Format::Html
        } else if accept.contains("json") {
            Format::Json
        } else {
            Format::Shell
        }
    }
}

/// The request of an answer.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// The service's own origin.
    pub origin: &'a str,
    /// The target; `None` if the URL is not one.
    pub target: Option<&'a Target>,
    /// The form of the answer.
    pub format: Format,
    /// `?retry`.
    pub retry: bool,
}

impl Asked<'_> {
    /// The commands that download the program, and install it.
    pub(crate) fn commands(&self, wait: bool) -> Vec<String> {
        let Some(target) = self.target else { return Vec::new() };
        let install = (!target.wanted.is_archive()).then(|| shell::install(self.origin, target));
        std::iter::once(shell::fetch(self.origin, target, wait)).chain(install).collect()
    }

    /// The bundle of the target's program.
    pub(crate) fn bundle(&self) -> Option<Target> {
        self.target?.bundle()
    }

    /// The URL of a target.
    pub(crate) fn url(&self, target: &Target) -> String {
        format!("{}/{target}", self.origin)
    }

    /// The path of the target's log.
    pub(crate) fn log_path(&self) -> Option<String> {
        self.target.map(|target| format!("/-/log/{target}"))
    }

    /// The script that waits for the target, for a client that saves the body as the program. `state`: that of the program, in a
    /// few words; `wait`: it is not built yet.
    pub(crate) fn stub(&self, state: &str, wait: bool) -> String {
        self.target.map(|target| stub::stub(self.origin, target, state, wait)).unwrap_or_default()
    }
}
