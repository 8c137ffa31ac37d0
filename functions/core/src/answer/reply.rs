//! What is said to the outside: status, headers, body. All words that users read are made here (why there is no binary in
//! [`crate::answer::problem`], a failure's own sentence in [`crate::build::failure`], a bad target's in [`crate::id::target`]).

use serde_json::json;

use crate::{
    answer::{page::facts, shell, stub},
    flow::request::status::Status,
    id::{
        key::{Attr, Bin},
        target::{Target, Wanted},
        text::clean_line,
    },
    nixpkgs::served::Served,
    objects::stored::Location,
};

pub use crate::answer::{page::Page, problem::Problem};

/// How a client wants to be told, from its `Accept`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A command-line client: what it saves must be harmless when run.
    Shell,
    /// A program: `application/json`.
    Json,
    /// A browser: `text/html`.
    Html,
}

impl Format {
    /// Reads an `Accept` header; what names neither HTML nor JSON is a command-line client.
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

/// The outcome of a request, before it is put into words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The binary is there.
    Hit {
        /// What is served.
        served: Served,
        /// Where the file is.
        at: Location,
    },
    /// Queued or building.
    Pending(Status),
    /// It was not requested yet, and this request may not start it.
    Unbuilt {
        /// The nixpkgs' catalogue is not made, so that the name was taken for an attribute.
        by_attribute: bool,
    },
    /// A package of many programs without a main one: their paths.
    Choice(Vec<Wanted>),
    /// Anything else.
    Problem(Problem),
}

impl Reply {
    /// A package of many programs: the paths of those that can be served.
    pub fn choice(attr: &Attr, programs: &[Bin]) -> Reply {
        Reply::Choice(programs.iter().map(|bin| Wanted::Program(attr.clone(), bin.clone())).collect())
    }

    /// Whether the name was taken for an attribute since there is no catalogue.
    fn by_attribute(&self) -> bool {
        match self {
            Reply::Pending(Status { by_attribute, .. })
            | Reply::Unbuilt { by_attribute }
            | Reply::Problem(Problem { by_attribute, .. }) => *by_attribute,
            Reply::Hit { .. } | Reply::Choice(_) => false,
        }
    }
}

/// A page's text for a package that was not requested yet.
const UNASKED: &str =
    "Nobody has asked for this yet. It is built once, from its upstream source, and then it is there for everybody.";

/// Most seconds until a page asks again while a build is under way.
const PAGE_REFRESH: u64 = 10;

/// What a reply is an answer to.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// The service's own origin.
    pub origin: &'a str,
    /// The target; `None` where the URL was none.
    pub target: Option<&'a Target>,
    /// How to tell.
    pub format: Format,
    /// `?retry`.
    pub retry: bool,
}

impl Asked<'_> {
    /// The commands that bring what was asked for, and install it.
    fn commands(&self, wait: bool) -> Vec<String> {
        let commands = |target| vec![shell::fetch(self.origin, target, wait), shell::install(self.origin, target)];
        self.target.map(commands).unwrap_or_default()
    }
}

/// An answer in words. The web layer adds `X-Request-Id`, and leaves the body out for HEAD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP's status.
    pub status: u16,
    /// Headers, names in lower case.
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
    /// What a page shows; the web layer has the template.
    Page(Box<Page>),
}

impl Body {
    fn page(page: Page) -> Body {
        Body::Page(Box::new(page))
    }
}

const PROBLEM_JSON: &str = "application/problem+json";
const JSON: &str = "application/json";

impl Reply {
    /// Puts the reply into words.
    pub fn answer(&self, asked: &Asked) -> Answer {
        if let Reply::Pending(Status { paused: Some(paused), system, retry_after, .. }) = self {
            return Reply::Problem(Problem::paused(*system, *paused, *retry_after)).answer(asked);
        }
        let mut headers = vec![("cache-control", self.cache_control().to_owned()), ("vary", "Accept".to_owned())];
        if self.by_attribute() {
            headers.push(("x-binplz-catalogue", "missing".to_owned()));
        }
        let stub = || asked.target.map(|target| stub::stub(asked.origin, target)).unwrap_or_default();
        // Made only where it is needed: a hit for curl shows no page.
        let page = || Page::about(asked);
        let log_path = || asked.target.map(|target| format!("/-/log/{target}"));
        let (status, body) = match self {
            Reply::Hit { served, at } => {
                let url = at.url();
                headers.extend(hit_headers(served, url));
                headers.extend(log_path().map(|path| link(&path)));
                let body = match asked.format {
                    Format::Shell => Body::Text(stub()),
                    Format::Json => {
                        Body::Json(JSON, json!({ "state": "ready", "artifact": artifact(served, url) }).to_string())
                    }
                    Format::Html => Body::page(Page {
                        state: "ready",
                        sentence: "It is built, checked and stored.".to_owned(),
                        commands: asked.commands(false),
                        download: asked.target.map(|target| format!("/{target}")),
                        facts: facts(served),
                        log: log_path(),
                        ..page()
                    }),
                };
                (302, body)
            }
            Reply::Pending(status) if asked.retry => {
                headers.push(("retry-after", status.retry_after.to_string()));
                (503, Body::Text(String::new()))
            }
            Reply::Pending(status) => {
                headers.push(("retry-after", status.retry_after.to_string()));
                headers.extend(asked.target.map(|target| ("location", format!("/-/status/{target}"))));
                let body = match asked.format {
                    Format::Shell => Body::Text(stub()),
                    Format::Json => Body::Json(JSON, status_json(status, None)),
                    Format::Html => Body::page(Page {
                        state: status.state,
                        sentence: clean_line(&status.headline(), stub::LINE_MAX),
                        commands: asked.commands(true),
                        refresh: Some(status.retry_after.clamp(2, PAGE_REFRESH)),
                        log: log_path().filter(|_| status.has_log()),
                        status: Some(status.clone()),
                        ..page()
                    }),
                };
                (202, body)
            }
            Reply::Unbuilt { .. } => {
                headers.push(("x-binplz-state", "unasked".to_owned()));
                let sentence = "nobody has asked for this yet".to_owned();
                (
                    404,
                    problem_body(
                        404,
                        &sentence,
                        None,
                        asked,
                        Page {
                            state: "not built yet",
                            sentence: UNASKED.to_owned(),
                            commands: asked.commands(true),
                            button: Some("Build it now"),
                            ..page()
                        },
                    ),
                )
            }
            Reply::Choice(paths) => {
                let paths: Vec<String> = paths.iter().map(Wanted::to_string).collect();
                let sentence = choice_sentence(&paths);
                let body = match asked.format {
                    Format::Shell => Body::Text(stub::line(&sentence)),
                    Format::Json => Body::Json(JSON, json!({ "choices": paths }).to_string()),
                    Format::Html => Body::page(Page {
                        state: "several programs",
                        sentence: "This package has several programs, and none is its main one. Choose:".to_owned(),
                        choices: paths,
                        ..page()
                    }),
                };
                (300, body)
            }
            Reply::Problem(problem) => {
                let log_path = log_path().filter(|_| problem.log);
                headers.extend(log_path.iter().map(|path| link(path)));
                headers.extend(problem.retry_after.map(|seconds| ("retry-after", seconds.to_string())));
                let sentence = problem.told();
                let unknown = problem.status == 404;
                let page = Page {
                    state: problem.state(),
                    sentence: clean_line(&sentence, stub::LINE_MAX),
                    search: asked.target.filter(|_| unknown).map(|target| target.wanted.file_name().to_owned()),
                    package: page().package.filter(|_| !unknown),
                    choices: problem.near.iter().map(Wanted::to_string).collect(),
                    // What has cooled down may be asked for again.
                    button: problem.retry_after.filter(|_| problem.log).map(|_| "Try again"),
                    log: log_path.clone(),
                    refresh: problem.retry_after,
                    ..page()
                };
                (problem.status, problem_body(problem.status, &sentence, log_path, asked, page))
            }
        };
        // curl prepends the body of an answer that it retries to a redirected file, so there is none.
        let body = if asked.retry && status == 503 { Body::Text(String::new()) } else { body };
        Answer { status, headers, body }
    }

    /// How long the answer may be cached. A redirect to the CDN is the same for all clients until the pin moves or the
    /// program is taken down, which shows a minute later. All other answers are for this client, and for now.
    fn cache_control(&self) -> &'static str {
        match self {
            Reply::Hit { at: Location::Cdn(_), .. } => "public, max-age=60",
            _ => "no-store",
        }
    }

    /// The status endpoint's one line: `state retry-after sha256 size url`, then words for people. `-` stands for what there is not.
    pub fn status_line(&self, asked: &Asked) -> String {
        let (facts, words) = match self {
            Reply::Hit { served, at } => {
                (format!("ready 0 {} {} {}", served.sha256, served.size, at.url()), String::new())
            }
            Reply::Pending(status) => (format!("{} {} - - -", status.state, status.retry_after), status.headline()),
            Reply::Unbuilt { .. } => ("unasked 0 - - -".to_owned(), "nobody has asked for this yet".to_owned()),
            Reply::Choice(paths) => {
                let paths: Vec<String> = paths.iter().map(Wanted::to_string).collect();
                ("failed 0 - - -".to_owned(), choice_sentence(&paths))
            }
            Reply::Problem(problem) => {
                let log = match asked.target {
                    Some(target) if problem.log => format!("{}/-/log/{target}", asked.origin),
                    _ => "-".to_owned(),
                };
                (format!("failed {} - - {log}", problem.retry_after.unwrap_or(0)), problem.told())
            }
        };
        let line = format!("{facts} {}", clean_line(&words, stub::LINE_MAX));
        line.trim_end().to_owned() + "\n"
    }
}

/// The answer that sends one who waits on to a path. There is no `retry-after` in it: curl would remember it for an error that comes later.
pub fn onward(path: &str, asked: &Asked) -> Answer {
    let url = format!("{}{path}", asked.origin);
    let body = match (asked.format, asked.target) {
        (Format::Shell, Some(target)) => Body::Text(stub::stub(asked.origin, target)),
        _ => Body::Json(JSON, json!({ "next": url }).to_string()),
    };
    Answer { status: 307, headers: vec![("cache-control", "no-store".to_owned()), ("location", url)], body }
}

/// The status document as JSON; `reply` is what the target itself would get.
pub fn status_json(status: &Status, reply: Option<&Reply>) -> String {
    let mut document = json!(status);
    document["headline"] = status.headline().into();
    match reply {
        Some(Reply::Hit { served, at }) => document["artifact"] = artifact(served, at.url()),
        // It is built, and can not be had all the same.
        Some(Reply::Problem(problem)) if status.state == "ready" => {
            let reason = clean_line(&problem.told(), stub::LINE_MAX);
            document["headline"] = reason.clone().into();
            document["reason"] = reason.into();
            document["retry_after"] = problem.retry_after.unwrap_or(0).into();
        }
        _ => {}
    }
    document.to_string()
}

fn artifact(served: &Served, url: &str) -> serde_json::Value {
    json!({
        "package": served.attr, "program": served.bin, "version": served.version, "system": served.asked.system(),
        "nixpkgs": served.rev, "sha256": served.sha256, "size": served.size, "url": url,
    })
}

fn hit_headers(served: &Served, url: &str) -> [(&'static str, String); 6] {
    // A version is foreign text; a header holds visible ASCII.
    let version = served.version.chars().filter(char::is_ascii_graphic).collect();
    [
        ("location", url.to_owned()),
        ("x-binplz-sha256", served.sha256.to_string()),
        ("x-binplz-size", served.size.to_string()),
        ("x-binplz-package", served.attr.to_string()),
        ("x-binplz-version", version),
        ("x-binplz-nixpkgs", served.rev.to_string()),
    ]
}

fn link(log_path: &str) -> (&'static str, String) {
    ("link", format!("<{log_path}>; rel=\"describedby\""))
}

fn choice_sentence(paths: &[String]) -> String {
    format!("this package has several programs; ask for one of: {}", paths.join(" "))
}

fn problem_body(status: u16, sentence: &str, log_path: Option<String>, asked: &Asked, page: Page) -> Body {
    let log_url = log_path.map(|path| format!("{}{path}", asked.origin));
    match asked.format {
        Format::Shell => Body::Text(match log_url {
            Some(url) => stub::line(&format!("{sentence}; the log: {url}")),
            None => stub::line(sentence),
        }),
        Format::Json => {
            let mut document =
                json!({ "type": "about:blank", "status": status, "title": title(status), "detail": sentence });
            if let Some(url) = log_url {
                document["log"] = url.into();
            }
            Body::Json(PROBLEM_JSON, document.to_string())
        }
        Format::Html => Body::page(page),
    }
}

/// HTTP's own phrase for a status, as `about:blank` problems have it (RFC 9457 §4.2.1).
fn title(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        451 => "Unavailable For Legal Reasons",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}
