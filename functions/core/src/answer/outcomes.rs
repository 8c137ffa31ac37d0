//! The outcome table. It has a row for each reason: the status, whether and when a retry helps, the message, and what each client
//! shows. All answers take their status from this table; README, `infra/outcomes.md` and the OpenAPI document are rendered from it
//! (`tests/tests/rules/outcomes.rs`).

use std::fmt;

/// The most seconds of a `Retry-After`, and the longest wait of `?retry`: clients obey the header without a word.
pub const RETRY_MAX: u64 = 900;

/// The reason of an answer to a request for a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The program is built.
    Built,
    /// `?wait` during a build.
    Waiting,
    /// The build is queued or running.
    Pending,
    /// Several programs, none of them the main one.
    Choice,
    /// A name or parameter is malformed.
    Invalid,
    /// The nixpkgs is not served.
    Unserved,
    /// An unknown API key.
    UnknownKey,
    /// A page of another site sent the request.
    CrossSite,
    /// No such package, program or page.
    Unknown,
    /// Not built, and this request starts no build.
    Unbuilt,
    /// The path does not accept the method.
    Method,
    /// `?retry` of something that takes longer than [`RETRY_MAX`].
    LongWait,
    /// The request names another host.
    Host,
    /// nixpkgs refuses the package.
    Refused,
    /// The build failed permanently.
    BuildFailed,
    /// Built, but there is nothing to serve.
    NotServable,
    /// The client's daily allowance of builds is used up.
    Allowance,
    /// Taken down.
    TakenDown,
    /// A bug in binplz.
    Defect,
    /// A temporary failure of the build.
    CoolingDown,
    /// Builds are paused.
    Paused,
    /// The day's download ceiling is reached.
    DownloadLimit,
    /// A part of the service does not work.
    Unavailable,
}

/// Whether and when the same request helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// No retry is needed: the answer is the program, or leads to it.
    Done,
    /// Until the build ends.
    Poll,
    /// After the time in `Retry-After`.
    After,
    /// At the date in the message.
    AtDate,
    /// Never.
    Never,
}

impl fmt::Display for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Retry::Done => "–",
            Retry::Poll => "after `Retry-After`, until the build ends",
            Retry::After => "after `Retry-After`, at most 900 s",
            Retry::AtDate => "at the date in the message",
            Retry::Never => "does not help",
        })
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// The reason.
    pub reason: Reason,
    /// Its name, in JSON too.
    pub name: &'static str,
    /// HTTP's status.
    pub status: u16,
    /// Whether a retry helps.
    pub retry: Retry,
    /// When it occurs.
    pub when: &'static str,
    /// The form of its message; words in capitals vary. Empty: the body is the stub.
    pub message: &'static str,
}

const fn row(
    reason: Reason,
    name: &'static str,
    status: u16,
    retry: Retry,
    when: &'static str,
    message: &'static str,
) -> Outcome {
    Outcome { reason, name, status, retry, when, message }
}

/// The table, in the order of [`Reason`].
#[rustfmt::skip]
pub const OUTCOMES: [Outcome; 23] = [
    row(Reason::Built, "built", 302, Retry::Done, "the program is built", ""),
    row(Reason::Waiting, "waiting", 303, Retry::Done, "`?wait` (or `Prefer: wait=N`) during a build, or the build button of a page", ""),
    row(Reason::Pending, "pending", 202, Retry::Poll, "the build is queued or running (with `?retry`: 503 and no body)", ""),
    row(Reason::Choice, "several-programs", 300, Retry::Never, "the package has several programs and no main one", "this package has several programs; request one of: NAMES"),
    row(Reason::Invalid, "invalid", 400, Retry::Never, "a name or a parameter is malformed", "the request is invalid: WHY"),
    row(Reason::Unserved, "unserved-nixpkgs", 400, Retry::Never, "the Nixpkgs commit or pin is not served here", "WHICH NIXPKGS is not served here; WHICH ARE"),
    row(Reason::UnknownKey, "unknown-key", 401, Retry::Never, "the request would start a build, and its API key is unknown", "this API key is unknown; leave it out to use the allowance of your address"),
    row(Reason::CrossSite, "cross-site", 403, Retry::Never, "a page of another site sent `POST /-/build/…`", "pages of other sites may not start builds"),
    row(Reason::Unknown, "unknown", 404, Retry::Never, "there is no such package, program or page", "there is no package or program NAME; did you mean OTHERS?"),
    row(Reason::Unbuilt, "not-requested", 404, Retry::Never, "the program is not built, and the request starts no build: `HEAD`, a browser, a prefetch or a crawler", "this program has not been requested yet"),
    row(Reason::Method, "method", 405, Retry::Never, "the path does not accept the method", "this path does not accept the method; use OTHER"),
    row(Reason::LongWait, "long-wait", 409, Retry::AtDate, "`?retry`, and the wait of a 429 or 503 (below) would exceed 15 minutes", "THE MESSAGE OF THAT ROW"),
    row(Reason::Host, "host", 421, Retry::Never, "the request names another host", "this server does not serve the requested host name; its operator can add it with --host"),
    row(Reason::Refused, "refused", 422, Retry::Never, "Nixpkgs refuses the package: broken, unsupported, insecure or unfree", "ATTR: WHY; available as one file with all that it needs: URL"),
    row(Reason::BuildFailed, "build-failed", 422, Retry::Never, "the build failed permanently, or cannot finish within its time limit", "ATTR: WHY; available as one file with all that it needs: URL; the log: URL"),
    row(Reason::NotServable, "not-servable", 422, Retry::Never, "the package is built, but has no static program or archive", "ATTR: WHY; available as one file with all that it needs: URL; the log: URL"),
    row(Reason::Allowance, "allowance", 429, Retry::AtDate, "the client has started all builds of its daily allowance", "the limit of N new builds a day WHOSE is reached; you can start new builds again on DATE (UTC), and can still download built programs"),
    row(Reason::TakenDown, "taken-down", 451, Retry::Never, "the operator has taken the package down", "ATTR is not served here any more: WHY"),
    row(Reason::Defect, "defect", 500, Retry::Never, "an error in binplz", "internal error; the operator finds the cause in the log under ID"),
    row(Reason::CoolingDown, "cooling-down", 503, Retry::After, "the build failed for a temporary reason: a source's server, memory, disk, no machine for the system", "ATTR: WHY; try again in N s; the log: URL"),
    row(Reason::Paused, "paused", 503, Retry::AtDate, "new builds are paused, or the budget is spent", "new builds for SYSTEM are paused: WHY"),
    row(Reason::DownloadLimit, "download-limit", 503, Retry::AtDate, "the day's download limit is reached", "the daily download limit is reached; downloads resume on DATE (UTC)"),
    row(Reason::Unavailable, "unavailable", 503, Retry::After, "a part of the service does not work, or the file of an earlier redirect is damaged now", "the service has a problem; try again in a moment"),
];

impl Reason {
    /// Its row.
    pub fn outcome(self) -> &'static Outcome {
        &OUTCOMES[self as usize]
    }

    /// HTTP's status.
    pub fn status(self) -> u16 {
        self.outcome().status
    }
}

/// A client of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// `curl -L`, and other clients that save the bodies of errors.
    Curl,
    /// `curl -fL`.
    Strict,
    /// `curl --retry 20 --fail-with-body -L HOST/tree?retry`.
    Retries,
    /// GNU wget and busybox wget.
    Wget,
    /// The stub, when it is run.
    Stub,
    /// `curl -fsSL HOST/-/install/tree | sh`.
    Installer,
    /// A browser.
    Page,
    /// `Accept: application/json`.
    Json,
}

/// What a client shows, or does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shows {
    /// It saves the program.
    Program,
    /// It saves the stub, and exits with 0.
    Stub,
    /// It shows the message. curl saves the message as a program that prints it and exits with 1; scripts exit with 1.
    Message,
    /// It shows the status code, and exits with an error.
    Status,
    /// It retries after `Retry-After`, and at last shows the status code.
    Retries,
    /// It waits for the end of the build, or of a problem that passes.
    Waits,
    /// A document with the facts.
    Document,
    /// It does not make such a request.
    NotSent,
}

impl fmt::Display for Shows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Shows::Program => "the program",
            Shows::Stub => "the stub",
            Shows::Message => "the message",
            Shows::Status => "the status code",
            Shows::Retries => "retries, then the status code",
            Shows::Waits => "waits",
            Shows::Document => "the facts",
            Shows::NotSent => "–",
        })
    }
}

impl Client {
    /// All clients, with the heads of their columns.
    pub const ALL: [(Client, &'static str); 8] = [
        (Client::Curl, "`curl -L`"),
        (Client::Strict, "`curl -fL`"),
        (Client::Retries, "`curl --retry … ?retry`"),
        (Client::Wget, "`wget`"),
        (Client::Stub, "the stub"),
        (Client::Installer, "the installer"),
        (Client::Page, "a page"),
        (Client::Json, "JSON"),
    ];

    /// What it shows of a reason.
    pub fn shows(self, reason: Reason) -> Shows {
        use Client::*;
        match (reason, self) {
            (Reason::LongWait, Retries) => Shows::Message,
            (Reason::LongWait, _) | (Reason::CrossSite | Reason::Method | Reason::UnknownKey, Stub | Installer) => {
                Shows::NotSent
            }
            (Reason::Waiting, Retries | Stub | Installer | Page) => Shows::NotSent,
            (Reason::Unbuilt, Curl | Strict | Retries | Wget | Stub | Installer | Json) => Shows::NotSent,
            (Reason::Built | Reason::Waiting, Curl | Strict | Retries | Wget | Stub | Installer) => Shows::Program,
            (Reason::Built | Reason::Waiting | Reason::Pending, Page | Json) => Shows::Document,
            (Reason::Pending, Curl | Strict | Wget) => Shows::Stub,
            (Reason::Pending, Retries) | (Reason::Pending | Reason::Unavailable, Stub | Installer) => Shows::Waits,
            // 300 is no error.
            (Reason::Choice, Strict | Wget) => Shows::Message,
            (_, Strict | Wget) => Shows::Status,
            (Reason::CoolingDown | Reason::Unavailable, Retries) => Shows::Retries,
            (_, Curl | Retries | Stub | Installer | Page | Json) => Shows::Message,
        }
    }
}

/// The table for README: one row for each status.
pub fn by_status() -> String {
    let mut rows = Vec::<(u16, Vec<&Outcome>)>::new();
    for outcome in &OUTCOMES {
        match rows.last_mut().filter(|(status, _)| *status == outcome.status) {
            Some((_, outcomes)) => outcomes.push(outcome),
            None => rows.push((outcome.status, vec![outcome])),
        }
    }
    let row = |(status, outcomes): &(u16, Vec<&Outcome>)| {
        let whens: Vec<_> = outcomes.iter().map(|outcome| outcome.when).collect();
        let mut retries = Vec::new();
        for retry in outcomes.iter().map(|outcome| outcome.retry.to_string()) {
            if !retries.contains(&retry) {
                retries.push(retry);
            }
        }
        let body = if outcomes[0].message.is_empty() { "the stub" } else { "the message" };
        format!("| {status} | {} | {body} | {} |\n", whens.join("; or "), retries.join(", or "))
    };
    "| status | when | body | a retry |\n|---|---|---|---|\n".to_owned() + &rows.iter().map(row).collect::<String>()
}

/// The whole table, for `infra/outcomes.md`.
pub fn in_full() -> String {
    let mut text = "| reason | status | when | a retry | message |\n|---|---|---|---|---|\n".to_owned();
    for Outcome { name, status, retry, when, message, .. } in &OUTCOMES {
        let message = if message.is_empty() { "–".to_owned() } else { format!("`{message}`") };
        text.push_str(&format!("| {name} | {status} | {when} | {retry} | {message} |\n"));
    }
    let heads: Vec<_> = Client::ALL.iter().map(|(_, head)| *head).collect();
    text.push_str(&format!("\n| reason | {} |\n|---{}|\n", heads.join(" | "), "|---".repeat(heads.len())));
    for outcome in &OUTCOMES {
        let cells: Vec<_> = Client::ALL.iter().map(|(client, _)| client.shows(outcome.reason).to_string()).collect();
        text.push_str(&format!("| {} | {} |\n", outcome.name, cells.join(" | ")));
    }
    text
}

/// The reasons in one paragraph, for the description in the OpenAPI document.
pub fn in_a_paragraph() -> String {
    let one = |outcome: &Outcome| format!("{} {}: {}, {}", outcome.status, outcome.name, outcome.when, outcome.retry);
    let list: Vec<_> = OUTCOMES.iter().filter(|outcome| outcome.retry != Retry::Done).map(one).collect();
    format!(
        "The reasons of answers without a program, and whether a retry helps: {}.",
        list.join("; ").replace('`', "")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_row_and_a_name_of_its_own() {
        for (at, outcome) in OUTCOMES.iter().enumerate() {
            assert_eq!(outcome.reason as usize, at, "{}", outcome.name);
            assert_eq!(OUTCOMES.iter().filter(|other| other.name == outcome.name).count(), 1, "{}", outcome.name);
        }
    }

    #[test]
    fn what_a_retry_can_not_help_has_a_status_that_clients_do_not_retry() {
        // Those of curl --retry.
        let retried = [408, 429, 500, 502, 503, 504, 522, 524];
        for Outcome { name, status, retry, .. } in OUTCOMES {
            match retry {
                Retry::Never => assert!(!retried.contains(&status) || status == 500, "{name}"),
                Retry::After => assert!(retried.contains(&status), "{name}"),
                Retry::Done | Retry::Poll | Retry::AtDate => {}
            }
        }
        assert!(!retried.contains(&Reason::LongWait.status()));
    }
}
