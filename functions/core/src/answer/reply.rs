//! Answers: HTTP's status, headers and body for each [`RequestOutcome`].

use serde_json::json;

use crate::{
    answer::{
        asked::{Asked, Format},
        outcomes::{RETRY_MAX, Reason},
        page::{Page, alternatives, facts, listed},
        problem::{Problem, as_bundle},
        stub,
    },
    flow::request::{denial::Denial, outcome::RequestOutcome, status::Status},
    id::{
        target::{Target, Wanted},
        text::clean_line,
    },
    nixpkgs::served::{Notes, Served},
    objects::{
        artifact::Bundled,
        needs::{self, header},
        stored::Location,
    },
};

/// The sentence for a program that was not requested yet.
const UNBUILT: &str = "this program has not been requested yet";
/// The same on its page.
const UNBUILT_PAGE: &str = "This program has not been requested yet. The first request builds it from source; later requests download the stored program.";

/// The sentence on the page of a bundle.
const BUNDLE_PAGE: &str = "The bundle is built, checked and stored. It is one file with the program and all that it needs. At its \
                           first start, it unpacks itself below ~/.cache/binplz. It runs in a user namespace: setuid programs, \
                           supplementary groups and debuggers of other processes do not work there. Run it with --binplz-info \
                           for details.";

/// Most seconds until a page asks again while a build is under way.
const PAGE_REFRESH: u64 = 10;

/// An answer. The web layer adds `X-Request-Id`, and leaves the body out for HEAD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP's status.
    pub status: u16,
    /// Response headers, with names in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Body,
}

/// A body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Plain text, harmless when run.
    Text(String),
    /// JSON, under this media type.
    Json(&'static str, String),
    /// The content of a page; the web layer has the template.
    Page(Box<Page>),
}

impl Body {
    fn page(page: Page) -> Body {
        Body::Page(Box::new(page))
    }
}

const PROBLEM_JSON: &str = "application/problem+json";
const JSON: &str = "application/json";

impl RequestOutcome {
    /// The answer to a request with this outcome.
    pub fn answer(&self, asked: &Asked) -> Answer {
        let mut answer = match self {
            RequestOutcome::Hit { served, at } => hit(served, at, asked),
            RequestOutcome::Pending(status) => match paused(status) {
                Some(problem) => problem.answer(asked),
                None => pending(status, asked),
            },
            RequestOutcome::Unbuilt { .. } => unbuilt(asked),
            RequestOutcome::Denied(Denial::Ambiguous(programs)) => choice(programs, asked),
            RequestOutcome::Denied(denial) => of(denial, asked).answer(asked),
        };
        let others = match self {
            RequestOutcome::Hit { served, .. } => &served.notes.others[..],
            RequestOutcome::Pending(status) => &status.alternatives,
            RequestOutcome::Denied(Denial::Instead { others, .. }) => others,
            RequestOutcome::Unbuilt { .. } | RequestOutcome::Denied(_) => &[],
        };
        if !others.is_empty() {
            answer.headers.push(("x-binplz-alternatives", listed(others)));
        }
        if self.by_attribute() {
            answer.headers.push(("x-binplz-catalogue", "missing".to_owned()));
        }
        answer
    }

    /// The status endpoint's one line: `state retry-after sha256 size url`, then words for people. `-` stands for an absent field.
    pub fn status_line(&self, asked: &Asked) -> String {
        let (facts, words) = match self {
            RequestOutcome::Hit { served, at } => {
                let facts = format!("ready 0 {} {} {}", served.sha256, served.size, at.url());
                let bundle = bundle(served, asked).map_or(String::new(), |bundle| as_bundle(&asked.url(&bundle)));
                (facts, served.notes.sentence(&served.bin) + &bundle)
            }
            RequestOutcome::Pending(status) => match paused(status) {
                // A script waits as long as `?retry`, and not without a known end.
                Some(problem) if problem.is_long() => return problem.status_line(asked),
                _ => (format!("{} {} - - -", status.state, status.retry_after), status.headline()),
            },
            RequestOutcome::Unbuilt { .. } => ("unasked 0 - - -".to_owned(), UNBUILT.to_owned()),
            RequestOutcome::Denied(denial) => return of(denial, asked).status_line(asked),
        };
        status_line(&facts, &words)
    }
}

impl Problem {
    /// The status endpoint's line: `unavailable` if the service has a problem that passes, which clients outlast, and `failed` otherwise.
    pub fn status_line(&self, asked: &Asked) -> String {
        let state = if self.reason == Reason::Unavailable { "unavailable" } else { "failed" };
        let log = match asked.target {
            Some(target) if self.log => format!("{}/-/log/{target}", asked.origin),
            _ => "-".to_owned(),
        };
        status_line(&format!("{state} {} - - {log}", self.retry_after.unwrap_or(0)), &self.sentence)
    }
}

fn status_line(facts: &str, words: &str) -> String {
    format!("{facts} {}", clean_line(words, stub::LINE_MAX)).trim_end().to_owned() + "\n"
}

/// Why a build that waits does not start, if it is paused.
fn paused(status: &Status) -> Option<Problem> {
    let (system, retry_after) = (status.system, status.retry_after);
    let paused = status.paused.clone().filter(|paused| !paused.is_brief())?;
    Some(Problem::from(&Denial::Paused { system, paused, retry_after }))
}

/// The problem of a denial, with a guess at what was meant.
fn of(denial: &Denial, asked: &Asked) -> Problem {
    let problem = Problem::from(denial);
    match asked.target {
        Some(target) => problem
            .guessing(&format!("{}/", asked.origin), &target.wanted.program().to_string())
            .with_bundle(asked.bundle().filter(|_| denial.leaves_bundle()).map(|bundle| asked.url(&bundle))),
        None => problem,
    }
}

/// The bundle of a program that needs more than its file.
fn bundle(served: &Served, asked: &Asked) -> Option<Target> {
    asked.bundle().filter(|_| served.notes.has_needs())
}

impl Denial {
    /// The answer to a request with this denial.
    pub fn answer(self, asked: &Asked) -> Answer {
        RequestOutcome::Denied(self).answer(asked)
    }
}

impl Problem {
    /// The answer to a request with this problem.
    pub fn answer(&self, asked: &Asked) -> Answer {
        // curl --retry would wait without a word.
        let ends = asked.retry && self.is_long();
        let reason = if ends { Reason::LongWait } else { self.reason };
        let log = asked.log_path().filter(|_| self.log);
        let mut headers = headers(NO_STORE);
        headers.extend(log.iter().map(|path| link(path)));
        headers.extend(self.retry_after.filter(|_| !ends).map(retry_after));
        let unknown = self.reason == Reason::Unknown;
        let page = || Page {
            state: self.state(),
            sentence: clean_line(&self.sentence, stub::LINE_MAX),
            search: asked.target.filter(|_| unknown).map(|target| target.wanted.file_name().into_owned()),
            package: Page::about(asked).package.filter(|_| !unknown),
            choices: self.names.iter().map(Wanted::to_string).collect(),
            bundle: self.bundle.as_ref().and(asked.bundle()).map(|bundle| bundle.to_string()),
            // What has cooled down may be requested again.
            button: self.retry_after.filter(|_| self.log).map(|_| "Try again"),
            log: log.clone(),
            refresh: self.retry_after.map(|seconds| seconds.min(RETRY_MAX)),
            ..Page::about(asked)
        };
        // curl writes the body of an answer that it retries in front of a redirected file, so there is none.
        let body = match asked.retry && reason.status() == 503 {
            true => Body::Text(String::new()),
            false => self.body(reason, log.as_deref(), asked, page),
        };
        Answer { status: reason.status(), headers, body }
    }

    fn body(&self, reason: Reason, log_path: Option<&str>, asked: &Asked, page: impl FnOnce() -> Page) -> Body {
        let log_url = log_path.map(|path| format!("{}{path}", asked.origin));
        match asked.format {
            Format::Shell => Body::Text(match log_url {
                Some(url) => stub::line(&format!("{}; the log: {url}", self.sentence)),
                None => stub::line(&self.sentence),
            }),
            Format::Json => {
                let status = reason.status();
                let mut document = json!({
                    "type": "about:blank", "status": status, "title": title(status), "detail": self.sentence,
                    "reason": self.reason.outcome().name,
                });
                if let Some(url) = log_url {
                    document["log"] = url.into();
                }
                if let Some(url) = &self.bundle {
                    document["bundle"] = url.as_str().into();
                }
                if let Some(seconds) = self.retry_after {
                    document["retry_after"] = seconds.into();
                }
                if let Some(until) = self.until {
                    document["retry_at"] = format!("{}T00:00:00Z", until.day()).into();
                }
                Body::Json(PROBLEM_JSON, document.to_string())
            }
            Format::Html => Body::page(page()),
        }
    }
}

/// The header, with at most the seconds that a client should wait without a word.
fn retry_after(seconds: u64) -> (&'static str, String) {
    ("retry-after", seconds.min(RETRY_MAX).to_string())
}

const NO_STORE: &str = "no-store";

/// The headers of every answer to a request for a target.
fn headers(cache_control: &str) -> Vec<(&'static str, String)> {
    vec![("cache-control", cache_control.to_owned()), ("vary", "Accept".to_owned())]
}

fn hit(served: &Served, at: &Location, asked: &Asked) -> Answer {
    let url = at.url();
    // A redirect to the CDN is the same for all clients until the pin moves or the program is taken down, which shows a
    // minute later. All other answers are for this client, and for now.
    let mut headers = headers(if matches!(at, Location::Cdn(_)) { "public, max-age=60" } else { NO_STORE });
    headers.extend(hit_headers(served, url));
    headers.extend(asked.target.map(documents));
    headers.extend(bundle(served, asked).map(|bundle| ("x-binplz-bundle", asked.url(&bundle))));
    let body = match asked.format {
        Format::Shell => Body::Text(asked.stub("built", false)),
        Format::Json => {
            Body::Json(JSON, json!({ "state": "ready", "artifact": artifact(served, url, asked) }).to_string())
        }
        Format::Html => Body::page(Page {
            state: "ready",
            sentence: match &served.notes {
                Notes { bundle: Some(_), .. } => BUNDLE_PAGE.to_owned(),
                Notes { unwrapped: true, .. } => {
                    "It is built, checked and stored, without the wrapper of its package.".to_owned()
                }
                _ => "It is built, checked and stored.".to_owned(),
            },
            bundle: bundle(served, asked).map(|bundle| bundle.to_string()),
            commands: asked.commands(false),
            download: asked.target.map(|target| format!("/{target}")),
            facts: facts(served),
            log: asked.log_path(),
            ..Page::about(asked)
        }),
    };
    Answer { status: Reason::Built.status(), headers, body }
}

fn pending(status: &Status, asked: &Asked) -> Answer {
    let mut headers = headers(NO_STORE);
    headers.push(retry_after(status.retry_after));
    if asked.retry {
        return Answer { status: 503, headers, body: Body::Text(String::new()) };
    }
    headers.extend(asked.target.map(|target| ("location", format!("/-/status/{target}"))));
    let body = match asked.format {
        Format::Shell => Body::Text(asked.stub(&status.headline(), true)),
        Format::Json => Body::Json(JSON, status_json(status, None, asked)),
        Format::Html => Body::page(Page {
            state: status.state,
            sentence: clean_line(&status.headline(), stub::LINE_MAX),
            commands: asked.commands(true),
            refresh: Some(status.retry_after.clamp(2, PAGE_REFRESH)),
            log: asked.log_path().filter(|_| status.has_log()),
            facts: alternatives(&status.alternatives).into_iter().collect(),
            status: Some(status.clone()),
            ..Page::about(asked)
        }),
    };
    Answer { status: Reason::Pending.status(), headers, body }
}

fn unbuilt(asked: &Asked) -> Answer {
    let problem = Problem::unbuilt(UNBUILT);
    let mut headers = headers(NO_STORE);
    headers.push(("x-binplz-state", "unasked".to_owned()));
    let page = || Page {
        state: "not built yet",
        sentence: UNBUILT_PAGE.to_owned(),
        commands: asked.commands(true),
        button: Some("Build it now"),
        ..Page::about(asked)
    };
    Answer { status: problem.reason.status(), headers, body: problem.body(problem.reason, None, asked, page) }
}

fn choice(programs: &[Wanted], asked: &Asked) -> Answer {
    let paths: Vec<String> = programs.iter().map(Wanted::to_string).collect();
    let body = match asked.format {
        Format::Shell => Body::Text(stub::line(&Denial::Ambiguous(programs.to_vec()).to_string())),
        Format::Json => Body::Json(JSON, json!({ "choices": paths }).to_string()),
        Format::Html => Body::page(Page {
            state: "several programs",
            sentence: "This package has several programs and no main one. Choose one:".to_owned(),
            choices: paths,
            ..Page::about(asked)
        }),
    };
    Answer { status: Reason::Choice.status(), headers: headers(NO_STORE), body }
}

/// The redirect of a waiting client to a path. Old clients follow its status too (busybox 1.30 does not follow a 307). It has no
/// `retry-after`: curl would use that for a later error.
pub fn onward(path: &str, asked: &Asked) -> Answer {
    let url = format!("{}{path}", asked.origin);
    let body = match (asked.format, asked.target) {
        (Format::Shell, Some(_)) => Body::Text(asked.stub("being built", true)),
        _ => Body::Json(JSON, json!({ "next": url }).to_string()),
    };
    Answer {
        status: Reason::Waiting.status(),
        headers: vec![("cache-control", "no-store".to_owned()), ("location", url)],
        body,
    }
}

/// The status document as JSON; `outcome` is that of a request for the target.
pub fn status_json(status: &Status, outcome: Option<&RequestOutcome>, asked: &Asked) -> String {
    let mut document = json!(status);
    document["headline"] = status.headline().into();
    if let Some(target) = asked.target {
        document["form"] = target.wanted.form().into();
    }
    if let Some(RequestOutcome::Denied(denial)) = outcome
        && let Some(url) = of(denial, asked).bundle
    {
        document["bundle"] = url.into();
    }
    match outcome {
        Some(RequestOutcome::Hit { served, at }) => document["artifact"] = artifact(served, at.url(), asked),
        // The build is ready, but the program cannot be served.
        Some(RequestOutcome::Denied(denial)) if status.state == "ready" => {
            let problem = Problem::from(denial);
            let reason = clean_line(&problem.sentence, stub::LINE_MAX);
            document["headline"] = reason.clone().into();
            document["reason"] = reason.into();
            document["retry_after"] = problem.retry_after.unwrap_or(0).into();
        }
        _ => {}
    }
    document.to_string()
}

fn artifact(served: &Served, url: &str, asked: &Asked) -> serde_json::Value {
    let mut artifact = json!({
        "package": served.attr, "program": served.bin, "version": served.version, "system": served.asked.system(),
        "nixpkgs": served.rev, "sha256": served.sha256, "size": served.size, "url": url,
        "form": served.asked.wanted().form(),
    });
    let notes = &served.notes;
    if let Some(Bundled { unpacked, files, of_static }) = &notes.bundle {
        artifact["unpacked"] = json!({ "size": unpacked, "files": files, "static": of_static });
    }
    if let Some(bundle) = bundle(served, asked) {
        artifact["bundle"] = asked.url(&bundle).into();
    }
    if !notes.others.is_empty() {
        artifact["alternatives"] = json!(notes.others);
    }
    if let Some(output) = &notes.output {
        artifact["output"] = output.as_str().into();
    }
    if let Some(needs) = &notes.needs {
        artifact["needs"] = needs::json(needs);
    }
    for (name, holds) in [("unwrapped", notes.unwrapped), ("name_matters", notes.name_matters)] {
        if holds {
            artifact[name] = true.into();
        }
    }
    artifact
}

fn hit_headers(served: &Served, url: &str) -> Vec<(&'static str, String)> {
    // A version is foreign text; a header holds visible ASCII.
    let version = served.version.chars().filter(char::is_ascii_graphic).collect();
    let mut headers = vec![
        ("location", url.to_owned()),
        ("x-binplz-sha256", served.sha256.to_string()),
        ("x-binplz-size", served.size.to_string()),
        ("x-binplz-package", served.attr.to_string()),
        ("x-binplz-version", version),
        ("x-binplz-nixpkgs", served.rev.to_string()),
    ];
    headers.extend(served.notes.needs.as_deref().map(|needs| ("x-binplz-needs", header(needs))));
    headers
}

fn link(log_path: &str) -> (&'static str, String) {
    ("link", format!("<{log_path}>; rel=\"describedby\""))
}

/// Links to what describes a built target. The SBOM links to the provenance: each byte of a redirect is paid for.
fn documents(target: &Target) -> (&'static str, String) {
    let link = |kind| format!("</-/{kind}/{target}>; rel=\"describedby\"");
    ("link", ["log", "source", "sbom"].map(link).join(", "))
}

/// HTTP's own phrase for a status, as `about:blank` problems have it (RFC 9457 §4.2.1).
fn title(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        421 => "Misdirected Request",
        451 => "Unavailable For Legal Reasons",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}
